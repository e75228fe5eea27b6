//! All tiers behind one door.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use media::{Digest, GroupDigests, GroupSet, SegmentKey, Tag};
use prometheus::Registry;

use crate::body::SegmentBody;
use crate::config::StoreConfig;
use crate::device::{Device, DirDevice};
use crate::disk::{DiskObject, DiskTier, Mode, Offer, ReadFault, Shared};
use crate::memory::MemoryTier;
use crate::metrics::{Metrics, WriteOutcome};
use crate::purge::{Epoch, Ledger, PurgeKind, Purged, Scope};

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
    /// Bytes charged to the budget: bodies and bookkeeping in memory, whole units on disk.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The memory tier.
    pub memory: TierUsage,
    /// The disk tier, all disks together; all zero without one.
    pub disk: TierUsage,
}

/// Why the store could not be opened. All of these are the operator's to mend; nothing stored is lost by them.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work; every problem with its key.
    #[error("the store's configuration cannot work: {}", .0.join("; "))]
    Config(Vec<String>),
    /// A disk's directory cannot be used, or another process holds it.
    #[error("the disk tier cannot be opened: {0}")]
    Device(#[from] std::io::Error),
    /// A metric of the same name is registered already.
    #[error("the store's metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What comes with a body that is to be kept.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The newest purge when its fetch began: [`SegmentStore::epoch`] of that moment.
    pub born: Epoch,
    /// The tags of its title.
    pub tags: Arc<[Tag]>,
    /// Whether a disk may have it; `false` keeps it in memory only.
    pub disk: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { born: Epoch::default(), tags: Arc::default(), disk: true }
    }
}

/// What the tiers hold of a segment: each all of it, some groups, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// In memory: here it is.
    pub memory: Option<SegmentBody>,
    /// On disk: read and verified on demand.
    pub disk: Option<DiskObject>,
}

impl Held {
    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.is_none() && self.disk.is_none()
    }

    /// The nearest tier that has a group.
    #[must_use]
    pub fn tier_of(&self, group: u64) -> Option<Tier> {
        let memory = self.memory.as_ref().is_some_and(|body| body.group(group).is_some());
        let disk = || self.disk.as_ref().is_some_and(|object| object.has(group));
        if memory { Some(Tier::Memory) } else { disk().then_some(Tier::Disk) }
    }

    /// Every group that some tier has; `None` when there is nothing.
    #[must_use]
    pub fn groups(&self) -> Option<GroupSet> {
        let memory = self.memory.as_ref().map(SegmentBody::present);
        let disk = self.disk.as_ref().map(DiskObject::present);
        match (memory, disk) {
            (Some(mut memory), Some(disk)) => {
                memory.union(&disk);
                Some(memory)
            }
            (memory, disk) => memory.or(disk),
        }
    }

    /// Whether every group is in one tier or the other.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.groups().is_some_and(|groups| groups.is_full())
    }

    /// One group from the nearest tier; `None` when no tier has it.
    ///
    /// # Errors
    /// [`ReadFault`], as [`DiskObject::read`].
    pub async fn group(&self, group: u64) -> Result<Option<Bytes>, ReadFault> {
        if let Some(bytes) = self.memory.as_ref().and_then(|body| body.group(group)) {
            return Ok(Some(bytes.clone()));
        }
        match &self.disk {
            Some(object) if object.has(group) => {
                object.read(group..group + 1).await.map(|groups| groups.into_iter().next())
            }
            _ => Ok(None),
        }
    }
}

/// This node's own tiers.
pub struct SegmentStore {
    max_object: u64,
    memory: Arc<MemoryTier>,
    disks: Vec<Arc<DiskTier>>,
    ledger: Arc<Mutex<Ledger>>,
    metrics: Arc<Metrics>,
}

impl SegmentStore {
    /// Opens the tiers and recovers what the disks hold. `devices` stand in for the directories of
    /// `config.disk`, one for each; where there are none the directories are used. Must be called within a
    /// tokio runtime, on which the writes then run.
    ///
    /// # Errors
    /// [`OpenError`]: the configuration, a directory or the metrics.
    pub async fn open(
        config: &StoreConfig,
        devices: Vec<Arc<dyn Device>>,
        registry: &Registry,
    ) -> Result<Arc<Self>, OpenError> {
        let mut problems = config.problems();
        if !devices.is_empty() && devices.len() != config.disk.len() {
            problems.push("store.disk: another number of devices was given than is configured".to_owned());
        }
        if !problems.is_empty() {
            return Err(OpenError::Config(problems));
        }
        let metrics = Arc::new(Metrics::new(registry)?);
        let memory = Arc::new(MemoryTier::new(config.memory_bytes.bytes(), metrics.clone()));
        let ledger = Arc::<Mutex<Ledger>>::default();
        let shared = Shared::new(memory.clone(), metrics.clone(), Arc::clone(&ledger));
        let mut devices = devices.into_iter();
        let opening = config.disk.iter().enumerate().map(|(number, disk)| {
            let directory = || Arc::new(DirDevice::new(disk.path.clone(), disk.options())) as Arc<dyn Device>;
            let device = devices.next().unwrap_or_else(directory);
            DiskTier::open(number, disk, device, shared.clone())
        });
        // Side by side: a start waits as long as the slowest takes, and not for one after the other.
        let disks = try_join_all(opening).await?;
        Ok(Arc::new(Self { max_object: config.max_object_bytes.bytes(), memory, disks, ledger, metrics }))
    }

