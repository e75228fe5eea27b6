//! How long a failing disk is left alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A pause of fixed length that a failure begins and a success ends. After it has passed, the next operation is
/// the probe: it fails and begins another pause, or succeeds.
pub(super) struct Pause {
    length: Duration,
    until: Mutex<Option<Instant>>,
}

impl Pause {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, until: Mutex::new(None) }
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Whether there was a pause that no success has ended yet: the next operation is the probe.
    pub(super) fn has_passed(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now >= until)
    }

    pub(super) fn begin(&self, now: Instant) {
        *self.until() = now.checked_add(self.length);
    }

    /// Whether there was a pause to end.
    pub(super) fn end(&self) -> bool {
        self.until().take().is_some()
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
