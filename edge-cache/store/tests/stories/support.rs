//! Segments with known bytes and a store over a device that can be broken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::{Digest, GroupDigests, PackageId, Part, SegmentKey};
use prometheus::Registry;
use store::{ByteSize, Device, DiskConfig, MemoryDevice, SegmentBody, SegmentStore, StoreConfig, Stored};

/// A segment whose bytes follow from its number, version and length.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) key: SegmentKey,
    pub(crate) bytes: Bytes,
    pub(crate) digests: Arc<GroupDigests>,
}

impl Sample {
    pub(crate) fn new(number: u32, version: u8, len: usize) -> Self {
        let seed = u64::from(number) * 1_000_003 + u64::from(version) * 97 + len as u64;
        let bytes: Bytes =
            (0..len as u64).map(|at| ((at * 31 + seed * 17 + (at >> 8) * 7) % 251) as u8).collect();
        Self { key: key(number), digests: Arc::new(GroupDigests::of(&bytes)), bytes }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn root(&self) -> Digest {
        self.digests.root()
    }

    pub(crate) fn insert_into(&self, store: &SegmentStore) {
        store.insert(&self.key, self.digests.clone(), SegmentBody::of(&self.bytes));
    }

    pub(crate) fn find(&self, store: &SegmentStore) -> Option<Stored> {
        store.lookup(&self.key, self.len(), self.root())
    }

    /// Reads the whole segment from whichever tier has it. A fault is a miss.
    pub(crate) async fn read(&self, store: &SegmentStore) -> Option<Bytes> {
        let body = match self.find(store)? {
            Stored::Memory(body) => body,
            Stored::Disk(object) => object.body().await.ok()?,
        };
        Some(body.groups().cloned().collect::<Vec<_>>().concat().into())
    }

    /// The one promise: what the store gives is right. Says whether it gave anything.
    pub(crate) async fn hit(&self, store: &SegmentStore) -> bool {
        let read = self.read(store).await;
        assert!(read.as_ref().is_none_or(|bytes| *bytes == self.bytes), "a wrong byte of {}", self.key);
        read.is_some()
    }
}

pub(crate) fn key(number: u32) -> SegmentKey {
    let (title, rendition) = ("film".parse().expect("a name"), "v720".parse().expect("a name"));
    SegmentKey { title, package: PackageId(7), rendition, part: Part::Media(number) }
}

/// A disk tier only, so that every hit is a disk hit.
pub(crate) fn disk_only(capacity: u64) -> StoreConfig {
    StoreConfig { memory_bytes: ByteSize::from(0), ..with_disk(capacity) }
}

pub(crate) fn with_disk(capacity: u64) -> StoreConfig {
    let disk = DiskConfig {
        capacity_bytes: ByteSize::from(capacity),
        offline_for: Duration::from_secs(10),
        read_timeout: Duration::from_secs(1),
        ..DiskConfig::default()
    };
    StoreConfig { memory_bytes: ByteSize::mib(8), disk: vec![disk], ..StoreConfig::default() }
}

/// An open store and what it counted.
pub(crate) struct Node {
    pub(crate) store: Arc<SegmentStore>,
    registry: Registry,
}

impl Node {
    pub(crate) async fn over(device: &Arc<MemoryDevice>, config: &StoreConfig) -> Self {
        Self::start(config, Some(device.clone())).await
    }

    pub(crate) async fn start(config: &StoreConfig, device: Option<Arc<dyn Device>>) -> Self {
        let registry = Registry::new();
        let store = SegmentStore::open(config, device, &registry).await.expect("opens");
        Self { store, registry }
    }

    /// The value of a metric, of one label value where it has labels.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("a metric of this name");
        let labelled = |metric: &&prometheus::proto::Metric| {
            metric.get_label().is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        };
        let metric = family.get_metric().iter().find(labelled).expect("a metric of this label");
        let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
        value as u64
    }

    pub(crate) fn writes(&self, outcome: &str) -> u64 {
        self.metric("weir_store_disk_writes_total", outcome)
    }

    pub(crate) fn faults(&self, fault: &str) -> u64 {
        self.metric("weir_store_disk_read_faults_total", fault)
    }

    pub(crate) fn recovered(&self, outcome: &str) -> u64 {
        self.metric("weir_store_recovered_total", outcome)
    }
}

/// What the files of a device take, in whole pages.
pub(crate) fn footprint(device: &MemoryDevice) -> u64 {
    device.files().iter().map(|(_, len)| len.next_multiple_of(4096)).sum()
}
