//! Which segments are on their way: one fill for each key.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::{Digest, SegmentKey};
use store::{DiskObject, Held, SegmentBody, SegmentStore};

use super::{Fill, Reader, worth_finishing};
use crate::error::{Failure, ServeError};

/// The running fills. The lock is held for a look-up, never across an await.
pub(crate) struct Table {
    fills: Mutex<HashMap<SegmentKey, Arc<Fill>>>,
    limit: usize,
}

/// A whole segment in one tier.
pub(crate) enum Stored {
    Memory(SegmentBody),
    Disk(DiskObject),
}

/// How a viewer gets a segment that was not in the store a moment ago.
pub(crate) enum Entered {
    /// It has arrived meanwhile.
    Stored(Stored),
    /// It is on its way.
    Joined(Reader),
    /// It is to be fetched; the caller owes the fill a task.
    Led(Reader, Arc<Fill>),
}

impl Table {
    pub(crate) fn new(limit: usize) -> Self {
        Self { fills: Mutex::default(), limit }
    }

    /// Joins the fill of a key, or begins one. `look` asks the store again: a fill puts its body there before it
    /// leaves the table, so between the two looks no segment can be missed.
    pub(crate) fn enter(
        &self,
        key: &SegmentKey,
        len: u64,
        root: Digest,
        look: impl FnOnce() -> Option<Stored>,
    ) -> Result<Entered, ServeError> {
        let mut fills = self.lock();
        if let Some(fill) = fills.get(key) {
            let same = fill.len == len && fill.root == root;
            let other = || {
                ServeError::new(Failure::Changed, format_args!("another version of {key} is being filled"))
            };
            return same.then(|| Entered::Joined(Reader::join(fill))).ok_or_else(other);
        }
        if let Some(stored) = look() {
            return Ok(Entered::Stored(stored));
        }
        if fills.len() >= self.limit {
            return Err(ServeError::new(
                Failure::Overloaded,
                format_args!("{} fills run or wait", fills.len()),
            ));
        }
        let fill = Fill::new(len, root);
        fills.insert(key.clone(), Arc::clone(&fill));
        Ok(Entered::Led(Reader::join(&fill), fill))
    }

    /// Takes a fill that has ended out.
    pub(crate) fn leave(&self, key: &SegmentKey, fill: &Arc<Fill>) {
        let mut fills = self.lock();
        if fills.get(key).is_some_and(|known| Arc::ptr_eq(known, fill)) {
            fills.remove(key);
        }
    }

    /// Takes a fill out unless it is worth finishing. `true` when it is out: nobody can join it any more.
    pub(crate) fn give_up(&self, key: &SegmentKey, fill: &Arc<Fill>, finish_percent: u8) -> bool {
        let mut fills = self.lock();
        let readers = fill.readers.load(Ordering::Acquire);
        let given_up = !worth_finishing(readers, fill.verified_bytes(), fill.len, finish_percent);
        if given_up {
            fills.remove(key);
        }
        given_up
    }

    /// Fills that run or wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SegmentKey, Arc<Fill>>> {
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look into the store may use: a viewer who met a disk fault does not go back to the disk.
pub(crate) fn look(
    store: &SegmentStore,
    key: &SegmentKey,
    len: u64,
    root: Digest,
    disk: bool,
) -> Option<Stored> {
    let Held { memory, disk: object } = store.lookup(key, len, root);
    let memory = memory.filter(SegmentBody::is_whole).map(Stored::Memory);
    memory.or_else(|| object.filter(|_| disk).map(Stored::Disk))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use media::GroupDigests;
    use prometheus::Registry;
    use store::{ByteSize, DiskConfig, MemoryDevice, StoreConfig, Terms};

    use super::*;

    const BYTES: &[u8] = b"one small segment";

    fn key() -> SegmentKey {
        SegmentKey::parse("bbb/00000000000000ff/v720/0.m4s").expect("a key").0
    }

    async fn store_with_the_segment(memory: u64) -> Arc<SegmentStore> {
        let disk = vec![DiskConfig::default()];
        let config = StoreConfig { memory_bytes: ByteSize::from(memory), disk, ..StoreConfig::default() };
        let device = Arc::new(MemoryDevice::new());
        let store = SegmentStore::open(&config, vec![device], &Registry::new()).await.expect("a good store");
        let digests = Arc::new(GroupDigests::of(BYTES));
        store.insert(&key(), digests, SegmentBody::of(&Bytes::from_static(BYTES)), &Terms::default());
        store.flush().await;
        store
    }

    fn enter(table: &Table, root: Digest, stored: Option<Stored>) -> Result<Entered, Failure> {
        table.enter(&key(), BYTES.len() as u64, root, || stored).map_err(|error| error.reason)
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_arrived_meanwhile_is_not_fetched_again() {
        let (table, store, root) = (Table::new(9), store_with_the_segment(1 << 20).await, Digest::of(BYTES));
        let stored = look(&store, &key(), BYTES.len() as u64, root, true);
        assert!(matches!(enter(&table, root, stored), Ok(Entered::Stored(_))));
        assert!(table.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_met_a_disk_fault_is_not_sent_to_the_disk() {
        let (store, root) = (store_with_the_segment(0).await, Digest::of(BYTES));
        assert!(look(&store, &key(), BYTES.len() as u64, root, true).is_some());
        assert!(look(&store, &key(), BYTES.len() as u64, root, false).is_none());
    }

    #[test]
    fn one_fill_for_each_key_one_version_and_so_many_at_most() {
        let (table, root) = (Table::new(1), Digest::of(BYTES));
        let Ok(Entered::Led(_leader, fill)) = enter(&table, root, None) else { panic!("the first leads") };
        assert!(matches!(enter(&table, root, None), Ok(Entered::Joined(_))));
        assert_eq!(enter(&table, Digest::of(b"other"), None).err(), Some(Failure::Changed));
        let other = SegmentKey { part: media::Part::Init, ..key() };
        let refused = table.enter(&other, 1, root, || None).map_err(|error| error.reason);
        assert_eq!(refused.err(), Some(Failure::Overloaded));
        assert!(!table.give_up(&key(), &fill, 50), "the leader still reads");
        table.leave(&key(), &Fill::new(1, root));
        assert!(
            matches!(enter(&table, root, None), Ok(Entered::Joined(_))),
            "another fill's end is not this one's"
        );
        table.leave(&key(), &fill);
        assert!(matches!(enter(&table, root, None), Ok(Entered::Led(..))));
    }
}
