//! The least recently used goes first: what most caches do, to compare with.

use media::SegmentKey;

use super::lists::Lists;
use super::{Policy, Slot};

/// One queue by the time of the last request; 16 bytes for each object.
pub struct Lru(Lists<1>);

impl Lru {
    /// A policy without knowledge.
    #[must_use]
    pub fn new() -> Self {
        Self(Lists::new())
    }
}

impl Default for Lru {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Lru {
    fn admit(&mut self, slot: Slot, _key: &SegmentKey, bytes: u64, _warm: bool) {
        self.0.push(slot, 0, bytes);
    }

    fn touch(&mut self, slot: Slot) {
        self.0.shift(slot, 0);
    }

    /// Nothing is earned: an order is all there is, and a restart loses it.
    fn is_warm(&self, _slot: Slot) -> bool {
        false
    }

    fn forget(&mut self, slot: Slot) {
        self.0.unlink(slot);
    }

    fn victim(&mut self) -> Option<Slot> {
        let oldest = self.0.oldest(0)?;
        self.0.unlink(oldest);
        Some(oldest)
    }
}
