//! Media playlists: the segments of one rendition.

use super::attributes::Attributes;
use super::line::{Line, LineKind, at_end, integer, lines, thousandths};
use super::{Fault, PlaylistError};
use crate::range::ByteRange;

/// The tags that only a multivariant playlist may hold.
const MAIN_ONLY: [&str; 5] = [
    "EXT-X-STREAM-INF",
    "EXT-X-MEDIA",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-IMAGE-STREAM-INF",
    "EXT-X-SESSION-DATA",
];

/// A media playlist, an I-frame playlist or an image playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// `EXT-X-VERSION`.
    pub version: Option<u32>,
    /// `EXT-X-TARGETDURATION` in seconds. Some packagers state the longest segment of all renditions here.
    pub target_duration_s: u32,
    /// `EXT-X-PLAYLIST-TYPE:VOD`: it will never change.
    pub vod: bool,
    /// `EXT-X-ENDLIST`: no segment will be added.
    pub ended: bool,
    /// `EXT-X-I-FRAMES-ONLY`: each entry is one I-frame.
    pub iframes_only: bool,
    /// `EXT-X-IMAGES-ONLY`: each entry is one sheet of thumbnails.
    pub images_only: bool,
    /// The initialisation section of all entries.
    pub map: Option<Map>,
    /// The segments in order.
    pub entries: Vec<MediaEntry>,
}

impl MediaPlaylist {
    /// The longest entry in seconds, rounded to the nearest: the least that `EXT-X-TARGETDURATION` may say.
    #[must_use]
    pub fn longest_s(&self) -> u32 {
        let longest = self.entries.iter().map(|entry| entry.duration_ms).max().unwrap_or(0);
        longest / 1000 + u32::from(longest % 1000 >= 500)
    }

    /// How long it plays, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.duration_ms)).sum()
    }
}

/// `EXT-X-MAP`: where the initialisation section lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The resource, as written.
    pub uri: String,
    /// Its bytes within the resource; `None` for all of it.
    pub range: Option<ByteRange>,
}

/// One segment, I-frame or sheet of thumbnails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaEntry {
    /// The line of its URI, counted from 1.
    pub line: usize,
    /// The resource, as written.
    pub uri: String,
    /// Its bytes within the resource, the offset resolved; `None` for all of it.
    pub range: Option<ByteRange>,
    /// `EXTINF` in milliseconds.
    pub duration_ms: u32,
    /// Whether its encoding or time line differs from the segment before.
    pub discontinuity: bool,
}

/// Reads a media playlist.
///
/// # Errors
/// [`PlaylistError`] names the first line that cannot be understood.
pub fn parse_media(text: &str) -> Result<MediaPlaylist, PlaylistError> {
    let lines = lines(text)?;
    let mut parser = Parser::default();
    for line in &lines {
        match line.kind {
            LineKind::Silent => {}
            LineKind::Uri(uri) => parser.entry(*line, uri)?,
            LineKind::Tag { name, value } => parser.tag(*line, name, value)?,
        }
    }
    parser.finish(&lines)
}

/// What has been read so far; `duration_ms`, `span` and `discontinuity` wait for the URI they belong to.
#[derive(Default)]
struct Parser {
    version: Option<u32>,
    target_duration_s: Option<u32>,
    vod: bool,
    ended: bool,
    iframes_only: bool,
    images_only: bool,
    map: Option<Map>,
    entries: Vec<MediaEntry>,
    duration_ms: Option<u32>,
    span: Option<Span>,
    discontinuity: bool,
}

impl Parser {
    fn tag(&mut self, line: Line<'_>, name: &str, value: &str) -> Result<(), PlaylistError> {
        match name {
            "EXT-X-VERSION" => once(&mut self.version, line, number(line, value)?),
            "EXT-X-TARGETDURATION" => once(&mut self.target_duration_s, line, number(line, value)?),
            "EXTINF" => once(&mut self.duration_ms, line, duration(line, value)?),
            "EXT-X-BYTERANGE" => once(&mut self.span, line, span(line, value)?),
            "EXT-X-MAP" => self.map(line, value),
            _ if MAIN_ONLY.contains(&name) => Err(line.error(Fault::WrongKind("a multivariant playlist"))),
            _ => {
                self.flag(name, value);
                Ok(())
            }
        }
    }