    /// The newest purge: what is fetched from now on is not touched by purges up to here.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.ledger().newest()
    }

    /// Whether something that began to be fetched at `born` was purged since: it is not to be joined, and
    /// [`SegmentStore::insert`] will not keep it.
    #[must_use]
    pub fn purged_since(&self, born: Epoch, key: &SegmentKey, tags: &[Tag]) -> Option<PurgeKind> {
        self.ledger().since(born, key, tags)
    }

    /// Finds what there is of an object by key, length and root without any I/O, and counts the request towards
    /// its popularity. An object of the same key but other content, or a stale one, is not found.
    #[must_use]
    pub fn lookup(&self, key: &SegmentKey, len: u64, root: Digest) -> Held {
        // Counted even on a memory hit: what is popular in memory must not look forgotten on disk.
        self.disks.iter().for_each(|disk| disk.count_request(key));
        self.held(key, len, root, false)
    }

    /// The same for when no source delivers: what a soft purge made stale is found, too. Counts no request on
    /// disk.
    #[must_use]
    pub fn lookup_stale(&self, key: &SegmentKey, len: u64, root: Digest) -> Held {
        self.held(key, len, root, true)
    }

    /// What each tier has of an object, for whoever explains; a stale one is not shown. Counts no request, and
    /// looks on disk even when all of it is in memory.
    #[must_use]
    pub fn peek(&self, key: &SegmentKey, len: u64, root: Digest) -> Held {
        Held { memory: self.memory.peek(key, len, root), disk: self.on_disk(key, len, root, false) }
    }

    fn held(&self, key: &SegmentKey, len: u64, root: Digest, stale: bool) -> Held {
        let memory = self.memory.get(key, len, root, stale);
        // What is whole in memory needs no disk.
        let whole = memory.as_ref().is_some_and(SegmentBody::is_whole);
        let disk = if whole { None } else { self.on_disk(key, len, root, stale) };
        Held { memory, disk }
    }

    fn on_disk(&self, key: &SegmentKey, len: u64, root: Digest, stale: bool) -> Option<DiskObject> {
        self.disks.iter().find_map(|disk| disk.find(key, len, root, stale))
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
        match self.on_disk(key, len, root, false) {
            Some(object) => object.digests().await.map(Some),
            None => Ok(None),
        }
    }

    /// Keeps verified groups of a segment, beside those it has: in memory now, on disk in the background. Never
    /// fails and never waits: what has no room is not kept, and that is counted; what was purged since its
    /// fetch began is not kept either. The caller vouches that every group was verified against `digests`.
    pub fn insert(&self, key: &SegmentKey, digests: Arc<GroupDigests>, body: SegmentBody, terms: &Terms) {
        if digests.len() != body.len() {
            tracing::error!(%key, "a body and its digests differ in length; not stored");
            return;
        }
        if body.len() > self.max_object {
            tracing::debug!(%key, len = body.len(), "longer than store.max_object_bytes; not stored");
            return;
        }
        let groups = body.present();
        if groups.is_empty() {
            return;
        }
        // The ledger stays locked until the body is in: a purge comes before it or after it as a whole.
        let ledger = self.ledger();
        if ledger.since(terms.born, key, &terms.tags).is_some() {
            tracing::debug!(%key, "purged while it was being fetched; not stored");
            return;
        }
        self.memory.insert(key, digests.clone(), &body, &terms.tags);
        if !terms.disk {
            return;
        }
        let (key, tags) = (key.clone(), terms.tags.clone());
        let offer = Offer { key, len: body.len(), root: digests.root(), groups, born: terms.born, tags };
        match self.disk_for(&offer) {
            Some(disk) => disk.offer(offer, digests, body),
            None if self.disks.is_empty() => {}
            None => self.metrics.write(WriteOutcome::Paused),
        }
    }

    /// The disk that has some of an object already, else the one that the key draws among those that take
    /// anything: each in proportion to its capacity, and the others' keys stay where they are when one leaves.
    fn disk_for(&self, offer: &Offer) -> Option<&Arc<DiskTier>> {
        let online = || self.disks.iter().filter(|disk| disk.mode() == Mode::Online);
        let drawn = || drawn(&offer.key, online().map(|disk| ((disk.number(), disk.capacity()), disk)));
        online().find(|disk| disk.stands(offer)).or_else(drawn)
    }

    /// Makes everything that a scope covers unfindable in every tier, at once, and for fills that are under way
    /// now, too. Returns when it is on record on every disk that is online: from then on it survives a restart.
    /// A disk that is away is swept when it returns, as long as another disk or this process remembers.
    pub async fn purge(&self, scope: &Scope, kind: PurgeKind) -> Purged {
        let mut purged = self.sweep(scope, kind);
        self.metrics.purged(kind);
        let sure = join_all(self.disks.iter().map(DiskTier::make_sure)).await;
        purged.disks_behind = sure.iter().filter(|sure| !**sure).count() as u64;
        tracing::info!(%scope, kind = kind.as_str(), epoch = purged.epoch.0, objects = purged.objects, disks_behind = purged.disks_behind, "purged");
        purged
    }

    /// Disks first: what is read from one on its way into memory is then found there.
    fn sweep(&self, scope: &Scope, kind: PurgeKind) -> Purged {
        let mut ledger = self.ledger();
        let epoch = ledger.begin(scope, kind);
        let on_disks: u64 = self.disks.iter().map(|disk| disk.purge(scope, epoch, kind)).sum();
        let objects = on_disks + self.memory.sweep(scope, kind);
        Purged { epoch, objects, disks_behind: 0 }
    }

    /// Waits until everything offered to the disks so far is written or given up, and on record. What is inserted
    /// meanwhile may stay in memory only.
    pub async fn flush(&self) {
        for disk in &self.disks {
            disk.flush().await;
        }
    }

    /// Lets go of the disks for another process that takes over: what is on its way is written first, nothing
    /// is written after. What is known stays readable as long as the other process leaves it in place; what it
    /// overwrites fails its digest and is bought again.
    pub async fn detach(&self) {
        for disk in &self.disks {
            disk.detach().await;
        }
    }

    /// Takes the disks back after [`SegmentStore::detach`] and recovers what they hold now. Each for itself: one that is
    /// broken is offline, and tried again after [`crate::DiskConfig::offline_for`]. May be asked again: what is back
    /// already stays as it is.
    ///
    /// # Errors
    /// [`OpenError::Device`] while another process holds a disk; the others are back.
    pub async fn attach(&self) -> Result<(), OpenError> {
        let attached = join_all(self.disks.iter().map(DiskTier::attach)).await;
        attached.into_iter().collect::<Result<(), _>>().map_err(OpenError::from)
    }

    /// What the tiers hold.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let add = |sum: TierUsage, disk: &Arc<DiskTier>| {
            let usage = disk.usage();
            TierUsage { bytes: sum.bytes + usage.bytes, objects: sum.objects + usage.objects }
        };
        Usage { memory: self.memory.usage(), disk: self.disks.iter().fold(TierUsage::default(), add) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk a key draws among some, each with its number and capacity. A disk keeps its number when others leave.
fn drawn<D>(key: &SegmentKey, disks: impl Iterator<Item = ((usize, u64), D)>) -> Option<D> {
    let lots = disks.map(|((number, capacity), disk)| (lot(key, number, capacity), disk));
    lots.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, disk)| disk)
}

