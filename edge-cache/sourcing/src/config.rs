//! What an operator may choose about buying bytes.

use std::time::Duration;

use media::ByteSize;
use serde::{Deserialize, Serialize};

/// The `[sourcing]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourcingConfig {
    /// Longest wait from the beginning of a fetch to its first byte, whoever is asked meanwhile; default 1.8 s, so that
    /// a viewer hears within 2 s that nobody delivers.
    #[serde(with = "media::human_duration")]
    pub first_byte_timeout: Duration,
    /// Longest wait for the next 16 KiB of a body, or for its end; default 2 s. A source that drips is as useless as
    /// a silent one.
    #[serde(with = "media::human_duration")]
    pub stall_timeout: Duration,
    /// Most failed attempts in one fetch, and one more for each MiB that it got; default 4. A source that answers
    /// "not here" is no attempt.
    pub max_attempts: u32,
    /// Pause before the same source is tried again within a fetch, doubled each time; default 50 ms.
    #[serde(with = "media::human_duration")]
    pub retry_pause: Duration,
    /// Most transfers from one source at the same time; default 64. A source that says "slow down" gets half as many,
    /// at nine tenths of the pace at which it delivered; what it delivers then earns it a little more.
    pub permits: usize,
    /// Most bytes under way from one source; default 256 MiB. A single want is never refused for its size.
    pub permit_bytes: ByteSize,
    /// Longest wait for such permits before the next source is asked; default 200 ms. For the last one it is
    /// `first_byte_timeout`.
    #[serde(with = "media::human_duration")]
    pub permit_wait: Duration,
    /// Longest wait for a source that rests when there is no other; default 750 ms. One that asked for its rest is
    /// waited for as long as `first_byte_timeout` allows.
    #[serde(with = "media::human_duration")]
    pub rest_wait: Duration,
    /// A source whose first byte takes longer than this, averaged, comes after all faster ones; default 1 s.
    #[serde(with = "media::human_duration")]
    pub slow_first_byte: Duration,
    /// How long such a judgement stands without new evidence; default 10 s.
    #[serde(with = "media::human_duration")]
    pub slow_for: Duration,
    /// How long a source is waited for while another stands ready.
    pub patience: PatienceConfig,
    /// When a second source is asked for the same bytes.
    pub hedge: HedgeConfig,
    /// How often the same source is asked again.
    pub retry: RetryConfig,
    /// When a dearer source is taken because it is faster.
    pub urgency: UrgencyConfig,
    /// How sources are tried without a viewer.
    pub probe: ProbeConfig,
    /// When a source rests.
    pub breaker: BreakerConfig,
    /// Spreads the ends of rests, so that nodes do not return to a source in step; default 0. The program
    /// draws one where the file names none.
    pub jitter_seed: u64,
}

impl Default for SourcingConfig {
    fn default() -> Self {
        Self {
            first_byte_timeout: Duration::from_millis(1_800),
            stall_timeout: Duration::from_secs(2),
            max_attempts: 4,
            retry_pause: Duration::from_millis(50),
            permits: 64,
            permit_bytes: ByteSize::mib(256),
            permit_wait: Duration::from_millis(200),
            rest_wait: Duration::from_millis(750),
            slow_first_byte: Duration::from_secs(1),
            slow_for: Duration::from_secs(10),
            patience: PatienceConfig::default(),
            hedge: HedgeConfig::default(),
            retry: RetryConfig::default(),
            urgency: UrgencyConfig::default(),
            probe: ProbeConfig::default(),
            breaker: BreakerConfig::default(),
            jitter_seed: 0,
        }
    }
}

/// The `[sourcing.patience]` table: how long a source is waited for while another stands ready. It is four times what
/// 99 of 100 of its own answers took lately, within these bounds, and doubles with each failed attempt of the fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatienceConfig {
    /// For a source that nothing is known of; default 800 ms.
    #[serde(with = "media::human_duration")]
    pub unknown: Duration,
    /// The least; default 300 ms.
    #[serde(with = "media::human_duration")]
    pub least: Duration,
    /// A body that brings less than this in a second of waiting is left for another source; default 128 KiB. 0: none is.
    pub drip_bytes_per_second: ByteSize,
}

impl Default for PatienceConfig {
    fn default() -> Self {
        Self {
            unknown: Duration::from_millis(800),
            least: Duration::from_millis(300),
            drip_bytes_per_second: ByteSize::from(128 * 1024),
        }
    }
}

