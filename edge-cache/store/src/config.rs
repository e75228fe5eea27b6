//! What an operator may choose about the store.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

pub use media::ByteSize;
use serde::{Deserialize, Serialize};

use crate::device::{DirOptions, IoBackend};

/// The `[store]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Budget of the memory tier, bookkeeping included; default 1 GiB. 0 turns the tier off.
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
    /// Directory that belongs to this disk alone; created when absent. Default `cache`. Several disks are several
    /// tables: each has its own directory on a file system of its own, and one may fail without the others.
    pub path: PathBuf,
    /// Most bytes of segments; default 10 GiB. A later start with another value grows or shrinks the disk. Leave
    /// the file system 2 % of room for the index log and its own metadata; where it has less than this value, the
    /// disk makes do with what there is.
    pub capacity_bytes: ByteSize,
    /// Unit of room; a power of two from 4 KiB to 1 MiB, default 64 KiB. Half of it is lost for each object on
    /// average. Counts when the directory is new.
    pub unit_bytes: ByteSize,
    /// Length of the files that hold the segments, set aside as they are needed; default 1 GiB. Counts when the
    /// directory is new.
    pub slab_bytes: ByteSize,
    /// Most bytes of bodies that wait for the disk; default 128 MiB. Beyond it a new body stays in memory
    /// only, so a slow disk costs hits and never memory.
    pub write_queue: ByteSize,
    /// Most objects being written at once; default 2. Keep it below `io_threads`, so that reads always have
    /// a thread.
    pub writers: usize,
    /// Most operations of the disk at once; default 8.
    pub io_threads: usize,
    /// Which way they take into the kernel: `auto` (the default), `io-uring` or `threads`.
    pub io: IoBackend,
    /// Whether segments bypass the kernel's page cache; default true. The memory tier decides what stays in
    /// memory then. File systems that cannot do it are used without.
    pub direct_io: bool,
    /// What a write waits for; default `none`.
    pub sync: SyncPolicy,
    /// How long a failing disk is left alone before it is tried again; default 10 s.
    #[serde(with = "media::human_duration")]
    pub offline_for: Duration,
    /// Longest wait for one read before the disk goes offline and the sources serve; default 400 ms.
    #[serde(with = "media::human_duration")]
    pub read_timeout: Duration,
    /// Longest wait for one write before the disk goes offline; default 10 s. Nobody waits for it but the queue.
    #[serde(with = "media::human_duration")]
    pub write_timeout: Duration,
    /// How fast everything on the disk is read and verified again and again; default 4 MiB (a second). 0 turns
    /// that off. A terabyte takes three days.
    pub scrub_bytes_per_second: ByteSize,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("cache"),
            capacity_bytes: ByteSize::gib(10),
            unit_bytes: ByteSize::from(64 * 1024),
            slab_bytes: ByteSize::gib(1),
            write_queue: ByteSize::mib(128),
            writers: 2,
            io_threads: 8,
            io: IoBackend::Auto,
            direct_io: true,
            sync: SyncPolicy::None,
            offline_for: Duration::from_secs(10),
            read_timeout: Duration::from_millis(400),
            write_timeout: Duration::from_secs(10),
            scrub_bytes_per_second: ByteSize::mib(4),
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
            disk.problems(&mut require);
        }
        let paths: HashSet<_> = self.disk.iter().map(|disk| &disk.path).collect();
        require(paths.len() == self.disk.len(), "store.disk.path: two disks share a directory");
        problems
    }
}

impl DiskConfig {
    /// How the directory is to be worked with.
    pub(crate) fn options(&self) -> DirOptions {
        DirOptions {
            io: self.io,
            io_threads: self.io_threads,
            direct: self.direct_io,
            ..DirOptions::default()
        }
    }

    fn problems(&self, require: &mut impl FnMut(bool, &str)) {
        let (unit, slab) = (self.unit_bytes.bytes(), self.slab_bytes.bytes());
        require(!self.path.as_os_str().is_empty(), "store.disk.path: must not be empty");
        require(self.capacity_bytes.bytes() >= unit, "store.disk.capacity_bytes: at least one unit_bytes");
        require(
            unit.is_power_of_two() && (4096..=1 << 20).contains(&unit),
            "store.disk.unit_bytes: a power of two from 4KiB to 1MiB",
        );
        require(
            slab >= unit && slab.is_multiple_of(unit.max(1)),
            "store.disk.slab_bytes: a multiple of unit_bytes",
        );
        require(self.write_queue.bytes() > 0, "store.disk.write_queue: must not be 0");
        require(self.write_queue <= ByteSize::gib(4), "store.disk.write_queue: at most 4GiB");
        require(self.writers > 0, "store.disk.writers: must not be 0");
        require(self.io_threads > self.writers, "store.disk.io_threads: must exceed store.disk.writers");
        require(self.io_threads <= 256, "store.disk.io_threads: at most 256");
        require(!self.offline_for.is_zero(), "store.disk.offline_for: must not be 0");
        require(!self.read_timeout.is_zero(), "store.disk.read_timeout: must not be 0");
        require(!self.write_timeout.is_zero(), "store.disk.write_timeout: must not be 0");
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
        for bad in [
            "memory = 1",
            "memory_bytes = '4 bananas'",
            "[[disk]]\nsync = 'often'",
            "[[disk]]\noffline_for = 5",
        ] {
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
