//! What an operator may choose about the engine.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::ByteSize;
use tokio::sync::Semaphore;

use crate::disk_feed::Reading;

/// The `[engine]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Longest time from the start of a fill to its end, waits included; default 30 s.
    #[serde(with = "media::human_duration")]
    pub fill_deadline: Duration,
    /// Most fills that fetch at the same time; default 256.
    pub max_fills: usize,
    /// Most fills that wait for their turn; default 1024. More are refused at once.
    pub max_waiting_fills: usize,
    /// Longest wait for a turn; default 500 ms.
    #[serde(with = "media::human_duration")]
    pub admission_wait: Duration,
    /// Most bytes of segments being filled, and of ended fills that slow viewers still read; default 512 MiB. A
    /// fill counts in full from its start. When a new one needs the room, those that ended first make it, and
    /// their viewers go on from the store or a new fill.
    pub fill_buffer_bytes: ByteSize,
    /// Most fetches of one fill at the same time, each of its own run of missing groups; default 2.
    pub max_strands: usize,
    /// A viewer whose next group lies at most so far ahead of a running fetch waits for it; default 512 KiB. One
    /// farther away gets a fetch of its own. Also what a viewer whose bytes had to make room asks for at first.
    pub strand_near_bytes: ByteSize,
    /// A segment of which so many percent are there is completed although nobody waits; default 50. 101 means
    /// that only other viewers are a reason.
    pub finish_percent: u8,
    /// Most fills that go on at the same time although nobody waits; default 16. 0 turns that off.
    pub max_completions: usize,
    /// What it is worth that a later viewer need not wait for a byte, in picodollars; default 20. 1000 are a
    /// dollar for 10^9 bytes.
    pub completion_wait_picodollars: u64,
    /// What handling a byte costs this node itself, beside its price, in picodollars; default 1.
    pub completion_own_picodollars: u64,
    /// Longest time to fetch an index; default 5 s.
    #[serde(with = "media::human_duration")]
    pub index_deadline: Duration,
    /// Most bytes of indexes kept in memory; default 128 MiB. An index of a film takes about 2 MiB.
    pub index_cache_bytes: ByteSize,
    /// Most indexes fetched at the same time; default 16. Each may take 8 MiB.
    pub max_index_loads: usize,
    /// How long a missing or untrusted index is not asked for again; default 1 s.
    #[serde(with = "media::human_duration")]
    pub index_miss_for: Duration,
    /// Most packages remembered as missing; default 10000.
    pub max_index_misses: u64,
    /// Most bytes of group digest lists kept in memory; default 64 MiB. They are 0.2 % of what they describe.
    pub digest_cache_bytes: ByteSize,
    /// Digest lists of at most so many neighbouring segments are fetched at once; default 64.
    pub digest_page_segments: u32,
    /// And of at most so many bytes, unless a single list is longer; default 64 KiB. A list takes 0.2 % of its
    /// segment.
    pub digest_page_bytes: ByteSize,
    /// Bytes read from disk at once; default 256 KiB. One more such batch is read ahead for each viewer.
    pub disk_batch_bytes: ByteSize,
    /// Most bytes of such batches for all viewers together; default 128 MiB. Beyond it a viewer reads 16 KiB at
    /// once.
    pub disk_buffer_bytes: ByteSize,
    /// Longest wait for a batch before a viewer is sent to memory or a fill; default 200 ms. The read goes on, and
    /// `store.disk.read_timeout` decides about the disk.
    #[serde(with = "media::human_duration")]
    pub disk_patience: Duration,
    /// Most objects read into memory at the same time because viewers come back for them on disk; default 4.
    /// 0 turns that off, which is right without a memory tier.
    pub max_promotions: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            fill_deadline: Duration::from_secs(30),
            max_fills: 256,
            max_waiting_fills: 1024,
            admission_wait: Duration::from_millis(500),
            fill_buffer_bytes: ByteSize::mib(512),
            max_strands: 2,
            strand_near_bytes: ByteSize::from(512 * 1024),
            finish_percent: 50,
            max_completions: 16,
            completion_wait_picodollars: 20,
            completion_own_picodollars: 1,
            index_deadline: Duration::from_secs(5),
            index_cache_bytes: ByteSize::mib(128),
            max_index_loads: 16,
            index_miss_for: Duration::from_secs(1),
            max_index_misses: 10_000,
            digest_cache_bytes: ByteSize::mib(64),
            digest_page_segments: 64,
            digest_page_bytes: ByteSize::from(64 * 1024),
            disk_batch_bytes: ByteSize::from(256 * 1024),
            disk_buffer_bytes: ByteSize::mib(128),
            disk_patience: Duration::from_millis(200),
            max_promotions: 4,
        }
    }
}

