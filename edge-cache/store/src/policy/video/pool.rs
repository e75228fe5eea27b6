//! The weakest objects that were seen lately, by the score they had then.

use crate::policy::Slot;

/// Objects that are remembered. More would be older when their turn comes, fewer would have to be sought.
const MOST: usize = 128;

/// Sorted, the weakest last: taking it is cheap, and so is refusing a strong one.
#[derive(Default)]
pub(super) struct Pool(Vec<(f64, Slot)>);

impl Pool {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn would_take(&self, score: f64) -> bool {
        self.0.len() < MOST || self.0.first().is_some_and(|(strongest, _)| score < *strongest)
    }

    /// Puts one in that is not here. Gives back who had to leave for it, if anybody.
    pub(super) fn put(&mut self, slot: Slot, score: f64) -> Option<Slot> {
        let at = self.0.partition_point(|(stronger, _)| *stronger > score);
        self.0.insert(at, (score, slot));
        (self.0.len() > MOST).then(|| self.0.remove(0).1)
    }

    /// The weakest, taken out.
    pub(super) fn take(&mut self) -> Option<(Slot, f64)> {
        self.0.pop().map(|(score, slot)| (slot, score))
    }

    /// The weakest, left in.
    pub(super) fn weakest(&self) -> Option<(Slot, f64)> {
        self.0.last().map(|(score, slot)| (*slot, *score))
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(at) = self.0.iter().position(|(_, pooled)| *pooled == slot) {
            self.0.remove(at);
        }
    }
}
