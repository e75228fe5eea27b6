//! What an operator may choose about the store.

mod size;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::size::{ByteSize, ByteSizeError};

/// The `[store]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Budget of the memory tier, bookkeeping included; default 1 GiB. 0 turns the tier off. Bodies that are
    /// still being sent after they were evicted come on top; the front's connection limit bounds those.
    pub memory_bytes: ByteSize,
    /// Longest segment that is kept in either tier; default 64 MiB. One unusual object cannot empty a tier.
    pub max_object_bytes: ByteSize,
    /// The disk tier, one `[[store.disk]]` table for each disk; none by default.
    pub disk: Vec<DiskConfig>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { memory_bytes: ByteSize::gib(1), max_object_bytes: ByteSize::mib(64), disk: Vec::new() }
    }
}

/// One `[[store.disk]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Directory that belongs to this tier alone; created when absent. Default `cache`.
    pub path: PathBuf,
    /// Most bytes of files, counted in blocks of 4 KiB; default 10 GiB. Leave the file system some room
    /// of its own (5 % is plenty): its metadata is not counted.
    pub capacity_bytes: ByteSize,
    /// Most bytes of bodies that wait for the disk; default 128 MiB. Beyond it a new body stays in memory
    /// only, so a slow disk costs hits and never memory.
    pub write_queue: ByteSize,
    /// Most objects being written at once; default 2. Keep it below `io_threads`, so that reads always have
    /// a thread.
    pub writers: usize,
    /// Most threads in file system calls at once; default 8.
    pub io_threads: usize,
    /// What a write waits for; default `none`.
    pub sync: SyncPolicy,
    /// How long the tier leaves a failing disk alone before it tries again; default 10 s.
    #[serde(with = "media::human_duration")]
    pub offline_for: Duration,
    /// Longest wait for one read before the engine is sent to the sources; default 1 s.
    #[serde(with = "media::human_duration")]
    pub read_timeout: Duration,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("cache"),
            capacity_bytes: ByteSize::gib(10),
            write_queue: ByteSize::mib(128),
            writers: 2,
            io_threads: 8,
            sync: SyncPolicy::None,
            offline_for: Duration::from_secs(10),
            read_timeout: Duration::from_secs(1),
        }
    }
}

/// What a write waits for before the object counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncPolicy {
    /// The kernel's page cache. A killed process loses nothing; a power cut may lose or tear the newest
    /// objects, which their digests then find out.
    None,
    /// The device: the bytes are synced before the object gets its name. A power cut can only lose objects
    /// whole. Costs one device flush for each object.
    Data,
}

impl StoreConfig {
    /// Every impossible combination, each with its key; empty when the configuration can work.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(text.to_owned());
            }
        };
        require(self.max_object_bytes <= ByteSize::gib(1), "store.max_object_bytes: at most 1GiB");
        for disk in &self.disk {
            require(!disk.path.as_os_str().is_empty(), "store.disk.path: must not be empty");
            require(disk.capacity_bytes.bytes() > 0, "store.disk.capacity_bytes: must not be 0");
            require(disk.write_queue.bytes() > 0, "store.disk.write_queue: must not be 0");
            require(disk.write_queue <= ByteSize::gib(4), "store.disk.write_queue: at most 4GiB");
            require(disk.writers > 0, "store.disk.writers: must not be 0");
            require(disk.io_threads > disk.writers, "store.disk.io_threads: must exceed store.disk.writers");
            require(disk.io_threads <= 256, "store.disk.io_threads: at most 256");
            require(!disk.read_timeout.is_zero(), "store.disk.read_timeout: must not be 0");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_can_work_and_survive_the_round_trip() {
        let config = StoreConfig { disk: vec![DiskConfig::default()], ..StoreConfig::default() };
        assert_eq!(config.problems(), Vec::<String>::new());
        let text = toml::to_string(&config).expect("serialises");
        assert_eq!(toml::from_str::<StoreConfig>(&text).expect("parses"), config);
        assert_eq!(toml::from_str::<StoreConfig>("").expect("parses"), StoreConfig::default());
    }

    #[test]
    fn units_are_read_and_unknown_keys_refused() {
        let text = "memory_bytes = '4GiB'\n[[disk]]\npath = 'c'\nsync = 'data'\noffline_for = '500ms'";
        let config: StoreConfig = toml::from_str(text).expect("parses");
        assert_eq!(config.memory_bytes, ByteSize::gib(4));
        let disk = &config.disk[0];
        assert_eq!((disk.sync, disk.offline_for), (SyncPolicy::Data, Duration::from_millis(500)));
        for bad in
            ["memory = 1", "memory_bytes = '4 bananas'", "[[disk]]\nsync = 'often'", "[[disk]]\noffline_for = 5"]
        {
            assert!(toml::from_str::<StoreConfig>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_problems_are_told_together() {
        let disk =
            DiskConfig { writers: 0, io_threads: 0, write_queue: ByteSize::from(0), ..DiskConfig::default() };
        let config = StoreConfig { disk: vec![disk], ..StoreConfig::default() };
        let problems = config.problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.starts_with("store.disk.")));
    }
}
