//! What is remembered about how a source behaved: a pure state machine. Time and jitter are inputs.
//!
//! ```text
//!            failures in a row, a request to wait, wrong bytes
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
use crate::source::Reason;

/// Where the breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In use.
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
#[derive(Debug, Clone)]
pub struct Health {
    standing: Standing,
    /// Failures in a row.
    failures: u32,
    /// Rests in a row; each makes the next one longer.
    rests: u32,
    /// When the breaker last closed; long good behaviour forgives earlier rests.
    closed_at: Option<Instant>,
    first_byte: Option<Latency>,
}

/// A moving average with its age.
#[derive(Debug, Clone, Copy)]
struct Latency {
    average: Duration,
    seen: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self { standing: Standing::Closed, failures: 0, rests: 0, closed_at: None, first_byte: None }
    }
}

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

    /// The average time to the first byte, if any was seen.
    #[must_use]
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.map(|latency| latency.average)
    }

    /// Whether recent first bytes came too late to be a first choice.
    #[must_use]
    pub fn is_slow(&self, now: Instant, config: &SourcingConfig) -> bool {
        self.first_byte.is_some_and(|latency| {
            let recent = now.saturating_duration_since(latency.seen) < config.slow_for;
            recent && latency.average > config.slow_first_byte
        })
    }

    /// A transfer is about to start. `true` when it is the one trial of a source that rested; the caller
    /// then owes [`Health::delivered`], [`Health::failed`] or [`Health::abandoned`].
    pub fn begin(&mut self, now: Instant) -> bool {
        let trial = matches!(self.standing, Standing::Open { until } if until <= now);
        if trial {
            self.standing = Standing::HalfOpen;
        }
        trial
    }

    /// The first byte came this long after the question. A quarter of each new observation enters.
    pub fn saw_first_byte(&mut self, now: Instant, took: Duration) {
        let average = self.first_byte.map_or(took, |old| (old.average * 3 + took) / 4);
        self.first_byte = Some(Latency { average, seen: now });
    }

    /// Every promised byte came.
    pub fn delivered(&mut self, now: Instant) {
        self.failures = 0;
        if self.standing != Standing::Closed {
            self.standing = Standing::Closed;
            self.closed_at = Some(now);
        }
    }

    /// A transfer failed. `jitter` is a draw of 0 to 65,535. `trial` is what [`Health::begin`] said.
    pub fn failed(&mut self, now: Instant, reason: Reason, trial: bool, jitter: u16, config: &BreakerConfig) {
        if reason.is_absence() {
            return self.abandoned(now, trial);
        }
        self.failures = self.failures.saturating_add(1);
        let first = match reason {
            Reason::Corrupt | Reason::Changed => config.corrupt_for,
            Reason::Throttled => config.throttled_for,
            _ if trial || self.failures >= config.failures => config.open_for,
            _ => return,
        };
        self.rest(now, first, trial, jitter, config);
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
        let until = now + rest_of(first, self.rests, jitter, config);
        self.rests = self.rests.saturating_add(1);
        self.standing = Standing::Open { until };
    }
}