    fn flag(&mut self, name: &str, value: &str) {
        match name {
            "EXT-X-DISCONTINUITY" => self.discontinuity = true,
            "EXT-X-I-FRAMES-ONLY" => self.iframes_only = true,
            "EXT-X-IMAGES-ONLY" => self.images_only = true,
            "EXT-X-ENDLIST" => self.ended = true,
            "EXT-X-PLAYLIST-TYPE" => self.vod = value == "VOD",
            _ => {}
        }
    }

    fn map(&mut self, line: Line<'_>, value: &str) -> Result<(), PlaylistError> {
        let attributes = Attributes::parse(line, value)?;
        let range = match attributes.text("BYTERANGE")? {
            None => None,
            Some(text) => {
                let Span { len, offset } = span(line, text)?;
                // The successor draft lets the offset be absent here too; no packager leaves it out.
                let offset = offset.ok_or_else(|| line.missing("the offset of BYTERANGE"))?;
                Some(
                    ByteRange::new(offset, offset.saturating_add(len))
                        .ok_or_else(|| line.value(SPAN, text))?,
                )
            }
        };
        let map = Map { uri: attributes.required_text("URI")?.to_owned(), range };
        match &self.map {
            Some(first) if *first == map => Ok(()),
            None if self.entries.is_empty() => {
                self.map = Some(map);
                Ok(())
            }
            _ => Err(line.error(Fault::SecondMap)),
        }
    }

    fn entry(&mut self, line: Line<'_>, uri: &str) -> Result<(), PlaylistError> {
        let duration_ms = self.duration_ms.take().ok_or_else(|| line.missing("EXTINF before this URI"))?;
        let range = match self.span.take() {
            Some(span) => Some(self.placed(&span, uri).ok_or_else(|| line.error(Fault::NothingToContinue))?),
            None => None,
        };
        let discontinuity = std::mem::take(&mut self.discontinuity);
        self.entries.push(MediaEntry {
            line: line.number,
            uri: uri.to_owned(),
            range,
            duration_ms,
            discontinuity,
        });
        Ok(())
    }

    /// RFC 8216 section 4.3.2.2: without an offset a range begins where the one before ended, and that must
    /// be a range of the same resource.
    fn placed(&self, span: &Span, uri: &str) -> Option<ByteRange> {
        let follows = || self.entries.last().filter(|last| last.uri == uri)?.range.map(ByteRange::end);
        let offset = span.offset.or_else(follows)?;
        ByteRange::new(offset, offset.checked_add(span.len)?)
    }

    fn finish(self, lines: &[Line<'_>]) -> Result<MediaPlaylist, PlaylistError> {
        if self.duration_ms.is_some() || self.span.is_some() {
            return Err(at_end(lines, Fault::Missing("the URI of the last segment")));
        }
        let missing = || at_end(lines, Fault::Missing("EXT-X-TARGETDURATION"));
        Ok(MediaPlaylist {
            version: self.version,
            target_duration_s: self.target_duration_s.ok_or_else(missing)?,
            vod: self.vod,
            ended: self.ended,
            iframes_only: self.iframes_only,
            images_only: self.images_only,
            map: self.map,
            entries: self.entries,
        })
    }
}

fn once<T>(slot: &mut Option<T>, line: Line<'_>, value: T) -> Result<(), PlaylistError> {
    match slot.replace(value) {
        Some(_) => Err(line.error(Fault::Twice)),
        None => Ok(()),
    }
}

fn number(line: Line<'_>, value: &str) -> Result<u32, PlaylistError> {
    integer(value).ok_or_else(|| line.value("an integer in range", value))
}

/// `duration,[title]`. The comma is required, but some packagers leave it out.
fn duration(line: Line<'_>, value: &str) -> Result<u32, PlaylistError> {
    let seconds = value.split_once(',').map_or(value, |(seconds, _)| seconds);
    thousandths(seconds).ok_or_else(|| line.value("a duration in seconds", value))
}

/// `length[@offset]`, not yet placed.
struct Span {
    len: u64,
    offset: Option<u64>,
}

const SPAN: &str = "a byte range, length[@offset]";

fn span(line: Line<'_>, text: &str) -> Result<Span, PlaylistError> {
    let (len, offset) = text.split_once('@').map_or((text, None), |(len, offset)| (len, Some(offset)));
    let read = || -> Option<Span> {
        let len = integer(len).filter(|len| *len > 0)?;
        let offset = match offset {
            Some(offset) => Some(integer::<u64>(offset).filter(|offset| offset.checked_add(len).is_some())?),
            None => None,
        };
        Some(Span { len, offset })
    };
    read().ok_or_else(|| line.value(SPAN, text))
}
