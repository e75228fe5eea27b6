//! The newest purge that something is known to have outlived.

use std::sync::atomic::{AtomicU32, Ordering};

use media::{SegmentKey, Tag};
use store::{Epoch, PurgeKind, SegmentStore};

/// Remembers up to which purge something was looked at, so that each purge is looked at once and not at each use.
#[derive(Debug)]
pub(crate) struct Outlived(AtomicU32);

impl Outlived {
    /// For something that began to be fetched at `born`.
    pub(crate) fn new(born: Epoch) -> Self {
        Self(AtomicU32::new(born.0))
    }

    /// Whether a purge came over it since.
    pub(crate) fn purged(&self, store: &SegmentStore, key: &SegmentKey, tags: &[Tag]) -> Option<PurgeKind> {
        let (known, newest) = (Epoch(self.0.load(Ordering::Relaxed)), store.epoch());
        if known >= newest {
            return None;
        }
        let purged = store.purged_since(known, key, tags);
        if purged.is_none() {
            self.0.fetch_max(newest.0, Ordering::Relaxed);
        }
        purged
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use store::{Scope, StoreConfig};

    use super::*;
    use crate::tests::world::key;

    #[tokio::test]
    async fn a_purge_counts_for_whatever_was_there_before_it() {
        let store = SegmentStore::open(&StoreConfig::default(), Vec::new(), &Registry::new()).await;
        let store = store.expect("a store");
        let (before, other) = (Outlived::new(store.epoch()), Outlived::new(store.epoch()));
        assert_eq!(before.purged(&store, &key(0), &[]), None);
        store.purge(&Scope::Segment(key(0)), PurgeKind::Soft).await;
        let after = Outlived::new(store.epoch());
        for _ in 0..2 {
            assert_eq!(before.purged(&store, &key(0), &[]), Some(PurgeKind::Soft));
            assert_eq!(other.purged(&store, &key(1), &[]), None);
            assert_eq!(after.purged(&store, &key(0), &[]), None);
        }
        store.purge(&Scope::Title(key(0).title), PurgeKind::Hard).await;
        for outlived in [before, other, after] {
            assert_eq!(outlived.purged(&store, &key(0), &[]), Some(PurgeKind::Hard));
        }
    }
}
