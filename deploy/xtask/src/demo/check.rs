//! `--check`: plays the film, compares every delivered byte, and says one line for each fact.

use super::origin::Origin;
use super::package::{Package, Piece, Rendition};
use super::{Playing, TITLE};
use crate::clock::Stopwatch;
use crate::digest;
use crate::failure::{Context, Failure, Outcome};
use crate::metrics::{Metrics, dollars};
use crate::shell::Call;
use crate::{http, setup, term};

/// How far a rendition's length may be from the film's, in milliseconds: one audio frame and rounding.
const LENGTH_SLACK_MS: u64 = 500;

/// Counts facts while it prints them.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    good: u32,
    bad: u32,
}

impl Facts {
    /// One fact and its figure.
    pub(crate) fn add(&mut self, good: bool, name: &str, figure: impl std::fmt::Display) {
        term::fact(good, name, figure);
        if good {
            self.good += 1;
        } else {
            self.bad += 1;
        }
    }

    /// # Errors
    /// At least one fact did not hold.
    pub(crate) fn finish(self) -> Outcome {
        let Self { good, bad } = self;
        term::say(format_args!("{good} facts hold, {bad} do not"));
        if bad == 0 { Ok(()) } else { Err(Failure::new("not everything is as promised")) }
    }
}

/// Checks everything, stops the programs, and returns one hash of everything that was delivered.
///
/// # Errors
/// At least one fact is not as promised, or a program or tool failed.
pub(crate) fn run(playing: Playing) -> Outcome<String> {
    term::step("checking");
    let watch = Stopwatch::start();
    let mut facts = Facts::default();
    let package = Package::read(&playing.world, &playing.view)?;
    ladder(&mut facts, &playing)?;
    tokens(&mut facts, &playing, &package)?;
    plays(&mut facts, &playing, &package)?;
    answers(&mut facts, &playing, &package)?;
    let delivered = hashes(&mut facts, &playing, &package)?;
    let metrics = Metrics::read(&playing.world.admin)?;
    let saved = format!(
        "{} delivered, {} bought, {} saved against 0.085 USD/GB",
        term::bytes(metrics.delivered()),
        term::bytes(metrics.upstream()),
        dollars(metrics.saved_picodollars()),
    );
    facts.add(metrics.upstream() < metrics.delivered(), "the bill", saved);
    let stopped = playing.world.stop();
    facts.add(stopped.is_ok(), "both programs drain and stop on SIGTERM", verdict(&stopped));
    term::say(format_args!("    checked in {}", term::seconds(watch.elapsed())));
    facts.finish()?;
    Ok(delivered)
}

fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Ok(()) => "exit 0".to_owned(),
        Err(failure) => failure.to_string(),
    }
}

fn ladder(facts: &mut Facts, playing: &Playing) -> Outcome {
    let list = playing.view.get("renditions").and_then(|list| list.as_array());
    let list = list.ok_or_else(|| Failure::new("the title lists no renditions"))?;
    let of = |kind: &str| -> Vec<String> {
        let fits = list.iter().filter(|rendition| rendition["kind"] == kind);
        let shown = |r: &serde_json::Value| {
            format!(
                "{} {} kbit/s",
                r["id"].as_str().unwrap_or("?"),
                r["bandwidth"].as_u64().unwrap_or(0) / 1000
            )
        };
        fits.map(shown).collect()
    };
    let (video, audio) = (of("video"), of("audio"));
    facts.add(video.len() >= 2, "rungs", video.join(", "));
    facts.add(!audio.is_empty(), "audio", audio.join(", "));
    let lint = playing.view["lint"].as_array().map_or(0, Vec::len);
    facts.add(true, "package check", format!("{lint} remarks"));
    Ok(())
}

/// `http://host/p/<token>` and the token.
pub(crate) fn token_of(url: &str) -> Outcome<(&str, &str)> {
    let start = url.find("/p/").map(|at| at + 3).ok_or_else(|| Failure::new(format!("no token in {url}")))?;
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    Ok((&url[..end], &url[start..end]))
}

