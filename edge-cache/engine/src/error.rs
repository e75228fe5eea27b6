//! Why a viewer cannot have bytes.

use sourcing::{Exhausted, Reason};
use tokio::time::Instant;

/// A request that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct ServeError {
    /// What kind of failure; decides the answer.
    pub reason: Failure,
    /// For the operator's eyes.
    pub detail: String,
}

/// Why a request cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Every healthy source says that there is no such package.
    NoSuchTitle,
    /// The package has no such segment.
    NoSuchSegment,
    /// The index is not signed by a key this node trusts, or is no index.
    Untrusted,
    /// No source delivered; trying again later may help.
    SourcesExhausted,
    /// The time for the fill ran out.
    Deadline,
    /// The node is full; trying again soon may help.
    Overloaded,
    /// The sources hold another version than the index describes.
    Changed,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 7] = [
        Self::NoSuchTitle,
        Self::NoSuchSegment,
        Self::Untrusted,
        Self::SourcesExhausted,
        Self::Deadline,
        Self::Overloaded,
        Self::Changed,
    ];

    /// Whether nobody delivered, as opposed to somebody saying no.
    pub(crate) const fn is_absence_of_sources(self) -> bool {
        matches!(self, Self::SourcesExhausted | Self::Deadline)
    }

    /// The word used in logs, metrics and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSuchTitle => "no-such-title",
            Self::NoSuchSegment => "no-such-segment",
            Self::Untrusted => "untrusted",
            Self::SourcesExhausted => "sources-exhausted",
            Self::Deadline => "deadline",
            Self::Overloaded => "overloaded",
            Self::Changed => "changed",
        }
    }
}

impl ServeError {
    pub(crate) fn new(reason: Failure, detail: impl std::fmt::Display) -> Self {
        Self { reason, detail: detail.to_string() }
    }

    /// What it means for the viewer that nobody delivered `what` until `deadline`.
    pub(crate) fn exhausted(what: &str, exhausted: &Exhausted, deadline: Instant) -> Self {
        let reason = match exhausted.last.as_ref().map(|last| last.reason) {
            _ if Instant::now() >= deadline => Failure::Deadline,
            Some(Reason::Changed) => Failure::Changed,
            _ => Failure::SourcesExhausted,
        };
        Self::new(reason, format_args!("{what}: {exhausted}"))
    }
}
