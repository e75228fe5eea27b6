//! A tier without bytes: which objects are here, under the real policy.

use media::SegmentKey;
use store::policy::{Policy, Slot};

const ABSENT: u32 = u32::MAX;

/// Room is scarce from the last 64th on, so that what evictions leave over is not given away.
const TIGHT: u64 = 64;

/// A tier of so many bytes.
pub(super) struct Shelf {
    capacity: u64,
    used: u64,
    policy: Box<dyn Policy>,
    /// By object.
    slots: Vec<u32>,
    /// By slot: the object, and its bytes.
    held: Vec<(u32, u32)>,
    free: Vec<u32>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Hit,
    /// Bought, and written.
    Written,
    /// Bought, and not worth a write.
    Passed,
}

impl Shelf {
    pub(super) fn new(capacity: u64, objects: usize, policy: Box<dyn Policy>) -> Self {
        let (held, free) = (Vec::new(), Vec::new());
        Self { capacity, used: 0, policy, slots: vec![ABSENT; objects], held, free }
    }

    /// One request, as a store would treat it.
    pub(super) fn ask(&mut self, object: u32, key: &SegmentKey, bytes: u32, tenths: u32) -> Answer {
        self.policy.ask(key, std::time::Duration::from_millis(u64::from(tenths) * 100));
        let slot = self.slots[object as usize];
        if slot != ABSENT {
            self.policy.touch(Slot(slot));
            return Answer::Hit;
        }
        let needed = u64::from(bytes);
        let tight = self.used + needed > self.capacity - self.capacity / TIGHT;
        if needed > self.capacity || (tight && !self.policy.earns(key)) {
            return Answer::Passed;
        }
        while self.used + needed > self.capacity {
            let Some(victim) = self.policy.victim() else { return Answer::Passed };
            self.remove(victim);
        }
        self.insert(object, key, bytes);
        Answer::Written
    }

    fn insert(&mut self, object: u32, key: &SegmentKey, bytes: u32) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.held.push((object, bytes));
            self.held.len() as u32 - 1
        });
        self.held[slot as usize] = (object, bytes);
        self.slots[object as usize] = slot;
        self.used += u64::from(bytes);
        self.policy.admit(Slot(slot), key, u64::from(bytes), false);
    }

    fn remove(&mut self, victim: Slot) {
        let (object, bytes) = self.held[victim.0 as usize];
        self.slots[object as usize] = ABSENT;
        self.used -= u64::from(bytes);
        self.free.push(victim.0);
    }
}

#[cfg(test)]
mod tests {
    use store::policy::{Lru, S3Fifo, Video, WTinyLfu};

    use super::*;
    use crate::demand::Demand;

    /// The books of the tier agree with what the policy said, whatever it says.
    #[test]
    fn capacity_is_never_exceeded() {
        let trace = Demand::tiny(5, 0.8).draw();
        let capacity = trace.footprint() / 20;
        let policies: [Box<dyn Policy>; 4] = [
            Box::new(Lru::new()),
            Box::new(S3Fifo::new(capacity)),
            Box::new(WTinyLfu::new(capacity)),
            Box::new(Video::new()),
        ];
        for policy in policies {
            let mut shelf = Shelf::new(capacity, trace.objects.len(), policy);
            for (at, request) in trace.requests.iter().enumerate().take(60_000) {
                let object = trace.objects[request.object as usize];
                shelf.ask(request.object, &trace.key(request.object), object.bytes, request.tenths);
                assert!(shelf.used <= capacity);
                if at % 1_000 == 0 {
                    let here = shelf.slots.iter().zip(&trace.objects).filter(|(slot, _)| **slot != ABSENT);
                    assert_eq!(here.map(|(_, object)| u64::from(object.bytes)).sum::<u64>(), shelf.used);
                }
            }
            assert!(shelf.used > capacity / 2);
        }
    }
}