/// Every wrong token is refused, and none of them makes the gateway read a single byte.
fn tokens(facts: &mut Facts, playing: &Playing, package: &Package) -> Outcome {
    let (_, token) = token_of(&playing.url)?;
    let before = Metrics::read(&playing.world.admin)?.upstream();
    let expired = mint(playing, TITLE, &["--age", "3h", "--life", "1h"])?;
    let other = mint(playing, "another-title", &[])?;
    let signed_by_nobody = tampered(token);
    for (name, token) in [
        ("no token", ""),
        ("made-up token", "none"),
        ("expired token", &expired),
        ("tampered token", &signed_by_nobody),
        ("token of another title", &other),
    ] {
        let url = format!("http://{}/p/{token}/{}/main.m3u8", playing.world.viewer, package.path);
        let answer = http::get(&url, &[])?;
        facts.add(answer.status == 403, name, format!("status {}", answer.status));
    }
    let read = Metrics::read(&playing.world.admin)?.upstream() - before;
    facts.add(read == 0, "refusals read nothing", format!("{read} upstream bytes"));
    Ok(())
}

fn mint(playing: &Playing, title: &str, how: &[&str]) -> Outcome<String> {
    let call = playing.world.weir_call()?.args(["token", "mint", "--title", title, "--token-key"]);
    let token = call.arg(playing.world.data().join("keys/token.key")).args(how).quiet()?;
    Ok(token.trim().to_owned())
}

/// Another letter in the middle of the signature, which ends the token.
fn tampered(token: &str) -> String {
    let at = token.len().saturating_sub(20);
    let letter = if token.as_bytes().get(at) == Some(&b'A') { "B" } else { "A" };
    format!("{}{letter}{}", &token[..at], &token[at + 1..])
}

/// Every rung and every audio track from beginning to end, first cold, then again.
fn plays(facts: &mut Facts, playing: &Playing, package: &Package) -> Outcome {
    let (base, _) = token_of(&playing.url)?;
    let cold = Metrics::read(&playing.world.admin)?;
    let tracks = || package.renditions.iter().filter(|r| matches!(r.kind.as_str(), "video" | "audio"));
    for track in tracks() {
        let played = play(&format!("{base}/{}/{}/index.m3u8", package.path, track.id), &[])?;
        let film = playing.view["duration_ms"].as_u64().unwrap_or(0);
        let whole = played.milliseconds.abs_diff(film) <= LENGTH_SLACK_MS;
        let figure = format!("{} segments, {}", track.media.len() - 1, played);
        facts.add(whole && played.complaints.is_empty(), &format!("{} plays", track.id), figure);
    }
    let warm = Metrics::read(&playing.world.admin)?;
    let touched: u64 = tracks().map(Rendition::played_bytes).sum::<u64>() + package.own_bytes;
    let bought = warm.upstream() - cold.upstream();
    let figure =
        format!("{bought} upstream bytes for {touched} touched, {:.5}", bought as f64 / touched as f64);
    facts.add(bought > 0 && bought * 1000 <= touched * 1001, "the cold play reads each byte once", figure);

    // Every rung at once: ffmpeg drops the rungs it was not asked for in mid-segment, and then complains about
    // the halves it was left with, from a plain file as from here.
    let whole = play(&playing.url, &["-map", "0:v", "-map", "0:a", "-c", "copy"])?;
    facts.add(whole.complaints.is_empty(), "the multivariant playlist plays", &whole);
    if let Some(given) = playing.world.origin().map(Origin::given) {
        let bought = Metrics::read(&playing.world.admin)?.upstream();
        facts.add(
            given == bought,
            "the origin counts the same",
            format!("{given} bytes given, {bought} bought"),
        );
    }
    let before = Metrics::read(&playing.world.admin)?.upstream();
    for track in tracks() {
        play(&format!("{base}/{}/{}/index.m3u8", package.path, track.id), &[])?;
    }
    let again = Metrics::read(&playing.world.admin)?.upstream() - before;
    facts.add(again == 0, "the second play reads nothing", format!("{again} upstream bytes"));
    Ok(())
}

/// What ffmpeg decoded.
#[derive(Debug)]
struct Played {
    frames: u64,
    milliseconds: u64,
    complaints: String,
}

impl std::fmt::Display for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.frames > 0 {
            write!(f, "{} frames, ", self.frames)?;
        }
        write!(f, "{:.1} s {}", self.milliseconds as f64 / 1000.0, self.complaints)
    }
}

/// Reads and decodes what is behind a URL.
fn play(url: &str, how: &[&str]) -> Outcome<Played> {
    let call = Call::new(setup::ffmpeg()).args(["-nostdin", "-v", "error", "-progress", "pipe:1", "-i", url]);
    let result = call.args(how).args(["-f", "null", "-"]).finish()?;
    let last = |name: &str| {
        let lines = result.out.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter_map(|value| value.trim().parse::<u64>().ok()).next_back().unwrap_or(0)
    };
    let complaints =
        if result.good { result.err.trim().to_owned() } else { format!("{} {}", result.status, result.err) };
    Ok(Played { frames: last("frame="), milliseconds: last("out_time_us=") / 1000, complaints })
}

