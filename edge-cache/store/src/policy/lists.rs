//! Queues over one array of places: 16 bytes for each place, every step in constant time.

use super::Slot;

const NONE: u32 = u32::MAX;

/// `N` queues. A slot is in one of them or in none.
pub(super) struct Lists<const N: usize> {
    links: Vec<Link>,
    ends: [Ends; N],
}

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
    /// A GiB at most: no longer object is kept.
    bytes: u32,
    /// `N` for none.
    list: u8,
}

#[derive(Clone, Copy)]
struct Ends {
    newest: u32,
    oldest: u32,
    bytes: u64,
}

impl<const N: usize> Lists<N> {
    const VACANT: Link = Link { newer: NONE, older: NONE, bytes: 0, list: N as u8 };

    pub(super) fn new() -> Self {
        Self { links: Vec::new(), ends: [Ends { newest: NONE, oldest: NONE, bytes: 0 }; N] }
    }

    /// Makes it the newest of a queue, wherever it was.
    pub(super) fn push(&mut self, slot: Slot, list: usize, bytes: u64) {
        grow_to(&mut self.links, slot, Self::VACANT);
        self.unlink(slot);
        let ends = &mut self.ends[list];
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.links[slot.0 as usize] = Link { newer: NONE, older: ends.newest, bytes, list: list as u8 };
        ends.bytes += u64::from(bytes);
        match ends.newest {
            NONE => ends.oldest = slot.0,
            newest => self.links[newest as usize].newer = slot.0,
        }
        ends.newest = slot.0;
    }

    /// Moves it to the newest place of a queue, if it is in any.
    pub(super) fn shift(&mut self, slot: Slot, list: usize) {
        if self.list_of(slot).is_some() {
            self.push(slot, list, u64::from(self.links[slot.0 as usize].bytes));
        }
    }

    pub(super) fn unlink(&mut self, slot: Slot) {
        let Some(list) = self.list_of(slot) else { return };
        let Link { newer, older, bytes, .. } = self.links[slot.0 as usize];
        let ends = &mut self.ends[list];
        ends.bytes -= u64::from(bytes);
        match newer {
            NONE => ends.newest = older,
            newer => self.links[newer as usize].older = older,
        }
        match older {
            NONE => ends.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        self.links[slot.0 as usize] = Self::VACANT;
    }

    pub(super) fn list_of(&self, slot: Slot) -> Option<usize> {
        let link = self.links.get(slot.0 as usize)?;
        (usize::from(link.list) < N).then_some(usize::from(link.list))
    }

    pub(super) fn oldest(&self, list: usize) -> Option<Slot> {
        let oldest = self.ends[list].oldest;
        (oldest != NONE).then_some(Slot(oldest))
    }

    pub(super) fn bytes(&self, list: usize) -> u64 {
        self.ends[list].bytes
    }
}

/// Makes an array long enough for a slot, an eighth at a time: doubling would hold twice the memory for a while.
pub(super) fn grow_to<T: Clone>(places: &mut Vec<T>, slot: Slot, vacant: T) {
    let at = slot.0 as usize;
    if at >= places.len() {
        if at >= places.capacity() {
            places.reserve_exact(at + 1 - places.len() + at / 8);
        }
        places.resize(at + 1, vacant);
    }
}
