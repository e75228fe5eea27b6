//! Multivariant playlists: which renditions a title has.

use super::attributes::Attributes;
use super::line::{Line, LineKind, at_end, integer, lines, thousandths};
use super::{Fault, PlaylistError};

/// The tags that only a media playlist may hold.
const MEDIA_ONLY: [&str; 4] = ["EXTINF", "EXT-X-TARGETDURATION", "EXT-X-BYTERANGE", "EXT-X-MAP"];

/// A multivariant playlist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MainPlaylist {
    /// `EXT-X-INDEPENDENT-SEGMENTS`: every segment can be decoded without another.
    pub independent_segments: bool,
    /// Variants, I-frame variants and image variants, in the order they stand.
    pub streams: Vec<Stream>,
    /// `EXT-X-MEDIA`: audio, captions.
    pub media: Vec<Media>,
}

impl MainPlaylist {
    /// The streams of one kind.
    pub fn of(&self, kind: StreamKind) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(move |stream| stream.kind == kind)
    }
}

/// Which tag declared a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// `EXT-X-STREAM-INF`: a variant to play.
    Variant,
    /// `EXT-X-I-FRAME-STREAM-INF`: I-frames for seeking.
    IFrames,
    /// `EXT-X-IMAGE-STREAM-INF`: thumbnails for seeking.
    Images,
}

/// One playlist to choose by its bit rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The line of its tag, counted from 1.
    pub line: usize,
    /// Which tag.
    pub kind: StreamKind,
    /// The media playlist, as written.
    pub uri: String,
    /// `BANDWIDTH`: peak bits per second, audio included for a variant.
    pub bandwidth: u32,
    /// `AVERAGE-BANDWIDTH` in bits per second.
    pub average_bandwidth: Option<u32>,
    /// `CODECS`, as written.
    pub codecs: Option<String>,
    /// `RESOLUTION`.
    pub resolution: Option<Resolution>,
    /// `FRAME-RATE` in thousandths of a frame per second.
    pub frame_rate_milli: Option<u32>,
    /// The `AUDIO` group.
    pub audio: Option<String>,
    /// The `SUBTITLES` group.
    pub subtitles: Option<String>,
}

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resolution {
    /// Across.
    pub width: u32,
    /// Down.
    pub height: u32,
}

/// `TYPE` of `EXT-X-MEDIA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `AUDIO`.
    Audio,
    /// `VIDEO`.
    Video,
    /// `SUBTITLES`.
    Subtitles,
    /// `CLOSED-CAPTIONS`.
    ClosedCaptions,
}

/// One `EXT-X-MEDIA`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// The line of its tag, counted from 1.
    pub line: usize,
    /// `TYPE`.
    pub media_type: MediaType,
    /// `GROUP-ID`.
    pub group: String,
    /// `NAME`.
    pub name: String,
    /// `LANGUAGE`.
    pub language: Option<String>,
    /// The media playlist, as written; `None` when it is part of the variant.
    pub uri: Option<String>,
    /// `DEFAULT=YES`.
    pub default: bool,
    /// `AUTOSELECT=YES`.
    pub autoselect: bool,
    /// `CHANNELS`, as written.
    pub channels: Option<String>,
}

/// Reads a multivariant playlist.
///
/// # Errors
/// [`PlaylistError`] names the first line that cannot be understood.
pub fn parse_main(text: &str) -> Result<MainPlaylist, PlaylistError> {
    let lines = lines(text)?;
    let mut playlist = MainPlaylist::default();
    // A variant's tag waits for the URI on the next line that is neither empty nor a comment.
    let mut waiting: Option<Line<'_>> = None;
    for line in &lines {
        match (line.kind, waiting.take()) {
            (LineKind::Silent, before) => waiting = before,
            (LineKind::Uri(uri), Some(tag)) => {
                playlist.streams.push(stream(tag, StreamKind::Variant, Some(uri))?);
            }
            (LineKind::Uri(_), None) => return Err(line.missing("EXT-X-STREAM-INF before this URI")),
            (LineKind::Tag { .. }, Some(tag)) => return Err(tag.missing("the URI of this variant")),
            (LineKind::Tag { name: "EXT-X-STREAM-INF", .. }, None) => waiting = Some(*line),
            (LineKind::Tag { name, .. }, None) => tag(&mut playlist, *line, name)?,
        }
    }
    match waiting {
        Some(tag) => Err(tag.missing("the URI of this variant")),
        None if playlist.of(StreamKind::Variant).next().is_none() => {
            Err(at_end(&lines, Fault::Missing("EXT-X-STREAM-INF")))
        }
        None => Ok(playlist),
    }
}

