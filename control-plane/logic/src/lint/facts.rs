//! What a package is known to be: measured of its files and read from its playlists.

use media::RenditionId;

/// A whole package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFacts {
    /// How long the film plays, in milliseconds, as the source was measured.
    pub duration_ms: u64,
    /// How many bytes the multivariant playlist has.
    pub main_bytes: u64,
    /// Its video renditions.
    pub video: Vec<VideoTrack>,
    /// Its audio renditions.
    pub audio: Vec<AudioTrack>,
    /// Its captions.
    pub text: Vec<TextTrack>,
    /// The thumbnail playlist, if there is one.
    pub thumbnails: Option<PlaylistFacts>,
    /// Whether there is a BIF archive.
    pub bif: bool,
}

/// A playlist as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaylistFacts {
    /// How many bytes it has.
    pub bytes: u64,
    /// How many segments it lists.
    pub entries: usize,
    /// Its target duration in seconds.
    pub target_s: u32,
    /// Whether it says that nothing follows (`EXT-X-ENDLIST`).
    pub ended: bool,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// When it begins in the film, in microseconds.
    pub start_us: u64,
    /// How long it plays, in microseconds.
    pub duration_us: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether its first sample is a sync sample (for H.264: an IDR picture).
    pub sync: bool,
}

/// A rendition of anything that plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its name.
    pub id: RenditionId,
    /// Its media playlist.
    pub playlist: PlaylistFacts,
    /// Its segments in order.
    pub segments: Vec<SegmentFacts>,
}

/// A video rendition and its line in the multivariant playlist. If it has several lines (one for each audio
/// group), these are the values of the line that declares least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTrack {
    /// What plays.
    pub track: Track,
    /// `BANDWIDTH`: the declared peak of video and audio together, in bits per second.
    pub bandwidth: u64,
    /// `AVERAGE-BANDWIDTH`, if declared.
    pub average_bandwidth: Option<u64>,
    /// `CODECS`, if declared.
    pub codecs: Option<String>,
    /// `RESOLUTION`, if declared.
    pub resolution: Option<(u32, u32)>,
    /// `FRAME-RATE` in thousandths, if declared.
    pub frame_rate_milli: Option<u32>,
    /// Whether its files carry audio, too.
    pub has_audio: bool,
    /// Its I-frame playlist, if there is one.
    pub iframes: Option<PlaylistFacts>,
}

/// An audio rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTrack {
    /// What plays.
    pub track: Track,
    /// Its codec as RFC 6381 spells it: `mp4a.40.2`.
    pub codec: String,
    /// How many channels it has.
    pub channels: u32,
}

/// A caption rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTrack {
    /// Its name.
    pub id: RenditionId,
    /// Its media playlist.
    pub playlist: PlaylistFacts,
}
