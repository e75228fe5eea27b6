//! Segments with known bytes and a store over a device that can be broken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::digest::group_range;
use media::{Digest, GroupDigests, PackageId, Part, SegmentKey, Tag};
use prometheus::Registry;
use store::{
    ByteSize, Device, DiskConfig, FileName, Held, MemoryDevice, PurgeKind, Scope, SegmentBody, SegmentStore,
    StoreConfig, Terms, Tier,
};

/// A segment whose bytes follow from its number, version and length.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) key: SegmentKey,
    pub(crate) bytes: Bytes,
    pub(crate) digests: Arc<GroupDigests>,
    pub(crate) tags: Arc<[Tag]>,
}

impl Sample {
    pub(crate) fn new(number: u32, version: u8, len: usize) -> Self {
        let seed = u64::from(number) * 1_000_003 + u64::from(version) * 97 + len as u64;
        let bytes: Bytes =
            (0..len as u64).map(|at| ((at * 31 + seed * 17 + (at >> 8) * 7) % 251) as u8).collect();
        let digests = Arc::new(GroupDigests::of(&bytes));
        Self { key: key(number), digests, bytes, tags: Arc::default() }
    }

    /// The same of another title.
    pub(crate) fn of_title(self, title: &str) -> Self {
        let title = title.parse().expect("a title");
        Self { key: SegmentKey { title, ..self.key }, ..self }
    }

    pub(crate) fn tagged(self, tag: &str) -> Self {
        Self { tags: [tag.parse().expect("a tag")].into(), ..self }
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn root(&self) -> Digest {
        self.digests.root()
    }

    pub(crate) fn group(&self, group: u64) -> Bytes {
        let range = group_range(self.len(), group);
        self.bytes.slice(range.start as usize..range.end as usize)
    }

    pub(crate) fn terms(&self, store: &SegmentStore) -> Terms {
        Terms { born: store.epoch(), tags: self.tags.clone(), disk: true }
    }

    pub(crate) fn insert_into(&self, store: &SegmentStore) {
        let body = SegmentBody::of(&self.bytes);
        store.insert(&self.key, self.digests.clone(), body, &self.terms(store));
    }

    pub(crate) async fn purge_from(&self, store: &SegmentStore) {
        store.purge(&Scope::Segment(self.key.clone()), PurgeKind::Hard).await;
    }

    /// Inserts some groups only.
    pub(crate) fn insert_groups(&self, store: &SegmentStore, groups: &[u64]) {
        let all = SegmentBody::of(&self.bytes);
        let some = all.present().capacity();
        let some = (0..some).map(|n| groups.contains(&n).then(|| all.group(n).cloned()).flatten());
        let body = SegmentBody::partial(self.len(), some.collect()).expect("right sizes");
        store.insert(&self.key, self.digests.clone(), body, &self.terms(store));
    }

    pub(crate) fn find(&self, store: &SegmentStore) -> Held {
        store.lookup(&self.key, self.len(), self.root())
    }

    /// Where the first group is.
    pub(crate) fn tier(&self, store: &SegmentStore) -> Option<Tier> {
        self.find(store).tier_of(0)
    }

    /// Reads what there is; a fault is a miss. Every byte that comes is right.
    pub(crate) async fn groups(&self, store: &SegmentStore) -> Vec<u64> {
        let held = self.find(store);
        let mut read = Vec::new();
        for group in 0..GroupDigests::of(&self.bytes).as_slice().len() as u64 {
            if let Ok(Some(bytes)) = held.group(group).await {
                assert_eq!(bytes, self.group(group), "a wrong byte of {}", self.key);
                read.push(group);
            }
        }
        read
    }

    /// Reads the whole segment from whichever tier has it. A fault is a miss.
    pub(crate) async fn read(&self, store: &SegmentStore) -> Option<Bytes> {
        let body = match self.find(store) {
            Held { memory: Some(body), .. } => body,
            Held { disk: Some(object), .. } => object.body().await.ok()?,
            Held { memory: None, disk: None } => return None,
        };
        body.is_whole().then(|| body.groups().cloned().collect::<Vec<_>>().concat().into())
    }

    /// The one promise: what the store gives is right. Says whether it gave the whole segment.
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
    StoreConfig { memory_bytes: ByteSize::mib(8), disk: vec![disk(capacity)], ..StoreConfig::default() }
}

/// Units of a page and slabs of 32 of them, so that a few small segments meet every boundary.
pub(crate) fn disk(capacity: u64) -> DiskConfig {
    DiskConfig {
        capacity_bytes: ByteSize::from(capacity),
        unit_bytes: ByteSize::from(4096),
        slab_bytes: ByteSize::from(32 * 4096),
        offline_for: Duration::from_secs(10),
        read_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_secs(10),
        scrub_bytes_per_second: ByteSize::from(0),
        ..DiskConfig::default()
    }
}

/// An open store and what it counted.
pub(crate) struct Node {
    pub(crate) store: Arc<SegmentStore>,
    registry: Registry,
}

impl Node {
    /// A process that finds the device as one that was killed left it.
    pub(crate) async fn over(device: &MemoryDevice, config: &StoreConfig) -> Self {
        let node = Self::start(config, vec![Arc::new(device.after_kill())]).await;
        // The log is told again in the background.
        tokio::time::sleep(Duration::from_millis(1)).await;
        node
    }

    pub(crate) async fn start(config: &StoreConfig, devices: Vec<Arc<dyn Device>>) -> Self {
        let registry = Registry::new();
        let store = SegmentStore::open(config, devices, &registry).await.expect("opens");
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

    /// Whether the (only) disk is in this mode.
    pub(crate) fn is(&self, mode: &str) -> bool {
        self.metric("weir_store_disk_mode", mode) == 1
    }

    /// Waits for a state, in virtual time, but not forever.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_secs(600);
        while !holds(self) {
            assert!(tokio::time::Instant::now() < end, "{what} never came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Bytes of slabs on a device.
pub(crate) fn footprint(device: &MemoryDevice) -> u64 {
    let slabs = device.files().into_iter().filter(|(file, _)| matches!(file, FileName::Slab(_)));
    slabs.map(|(_, len)| len).sum()
}

pub(crate) fn virtual_time<F: Future>(story: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("builds").block_on(story)
}
