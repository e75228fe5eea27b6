//! What an operator may choose about buying bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[sourcing]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourcingConfig {
    /// Longest wait from asking a source to the first byte of its body; default 2 s.
    #[serde(with = "media::human_duration")]
    pub first_byte_timeout: Duration,
    /// Longest wait for the next 16 KiB of a body, or for its end; default 2 s. A source that drips is as useless as
    /// a silent one.
    #[serde(with = "media::human_duration")]
    pub stall_timeout: Duration,
    /// Most failed attempts in one fetch; default 4. A source that answers "not here" is no attempt.
    pub max_attempts: u32,
    /// Pause before the same source is tried again within a fetch, doubled each time; default 50 ms.
    #[serde(with = "media::human_duration")]
    pub retry_pause: Duration,
    /// Most transfers from one source at the same time; default 64.
    pub permits: usize,
    /// Longest wait for such a permit before the next source is asked; default 200 ms.
    #[serde(with = "media::human_duration")]
    pub permit_wait: Duration,
    /// Longest wait for a source that rests when there is no other; default 750 ms. Meant for sources that asked
    /// for a pause; it should be shorter than `breaker.open_for`.
    #[serde(with = "media::human_duration")]
    pub rest_wait: Duration,
    /// A source whose first byte takes longer than this, averaged, comes after all faster ones; default 1 s.
    #[serde(with = "media::human_duration")]
    pub slow_first_byte: Duration,
    /// How long such a judgement stands without new evidence; default 10 s.
    #[serde(with = "media::human_duration")]
    pub slow_for: Duration,
    /// When a source rests.
    pub breaker: BreakerConfig,
    /// Spreads the ends of rests, so that nodes do not return to a source in step; default 0. The program
    /// draws one where the file names none.
    pub jitter_seed: u64,
}

impl Default for SourcingConfig {
    fn default() -> Self {
        Self {
            first_byte_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(2),
            max_attempts: 4,
            retry_pause: Duration::from_millis(50),
            permits: 64,
            permit_wait: Duration::from_millis(200),
            rest_wait: Duration::from_millis(750),
            slow_first_byte: Duration::from_secs(1),
            slow_for: Duration::from_secs(10),
            breaker: BreakerConfig::default(),
            jitter_seed: 0,
        }
    }
}

/// The `[sourcing.breaker]` table: when a source rests, and for how long. Each rest in a row is twice as long
/// as the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row after which a source rests; default 3.
    pub failures: u32,
    /// The first rest after failures; default 1 s.
    #[serde(with = "media::human_duration")]
    pub open_for: Duration,
    /// The first rest after the source asked for one; default 500 ms.
    #[serde(with = "media::human_duration")]
    pub throttled_for: Duration,
    /// The first rest after wrong bytes or a wrong version, which is at once; default 60 s.
    #[serde(with = "media::human_duration")]
    pub corrupt_for: Duration,
    /// The longest rest before jitter; default 5 min.
    #[serde(with = "media::human_duration")]
    pub longest: Duration,
    /// A source that behaved for this long starts again with the first rest; default 60 s.
    #[serde(with = "media::human_duration")]
    pub forgive_after: Duration,
    /// A rest is stretched by up to this many percent; default 20.
    pub jitter_percent: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 3,
            open_for: Duration::from_secs(1),
            throttled_for: Duration::from_millis(500),
            corrupt_for: Duration::from_secs(60),
            longest: Duration::from_secs(300),
            forgive_after: Duration::from_secs(60),
            jitter_percent: 20,
        }
    }
}

impl SourcingConfig {
    /// Every impossible value, each with its key; empty when the configuration can work.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(format!("sourcing.{text}"));
            }
        };
        require(!self.first_byte_timeout.is_zero(), "first_byte_timeout: must not be 0");
        require(!self.stall_timeout.is_zero(), "stall_timeout: must not be 0");
        require((1..=100).contains(&self.max_attempts), "max_attempts: must be 1 to 100");
        require((1..=65_536).contains(&self.permits), "permits: must be 1 to 65536");
        require(self.retry_pause <= Duration::from_secs(10), "retry_pause: at most 10s");
        let breaker = &self.breaker;
        require(breaker.failures >= 1, "breaker.failures: must not be 0");
        require(!breaker.open_for.is_zero(), "breaker.open_for: must not be 0");
        require(!breaker.throttled_for.is_zero(), "breaker.throttled_for: must not be 0");
        require(!breaker.corrupt_for.is_zero(), "breaker.corrupt_for: must not be 0");
        require(breaker.longest >= breaker.open_for, "breaker.longest: must not be less than open_for");
        require(breaker.longest <= Duration::from_secs(86_400), "breaker.longest: at most 1day");
        require(breaker.jitter_percent <= 100, "breaker.jitter_percent: at most 100");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_can_work_and_survive_the_round_trip() {
        let config = SourcingConfig::default();
        assert_eq!(config.problems(), Vec::<String>::new());
        let text = toml::to_string(&config).expect("serialises");
        assert_eq!(toml::from_str::<SourcingConfig>(&text).expect("parses"), config);
        assert_eq!(toml::from_str::<SourcingConfig>("").expect("parses"), config);
    }

    #[test]
    fn unknown_keys_and_bare_numbers_are_refused() {
        for bad in ["stall = '1s'", "stall_timeout = 1", "[breaker]\nfailure = 1", "permits = -1"] {
            assert!(toml::from_str::<SourcingConfig>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_problems_are_told_together() {
        let breaker = BreakerConfig { failures: 0, jitter_percent: 101, ..BreakerConfig::default() };
        let config = SourcingConfig { max_attempts: 0, permits: 0, breaker, ..SourcingConfig::default() };
        assert_eq!(config.problems().len(), 4);
    }
}
