//! What is here and where it belongs: 20 bytes for each object.

use super::audience::StreamNumber;
use crate::policy::Slot;
use crate::policy::lists::grow_to;

const NOWHERE: u32 = u32::MAX;

/// Objects without gaps, so that a hand can go round them, and their places by slot.
#[derive(Default)]
pub(super) struct Shelf {
    objects: Vec<Object>,
    places: Vec<u32>,
    hand: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) slot: Slot,
    pub(super) stream: StreamNumber,
    /// The number of the segment.
    pub(super) position: u32,
    /// Whether the pool knows it.
    pub(super) pooled: bool,
}

impl Shelf {
    pub(super) fn put(&mut self, slot: Slot, stream: StreamNumber, position: u32) {
        grow_to(&mut self.places, slot, NOWHERE);
        self.places[slot.0 as usize] = self.objects.len() as u32;
        if self.objects.len() == self.objects.capacity() {
            self.objects.reserve_exact(self.objects.len() / 8 + 64);
        }
        self.objects.push(Object { slot, stream, position, pooled: false });
    }

    pub(super) fn get(&self, slot: Slot) -> Option<Object> {
        self.objects.get(self.place(slot)?).copied()
    }

    pub(super) fn take(&mut self, slot: Slot) -> Option<Object> {
        let place = self.place(slot)?;
        let object = self.objects.swap_remove(place);
        self.places[slot.0 as usize] = NOWHERE;
        if let Some(moved) = self.objects.get(place) {
            self.places[moved.slot.0 as usize] = place as u32;
        }
        Some(object)
    }

    pub(super) fn mark(&mut self, slot: Slot, pooled: bool) {
        if let Some(place) = self.place(slot) {
            self.objects[place].pooled = pooled;
        }
    }

    /// The object that the hand comes to next.
    pub(super) fn next(&mut self) -> Option<Object> {
        self.hand = if self.hand < self.objects.len() { self.hand } else { 0 };
        let object = self.objects.get(self.hand).copied();
        self.hand += 1;
        object
    }

    fn place(&self, slot: Slot) -> Option<usize> {
        let place = *self.places.get(slot.0 as usize)?;
        (place != NOWHERE).then_some(place as usize)
    }
}
