//! A thousand viewers ask for one cold segment at once: one upstream fetch, and nobody waits for its end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::fresh;
use crate::clock::Stopwatch;
use crate::demo::check::{Facts, token_of};
use crate::demo::package::Package;
use crate::demo::world::SourceKind;
use crate::digest;
use crate::failure::{Context, Failure, Outcome};
use crate::term;

const VIEWERS: usize = 1000;
/// How long the one fetch takes: longer than a busy machine needs to serve a thousand first bytes.
const FETCH: Duration = Duration::from_secs(8);
/// A viewer's thread does nothing but read.
const STACK: usize = 128 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// What one viewer saw.
struct Seen {
    first_byte: Duration,
    last_byte: Duration,
    sha256: String,
}

pub(super) fn run() -> Outcome {
    let playing = fresh("herd", SourceKind::Http, 20)?;
    let package = Package::read(&playing.world, &playing.view)?;
    let origin = playing.world.origin().ok_or_else(|| Failure::new("no origin to count"))?;
    let rung = package.renditions.first().ok_or_else(|| Failure::new("no rendition"))?;
    let segment = rung.media.get(1).ok_or_else(|| Failure::new("no segment"))?;
    let (base, _) = token_of(&playing.url)?;
    // The playlist makes the gateway read the index, so that only the segment itself is cold.
    crate::http::fetch(&playing.url)?;
    let (before, asked_before) = (origin.given(), origin.bodies());
    origin.pace(segment.bytes.len() as u64 * 1000 / FETCH.as_millis() as u64);
    term::step(format_args!(
        "{VIEWERS} viewers of {}, {}",
        segment.url,
        term::bytes(segment.bytes.len() as u64)
    ));
    let seen = stampede(&format!("{base}/{}/{}", package.path, segment.url))?;
    origin.pace(0);

    let mut facts = Facts::default();
    let expected = digest::sha256(segment.bytes.as_slice()).doing("hashing")?;
    let right = seen.iter().filter(|seen| seen.sha256 == expected).count();
    facts.add(right == VIEWERS, "viewers with the right bytes", format!("{right} of {VIEWERS}"));
    let asked = origin.asked(&format!("/{}/{}.mp4", package.path, rung.id), segment.start as u64);
    facts.add(asked == 1, "upstream fetches of the segment", asked);
    let (given, bodies) = (origin.given() - before, origin.bodies() - asked_before);
    let small = given <= segment.bytes.len() as u64 + package.own_bytes;
    facts.add(small, "bytes from the origin", format!("{given} in {bodies} answers, digests included"));
    let first = seen.iter().map(|seen| seen.first_byte).max().unwrap_or_default();
    let end = seen.iter().map(|seen| seen.last_byte).min().unwrap_or_default();
    let figure = format!(
        "{} after the start; the first viewer was done after {}",
        term::seconds(first),
        term::seconds(end)
    );
    facts.add(first < end, "the last viewer's first byte", figure);
    playing.world.stop()?;
    facts.finish()
}

/// Everybody connects, then everybody asks at the same moment.
fn stampede(url: &str) -> Outcome<Vec<Seen>> {
    let gate = Arc::new(Barrier::new(VIEWERS));
    let watch = Stopwatch::start();
    let viewer = |gate: Arc<Barrier>, url: String| move || view(&gate, watch, &url);
    let threads = (0..VIEWERS).map(|_| {
        std::thread::Builder::new().stack_size(STACK).spawn(viewer(Arc::clone(&gate), url.to_owned()))
    });
    let threads = threads.collect::<std::io::Result<Vec<_>>>().doing("starting viewers")?;
    let results = threads.into_iter().map(|thread| {
        thread.join().map_err(|_| Failure::new("a viewer's thread panicked")).and_then(|result| result)
    });
    results.collect()
}

fn view(gate: &Barrier, watch: Stopwatch, url: &str) -> Outcome<Seen> {
    let connected = connect(url);
    // Whoever could not connect still lets the others go.
    gate.wait();
    let (mut socket, request) = connected?;
    socket.write_all(request.as_bytes()).doing("asking")?;
    let mut answer = vec![0; 64 * 1024];
    let (mut head, mut body, mut first_byte) = (Vec::new(), Vec::new(), None);
    loop {
        let read = socket.read(&mut answer).doing("reading")?;
        if read == 0 {
            break;
        }
        if first_byte.is_some() {
            body.extend_from_slice(&answer[..read]);
            continue;
        }
        head.extend_from_slice(&answer[..read]);
        let end = head.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end.filter(|end| head.len() > *end) {
            first_byte = Some(watch.elapsed());
            body.extend_from_slice(&head[end..]);
        }
    }
    let first_byte = first_byte.ok_or_else(|| Failure::new(String::from_utf8_lossy(&head).into_owned()))?;
    Ok(Seen {
        first_byte,
        last_byte: watch.elapsed(),
        sha256: digest::sha256(body.as_slice()).doing("hashing")?,
    })
}

fn connect(url: &str) -> Outcome<(TcpStream, String)> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_once('/').ok_or_else(|| Failure::new(format!("no path in {url}")))?;
    let socket = TcpStream::connect(host).doing("connecting")?;
    socket.set_read_timeout(Some(PATIENCE)).doing("connecting")?;
    Ok((socket, format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")))
}
