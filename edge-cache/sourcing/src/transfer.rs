//! One request to one source, from the question to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::gate::Permit;
use crate::health::{Health, Patience, Setback, Standing};
use crate::metrics::Outcome;
use crate::source::{Reason, Source, SourceError};
use crate::sources::{Known, Sources};

/// One request to one source. It tells health and metrics what happened, exactly once; dropped without a word it
/// was our own choice and is no evidence, unless another source has overtaken it.
pub(crate) struct Transfer {
    sources: Arc<Sources>,
    index: usize,
    started: Instant,
    trial: bool,
    ended: bool,
    overtaken: Arc<AtomicBool>,
    _permit: Permit,
}

impl Transfer {
    pub(crate) fn begin(sources: Arc<Sources>, index: usize, permit: Permit) -> Self {
        let (started, known) = (Instant::now(), &sources.known[index]);
        let mut health = known.health();
        let trial = health.begin(started);
        known.metrics.stands(health.standing());
        drop(health);
        sources.paid_for_a_request(known);
        let overtaken = Arc::default();
        Self { sources, index, started, trial, ended: false, overtaken, _permit: permit }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.known().source
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn patience(&self) -> Patience {
        self.known().health().patience(&self.sources.config)
    }

    /// Set it when another source has answered first: then being dropped is evidence.
    pub(crate) fn overtaken(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.overtaken)
    }

    fn known(&self) -> &Known {
        &self.sources.known[self.index]
    }

    pub(crate) fn saw_first_byte(&self) {
        let now = Instant::now();
        let took = now - self.started;
        self.known().metrics.first_byte.observe(took.as_secs_f64());
        self.known().health().saw_first_byte(now, took);
    }

    pub(crate) fn saw_bytes(&self, count: u64) {
        self.sources.paid_for_bytes(self.known(), count);
    }

    /// Every promised byte came: so many; the longest wait for 16 KiB of them, and their pace.
    pub(crate) fn delivered(&mut self, bytes: u64, pause: Duration, pace: Option<u64>) {
        let ended = self.end(Outcome::Delivered, |health, now| {
            health.saw_body(now, pause, pace);
            health.delivered(now);
        });
        if ended {
            self.known().gate.delivered(Instant::now());
            self.known().metrics.permits.set(self.known().gate.permits() as i64);
            self.sources.delivered(self.index, bytes);
        }
    }

    pub(crate) fn failed(&mut self, error: &SourceError) {
        let reason = error.reason;
        let setback = Setback {
            reason,
            trial: self.trial,
            wait: error.retry_after,
            last: self.sources.is_last_in_use(self.index),
            jitter: self.sources.jitter(self.source().id()),
        };
        let sources = Arc::clone(&self.sources);
        let ended = self.end(Outcome::Failed(reason), |health, now| {
            health.failed(now, &setback, &sources.config.breaker);
        });
        if ended && reason == Reason::Throttled {
            self.known().gate.throttled(Instant::now());
            self.known().metrics.permits.set(self.known().gate.permits() as i64);
        }
        if ended && !reason.is_absence() {
            self.tell(reason, &error.detail);
        }
    }

    /// Wrong bytes are for people to look at; the rest is weather, or told by the source itself.
    fn tell(&self, reason: Reason, detail: &str) {
        let (source, reason_text) = (self.source().id(), reason.as_str());
        match reason {
            Reason::Corrupt | Reason::Changed => {
                tracing::warn!(%source, reason = reason_text, detail, "a source failed");
            }
            _ => tracing::debug!(%source, reason = reason_text, detail, "a source failed"),
        }
    }

    /// `false` if the end was told before: the first word counts.
    fn end(&mut self, outcome: Outcome, tell: impl FnOnce(&mut Health, Instant)) -> bool {
        if std::mem::replace(&mut self.ended, true) {
            return false;
        }
        let known = self.known();
        known.metrics.ended(outcome);
        let mut health = known.health();
        let before = health.standing();
        tell(&mut health, Instant::now());
        let after = health.standing();
        drop(health);
        known.metrics.stands(after);
        self.turned(before, after, outcome);
        true
    }

    /// Says aloud that a source rests or is back.
    fn turned(&self, before: Standing, after: Standing, outcome: Outcome) {
        let (source, because) = (self.source().id(), outcome.as_str());
        match (before, after) {
            (Standing::Closed, Standing::Open { until }) => {
                let rest = until.saturating_duration_since(Instant::now());
                tracing::info!(%source, because, ?rest, "a source rests");
                self.known().metrics.rests.inc();
                self.known().ejected.notify_waiters();
            }
            (Standing::Open { .. } | Standing::HalfOpen, Standing::Closed) => {
                tracing::info!(%source, "a source is in use again");
            }
            _ => return,
        }
        self.sources.changed.notify_one();
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let trial = self.trial;
        if self.overtaken.load(Ordering::Relaxed) {
            let (jitter, sources) = (self.sources.jitter(self.source().id()), Arc::clone(&self.sources));
            self.end(Outcome::Overtaken, |health, now| {
                health.overtaken(now, trial, jitter, &sources.config.breaker);
            });
        } else {
            self.end(Outcome::Dropped, |health, now| health.abandoned(now, trial));
        }
    }
}
