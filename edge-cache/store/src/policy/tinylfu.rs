//! W-TinyLFU, counted in bytes.
//!
//! New objects enter a window of a hundredth of the tier. Who falls out of it meets the oldest object on
//! probation, and the one that was asked for more often stays (Einziger, Friedman and Manes, "`TinyLFU`: A Highly
//! Efficient Cache Admission Policy", 2017). A hit on probation protects; the protected share of the main area
//! is four fifths. How often something was asked for is estimated by a sketch that halves itself.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use media::SegmentKey;

use super::lists::{Lists, grow_to};
use super::{Policy, Slot};

/// The window's share of the capacity.
const WINDOW_SHARE: u64 = 100;
/// The last so-manieth of the capacity is no room: it is what evictions leave over.
const ROOM: u64 = 64;
const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

/// The policy's state: three queues, a fingerprint for each object, and the sketch; 20 bytes for each object, and 8
/// to 16 for its part of the sketch.
pub struct WTinyLfu {
    window: u64,
    main: u64,
    protected: u64,
    lists: Lists<3>,
    prints: Vec<u32>,
    sketch: Sketch,
}

impl WTinyLfu {
    /// A policy for a tier of this many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let window = capacity / WINDOW_SHARE;
        let main = capacity - window;
        let (lists, prints) = (Lists::new(), Vec::new());
        Self { window, main, protected: main / 5 * 4, lists, prints, sketch: Sketch::new() }
    }

    fn main_bytes(&self) -> u64 {
        self.lists.bytes(PROBATION) + self.lists.bytes(PROTECTED)
    }

    /// Lets objects out of the window without a contest while the tier has room.
    fn overflow(&mut self) {
        let full = self.window + self.main - (self.window + self.main) / ROOM;
        let all = self.main_bytes() + self.lists.bytes(WINDOW);
        while self.lists.bytes(WINDOW) > self.window && all < full {
            let Some(oldest) = self.lists.oldest(WINDOW) else { return };
            self.lists.shift(oldest, PROBATION);
        }
    }

    /// Who has to go of the window's oldest and the oldest on probation. The other one stays.
    fn contest(&mut self) -> Option<Slot> {
        let (candidate, sitting) = (self.lists.oldest(WINDOW)?, self.lists.oldest(PROBATION)?);
        let count = |slot: Slot| self.sketch.count(self.prints[slot.0 as usize]);
        if count(candidate) <= count(sitting) {
            return Some(candidate);
        }
        self.lists.shift(candidate, PROBATION);
        Some(sitting)
    }
}

impl Policy for WTinyLfu {
    fn ask(&mut self, key: &SegmentKey, _now: Duration) {
        self.sketch.add(fingerprint(key));
    }

    fn admit(&mut self, slot: Slot, key: &SegmentKey, bytes: u64, warm: bool) {
        grow_to(&mut self.prints, slot, 0);
        self.prints[slot.0 as usize] = fingerprint(key);
        self.sketch.make_room_for(self.prints.len());
        self.lists.push(slot, if warm { PROBATION } else { WINDOW }, bytes);
        self.overflow();
    }

    fn touch(&mut self, slot: Slot) {
        match self.lists.list_of(slot) {
            Some(WINDOW) => self.lists.shift(slot, WINDOW),
            Some(_) => self.lists.shift(slot, PROTECTED),
            None => {}
        }
        while self.lists.bytes(PROTECTED) > self.protected {
            let Some(oldest) = self.lists.oldest(PROTECTED) else { return };
            self.lists.shift(oldest, PROBATION);
        }
    }

    fn is_warm(&self, slot: Slot) -> bool {
        self.lists.list_of(slot).is_some_and(|list| list != WINDOW)
    }

    fn forget(&mut self, slot: Slot) {
        self.lists.unlink(slot);
    }

    fn victim(&mut self) -> Option<Slot> {
        let contested = if self.lists.bytes(WINDOW) > self.window { self.contest() } else { None };
        let in_turn = || [PROBATION, PROTECTED, WINDOW].into_iter().find_map(|list| self.lists.oldest(list));
        let victim = contested.or_else(in_turn)?;
        self.lists.unlink(victim);
        Some(victim)
    }
}

/// Counts to 15 in four of many counters of 4 bits; the least of the four is the estimate. After ten requests for
/// each word everything is halved.
struct Sketch {
    words: Vec<u64>,
    added: usize,
}

/// Words at first.
const FIRST_WORDS: usize = 64;
const ROWS: u32 = 4;
const MOST: u64 = 15;

impl Sketch {
    fn new() -> Self {
        Self { words: vec![0; FIRST_WORDS], added: 0 }
    }

    /// A row's word and how far its counter is from the lowest bit.
    fn counter(&self, print: u32, row: u32) -> (usize, u32) {
        let mixed = (u64::from(print) + 1 + u64::from(row))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ u64::from(row) << 40);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        // The word by low bits, so that a sketch of twice the words begins as two of the old.
        (((mixed >> 8) as usize) & (self.words.len() - 1), ((mixed & 3) as u32 + row * 4) * 4)
    }

    fn add(&mut self, print: u32) {
        for row in 0..ROWS {
            let (word, shift) = self.counter(print, row);
            if self.words[word] >> shift & MOST < MOST {
                self.words[word] += 1 << shift;
            }
        }
        self.added += 1;
        if self.added > 10 * self.words.len() {
            self.words.iter_mut().for_each(|word| *word = *word >> 1 & 0x7777_7777_7777_7777);
            self.added /= 2;
        }
    }

    fn count(&self, print: u32) -> u64 {
        let counts = (0..ROWS).map(|row| {
            let (word, shift) = self.counter(print, row);
            self.words[word] >> shift & MOST
        });
        counts.min().unwrap_or_default()
    }

    fn make_room_for(&mut self, objects: usize) {
        while self.words.len() < objects {
            self.words.extend_from_within(..);
        }
    }
}

/// Fixed keys: the same run makes the same choices. A collision costs one wrong guess, never a wrong byte.
fn fingerprint(key: &SegmentKey) -> u32 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sketch_counts_and_forgets_by_halves() {
        let mut sketch = Sketch::new();
        (0..7).for_each(|_| sketch.add(1));
        (0..40).for_each(|_| sketch.add(2));
        assert_eq!((sketch.count(1), sketch.count(2), sketch.count(3)), (7, 15, 0));
        sketch.make_room_for(1_000);
        assert_eq!(
            (sketch.words.len(), sketch.count(1), sketch.count(2)),
            (1_024, 7, 15),
            "growing loses nothing"
        );
        (0..10_194).for_each(|_| sketch.add(9));
        assert_eq!((sketch.count(1), sketch.count(9)), (3, 7), "the last of ten for each word");
    }
}