fn tag(playlist: &mut MainPlaylist, line: Line<'_>, name: &str) -> Result<(), PlaylistError> {
    match name {
        "EXT-X-MEDIA" => playlist.media.push(media(line)?),
        "EXT-X-I-FRAME-STREAM-INF" => playlist.streams.push(stream(line, StreamKind::IFrames, None)?),
        "EXT-X-IMAGE-STREAM-INF" => playlist.streams.push(stream(line, StreamKind::Images, None)?),
        "EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent_segments = true,
        _ if MEDIA_ONLY.contains(&name) => return Err(line.error(Fault::WrongKind("a media playlist"))),
        _ => {}
    }
    Ok(())
}

fn attributes(line: Line<'_>) -> Result<Attributes<'_>, PlaylistError> {
    let LineKind::Tag { value, .. } = line.kind else { return Err(line.missing("a tag")) };
    Attributes::parse(line, value)
}

fn stream(line: Line<'_>, kind: StreamKind, uri: Option<&str>) -> Result<Stream, PlaylistError> {
    let attributes = attributes(line)?;
    let uri = match uri {
        Some(uri) => uri,
        None => attributes.required_text("URI")?,
    };
    let owned = |name| attributes.text(name).map(|text| text.map(str::to_owned));
    Ok(Stream {
        line: line.number,
        kind,
        uri: uri.to_owned(),
        bandwidth: attributes.integer("BANDWIDTH")?.ok_or_else(|| line.missing("BANDWIDTH"))?,
        average_bandwidth: attributes.integer("AVERAGE-BANDWIDTH")?,
        codecs: owned("CODECS")?,
        resolution: attributes.parsed("RESOLUTION", "a resolution, WIDTHxHEIGHT", resolution)?,
        frame_rate_milli: attributes.parsed("FRAME-RATE", "a frame rate", thousandths)?,
        audio: owned("AUDIO")?,
        subtitles: owned("SUBTITLES")?,
    })
}

fn resolution(text: &str) -> Option<Resolution> {
    let (width, height) = text.split_once('x')?;
    Some(Resolution { width: integer(width)?, height: integer(height)? })
}

fn media(line: Line<'_>) -> Result<Media, PlaylistError> {
    let attributes = attributes(line)?;
    let owned = |name| attributes.text(name).map(|text| text.map(str::to_owned));
    let yes = |name| attributes.parsed(name, "YES or NO", yes_or_no).map(|flag| flag.unwrap_or(false));
    let media_type = attributes.parsed("TYPE", "a media type", media_type)?;
    Ok(Media {
        line: line.number,
        media_type: media_type.ok_or_else(|| line.missing("TYPE"))?,
        group: attributes.required_text("GROUP-ID")?.to_owned(),
        name: attributes.required_text("NAME")?.to_owned(),
        language: owned("LANGUAGE")?,
        uri: owned("URI")?,
        default: yes("DEFAULT")?,
        autoselect: yes("AUTOSELECT")?,
        channels: owned("CHANNELS")?,
    })
}

fn media_type(text: &str) -> Option<MediaType> {
    Some(match text {
        "AUDIO" => MediaType::Audio,
        "VIDEO" => MediaType::Video,
        "SUBTITLES" => MediaType::Subtitles,
        "CLOSED-CAPTIONS" => MediaType::ClosedCaptions,
        _ => return None,
    })
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "YES" => Some(true),
        "NO" => Some(false),
        _ => None,
    }
}