/// A key's lot on one disk: the highest wins (weighted rendezvous hashing; Schindelhauer and Schomaker, 2005).
fn lot(key: &SegmentKey, disk: usize, capacity: u64) -> f64 {
    let digest = Digest::of(format!("{key} {disk}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.0[..8]);
    // Between 0 and 1, both excluded.
    let drawn = ((u64::from_le_bytes(first) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    capacity as f64 / -drawn.ln()
}

impl fmt::Debug for SegmentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentStore").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use media::{PackageId, Part};

    use super::*;

    #[test]
    fn keys_stay_where_they_are_when_another_disk_leaves() {
        let disks = [(0, 100), (1, 100), (2, 200)];
        let pick = |n: u32, away: Option<usize>| {
            let (title, rendition) = ("film".parse().expect("a name"), "v720".parse().expect("a name"));
            let key = SegmentKey { title, package: PackageId(1), rendition, part: Part::Media(n) };
            let left = disks.into_iter().filter(|(number, _)| Some(*number) != away);
            drawn(&key, left.map(|disk| (disk, disk.0))).expect("some are left")
        };
        let mut counts = [0; 3];
        for n in 0..2000 {
            let all = pick(n, None);
            counts[all] += 1;
            for away in (0..3).filter(|away| *away != all) {
                assert_eq!(pick(n, Some(away)), all, "key {n} without disk {away}");
            }
        }
        assert!((900..1100).contains(&counts[2]) && (400..600).contains(&counts[0]), "{counts:?}");
    }
}
