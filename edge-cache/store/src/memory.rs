//! The memory tier: bodies, whole or in part, under an exact budget, behind one short lock.
//!
//! One lock is enough: 10 Gbit/s of 4 MB segments are 300 requests a second, and the lock is held for a hash
//! lookup. Nothing is copied, neither on the way in nor on a hit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::digest::group_count;
use media::{Digest, GroupDigests, SegmentKey, Tag};

use crate::body::SegmentBody;
use crate::metrics::Metrics;
use crate::policy::S3Fifo;
use crate::purge::{PurgeKind, Scope};
use crate::store::{Tier, TierUsage};
use crate::table::Table;

/// What one place costs beside the body: the table's entry, its bucket, the policy's node, its queue and ghost
/// entries, each with the slack of a doubling array, the list of digests without its entries, and the key's two
/// strings without their text.
const PLACE_BYTES: u64 = 768;
/// What the place of a group costs, present or not: its digest and its handle in the body.
const GROUP_PLACE_BYTES: u64 = 64;
/// What a group that is present costs beside its bytes: the shared count behind it, and what the allocator adds
/// to two allocations.
const GROUP_BYTES: u64 = 64;

pub(crate) struct MemoryTier {
    table: Mutex<Table<Held>>,
    metrics: Arc<Metrics>,
}

struct Held {
    digests: Arc<GroupDigests>,
    body: SegmentBody,
    tags: Arc<[Tag]>,
    /// Purged softly: served only when nobody else can.
    stale: bool,
}

impl Held {
    fn is(&self, len: u64, root: Digest) -> bool {
        self.body.len() == len && self.digests.root() == root
    }
}

impl MemoryTier {
    pub(crate) fn new(capacity: u64, metrics: Arc<Metrics>) -> Self {
        let table = Table::new(capacity, PLACE_BYTES, Box::new(S3Fifo::new(capacity)));
        Self { table: Mutex::new(table), metrics }
    }

    /// The body, or what there is of it, if it is here under this root. Counts a request. A stale one only for
    /// those who ask for stale ones.
    pub(crate) fn get(&self, key: &SegmentKey, len: u64, root: Digest, stale: bool) -> Option<SegmentBody> {
        let mut table = self.lock();
        let held = table.get(key).filter(|held| held.is(len, root) && (stale || !held.stale))?;
        Some(held.body.clone())
    }

    /// The body, or what there is of it, unless it is stale. Counts no request.
    pub(crate) fn peek(&self, key: &SegmentKey, len: u64, root: Digest) -> Option<SegmentBody> {
        let table = self.lock();
        let held = table.peek(key).filter(|held| held.is(len, root) && !held.stale)?;
        Some(held.body.clone())
    }

    /// The digests of a body that is here. Counts no request.
    pub(crate) fn digests(&self, key: &SegmentKey, len: u64, root: Digest) -> Option<Arc<GroupDigests>> {
        let table = self.lock();
        let held = table.peek(key).filter(|held| held.is(len, root) && !held.stale)?;
        Some(held.digests.clone())
    }

    /// Keeps a body, together with the groups of it that were here; what is larger than the whole tier is not
    /// kept. Tells how much is here now.
    pub(crate) fn insert(
        &self,
        key: &SegmentKey,
        digests: Arc<GroupDigests>,
        body: &SegmentBody,
        tags: &Arc<[Tag]>,
    ) {
        let mut table = self.lock();
        let replaced = table.remove(key);
        let before = replaced.as_ref().map(|(held, _)| held);
        let before = before.filter(|held| held.is(body.len(), digests.root()) && !held.stale);
        let body = match before {
            Some(before) if !body.is_whole() => body.union(&before.body),
            _ => body.clone(),
        };
        let bytes = cost(key, &body);
        let held = Held { digests, body, tags: tags.clone(), stale: false };
        let evicted = table.insert(key, held, bytes).unwrap_or_default();
        self.metrics.evicted(Tier::Memory, evicted.len());
        self.metrics.usage(Tier::Memory, usage(&table));
        // The bodies are freed after the lock: returning megabytes to the allocator takes a while.
        drop(table);
        drop((replaced, evicted));
    }

    /// Takes out, or marks as stale, what a purge is about; tells how many.
    pub(crate) fn sweep(&self, scope: &Scope, kind: PurgeKind) -> u64 {
        let mut table = self.lock();
        let meant = table.keys_where(|key, held| scope.covers(key, &held.tags));
        let mut removed = Vec::new();
        for key in &meant {
            match kind {
                PurgeKind::Hard => removed.extend(table.remove(key)),
                PurgeKind::Soft => table.alter(key, |held| held.stale = true),
            }
        }
        self.metrics.usage(Tier::Memory, usage(&table));
        drop(table);
        drop(removed);
        meant.len() as u64
    }

    pub(crate) fn usage(&self) -> TierUsage {
        usage(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Table<Held>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn usage(table: &Table<Held>) -> TierUsage {
    TierUsage { bytes: table.bytes(), objects: table.len() as u64 }
}

fn cost(key: &SegmentKey, body: &SegmentBody) -> u64 {
    let names = key.title.as_str().len() + key.rendition.as_str().len();
    let present = body.groups().fold(0, |sum, group| sum + group.len() as u64 + GROUP_BYTES);
    present + group_count(body.len()) * GROUP_PLACE_BYTES + names as u64
}