/// The `[sourcing.hedge]` table: a second source is asked for the same bytes when the first takes longer for its first
/// byte than one and a half times what 95 of 100 of its answers took; who sends a byte first is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeConfig {
    /// Bytes that may be asked for twice, in percent of those delivered; default 3. 0: none.
    pub max_extra_percent: u32,
    /// What may be asked for twice before that was earned, and the most that is saved up; default 64 MiB.
    pub reserve_bytes: ByteSize,
    /// The wait for a source that nothing is known of; default 250 ms.
    #[serde(with = "media::human_duration")]
    pub unknown: Duration,
    /// The shortest wait; default 20 ms.
    #[serde(with = "media::human_duration")]
    pub least: Duration,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            max_extra_percent: 3,
            reserve_bytes: ByteSize::mib(64),
            unknown: Duration::from_millis(250),
            least: Duration::from_millis(20),
        }
    }
}

/// The `[sourcing.retry]` table: how often the same source is asked again for what it failed to deliver. Going on with
/// another source is not limited by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Retries, in percent of transfers delivered; default 20. 0: none.
    pub max_percent: u32,
    /// Retries before those were earned, and the most that are saved up; default 100.
    pub reserve: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { max_percent: 20, reserve: 100 }
    }
}

/// The `[sourcing.urgency]` table: what may be bought from a dearer source because the cheapest would be too late for a
/// player that told how much it has left (CMCD).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UrgencyConfig {
    /// Bytes bought dearer so, in percent of those delivered; default 5. 0: none.
    pub max_percent: u32,
    /// The same before it was earned, and the most that is saved up; default 64 MiB.
    pub reserve_bytes: ByteSize,
}

impl Default for UrgencyConfig {
    fn default() -> Self {
        Self { max_percent: 5, reserve_bytes: ByteSize::mib(64) }
    }
}

/// The `[sourcing.probe]` table: a probe asks a source for the first 16 KiB of something that was delivered lately.
/// Sources whose rest ended are tried by probes, so that no viewer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Whether probes are sent at all; default true. Without them a viewer's transfer tries a source that rested.
    pub enabled: bool,
    /// A source that was not asked for so long, while others were, is probed; default 30 s. 0: never.
    #[serde(with = "media::human_duration")]
    pub idle: Duration,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { enabled: true, idle: Duration::from_secs(30) }
    }
}

/// The `[sourcing.breaker]` table: when a source rests, and for how long. Each rest in a row is twice as long
/// as the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row after which a source rests; default 3.
    pub failures: u32,
    /// Answers in a row that came later than the hedge's after which a source rests; default 8.
    pub overtaken: u32,
    /// A source rests, too, when so many percent of its transfers of the last 10 s failed; default 20. The last one
    /// that is in use does not rest for this.
    pub failure_percent: u32,
    /// Transfers of the last 10 s below which that share says nothing; default 20.
    pub least_transfers: u32,
    /// The first rest after failures; default 1 s.
    #[serde(with = "media::human_duration")]
    pub open_for: Duration,
    /// The first rest after the source asked for one, unless it asked for longer; default 200 ms.
    #[serde(with = "media::human_duration")]
    pub throttled_for: Duration,
    /// The first rest after wrong bytes or a wrong version, which is at once; default 20 s.
    #[serde(with = "media::human_duration")]
    pub corrupt_for: Duration,
    /// The longest rest before jitter; default 10 s. A rest that begins longer is not doubled.
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
            overtaken: 8,
            failure_percent: 20,
            least_transfers: 20,
            open_for: Duration::from_secs(1),
            throttled_for: Duration::from_millis(200),
            corrupt_for: Duration::from_secs(20),
            longest: Duration::from_secs(10),
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
        require(self.permit_bytes.bytes() > 0, "permit_bytes: must not be 0");
        require(self.retry_pause <= Duration::from_secs(10), "retry_pause: at most 10s");
        let (patience, hedge) = (&self.patience, &self.hedge);
        require(!patience.least.is_zero(), "patience.least: must not be 0");
        require(!patience.unknown.is_zero(), "patience.unknown: must not be 0");
        require(hedge.max_extra_percent <= 100, "hedge.max_extra_percent: at most 100");
        require(!hedge.least.is_zero(), "hedge.least: must not be 0");
        require(!hedge.unknown.is_zero(), "hedge.unknown: must not be 0");
        require(self.retry.max_percent <= 100, "retry.max_percent: at most 100");
        require(self.urgency.max_percent <= 100, "urgency.max_percent: at most 100");
        let breaker = &self.breaker;
        require(breaker.failures >= 1, "breaker.failures: must not be 0");
        require(breaker.overtaken >= 1, "breaker.overtaken: must not be 0");
        require((1..=100).contains(&breaker.failure_percent), "breaker.failure_percent: must be 1 to 100");
        require(breaker.least_transfers >= 1, "breaker.least_transfers: must not be 0");
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
