//! Measurements of the real rooms, each beside the naive way of doing the same.
//!
//! [`verify`] tells what it costs to check every 16 KiB before anybody sees them, [`hot`] what a memory hit
//! costs inside the engine, [`http`] what it costs through the viewer's edge over loopback, [`cost`] what whole
//! months cost with the real planner, [`replay`] which policy of the disk hits how much under an audience drawn by
//! [`demand`] or read from a log. Both sides of a comparison run interleaved in one session on the same
//! bytes, and each shows a hash of what it delivered: a result whose hashes differ is an error and no result.
//!
//! What it does not do: it measures neither disks nor real networks, keeps no history and judges nothing. On
//! a shared machine the ratios mean more than the absolute figures.
//!
//! What can go wrong: a room refuses its configuration, the server process does not start, or the two sides
//! deliver different bytes. Each is a [`Fault`] that says what was being done.

pub mod cost;
pub mod demand;
pub mod film;
pub mod goals;
pub mod hot;
pub mod http;
mod node;
pub mod replay;
pub mod report;
pub mod stats;
pub mod trace;
pub mod verify;
mod workload;

pub use workload::Workload;

use std::fmt::Display;

/// Why a measurement did not come about.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {reason}")]
pub struct Fault {
    doing: &'static str,
    reason: String,
}

impl Fault {
    /// A fault with its reason in words.
    #[must_use]
    pub fn new(doing: &'static str, reason: impl Display) -> Self {
        Self { doing, reason: reason.to_string() }
    }
}

/// Says what was being done when something failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Fault>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: &'static str) -> Result<T, Fault> {
        self.map_err(|error| Fault::new(what, error))
    }
}