/// The answers players depend on, for the first media segment of the first rung.
fn answers(facts: &mut Facts, playing: &Playing, package: &Package) -> Outcome {
    let piece = package.renditions.first().and_then(|rendition| rendition.media.get(1));
    let piece = piece.ok_or_else(|| Failure::new("the first rendition has no segment"))?;
    let (base, _) = token_of(&playing.url)?;
    let url = format!("{base}/{}/{}", package.path, piece.url);
    let total = piece.bytes.len();
    let whole = http::get(&url, &[])?;
    let length = whole.header("content-length").unwrap_or("none").to_owned();
    facts.add(whole.status == 200 && length == total.to_string(), "200", format!("content-length {length}"));
    let part = http::get(&url, &[("Range", "bytes=100-199")])?;
    let range = part.header("content-range").unwrap_or("none").to_owned();
    let good =
        part.status == 206 && part.body == piece.bytes[100..200] && range == format!("bytes 100-199/{total}");
    facts.add(good, "206 states the full length", &range);
    let open = http::get(&url, &[("Range", &format!("bytes={}-", total - 1))])?;
    facts.add(
        open.status == 206 && open.body.len() == 1,
        "an open range at the last byte",
        format!("status {}", open.status),
    );
    let beyond = http::get(&url, &[("Range", &format!("bytes={total}-"))])?;
    let stated = beyond.header("content-range").unwrap_or("none").to_owned();
    facts.add(beyond.status == 416 && stated == format!("bytes */{total}"), "416 states the length", &stated);
    let etag = whole.header("etag").unwrap_or("none").to_owned();
    let same = http::get(&url, &[("If-None-Match", &etag)])?;
    facts.add(same.status == 304, "304 for the same entity tag", &etag);
    let cache_status = whole.header("cache-status").unwrap_or("none").to_owned();
    facts.add(cache_status.contains("hit"), "Cache-Status of a hit", cache_status);
    Ok(())
}

/// Every object of the package through the playback URL, compared with the published bytes.
fn hashes(facts: &mut Facts, playing: &Playing, package: &Package) -> Outcome<String> {
    let (base, _) = token_of(&playing.url)?;
    let mut all = compare(facts, base, package, "main", std::iter::once(&package.main))?;
    for rendition in &package.renditions {
        all.extend(compare(facts, base, package, &rendition.id, rendition.pieces())?);
    }
    // The same film from another source gives the same line.
    let everything = digest::sha256(all.concat().as_bytes()).doing("hashing")?;
    facts.add(true, "sha256 of everything delivered", &everything);
    Ok(everything)
}

/// Fetches and compares; returns the hashes of what was delivered.
fn compare<'a>(
    facts: &mut Facts,
    base: &str,
    package: &Package,
    name: &str,
    pieces: impl Iterator<Item = &'a Piece>,
) -> Outcome<Vec<String>> {
    let (mut hashes, mut bytes, mut different) = (Vec::new(), 0, Vec::new());
    for piece in pieces {
        let url = format!("{base}/{}/{}", package.path, piece.url);
        let delivered = http::get(&url, &[])?;
        let sum = |bytes: &[u8]| digest::sha256(bytes).doing(&piece.url);
        let hash = sum(&delivered.body)?;
        if delivered.status != 200 || hash != sum(&piece.bytes)? {
            different.push(format!("{} (status {})", piece.url, delivered.status));
        }
        hashes.push(hash);
        bytes += piece.bytes.len() as u64;
    }
    let figure = match different.first() {
        None => format!("{} objects, {}", hashes.len(), term::bytes(bytes)),
        Some(first) => format!("{} of {} differ, first {first}", different.len(), hashes.len()),
    };
    facts.add(different.is_empty(), &format!("sha256 of {name} as published"), figure);
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_urls() {
        let url = "http://h:1/p/TOKEN/t/0/main.m3u8";
        assert_eq!(token_of(url).expect("a token"), ("http://h:1/p/TOKEN", "TOKEN"));
        assert!(token_of("http://h:1/x").is_err());
        let token = "0123456789012345678901234567890123456789";
        let other = tampered(token);
        assert_eq!(other.len(), token.len());
        assert_eq!(other.chars().zip(token.chars()).filter(|(a, b)| a != b).count(), 1);
    }
}
