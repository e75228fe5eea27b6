//! What can happen to an ingest: the lines of its journal. Their JSON is stored for years and tested with a
//! golden file; fields may be added with a default, never renamed.

use std::fmt;
use std::time::Duration;

use control_api::rest::{CaptionSource, RenditionView};
use media::{PackageId, Tag, TitleId};
use serde::{Deserialize, Serialize};

use crate::ladder::SourceFacts;
use crate::lint::Finding;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// Somebody ordered the ingest. Always the first event.
    Received(Order),
    /// An effect succeeded.
    Done {
        /// Which.
        effect: EffectId,
        /// With what result.
        done: Done,
    },
    /// An effect failed.
    Failed {
        /// Which.
        effect: EffectId,
        /// How.
        failure: Failure,
    },
    /// The operator asked for another try of a failed ingest.
    Retried,
}

/// The number of an effect, unique within its ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(pub u32);

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The film.
    pub title: TitleId,
    /// The package to make, see [`crate::package::package_id`].
    pub package: PackageId,
    /// The mezzanine's path within the mezzanine store.
    pub source: String,
    /// Caption files, if any.
    pub captions: Vec<CaptionSource>,
    /// The tags of the title, as its index will name them: sorted, none twice.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// How often to try. It stands in the journal so that a replay decides as the first run did, whatever the
    /// configuration says by then.
    pub retry: RetryPolicy,
}

/// How often a job is tried and how long to wait in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// The most attempts at one job, the first included. Default 4.
    pub max_attempts: u32,
    /// The wait after the first failure, in milliseconds; each further one doubles it. Default 5 s.
    pub first_delay_ms: u64,
    /// The longest wait, in milliseconds. Default 5 min.
    pub max_delay_ms: u64,
}

impl RetryPolicy {
    /// How long to wait after this attempt (from 1) failed.
    #[must_use]
    pub fn delay_after(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(32);
        let delay = self.first_delay_ms.saturating_mul(1 << doublings);
        Duration::from_millis(delay.min(self.max_delay_ms))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 4, first_delay_ms: 5_000, max_delay_ms: 300_000 }
    }
}

/// What an effect achieved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Done {
    /// The mezzanine was measured.
    Probed(SourceFacts),
    /// All renditions were encoded.
    Transcoded,
    /// CMAF files, playlists, captions and thumbnails stand.
    Packaged,
    /// The package was judged; this is everything that was found.
    Verified(Vec<Finding>),
    /// The signed index and every object are in the store.
    Indexed(IndexFacts),
    /// Viewers are being sent there.
    Published {
        /// Since when, in Unix seconds.
        at: u64,
    },
}

/// What the index says about the package as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexFacts {
    /// How long it plays, in milliseconds.
    pub duration_ms: u64,
    /// What it holds.
    pub renditions: Vec<RenditionView>,
}

/// Why an effect failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether the same input would fail again, so that trying again is pointless.
    pub permanent: bool,
    /// What the operator should read.
    pub detail: String,
}
