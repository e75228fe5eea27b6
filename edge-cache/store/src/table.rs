//! Objects by key under a budget in bytes: the index of both tiers.

use std::collections::HashMap;

use media::SegmentKey;

use crate::policy::{Policy, Slot};

/// How many places are made, and charged, together at first.
const FIRST_PLACES: usize = 8;

/// Objects by key, never more of them than the budget allows.
///
/// What an object costs is told by whoever inserts it. `per_place` bytes are charged on top for every place the
/// table ever had to make, used or not, because the arrays behind it do not shrink; the first ones come together,
/// as they do in the arrays.
pub(crate) struct Table<V> {
    capacity: u64,
    per_place: u64,
    payload: u64,
    places: HashMap<SegmentKey, Slot>,
    entries: Vec<Option<Entry<V>>>,
    free: Vec<Slot>,
    policy: Box<dyn Policy>,
}

struct Entry<V> {
    key: SegmentKey,
    bytes: u64,
    value: V,
}

/// What left the table to make room, with what it cost.
pub(crate) type Evicted<V> = Vec<(V, u64)>;

impl<V> Table<V> {
    pub(crate) fn new(capacity: u64, per_place: u64, policy: Box<dyn Policy>) -> Self {
        let (places, entries, free) = (HashMap::new(), Vec::new(), Vec::new());
        Self { capacity, per_place, payload: 0, places, entries, free, policy }
    }

    /// Everything charged to the budget.
    pub(crate) fn bytes(&self) -> u64 {
        self.charge(self.entries.len(), self.payload)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Looks without counting a request.
    pub(crate) fn peek(&self, key: &SegmentKey) -> Option<&V> {
        let slot = self.places.get(key)?;
        self.entries[slot.0 as usize].as_ref().map(|entry| &entry.value)
    }

    /// Looks and counts a request.
    pub(crate) fn get(&mut self, key: &SegmentKey) -> Option<&V> {
        let slot = *self.places.get(key)?;
        self.policy.touch(slot);
        self.peek(key)
    }

    /// Puts an object in, in place of what had its key. Tells what had to go; refuses what can never fit.
    pub(crate) fn insert(&mut self, key: &SegmentKey, value: V, bytes: u64) -> Result<Evicted<V>, TooLarge> {
        self.remove(key);
        let evicted = self.evict_for(bytes, self.capacity)?;
        let slot = self.free.pop().unwrap_or_else(|| self.make_place());
        self.policy.admit(slot, key, bytes, false);
        self.places.insert(key.clone(), slot);
        self.entries[slot.0 as usize] = Some(Entry { key: key.clone(), bytes, value });
        self.payload += bytes;
        Ok(evicted)
    }

    /// Makes room for one object of so many bytes under a limit of the caller's.
    pub(crate) fn evict_for(&mut self, bytes: u64, limit: u64) -> Result<Evicted<V>, TooLarge> {
        let places = self.entries.len().max(1);
        if self.charge(places, bytes) > limit {
            return Err(TooLarge);
        }
        let mut evicted = Vec::new();
        while self.charge_with_one_more(bytes) > limit {
            match self.evict() {
                Some(gone) => evicted.push(gone),
                None => break,
            }
        }
        Ok(evicted)
    }

    /// The keys of the objects that a test selects.
    pub(crate) fn keys_where(&self, mut selects: impl FnMut(&SegmentKey, &V) -> bool) -> Vec<SegmentKey> {
        let entries = self.entries.iter().flatten();
        entries.filter(|entry| selects(&entry.key, &entry.value)).map(|entry| entry.key.clone()).collect()
    }

    /// Changes what is kept under a key, but not what it costs.
    pub(crate) fn alter(&mut self, key: &SegmentKey, change: impl FnOnce(&mut V)) {
        let slot = self.places.get(key);
        if let Some(entry) = slot.and_then(|slot| self.entries.get_mut(slot.0 as usize)?.as_mut()) {
            change(&mut entry.value);
        }
    }

    pub(crate) fn remove(&mut self, key: &SegmentKey) -> Option<(V, u64)> {
        let slot = self.places.get(key).copied()?;
        self.policy.forget(slot);
        self.take(slot)
    }

    fn evict(&mut self) -> Option<(V, u64)> {
        let slot = self.policy.victim()?;
        self.take(slot)
    }

    fn take(&mut self, slot: Slot) -> Option<(V, u64)> {
        let entry = self.entries.get_mut(slot.0 as usize)?.take()?;
        self.places.remove(&entry.key);
        self.free.push(slot);
        self.payload -= entry.bytes;
        Some((entry.value, entry.bytes))
    }

    fn make_place(&mut self) -> Slot {
        self.entries.push(None);
        Slot(self.entries.len() as u32 - 1)
    }

    fn charge_with_one_more(&self, bytes: u64) -> u64 {
        let places = self.entries.len() + usize::from(self.free.is_empty());
        self.charge(places, self.payload.saturating_add(bytes))
    }

    fn charge(&self, places: usize, payload: u64) -> u64 {
        let places = if places == 0 { 0 } else { places.max(FIRST_PLACES) };
        payload.saturating_add(places as u64 * self.per_place)
    }
}

/// The object does not fit even into an empty table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;
