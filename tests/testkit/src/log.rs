//! What happened, in order.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Everything that sources were asked and viewers saw, in the order in which it happened. Clones share it. Two
/// runs of one seed have the same log, or something in the house is not deterministic.
#[derive(Debug, Clone)]
pub struct Log {
    begun: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, since the world began.
    pub at: Duration,
    /// Who and what.
    pub text: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3}s {}", self.at.as_secs_f64(), self.text)
    }
}

impl Log {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), events: Arc::default() }
    }

    /// When the world began.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// The time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Adds a line.
    pub fn note(&self, text: impl fmt::Display) {
        let event = Event { at: self.now(), text: text.to_string() };
        self.lock().push(event);
    }

    /// All lines so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