/// How long the rest after `before` earlier ones lasts.
fn rest_of(first: Duration, before: u32, jitter: u16, config: &BreakerConfig) -> Duration {
    let grown = first.saturating_mul(1 << before.min(20));
    let rest = grown.min(config.longest.max(first));
    rest + rest * config.jitter_percent / 100 * u32::from(jitter) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn config() -> BreakerConfig {
        BreakerConfig::default()
    }

    fn rest_until(health: &Health) -> Instant {
        match health.standing() {
            Standing::Open { until } => until,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_and_a_success_between_forgives() {
        let (now, mut health) = (Instant::now(), Health::default());
        for _ in 0..2 {
            health.failed(now, Reason::Timeout, false, 0, &config());
        }
        health.delivered(now);
        for _ in 0..2 {
            health.failed(now, Reason::Cut, false, 0, &config());
        }
        assert_eq!(health.standing(), Standing::Closed);
        health.failed(now, Reason::Unavailable, false, 0, &config());
        assert_eq!(rest_until(&health), now + secs(1));
    }

    #[test]
    fn wrong_bytes_and_back_off_open_at_once_and_absence_never() {
        for (reason, rest) in [
            (Reason::Corrupt, Some(secs(60))),
            (Reason::Changed, Some(secs(60))),
            (Reason::Throttled, Some(Duration::from_millis(500))),
            (Reason::Timeout, None),
        ] {
            let (now, mut health) = (Instant::now(), Health::default());
            health.failed(now, reason, false, 0, &config());
            let expected = rest.map_or(Standing::Closed, |rest| Standing::Open { until: now + rest });
            assert_eq!(health.standing(), expected, "{reason:?}");
        }
        let (now, mut health) = (Instant::now(), Health::default());
        for _ in 0..100 {
            health.failed(now, Reason::NotFound, false, 0, &config());
            health.failed(now, Reason::Unsupported, false, 0, &config());
        }
        assert_eq!((health.standing(), health.failures()), (Standing::Closed, 0));
    }

    #[test]
    fn one_trial_at_a_time_and_each_failed_one_rests_longer() {
        let (mut now, mut health) = (Instant::now(), Health::default());
        for _ in 0..3 {
            health.failed(now, Reason::Timeout, false, 0, &config());
        }
        for rest in [2, 4, 8] {
            assert!(!health.begin(now), "still resting");
            now = rest_until(&health);
            assert!(health.begin(now), "the trial");
            assert!(!health.begin(now), "only one");
            health.failed(now, Reason::Timeout, true, 0, &config());
            assert_eq!(rest_until(&health), now + secs(rest));
        }
        now = rest_until(&health);
        assert!(health.begin(now));
        health.abandoned(now, true);
        assert!(health.begin(now), "a dropped trial leaves room for the next");
        health.delivered(now);
        assert_eq!(health.standing(), Standing::Closed);
    }

    #[test]
    fn a_relapse_soon_after_recovery_rests_longer_a_late_one_does_not() {
        for (later, rest) in [(secs(10), secs(2)), (secs(60), secs(1))] {
            let (now, mut health) = (Instant::now(), Health::default());
            let fail = |health: &mut Health, at| {
                (0..3).for_each(|_| health.failed(at, Reason::Timeout, false, 0, &config()));
            };
            fail(&mut health, now);
            let up = rest_until(&health);
            assert!(health.begin(up));
            health.delivered(up);
            fail(&mut health, up + later);
            assert_eq!(rest_until(&health), up + later + rest);
        }
    }

    #[test]
    fn stragglers_of_one_outage_do_not_prolong_it() {
        let (now, mut health) = (Instant::now(), Health::default());
        for _ in 0..50 {
            health.failed(now, Reason::Timeout, false, 0, &config());
        }
        assert_eq!(rest_until(&health), now + secs(1));
        health.failed(now, Reason::Corrupt, false, 0, &config());
        assert!(rest_until(&health) >= now + secs(60), "worse news does");
    }

    #[test]
    fn slowness_is_forgotten_without_new_evidence() {
        let (now, mut health) = (Instant::now(), Health::default());
        let config = SourcingConfig::default();
        health.saw_first_byte(now, secs(3));
        assert!(health.is_slow(now, &config));
        assert!(!health.is_slow(now + config.slow_for, &config));
        (0..6).for_each(|_| health.saw_first_byte(now, Duration::from_millis(10)));
        assert!(!health.is_slow(now, &config));
    }

    proptest! {
        #[test]
        fn no_rest_exceeds_the_cap_and_its_jitter(before in any::<u32>(), jitter in any::<u16>()) {
            let config = config();
            for first in [config.open_for, config.throttled_for, config.corrupt_for] {
                let rest = rest_of(first, before, jitter, &config);
                prop_assert!(rest >= first);
                prop_assert!(rest <= config.longest + config.longest * config.jitter_percent / 100);
            }
        }

        #[test]
        fn whatever_happens_a_trial_comes_within_the_cap(
            events in proptest::collection::vec((0u8..5, 0usize..9, 0u64..100_000), 1..80)
        ) {
            let (config, mut now, mut health, mut trial) = (config(), Instant::now(), Health::default(), false);
            for (event, reason, wait_ms) in events {
                now += Duration::from_millis(wait_ms);
                match event {
                    0 if !trial => trial = health.begin(now),
                    1 => { health.delivered(now); trial = false; }
                    2 | 3 => { health.failed(now, Reason::ALL[reason], trial, 7, &config); trial = false; }
                    _ => { health.abandoned(now, trial); trial = false; }
                }
            }
            if let Standing::Open { until } = health.standing() {
                prop_assert!(until <= now + config.longest * 2);
            }
            prop_assert_eq!(health.standing() == Standing::HalfOpen, trial);
        }
    }
}
