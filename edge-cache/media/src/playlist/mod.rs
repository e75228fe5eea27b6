//! HLS playlists (RFC 8216 and its successor draft): read strictly, rewritten line by line.
//!
//! The packager writes playlists for a plain store: one file per rendition, segments as byte ranges of it.
//! The gateway serves **virtual segments** instead: every segment has a URL of its own, because players,
//! caches and peers handle small plain objects best. The rewriters here turn the one into the other once, at
//! ingest; every viewer then gets the same bytes.
//!
//! - Reading: [`parse_media`] and [`parse_main`] give values and refuse what cannot be played, naming line
//!   and tag. Tags that mean nothing here are passed over.
//! - Rewriting: [`virtualize_media`], [`virtualize_iframes`], [`virtualize_main`] and [`map_uris`] change the
//!   lines they must and copy every other line byte for byte, so that a tag of tomorrow survives.
//!
//! Only finished playlists (`EXT-X-ENDLIST`) are rewritten, with at most one initialisation section, because
//! that is what a package is. Live playlists can be read but not rewritten. Nothing is fetched.

mod attributes;
mod line;
mod main_playlist;
mod media_playlist;
mod rewrite;
#[cfg(test)]
mod tests;

pub use line::{MAX_LINES, MAX_PLAYLIST_LEN};
pub use main_playlist::{MainPlaylist, Media, MediaType, Resolution, Stream, StreamKind, parse_main};
pub use media_playlist::{Map, MediaEntry, MediaPlaylist, parse_media};
pub use rewrite::{map_uris, virtualize_iframes, virtualize_main, virtualize_media};

/// Why a playlist was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, {tag}: {fault}")]
pub struct PlaylistError {
    /// The line, counted from 1.
    pub line: usize,
    /// The tag on it (`EXT-X-MAP`), `URI` on a URI line, `playlist` for what concerns the whole.
    pub tag: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong with a line of a playlist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// More bytes than any playlist may have.
    #[error("the playlist has {0} bytes, allowed are {MAX_PLAYLIST_LEN}")]
    TooLong(usize),
    /// More lines than any playlist may have.
    #[error("the playlist has more than {MAX_LINES} lines")]
    TooManyLines,
    /// The first line is not `#EXTM3U`.
    #[error("a playlist begins with #EXTM3U")]
    NotAPlaylist,
    /// A control character besides line ends.
    #[error("control character {0:?}")]
    Control(char),
    /// A multivariant playlist where a media playlist was expected, or the other way round.
    #[error("this tag belongs to {0}")]
    WrongKind(&'static str),
    /// The attribute list cannot be read from here on.
    #[error("malformed attribute list at {0:?}")]
    Attributes(String),
    /// An attribute, tag or line that has to be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A second one where one is allowed.
    #[error("this stands twice")]
    Twice,
    /// A value that is not of its type.
    #[error("{value:?} is not {expected}")]
    Value {
        /// What was expected there.
        expected: &'static str,
        /// What stood there, shortened.
        value: String,
    },
    /// A byte range without an offset that does not continue a range of the same resource.
    #[error("a byte range without offset must follow one of the same resource")]
    NothingToContinue,
    /// A package has one initialisation section, before its first segment.
    #[error("another initialisation section than the first, or one after a segment")]
    SecondMap,
    /// The packager was cut off, or this is live.
    #[error("the playlist has no EXT-X-ENDLIST, it is not finished")]
    NotFinished,
    /// The target duration asked for is shorter than a segment.
    #[error("a target duration of {asked} s is shorter than the longest segment, {longest} s")]
    TargetTooShort {
        /// What the caller asked for, in seconds.
        asked: u32,
        /// The longest segment, rounded, in seconds.
        longest: u32,
    },
    /// An I-frame that lies in no segment of the media playlist.
    #[error("{0} lies in no segment of the media playlist")]
    OutsideSegments(String),
    /// A URI for which the package has no other name.
    #[error("the package has no name for {0:?}")]
    UnknownUri(String),
}

/// As much of a stranger's text as belongs into an error message.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
