//! Which units of a disk are free. Values only.
//!
//! A disk is an array of units. An object takes as many as it needs, in as few runs as there are: the search
//! goes on where the last one ended, so that on a disk with room objects follow each other.

/// A run of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u32,
    pub(crate) units: u32,
}

impl Extent {
    pub(crate) fn end(self) -> u32 {
        self.start + self.units
    }
}

/// How far, in units, the search for a single run goes before it makes do with several.
const SEARCH: u32 = 1 << 16;

/// One bit for each unit that exists.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: Vec<u64>,
    units: u32,
    free: u32,
    cursor: u32,
}

impl Room {
    /// Units that exist.
    pub(crate) fn units(&self) -> u32 {
        self.units
    }

    /// Units that nobody has.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// More units exist now.
    pub(crate) fn grow(&mut self, units: u32) {
        let more = units.saturating_sub(self.units);
        self.units += more;
        self.free += more;
        self.taken.resize(self.units.div_ceil(64) as usize, 0);
    }

    /// Takes so many units: one run where there is one near, else several. `None` when there are not enough.
    pub(crate) fn take(&mut self, units: u32) -> Option<Vec<Extent>> {
        if units == 0 || units > self.free {
            return None;
        }
        let extents = self.single(units).map_or_else(|| self.several(units), |extent| vec![extent]);
        extents.iter().for_each(|extent| self.mark(*extent, true));
        self.cursor = extents.last().map_or(0, |extent| extent.end());
        Some(extents)
    }

    /// Takes exactly this run, as a start finds it on record. `false` when it is not there or not free.
    pub(crate) fn claim(&mut self, extent: Extent) -> bool {
        let there = extent.units > 0
            && extent.start.checked_add(extent.units).is_some_and(|end| end <= self.units)
            && self.run_at(extent.start, extent.units) == extent.units;
        if there {
            self.mark(extent, true);
        }
        there
    }

    /// Gives a run back.
    pub(crate) fn release(&mut self, extent: Extent) {
        self.mark(extent, false);
    }

    fn single(&self, units: u32) -> Option<Extent> {
        let near = |from: u32, until: u32| {
            let mut at = from;
            while let Some(start) = self.next_free(at).filter(|start| *start < until) {
                let run = self.run_at(start, units);
                if run == units {
                    return Some(Extent { start, units });
                }
                at = start + run;
            }
            None
        };
        near(self.cursor, self.cursor.saturating_add(SEARCH)).or_else(|| near(0, SEARCH.min(self.cursor)))
    }

    /// Free runs in order from the cursor on, once around.
    fn several(&self, units: u32) -> Vec<Extent> {
        let (mut extents, mut missing) = (Vec::new(), units);
        for (from, until) in [(self.cursor, self.units), (0, self.cursor)] {
            let mut at = from;
            while missing > 0
                && let Some(start) = self.next_free(at).filter(|start| *start < until)
            {
                let run = self.run_at(start, missing.min(until - start));
                extents.push(Extent { start, units: run });
                (missing, at) = (missing - run, start + run);
            }
        }
        extents
    }

    /// The first free unit at or after `from`.
    fn next_free(&self, from: u32) -> Option<u32> {
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in self.taken.iter().enumerate().skip((from / 64) as usize) {
            let free = !word & mask;
            if free != 0 {
                let unit = at as u32 * 64 + free.trailing_zeros();
                return (unit < self.units).then_some(unit);
            }
            mask = u64::MAX;
        }
        None
    }

    /// How many units from `start` on are free, up to `most`.
    fn run_at(&self, start: u32, most: u32) -> u32 {
        let end = start.saturating_add(most).min(self.units);
        let mut at = start;
        while at < end {
            let word = self.taken[(at / 64) as usize] >> (at % 64);
            if word != 0 {
                return (at + word.trailing_zeros()).min(end) - start;
            }
            at = (at / 64 + 1) * 64;
        }
        end.saturating_sub(start)
    }

    fn mark(&mut self, extent: Extent, take: bool) {
        let mut at = extent.start;
        while at < extent.end() {
            let within = at % 64;
            let count = (64 - within).min(extent.end() - at);
            let mask = (u64::MAX >> (64 - count)) << within;
            let word = &mut self.taken[(at / 64) as usize];
            if take {
                *word |= mask;
            } else {
                *word &= !mask;
            }
            at += count;
        }
        self.free = if take { self.free - extent.units } else { self.free + extent.units };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(units: u32) -> Room {
        let mut room = Room::default();
        room.grow(units);
        room
    }

    fn total(extents: &[Extent]) -> u32 {
        extents.iter().map(|extent| extent.units).sum()
    }

    #[test]
    fn objects_follow_each_other_while_there_is_room() {
        let mut room = room(200);
        for (units, start) in [(70, 0), (1, 70), (64, 71)] {
            assert_eq!(room.take(units), Some(vec![Extent { start, units }]));
        }
        assert_eq!(room.take(66), None, "only 65 are left");
        assert_eq!(room.take(0), None);
    }

    #[test]
    fn what_does_not_fit_in_one_run_goes_into_several() {
        let mut room = room(100);
        let all = room.take(100).expect("fits");
        assert_eq!(all, [Extent { start: 0, units: 100 }]);
        for start in [10, 30, 50] {
            room.release(Extent { start, units: 5 });
        }
        assert_eq!(room.take(5), Some(vec![Extent { start: 10, units: 5 }]));
        let two = room.take(8).expect("fits");
        assert_eq!(two, [Extent { start: 30, units: 5 }, Extent { start: 50, units: 3 }]);
        assert_eq!(room.free(), 2);
    }

    #[test]
    fn a_record_claims_what_is_free_and_exists() {
        let mut room = room(70);
        assert!(room.claim(Extent { start: 60, units: 10 }));
        for extent in [(60, 1), (69, 1), (50, 11), (70, 1), (u32::MAX, 1), (u32::MAX, u32::MAX), (3, 0)] {
            assert!(!room.claim(Extent { start: extent.0, units: extent.1 }), "{extent:?}");
        }
        assert_eq!(room.free(), 60);
        room.grow(80);
        assert!(room.claim(Extent { start: 70, units: 10 }));
    }

    proptest! {
        #[test]
        fn nobody_gets_a_unit_twice(units in 1u32..400, steps in proptest::collection::vec((any::<bool>(), 1u32..60), 1..120)) {
            let mut room = room(units);
            let mut owners = vec![false; units as usize];
            let mut held: Vec<Vec<Extent>> = Vec::new();
            for (take, n) in steps {
                if take {
                    let before = room.free();
                    match room.take(n) {
                        None => prop_assert!(n > before),
                        Some(extents) => {
                            prop_assert_eq!(total(&extents), n);
                            for unit in extents.iter().flat_map(|e| e.start..e.end()) {
                                prop_assert!(!owners[unit as usize], "unit {} was taken", unit);
                                owners[unit as usize] = true;
                            }
                            held.push(extents);
                        }
                    }
                } else if !held.is_empty() {
                    for extent in held.swap_remove(n as usize % held.len()) {
                        (extent.start..extent.end()).for_each(|unit| owners[unit as usize] = false);
                        room.release(extent);
                    }
                }
                prop_assert_eq!(room.free() as usize, owners.iter().filter(|taken| !**taken).count());
            }
        }
    }
}
