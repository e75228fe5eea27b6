//! From disk to memory: what several viewers want is read whole once more, into the memory tier.
//!
//! Viewers stream from disk in batches, so no viewer's read ever holds a whole body; without this a restarted
//! node would serve from disk forever. The second disk hit is the sign that there will be a third.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use media::SegmentKey;
use store::DiskObject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Keys remembered with one hit; beyond it all are forgotten, which delays a promotion by a hit.
const MAX_REMEMBERED: usize = 4_096;

pub(crate) struct Promotions {
    hit_once: Mutex<HashSet<SegmentKey>>,
    permits: Arc<Semaphore>,
}

impl Promotions {
    pub(crate) fn new(at_once: usize) -> Self {
        Self { hit_once: Mutex::default(), permits: Arc::new(Semaphore::new(at_once)) }
    }

    /// Counts a disk hit; a permit when the object is to be promoted now.
    pub(crate) fn hit(&self, key: &SegmentKey) -> Option<OwnedSemaphorePermit> {
        if !second_hit(&mut self.hit_once.lock().unwrap_or_else(PoisonError::into_inner), key) {
            return None;
        }
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }
}

fn second_hit(hit_once: &mut HashSet<SegmentKey>, key: &SegmentKey) -> bool {
    let second = hit_once.remove(key);
    if !second {
        if hit_once.len() >= MAX_REMEMBERED {
            hit_once.clear();
        }
        hit_once.insert(key.clone());
    }
    second
}

/// Reads the object whole; the store keeps what it reads. A fault is the store's business, and counted there.
pub(crate) async fn promote(object: DiskObject, permit: OwnedSemaphorePermit) {
    let read = object.body().await;
    tracing::trace!(?object, ok = read.is_ok(), "promoted from disk to memory");
    drop(permit);
}

#[cfg(test)]
mod tests {
    use media::Part;

    use super::*;

    fn key(n: u32) -> SegmentKey {
        let (key, _) = SegmentKey::parse("bbb/00000000000000ff/v720/0.m4s").expect("a key");
        SegmentKey { part: Part::Media(n), ..key }
    }

    #[test]
    fn every_second_hit_promotes_within_bounds() {
        let promotions = Promotions::new(1);
        assert!(promotions.hit(&key(0)).is_none());
        let permit = promotions.hit(&key(0));
        assert!(permit.is_some());
        promotions.hit(&key(1));
        assert!(promotions.hit(&key(1)).is_none(), "one at a time");
        drop(permit);
        promotions.hit(&key(2));
        assert!(promotions.hit(&key(2)).is_some());
    }

    #[test]
    fn memory_of_hits_is_bounded() {
        let promotions = Promotions::new(1);
        (0..3 * MAX_REMEMBERED as u32).for_each(|n| assert!(promotions.hit(&key(n)).is_none()));
        assert!(promotions.hit_once.lock().expect("lock").len() <= MAX_REMEMBERED);
    }
}
