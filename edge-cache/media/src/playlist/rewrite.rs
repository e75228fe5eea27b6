//! Rewriting: the lines that name something get another name, every other line stays as it is.

use std::collections::HashMap;

use super::attributes::Attributes;
use super::line::{Line, LineKind, at_end, lines};
use super::main_playlist::parse_main;
use super::media_playlist::{MediaEntry, MediaPlaylist, parse_media};
use super::{Fault, PlaylistError, shortened};
use crate::index::RenditionKind;
use crate::key::Part;
use crate::name::RenditionId;
use crate::range::ByteRange;

/// Turns a packager's media playlist into one of virtual segments: `init.mp4`, `0.m4s`, `1.m4s` and so on, no
/// byte ranges. Segment `n` of the result is entry `n` of [`parse_media`] of the same text.
///
/// With `target_duration_s` the playlist states that target duration instead of its own. One packager writes
/// the longest segment of *all* its outputs into each playlist, and a captions file that is one segment makes
/// that the length of the film. The variants of a title must agree on one value, so the caller chooses it.
///
/// # Errors
/// [`PlaylistError`] when the playlist cannot be read, is not finished, names something that the package has
/// no name for (a relative key, a partial segment), or has a segment longer than `target_duration_s`.
pub fn virtualize_media(
    text: &str,
    kind: RenditionKind,
    target_duration_s: Option<u32>,
) -> Result<String, PlaylistError> {
    let playlist = parse_media(text)?;
    let places: Vec<Place> =
        (0..playlist.entries.len()).map(|segment| Place { segment, range: None }).collect();
    virtualize(text, &playlist, &places, kind, target_duration_s)
}

/// Turns a packager's I-frame playlist into one over the virtual segments of `media`, the rendition's own
/// media playlist as the packager wrote it: each I-frame becomes a byte range of the segment that holds it.
///
/// # Errors
/// As [`virtualize_media`]; also when an I-frame does not lie within one segment, or the two playlists do not
/// have the same initialisation section.
pub fn virtualize_iframes(
    text: &str,
    media: &MediaPlaylist,
    kind: RenditionKind,
    target_duration_s: Option<u32>,
) -> Result<String, PlaylistError> {
    let parsed = parse_media(text)?;
    if !parsed.iframes_only {
        return Err(at_end(&lines(text)?, Fault::Missing("EXT-X-I-FRAMES-ONLY")));
    }
    if parsed.map != media.map {
        return Err(at_end(&lines(text)?, Fault::SecondMap));
    }
    let places = places_in(media, &parsed.entries)?;
    virtualize(text, &parsed, &places, kind, target_duration_s)
}

/// Gives the playlists that a multivariant playlist names their virtual names: `v720/index.m3u8`,
/// `v720/iframes.m3u8`. `name` says which rendition and part a URI of the packager means.
///
/// # Errors
/// [`PlaylistError`] when the playlist cannot be read or holds a URI that `name` does not know.
pub fn virtualize_main(
    text: &str,
    name: impl Fn(&str) -> Option<(RenditionId, Part)>,
) -> Result<String, PlaylistError> {
    parse_main(text)?;
    map_uris(text, |uri| match name(uri)? {
        (rendition, Part::Playlist) => Some(format!("{rendition}/index.m3u8")),
        (rendition, Part::IFrames) => Some(format!("{rendition}/iframes.m3u8")),
        (_, Part::Init | Part::Media(_)) => None,
    })
}

/// Replaces every URI of a playlist of any kind and leaves all else alone: what moves a packager's playlist
/// to another folder. Absolute URIs in tags that name no part of the package are kept.
///
/// # Errors
/// [`PlaylistError`] for the first URI to which `rename` answers `None`, or something that does not fit on a
/// line.
pub fn map_uris(text: &str, rename: impl Fn(&str) -> Option<String>) -> Result<String, PlaylistError> {
    let renamed = |line: &Line<'_>, uri: &str| {
        let fits = |to: &String| {
            !to.is_empty() && !to.starts_with('#') && !to.contains(|c: char| c == '"' || c.is_control())
        };
        rename(uri).filter(fits).ok_or_else(|| line.error(Fault::UnknownUri(shortened(uri))))
    };
    let mut out = String::with_capacity(text.len());
    for line in lines(text)? {
        match line.kind {
            LineKind::Silent => out.push_str(line.raw),
            LineKind::Uri(uri) => out.push_str(&line.with(&renamed(&line, uri)?)),
            LineKind::Tag { name, value } if NAMING.contains(&name) => {
                let attributes = Attributes::parse(line, value)?;
                match attributes.text("URI")? {
                    Some(uri) => {
                        let list = attributes.with_text("URI", &renamed(&line, uri)?);
                        out.push_str(&line.with(&format!("#{name}:{list}")));
                    }
                    None => out.push_str(line.raw),
                }
            }
            LineKind::Tag { value, .. } => {
                refuse_relative(&line, value)?;
                out.push_str(line.raw);
            }
        }
    }
    Ok(out)
}

/// The tags whose `URI` names a part of the package.
const NAMING: [&str; 4] = ["EXT-X-MAP", "EXT-X-MEDIA", "EXT-X-I-FRAME-STREAM-INF", "EXT-X-IMAGE-STREAM-INF"];

