//! What is remembered about how a source behaved: a pure state machine. Time and jitter are inputs.
//!
//! ```text
//!            failures in a row, too many of the last 10 s, always overtaken,
//!            a request to wait, wrong bytes
//!   Closed ----------------------------------------------------> Open { until }
//!      ^                                                           |      ^
//!      | the trial delivered                     until has passed, |      | the trial failed:
//!      |                                         somebody tries it v      | a longer rest
//!      +------------------------------------------------------ HalfOpen --+
//! ```
//!
//! One trial runs at a time. "Not here" and transfers that we dropped ourselves are no evidence either way.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{BreakerConfig, SourcingConfig};
use crate::quantile::Quantiles;
use crate::source::Reason;

/// Where the breaker stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// In use.
    #[default]
    Closed,
    /// Resting; from `until` on it may be tried.
    Open {
        /// When the rest ends.
        until: Instant,
    },
    /// One trial is under way.
    HalfOpen,
}

impl Standing {
    /// The word used in logs and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// The memory of one source's behaviour.
#[derive(Debug, Clone, Default)]
pub struct Health {
    standing: Standing,
    /// Failures in a row.
    failures: u32,
    /// Answers in a row that came too late, because another source had answered.
    overtaken: u32,
    recent: Recent,
    /// Rests in a row; each makes the next one longer.
    rests: u32,
    /// It rests because of wrong bytes: only a transfer whose bytes are checked may end that.
    distrusted: bool,
    /// It rests because it asked for it.
    throttled: bool,
    /// When the breaker last closed; long good behaviour forgives earlier rests.
    closed_at: Option<Instant>,
    /// When it last answered or failed.
    heard: Option<Instant>,
    first_byte: Option<Latency>,
    first_bytes: Quantiles,
    pauses: Quantiles,
    /// Bytes per second, averaged.
    pace: Option<u64>,
}

/// A moving average with its age.
#[derive(Debug, Clone, Copy)]
struct Latency {
    average: Duration,
    seen: Instant,
}

/// A transfer that failed.
#[derive(Debug, Clone, Copy)]
pub struct Setback {
    /// Why.
    pub reason: Reason,
    /// What [`Health::begin`] said of it.
    pub trial: bool,
    /// How long the source asked to be left alone.
    pub wait: Option<Duration>,
    /// Whether it is the last source in use: then only what would hurt viewers more makes it rest.
    pub last: bool,
    /// A draw of 0 to 65,535.
    pub jitter: u16,
}

/// How long a source may take before something else is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the first byte, until the transfer is given up.
    pub first_byte: Duration,
    /// For each further 16 KiB.
    pub stall: Duration,
    /// For the first byte, until a second source is asked, too.
    pub hedge: Duration,
}

/// Fewer observations than this are no basis for impatience.
const SETTLED: u32 = 8;

/// A source whose transfers fail now and then is asked again this soon when nobody else does.
const DOUBT: Duration = Duration::from_secs(1);

impl Health {
    /// Where the breaker stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Failures in a row so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Of the transfers of the last 10 s, how many failed, in percent; `None` when there were none.
    #[must_use]
    pub fn failed_percent(&self, now: Instant) -> Option<u32> {
        let (good, bad) = self.recent.at(now);
        bad.saturating_mul(100).checked_div(good.saturating_add(bad))
    }

