//! Which segments are on their way: one fill for each key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::{GroupSet, SegmentKey};
use store::{Held, SegmentStore};

use super::admission::Admission;
use super::{Fill, Groups, Reader, Wish};
use crate::engine::Described;
use crate::error::{Failure, ServeError};

/// The running fills. The lock is held for a look-up, never across an await.
pub(crate) struct Table {
    fills: Mutex<HashMap<SegmentKey, Arc<Fill>>>,
    limit: usize,
    store: Arc<SegmentStore>,
    admission: Arc<Admission>,
}

/// How a viewer gets what was not in the store a moment ago.
pub(crate) enum Entered {
    /// It has arrived meanwhile.
    Stored(Held),
    /// It is on its way.
    Joined(Reader),
    /// It is to be fetched; the caller owes the fill a task. What is in the store is said anew.
    Led(Held, Reader, (Arc<Fill>, Arc<Groups>)),
}

impl Table {
    pub(crate) fn new(limit: usize, store: Arc<SegmentStore>, admission: Arc<Admission>) -> Self {
        Self { fills: Mutex::default(), limit, store, admission }
    }

    /// Joins the fill of a key, or begins one. `look` asks the store again for what is there and what is lacking:
    /// a fill puts what it has there before it leaves the table, so between the two looks nothing can be missed.
    /// A fill that began before a purge of the key is left to those who read it already.
    pub(crate) fn enter(
        &self,
        described: &Described,
        wish: Wish,
        look: impl FnOnce() -> (Held, GroupSet),
    ) -> Result<Entered, ServeError> {
        let (key, len, root) = (&described.key, described.len(), described.root());
        let mut fills = self.lock();
        let joinable =
            |fill: &&Arc<Fill>| fill.outlived.purged(&self.store, key, &described.tags()).is_none();
        if let Some(fill) = fills.get(key).filter(joinable) {
            let same = fill.len == len && fill.root == root;
            let other = || {
                ServeError::new(Failure::Changed, format_args!("another version of {key} is being filled"))
            };
            return same.then(|| Entered::Joined(Reader::join(fill, wish))).ok_or_else(other);
        }
        let born = self.store.epoch();
        let (held, lacks) = look();
        if lacks.is_empty() {
            return Ok(Entered::Stored(held));
        }
        if fills.len() >= self.limit {
            return Err(ServeError::new(
                Failure::Overloaded,
                format_args!("{} fills run or wait", fills.len()),
            ));
        }
        let (fill, groups) = Fill::new(len, root, born, &self.admission);
        fills.insert(key.clone(), Arc::clone(&fill));
        Ok(Entered::Led(held, Reader::join(&fill, Wish { lacks, ..wish }), (fill, groups)))
    }

    /// Takes a fill that has ended out.
    pub(super) fn leave(&self, key: &SegmentKey, fill: &Arc<Fill>) {
        remove(&mut self.lock(), key, fill);
    }

    /// Closes a fill and takes it out if everything that is wanted is here. `true` when it is out: nobody can
    /// join it any more.
    pub(super) fn retire(&self, key: &SegmentKey, fill: &Arc<Fill>) -> bool {
        let mut fills = self.lock();
        let closed = fill.wants().close_if_idle();
        if closed {
            remove(&mut fills, key, fill);
        }
        closed
    }

    /// Whether a fill of this key runs or waits.
    pub(crate) fn is_filling(&self, key: &SegmentKey) -> bool {
        self.lock().contains_key(key)
    }

    /// Fills that run or wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SegmentKey, Arc<Fill>>> {
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another fill of the same key may stand there: the one that began after a purge.
fn remove(fills: &mut HashMap<SegmentKey, Arc<Fill>>, key: &SegmentKey, fill: &Arc<Fill>) {
    if fills.get(key).is_some_and(|known| Arc::ptr_eq(known, fill)) {
        fills.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use media::Digest;
    use prometheus::{IntCounter, IntGauge, Registry};
    use store::{PurgeKind, Scope, StoreConfig};

    use super::super::admission::Gauges;
    use super::*;
    use crate::config::EngineConfig;
    use crate::tests::world::{SEGMENTS, described, key};

    async fn table(limit: usize) -> Table {
        let store = SegmentStore::open(&StoreConfig::default(), Vec::new(), &Registry::new()).await;
        let gauge = || IntGauge::new("gauge", "in a test").expect("a gauge");
        let cut_readers = IntCounter::new("counter", "in a test").expect("a counter");
        let gauges = Gauges { buffered: gauge(), lingering: gauge(), cut_readers };
        let admission = Admission::new(&EngineConfig::default(), gauges);
        Table::new(limit, store.expect("a store"), admission)
    }

    fn everything(described: &Described) -> Wish {
        Wish { lacks: GroupSet::all(described.len()), newcomer: true, needed_by: None }
    }

    fn enter(table: &Table, described: &Described) -> Result<Entered, Failure> {
        let lacks = GroupSet::all(described.len());
        let entered = table.enter(described, everything(described), || (Held::default(), lacks));
        entered.map_err(|error| error.reason)
    }

    #[tokio::test]
    async fn what_has_arrived_meanwhile_is_not_fetched_again() {
        let (table, described) = (table(9).await, described(0).await);
        let lacks = GroupSet::none(described.len());
        let entered = table.enter(&described, everything(&described), || (Held::default(), lacks));
        assert!(matches!(entered, Ok(Entered::Stored(_))));
        assert!(table.lock().is_empty());
    }

    #[tokio::test]
    async fn one_fill_for_each_key_one_version_and_so_many_at_most() {
        let (table, first) = (table(1).await, described(0).await);
        let Ok(Entered::Led(_, leader, (fill, _groups))) = enter(&table, &first) else {
            panic!("the first leads")
        };
        assert!(matches!(enter(&table, &first), Ok(Entered::Joined(_))));
        let mut other = first.clone();
        other.entry.segment.root = Digest::of(b"other");
        assert_eq!(enter(&table, &other).err(), Some(Failure::Changed));
        assert_eq!(enter(&table, &described(1).await).err(), Some(Failure::Overloaded));
        assert!(!table.retire(&key(0), &fill), "the leader still waits");
        let stranger = Fill::new(u64::from(SEGMENTS[0]), first.root(), fill.born, &table.admission);
        table.leave(&key(0), &stranger.0);
        let joined = enter(&table, &first);
        assert!(matches!(joined, Ok(Entered::Joined(_))), "another fill's end is not this one's");
        drop((leader, joined));
        assert!(table.retire(&key(0), &fill), "nobody waits");
        assert!(matches!(enter(&table, &first), Ok(Entered::Led(..))));
    }

    #[tokio::test]
    async fn whoever_comes_after_a_purge_does_not_join_what_began_before_it() {
        let (table, described) = (table(9).await, described(0).await);
        let Ok(Entered::Led(_, _before, (old, _old_groups))) = enter(&table, &described) else {
            panic!("the first leads")
        };
        table.store.purge(&Scope::Segment(key(0)), PurgeKind::Soft).await;
        let Ok(Entered::Led(_, _after, (new, _new_groups))) = enter(&table, &described) else {
            panic!("after the purge")
        };
        table.leave(&key(0), &old);
        assert!(matches!(enter(&table, &described), Ok(Entered::Joined(_))), "the new one stands");
        table.store.purge(&Scope::Segment(key(1)), PurgeKind::Hard).await;
        assert!(matches!(enter(&table, &described), Ok(Entered::Joined(_))), "another key's purge");
        assert!(new.born > old.born);
    }
}
