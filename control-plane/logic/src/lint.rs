//! Whether a package will play: rules over facts that were measured of it.
//!
//! An error stops publishing: some player, Roku first of all, would stall, refuse or show nothing. A warning
//! is told to the operator. Each rule is one function over [`PackageFacts`]; the facts are gathered by whoever
//! can read files.
//!
//! Not judged here: whether the bytes are the ones that were made (the signed index does that), and the
//! picture itself.

mod facts;
mod measure;
mod rules;

use std::fmt;

use media::RenditionId;
use serde::{Deserialize, Serialize};

pub use facts::{AudioTrack, PackageFacts, PlaylistFacts, SegmentFacts, TextTrack, Track, VideoTrack};
pub use measure::{average_bits, peak_bits};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; the package is published.
    Warning,
    /// The package is not published.
    Error,
}

impl Severity {
    /// The word used in texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// Which rule a package breaks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word used in texts, JSON and documentation.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

rules! {
    /// There is video, and every rendition has segments.
    Empty = "empty";
    /// Segments of all video renditions begin at the same times, so that a player can change between them.
    Alignment = "alignment";
    /// Every video segment begins with a picture that needs no other.
    SyncStart = "sync-start";
    /// The declared peak is not below the measured one: players would run dry.
    PeakAboveBandwidth = "peak-above-bandwidth";
    /// The declared peak is not far above the measured one: players would choose worse pictures than they could.
    BandwidthFarAbovePeak = "bandwidth-far-above-peak";
    /// The declared average is there and not below the measured one.
    AverageBandwidth = "average-bandwidth";
    /// No segment is too large for a Roku's buffer.
    SegmentBytes = "segment-bytes";
    /// No segment is longer than its playlist promises.
    TargetDuration = "target-duration";
    /// The rungs reach down to 400 kb/s.
    LowRung = "low-rung";
    /// There is AAC stereo.
    AacStereo = "aac-stereo";
    /// Audio is in renditions of its own: Roku plays no CMAF with both in one file.
    Demuxed = "demuxed";
    /// All video renditions are of one codec: Roku does not change between codecs.
    OneCodec = "one-codec";
    /// No playlist lists more than a Roku reads.
    PlaylistEntries = "playlist-entries";
    /// No playlist is larger than a Roku reads.
    PlaylistBytes = "playlist-bytes";
    /// Every playlist is finished: its total is known.
    EndList = "end-list";
    /// Every rendition is as long as the film.
    Duration = "duration";
    /// Every video rendition has an I-frame playlist.
    IFrames = "i-frames";
    /// A film of more than a quarter of an hour has thumbnails.
    Thumbnails = "thumbnails";
    /// The multivariant playlist states codecs, size and frame rate of every variant.
    Attributes = "attributes";
}

/// One thing that is wrong with a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// How bad.
    pub severity: Severity,
    /// Which rendition; `None` if it is about the package as a whole.
    pub rendition: Option<RenditionId>,
    /// What was found and what was wanted.
    pub text: String,
}

/// `error sync-start v720: segment 3 does not begin with an IDR picture`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.severity.as_str(), self.rule.as_str())?;
        if let Some(rendition) = &self.rendition {
            write!(f, " {rendition}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Judges a package. Each rule speaks at most once about each rendition.
#[must_use]
pub fn lint(facts: &PackageFacts) -> Vec<Finding> {
    rules::ALL.iter().flat_map(|rule| rule(facts)).collect()
}

/// Whether nothing found speaks against publishing.
#[must_use]
pub fn publishable(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Error)
}

#[cfg(test)]
mod tests;