    /// The average time to the first byte, if any was seen.
    #[must_use]
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.map(|latency| latency.average)
    }

    /// Times to the first byte.
    #[must_use]
    pub fn first_bytes(&self) -> &Quantiles {
        &self.first_bytes
    }

    /// Bytes per second while it delivers, averaged, if that was seen.
    #[must_use]
    pub fn pace(&self) -> Option<u64> {
        self.pace
    }

    /// Whether recent first bytes came too late to be a first choice.
    #[must_use]
    pub fn is_slow(&self, now: Instant, config: &SourcingConfig) -> bool {
        self.first_byte.is_some_and(|latency| {
            let recent = now.saturating_duration_since(latency.seen) < config.slow_for;
            recent && latency.average > config.slow_first_byte
        })
    }

    /// How long to wait for it while another stands ready.
    #[must_use]
    pub fn patience(&self, config: &SourcingConfig) -> Patience {
        let bounds = &config.patience;
        let four_times = |seen: &Quantiles, most: Duration| {
            let usual = seen.per_mille(990).map_or(bounds.unknown, |usual| usual * 4);
            let usual = if seen.len() < SETTLED { usual.max(bounds.unknown) } else { usual };
            usual.max(bounds.least).min(most)
        };
        let hedge = self.first_bytes.per_mille(950).map_or(config.hedge.unknown, |usual| usual * 3 / 2);
        let settled = self.first_bytes.len() >= SETTLED;
        let least = if settled { config.hedge.least } else { config.hedge.unknown };
        Patience {
            first_byte: four_times(&self.first_bytes, config.first_byte_timeout),
            stall: four_times(&self.pauses, config.stall_timeout),
            hedge: hedge.max(least),
        }
    }

    /// When a probe should try it, if probes are sent since `since`; `None` while that is not for a probe to do. Nobody is
    /// probed for being idle unless something was bought since it was heard: a node that buys nothing asks nothing.
    #[must_use]
    pub fn probe_due(&self, since: Instant, bought: Instant, idle: Duration) -> Option<Instant> {
        let heard = self.heard.unwrap_or(since).max(since);
        match self.standing {
            Standing::Open { until } => (!self.distrusted).then_some(until),
            Standing::HalfOpen => None,
            Standing::Closed if self.failures > 0 => Some(heard + DOUBT),
            Standing::Closed => (!idle.is_zero() && bought > heard + DOUBT).then(|| heard + idle),
        }
    }

    /// How many rests in a row there were: the more, the less hope.
    #[must_use]
    pub fn rests(&self) -> u32 {
        self.rests
    }

    /// Whether it rests because it asked for it: then it will serve when the rest is over.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.throttled && self.standing != Standing::Closed
    }

    /// Whether only a transfer whose bytes are checked may end its rest.
    #[must_use]
    pub fn is_distrusted(&self) -> bool {
        self.distrusted
    }

    /// A transfer is about to start. `true` when it is the one trial of a source that rested; the caller
    /// then owes [`Health::delivered`], [`Health::failed`], [`Health::overtaken`] or [`Health::abandoned`].
    pub fn begin(&mut self, now: Instant) -> bool {
        let trial = matches!(self.standing, Standing::Open { until } if until <= now);
        if trial {
            self.standing = Standing::HalfOpen;
        }
        trial
    }

    /// The first byte came this long after the question. A quarter of each new observation enters the average.
    pub fn saw_first_byte(&mut self, now: Instant, took: Duration) {
        self.heard = Some(now);
        self.overtaken = 0;
        let average = self.first_byte.map_or(took, |old| (old.average * 3 + took) / 4);
        self.first_byte = Some(Latency { average, seen: now });
        self.first_bytes.see(now, took);
    }

    /// A body ended, well or not: the longest wait for 16 KiB of it, and its bytes per second.
    pub fn saw_body(&mut self, now: Instant, pause: Duration, pace: Option<u64>) {
        self.pauses.see(now, pause);
        let average =
            |new: u64| self.pace.map_or(new, |old| (old / 4).saturating_mul(3).saturating_add(new / 4));
        self.pace = pace.map(average).or(self.pace);
    }

    /// Every promised byte came.
    pub fn delivered(&mut self, now: Instant) {
        self.heard = Some(now);
        self.recent.note(now, true);
        (self.failures, self.overtaken, self.distrusted) = (0, 0, false);
        if self.standing != Standing::Closed {
            self.standing = Standing::Closed;
            self.closed_at = Some(now);
        }
    }

    /// A transfer failed.
    pub fn failed(&mut self, now: Instant, setback: &Setback, config: &BreakerConfig) {
        let Setback { reason, trial, wait, last, jitter } = *setback;
        self.heard = Some(now);
        if reason.is_absence() {
            return self.abandoned(now, trial);
        }
        self.failures = self.failures.saturating_add(1);
        self.recent.note(now, false);
        let first = match reason {
            Reason::Corrupt | Reason::Changed => config.corrupt_for,
            Reason::Throttled => wait.unwrap_or_default().min(config.longest).max(config.throttled_for),
            _ if trial || self.failures >= config.failures => config.open_for,
            _ if !last && self.recent.is_bad(now, config) => config.open_for,
            _ => return,
        };
        self.distrusted |= matches!(reason, Reason::Corrupt | Reason::Changed);
        self.throttled = reason == Reason::Throttled;
        self.rest(now, first, trial, jitter, config);
    }

    /// Another source had answered before this one did, although it was asked later. Once is chance; always is not.
    pub fn overtaken(&mut self, now: Instant, trial: bool, jitter: u16, config: &BreakerConfig) {
        self.overtaken = self.overtaken.saturating_add(1);
        let always = self.standing == Standing::Closed && self.overtaken >= config.overtaken;
        if trial || always {
            self.throttled = false;
            self.rest(now, config.open_for, trial, jitter, config);
        }
    }

    /// A transfer ended without evidence: not here, or we no longer wanted it. A trial may be tried again.
    pub fn abandoned(&mut self, now: Instant, trial: bool) {
        if trial && self.standing == Standing::HalfOpen {
            self.standing = Standing::Open { until: now };
        }
    }

    fn rest(&mut self, now: Instant, first: Duration, trial: bool, jitter: u16, config: &BreakerConfig) {
        let good_since = |at: Instant| now.saturating_duration_since(at) >= config.forgive_after;
        match self.standing {
            // Transfers that began before the rest and fail during it are the same failure, not a new one.
            Standing::Open { until } if !trial && until > now && first <= until - now => return,
            Standing::Closed if self.closed_at.is_none_or(good_since) => self.rests = 0,
            _ => {}
        }
        // Who asks for a pause names its length, and gets fewer transfers afterwards: it is not dying.
        let before = if self.throttled { 0 } else { self.rests };
        let until = now + rest_of(first, before, jitter, config);
        self.rests = self.rests.saturating_add(u32::from(!self.throttled));
        self.overtaken = 0;
        self.standing = Standing::Open { until };
    }
}