impl EngineConfig {
    /// How viewers read from disk.
    pub(crate) fn reading(&self) -> Reading {
        let groups = |size: ByteSize| size.bytes() / media::GROUP_LEN;
        let budget = usize::try_from(groups(self.disk_buffer_bytes)).unwrap_or(usize::MAX);
        Reading {
            batch: groups(self.disk_batch_bytes),
            patience: self.disk_patience,
            budget: Arc::new(Semaphore::new(budget.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Every impossible value, each with its key; empty when the configuration can work.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(format!("engine.{text}"));
            }
        };
        require(!self.fill_deadline.is_zero(), "fill_deadline: must not be 0");
        require((1..=65_536).contains(&self.max_fills), "max_fills: must be 1 to 65536");
        require(self.max_waiting_fills <= 1 << 20, "max_waiting_fills: at most 1048576");
        require(self.fill_buffer_bytes >= ByteSize::mib(1), "fill_buffer_bytes: at least 1MiB");
        require(self.fill_buffer_bytes <= ByteSize::gib(1024), "fill_buffer_bytes: at most 1TiB");
        require((1..=16).contains(&self.max_strands), "max_strands: must be 1 to 16");
        require(
            self.strand_near_bytes >= ByteSize::from(media::GROUP_LEN),
            "strand_near_bytes: at least 16KiB",
        );
        require(self.max_completions <= 65_536, "max_completions: at most 65536");
        require(self.finish_percent <= 101, "finish_percent: at most 101, which means never");
        require(!self.index_deadline.is_zero(), "index_deadline: must not be 0");
        require((1..=1_024).contains(&self.max_index_loads), "max_index_loads: must be 1 to 1024");
        require((1..=64).contains(&self.digest_page_segments), "digest_page_segments: must be 1 to 64");
        require(
            self.disk_batch_bytes >= ByteSize::from(media::GROUP_LEN),
            "disk_batch_bytes: at least 16KiB",
        );
        require(self.disk_batch_bytes <= ByteSize::mib(16), "disk_batch_bytes: at most 16MiB");
        require(self.digest_page_bytes >= ByteSize::from(1_024), "digest_page_bytes: at least 1KiB");
        require(self.digest_page_bytes <= ByteSize::mib(16), "digest_page_bytes: at most 16MiB");
        require(self.disk_buffer_bytes <= ByteSize::gib(1024), "disk_buffer_bytes: at most 1TiB");
        require(!self.disk_patience.is_zero(), "disk_patience: must not be 0");
        require(self.max_promotions <= 1_024, "max_promotions: at most 1024");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_can_work_and_survive_the_round_trip() {
        let config = EngineConfig::default();
        assert_eq!(config.problems(), Vec::<String>::new());
        let text = toml::to_string(&config).expect("serialises");
        assert_eq!(toml::from_str::<EngineConfig>(&text).expect("parses"), config);
        assert_eq!(toml::from_str::<EngineConfig>("").expect("parses"), config);
    }

    #[test]
    fn all_problems_are_told_together_and_unknown_keys_refused() {
        let text = "max_fills = 0\nfinish_percent = 102\ndisk_batch_bytes = '1KiB'\nfill_deadline = '0s'";
        let config: EngineConfig = toml::from_str(text).expect("parses");
        assert_eq!(config.problems().len(), 4, "{:?}", config.problems());
        assert!(toml::from_str::<EngineConfig>("max_fill = 1").is_err());
    }
}