/// Where an entry lies in the rewritten playlist: the segment's number and the bytes within it, `None` for
/// all of them.
#[derive(Clone, Copy)]
struct Place {
    segment: usize,
    range: Option<ByteRange>,
}

/// The walk over a media playlist. `places` has one for each entry.
fn virtualize(
    text: &str,
    playlist: &MediaPlaylist,
    places: &[Place],
    kind: RenditionKind,
    target_duration_s: Option<u32>,
) -> Result<String, PlaylistError> {
    let lines = lines(text)?;
    check_whole(playlist, &lines, target_duration_s)?;
    let mut out = String::with_capacity(text.len());
    let mut places = places.iter().peekable();
    for line in &lines {
        match (line.kind, target_duration_s) {
            (LineKind::Tag { name: "EXT-X-TARGETDURATION", .. }, Some(seconds)) => {
                out.push_str(&line.with(&format!("#EXT-X-TARGETDURATION:{seconds}")));
            }
            (LineKind::Tag { name: "EXT-X-MAP", value }, _) => {
                let attributes = Attributes::parse(*line, value)?.without("BYTERANGE");
                out.push_str(&line.with(&format!("#EXT-X-MAP:{}", attributes.with_text("URI", "init.mp4"))));
            }
            // It stands before the URI of its entry, which is therefore still the next one.
            (LineKind::Tag { name: "EXT-X-BYTERANGE", .. }, _) => {
                if let Some(range) = places.peek().and_then(|place| place.range) {
                    let span = format!("#EXT-X-BYTERANGE:{}@{}", range.len(), range.start());
                    out.push_str(&line.with(&span));
                }
            }
            (LineKind::Uri(_), _) => {
                let place = places.next().ok_or_else(|| line.missing("EXTINF before this URI"))?;
                out.push_str(&line.with(&format!("{}.{}", place.segment, kind.extension().as_str())));
            }
            (LineKind::Tag { value, .. }, _) => {
                refuse_relative(line, value)?;
                out.push_str(line.raw);
            }
            (LineKind::Silent, _) => out.push_str(line.raw),
        }
    }
    Ok(out)
}

fn check_whole(
    playlist: &MediaPlaylist,
    lines: &[Line<'_>],
    target_duration_s: Option<u32>,
) -> Result<(), PlaylistError> {
    let longest = playlist.longest_s();
    match target_duration_s {
        _ if !playlist.ended => Err(at_end(lines, Fault::NotFinished)),
        Some(asked) if asked < longest => Err(at_end(lines, Fault::TargetTooShort { asked, longest })),
        _ => Ok(()),
    }
}

/// For each I-frame the segment that holds it. The segments of one resource are sorted once, so that a long
/// film costs no more than a short one for each frame.
fn places_in(media: &MediaPlaylist, frames: &[MediaEntry]) -> Result<Vec<Place>, PlaylistError> {
    let mut of_resource: HashMap<&str, Vec<(u64, usize)>> = HashMap::new();
    for (n, segment) in media.entries.iter().enumerate() {
        let start = segment.range.map_or(0, ByteRange::start);
        of_resource.entry(&segment.uri).or_default().push((start, n));
    }
    of_resource.values_mut().for_each(|starts| starts.sort_unstable());
    let place = |frame: &MediaEntry| {
        let starts = of_resource.get(frame.uri.as_str())?;
        let frame_start = frame.range.map_or(0, ByteRange::start);
        let after = starts.partition_point(|(start, _)| *start <= frame_start);
        let (_, segment) = *starts.get(after.checked_sub(1)?)?;
        let range = within(frame.range, media.entries[segment].range)?;
        Some(Place { segment, range })
    };
    let outside = |frame: &MediaEntry| PlaylistError {
        line: frame.line,
        tag: "URI".to_owned(),
        fault: Fault::OutsideSegments(named(frame)),
    };
    frames.iter().map(|frame| place(frame).ok_or_else(|| outside(frame))).collect()
}

/// The bytes of a frame as seen from its segment; `None` if the segment does not hold all of them.
fn within(frame: Option<ByteRange>, segment: Option<ByteRange>) -> Option<Option<ByteRange>> {
    match (frame, segment) {
        (frame, None) => Some(frame),
        (None, Some(_)) => None,
        (Some(frame), Some(segment)) if frame.end() > segment.end() => None,
        (Some(frame), Some(segment)) => {
            let start = frame.start().checked_sub(segment.start())?;
            Some(ByteRange::new(start, start + frame.len()))
        }
    }
}

fn named(entry: &MediaEntry) -> String {
    let range = entry.range.map_or(String::new(), |range| format!(" bytes {range}"));
    format!("{}{range}", shortened(&entry.uri))
}

/// A relative URI in a tag that is passed on as it stands would point nowhere after the rewriting.
fn refuse_relative(line: &Line<'_>, value: &str) -> Result<(), PlaylistError> {
    let Some((_, rest)) = value.split_once("URI=\"") else { return Ok(()) };
    let uri = rest.split_once('"').map_or(rest, |(uri, _)| uri);
    if has_scheme(uri) { Ok(()) } else { Err(line.error(Fault::UnknownUri(shortened(uri)))) }
}

/// RFC 3986 section 3.1: a letter, then letters, digits, `+`, `-` and `.`, then a colon.
fn has_scheme(uri: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(allowed)
    })
}
