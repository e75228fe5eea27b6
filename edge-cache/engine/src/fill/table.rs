//! Which segments are on their way: one fill for each key.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::{Digest, SegmentKey};
use store::{SegmentStore, Stored};

use super::{Fill, Reader, worth_finishing};
use crate::error::{Failure, ServeError};

/// The running fills. The lock is held for a look-up, never across an await.
pub(crate) struct Table {
    fills: Mutex<HashMap<SegmentKey, Arc<Fill>>>,
    limit: usize,
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
    store.lookup(key, len, root).filter(|stored| disk || matches!(stored, Stored::Memory(_)))
}
