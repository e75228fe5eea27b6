//! Both tiers behind one door.

use std::fmt;
use std::sync::Arc;

use media::{Digest, GroupDigests, SegmentKey};
use prometheus::Registry;

use crate::body::SegmentBody;
use crate::config::StoreConfig;
use crate::device::{Device, DirDevice};
use crate::disk::{DiskObject, DiskTier, ReadFault};
use crate::memory::MemoryTier;
use crate::metrics::Metrics;

/// Where an object was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// In memory.
    Memory,
    /// On the disk.
    Disk,
}

impl Tier {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Disk];

    /// The word used in logs, metrics and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// What one tier holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierUsage {
    /// Bytes charged to the budget: bodies and bookkeeping in memory, files in whole pages on disk.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The memory tier.
    pub memory: TierUsage,
    /// The disk tier; all zero without one.
    pub disk: TierUsage,
}

/// Why the store could not be opened. All of these are the operator's to mend; nothing stored is lost by them.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work; every problem with its key.
    #[error("the store's configuration cannot work: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The disk tier's directory cannot be used, or another process holds it.
    #[error("the disk tier cannot be opened: {0}")]
    Device(#[from] std::io::Error),
    /// A metric of the same name is registered already.
    #[error("the store's metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// An object that the store holds.
#[derive(Debug, Clone)]
pub enum Stored {
    /// In memory: here it is.
    Memory(SegmentBody),
    /// On disk: read and verified on demand.
    Disk(DiskObject),
}

impl Stored {
    /// Where it was found.
    #[must_use]
    pub fn tier(&self) -> Tier {
        match self {
            Self::Memory(_) => Tier::Memory,
            Self::Disk(_) => Tier::Disk,
        }
    }
}

/// This node's own tiers.
pub struct SegmentStore {
    max_object: u64,
    memory: Arc<MemoryTier>,
    disk: Option<Arc<DiskTier>>,
}

impl SegmentStore {
    /// Opens the tiers and recovers what the disk holds. `device` stands in for the directory of
    /// `config.disk`; without one the directory is used. Must be called within a tokio runtime, on which the
    /// writes then run.
    ///
    /// # Errors
    /// [`OpenError`]: the configuration, the directory or the metrics.
    pub async fn open(
        config: &StoreConfig,
        device: Option<Arc<dyn Device>>,
        registry: &Registry,
    ) -> Result<Arc<Self>, OpenError> {
        let mut problems = config.problems();
        if device.is_some() && config.disk.is_none() {
            problems.push("store.disk: a device was given, but no disk tier is configured".to_owned());
        }
        if !problems.is_empty() {
            return Err(OpenError::Config(problems));
        }
        let metrics = Arc::new(Metrics::new(registry)?);
        let memory = Arc::new(MemoryTier::new(config.memory_bytes.bytes(), metrics.clone()));
        let disk = match &config.disk {
            None => None,
            Some(disk) => {
                let device = match device {
                    Some(device) => device,
                    None => Arc::new(DirDevice::open(&disk.path, disk.sync, disk.io_threads).await?),
                };
                Some(DiskTier::open(disk, device, memory.clone(), metrics).await?)
            }
        };
        Ok(Arc::new(Self { max_object: config.max_object_bytes.bytes(), memory, disk }))
    }

    /// Finds an object by key, length and root without any I/O, and counts the request towards its popularity.
    /// An object of the same key but other content is not found.
    #[must_use]
    pub fn lookup(&self, key: &SegmentKey, len: u64, root: Digest) -> Option<Stored> {
        // Counted even on a memory hit: what is popular in memory must not look forgotten on disk.
        if let Some(disk) = &self.disk {
            disk.count_request(key);
        }
        let in_memory = self.memory.get(key, len, root).map(Stored::Memory);
        in_memory.or_else(|| self.on_disk(key, len, root).map(Stored::Disk))
    }

    /// The group digests of an object that the store holds, for whoever passes its groups on; `None` if it
    /// holds no such object. Counts no request. From memory at once, from disk by one read of the header.
    ///
    /// # Errors
    /// [`ReadFault`], as when reading the object.
    pub async fn digests(
        &self,
        key: &SegmentKey,
        len: u64,
        root: Digest,
    ) -> Result<Option<Arc<GroupDigests>>, ReadFault> {
        if let Some(digests) = self.memory.digests(key, len, root) {
            return Ok(Some(digests));
        }
        match self.on_disk(key, len, root) {
            Some(object) => object.digests().await.map(Some),
            None => Ok(None),
        }
    }

    /// Keeps a verified body: in memory now, on disk in the background. Never fails and never waits: what has
    /// no room is not kept, and that is counted. The caller vouches that `body` was verified against `digests`.
    pub fn insert(&self, key: &SegmentKey, digests: Arc<GroupDigests>, body: SegmentBody) {
        if digests.len() != body.len() {
            tracing::error!(%key, "a body and its digests differ in length; not stored");
            return;
        }
        if body.len() > self.max_object {
            tracing::debug!(%key, len = body.len(), "longer than store.max_object_bytes; not stored");
            return;
        }
        self.memory.insert(key, digests.clone(), body.clone());
        if let Some(disk) = &self.disk {
            disk.offer(key, digests, body);
        }
    }

    /// Forgets an object in both tiers. A write of it that is under way ends without effect.
    pub fn remove(&self, key: &SegmentKey) {
        if let Some(disk) = &self.disk {
            disk.remove(key);
        }
        self.memory.remove(key);
    }

    /// Waits until everything offered to the disk so far is written or given up, and every removed file is
    /// gone or its removal failed. What is inserted meanwhile may stay in memory only.
    pub async fn flush(&self) {
        if let Some(disk) = &self.disk {
            disk.flush().await;
        }
    }

    /// What the tiers hold.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let disk = self.disk.as_ref().map(|disk| disk.usage()).unwrap_or_default();
        Usage { memory: self.memory.usage(), disk }
    }

    fn on_disk(&self, key: &SegmentKey, len: u64, root: Digest) -> Option<DiskObject> {
        self.disk.as_ref()?.find(key, len, root)
    }
}

impl fmt::Debug for SegmentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentStore").field("usage", &self.usage()).finish_non_exhaustive()
    }
}