/// How long the rest after `before` earlier ones lasts.
fn rest_of(first: Duration, before: u32, jitter: u16, config: &BreakerConfig) -> Duration {
    let grown = first.saturating_mul(1 << before.min(20));
    let rest = grown.min(config.longest.max(first));
    rest + rest * config.jitter_percent / 100 * u32::from(jitter) / u32::from(u16::MAX)
}

/// How the transfers of the last 10 s ended: those of this stretch of 5 s, and those of the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    began: Option<Instant>,
    /// Good and bad.
    now: (u32, u32),
    before: (u32, u32),
}

const STRETCH: Duration = Duration::from_secs(5);

impl Recent {
    fn note(&mut self, now: Instant, good: bool) {
        self.turn(now);
        let count = if good { &mut self.now.0 } else { &mut self.now.1 };
        *count = count.saturating_add(1);
    }

    fn at(mut self, now: Instant) -> (u32, u32) {
        self.turn(now);
        (self.now.0.saturating_add(self.before.0), self.now.1.saturating_add(self.before.1))
    }

    fn is_bad(self, now: Instant, config: &BreakerConfig) -> bool {
        let (good, bad) = self.at(now);
        let all = good.saturating_add(bad);
        all >= config.least_transfers
            && u64::from(bad) * 100 >= u64::from(all) * u64::from(config.failure_percent)
    }

    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        if passed >= STRETCH {
            self.before = if passed < STRETCH * 2 { self.now } else { (0, 0) };
            (self.began, self.now) = (Some(now), (0, 0));
        }
    }
}

#[cfg(test)]
mod tests;
