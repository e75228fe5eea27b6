//! What lies where on one disk. Values only: no I/O, no clock.
//!
//! An entry is 40 bytes, its place in the policy 20, its place in the hash table 5 to 12; names are shared by
//! all segments of a rendition. What few objects need (further extents, the groups of a partial object) stands
//! in maps beside. `tests/index_size.rs` measures the sum.
//!
//! Every change is also put, in the same breath, into [`Index::pending`]: the records that the log still has to
//! take. Units that an object gave up are in limbo until the records that say so are in the log: nobody writes
//! over what a restart would still look for.

mod purge;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hashbrown::HashTable;
use media::{Digest, GroupSet, SegmentKey, Tag};

use super::geometry::Geometry;
use super::log;
use super::names::{Name, Names};
use super::room::{Extent, Room};
use crate::format::object_len;
use crate::metrics::WriteOutcome;
use crate::policy::{Policy, S3Fifo, Slot};
use crate::purge::{Epoch, Ledger};
use crate::store::TierUsage;

/// Most runs an object is cut into; a disk in such pieces is not worth filling.
const MAX_EXTENTS: usize = 4096;
/// Evictions free at least so many units at once, or a 64th of the disk if that is less.
const EVICTION_BATCH: u32 = 256;
/// Bodies longer than this are not stored; the configuration allows none.
const MAX_LEN: u64 = 1 << 30;

/// The index of one disk.
pub(crate) struct Index {
    geometry: Geometry,
    limit: u32,
    room: Room,
    names: Names,
    slots: HashTable<u32>,
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    /// The extents of an object after its first.
    further: HashMap<u32, Box<[Extent]>>,
    /// What is there of objects that are not whole.
    partial: HashMap<u32, GroupSet>,
    policy: Box<dyn Policy>,
    objects: u64,
    next_serial: u32,
    writing: HashMap<SegmentKey, u32>,
    pending: Vec<u8>,
    limbo: Vec<Extent>,
    limbo_units: u32,
    purges: Ledger,
    /// Off while a log is being read: what it says needs no saying again.
    recording: bool,
    /// Objects the log that is being read speaks of, and there is no room for: their slab was cut, say.
    rejected: HashSet<(u32, u32)>,
}

#[derive(Clone, Copy)]
struct Entry {
    root_tag: u64,
    name: u32,
    part: u32,
    len: u32,
    /// Tells this object from the others that had the slot, so that a late reader or writer cannot mistake it.
    serial: u32,
    first: Extent,
    born: Epoch,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    Fresh,
    /// Purged softly.
    Stale,
    /// Fresh, and a writer is adding groups to it: its units may not be given away.
    Growing,
}

const VACANT: Entry = Entry {
    root_tag: 0,
    name: 0,
    part: 0,
    len: 0,
    serial: 0,
    first: Extent { start: 0, units: 0 },
    born: Epoch(0),
    state: State::Vacant,
};

/// An object as a lookup found it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) serial: u32,
    pub(crate) extents: Vec<Extent>,
    pub(crate) present: GroupSet,
    pub(crate) tags: Arc<[Tag]>,
}

/// What somebody wants to store.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) key: SegmentKey,
    pub(crate) len: u64,
    pub(crate) root: Digest,
    pub(crate) groups: GroupSet,
    pub(crate) born: Epoch,
    pub(crate) tags: Arc<[Tag]>,
}

/// Units that a writer may write to. Ends in [`Index::commit`] or [`Index::abandon`].
#[derive(Debug)]
pub(crate) struct Claim {
    serial: u32,
    /// The object that groups are added to; none for a new one.
    grows: Option<Slot>,
    pub(crate) extents: Vec<Extent>,
    /// What is to be written.
    pub(crate) groups: GroupSet,
}

impl Claim {
    /// Whether the header has to be written, too.
    pub(crate) fn is_new(&self) -> bool {
        self.grows.is_none()
    }
}

/// What comes next for somebody who wants to store.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write this.
    Write(Claim),
    /// Objects had to go: bring the records of that into the log, then ask again.
    Record,
    /// Make the disk's files longer, then ask again.
    Grow,
    /// Somebody else is writing the object: ask again when a write has ended.
    Wait,
    /// Nothing to be done.
    Refuse(WriteOutcome),
}

impl Index {
    pub(crate) fn new(geometry: Geometry, limit: u32, first_serial: u32) -> Self {
        Self {
            geometry,
            limit,
            room: Room::default(),
            names: Names::default(),
            slots: HashTable::new(),
            entries: Vec::new(),
            vacant: Vec::new(),
            further: HashMap::new(),
            partial: HashMap::new(),
            policy: Box::new(S3Fifo::new(u64::from(limit) * geometry.unit)),
            objects: 0,
            next_serial: first_serial,
            writing: HashMap::new(),
            pending: Vec::new(),
            limbo: Vec::new(),
            limbo_units: 0,
            purges: Ledger::default(),
            recording: false,
            rejected: HashSet::new(),
        }
    }

    pub(crate) fn usage(&self) -> TierUsage {
        let taken = self.room.units() - self.room.free() - self.limbo_units;
        TierUsage { bytes: u64::from(taken) * self.geometry.unit, objects: self.objects }
    }

    pub(crate) fn next_serial(&self) -> u32 {
        self.next_serial
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn purges(&self) -> &Ledger {
        &self.purges
    }

    /// Units that exist, and units there may be.
    pub(crate) fn units(&self) -> (u32, u32) {
        (self.room.units(), self.limit)
    }

    /// The disk's files hold so many units now.
    pub(crate) fn grown_to(&mut self, units: u32) {
        self.room.grow(units.min(self.limit));
    }

    /// Somebody asked for the key.
    pub(crate) fn count_request(&mut self, key: &SegmentKey) {
        if let Some(slot) = self.slot_of(key) {
            self.policy.touch(slot);
        }
    }

    /// An object of exactly this content; a stale one only for those who ask for stale ones.
    pub(crate) fn find(&self, key: &SegmentKey, len: u64, root: Digest, stale: bool) -> Option<Place> {
        let slot = self.slot_of(key)?;
        let entry = self.entry(slot)?;
        let same = u64::from(entry.len) == len && entry.root_tag == tag_of(root);
        (same && (stale || entry.state != State::Stale)).then(|| self.place(slot, entry))
    }

    /// Whether this very object still stands, and everything about it.
    pub(crate) fn again(&self, slot: Slot, serial: u32) -> Option<Place> {
        let entry = self.entry(slot).filter(|entry| entry.serial == serial)?;
        Some(self.place(slot, entry))
    }

    /// The next object at or after a slot, in no particular order: for whoever walks through all of them.
    pub(crate) fn next_object(&self, from: u32) -> Option<(SegmentKey, Place, u64)> {
        let later = (from..).zip(self.entries.get(from as usize..)?);
        let mut named =
            later.filter(|(_, entry)| entry.state != State::Vacant).filter_map(|(slot, entry)| {
                let key = self.names.get(entry.name)?.key(log::part_of(entry.part));
                Some((key, self.place(Slot(slot), entry), u64::from(entry.len)))
            });
        named.next()
    }

    /// Decides what comes next for somebody who wants to store. `may_grow`: whether longer files are to be
    /// had.
    pub(crate) fn claim(&mut self, offer: &Offer, may_grow: bool) -> Step {
        if self.writing.contains_key(&offer.key) {
            return Step::Wait;
        }
        if self.purges.since(offer.born, &offer.key, &offer.tags).is_some() {
            return Step::Refuse(WriteOutcome::Removed);
        }
        if let Some(slot) = self.slot_of(&offer.key)
            && let Some(step) = self.extend(slot, offer)
        {
            return step;
        }
        let need = object_len(offer.len).map(|len| len.div_ceil(self.geometry.unit));
        let need = need.and_then(|need| u32::try_from(need).ok()).filter(|need| *need <= self.limit);
        let (Some(need), true) = (need, offer.len <= MAX_LEN) else {
            return Step::Refuse(WriteOutcome::NoRoom);
        };
        if log::part_number(offer.key.part).is_none() || self.names.are_too_many() {
            return Step::Refuse(WriteOutcome::NoRoom);
        }
        if self.room.free() >= need {
            return self.take(offer, need);
        }
        if may_grow && self.room.units() < self.limit {
            return Step::Grow;
        }
        self.make_room(need)
    }

    /// What to do about an object that stands under the key; `None` when it is another one and goes.
    fn extend(&mut self, slot: Slot, offer: &Offer) -> Option<Step> {
        let entry = *self.entry(slot)?;
        let same = u64::from(entry.len) == offer.len && entry.root_tag == tag_of(offer.root);
        if entry.state == State::Growing {
            // A write that nobody waits for any more may still take place: see `Index::withhold`.
            return Some(Step::Refuse(WriteOutcome::Failed));
        }
        if !same || entry.state == State::Stale {
            self.remove_slot(slot);
            return None;
        }
        let mut groups = offer.groups.clone();
        match self.partial.get(&slot.0) {
            None => groups = GroupSet::none(offer.len),
            Some(present) => present.runs().flatten().for_each(|group| groups.remove(group)),
        }
        if groups.is_empty() {
            return Some(Step::Refuse(WriteOutcome::Present));
        }
        self.entries[slot.0 as usize].state = State::Growing;
        self.writing.insert(offer.key.clone(), entry.serial);
        let extents = self.extents(slot, &entry);
        Some(Step::Write(Claim { serial: entry.serial, grows: Some(slot), extents, groups }))
    }

    fn take(&mut self, offer: &Offer, need: u32) -> Step {
        let Some(extents) = self.room.take(need) else { return Step::Refuse(WriteOutcome::NoRoom) };
        if extents.len() > MAX_EXTENTS {
            extents.into_iter().for_each(|extent| self.room.release(extent));
            return Step::Refuse(WriteOutcome::NoRoom);
        }
        let serial = self.new_serial();
        self.writing.insert(offer.key.clone(), serial);
        Step::Write(Claim { serial, grows: None, extents, groups: offer.groups.clone() })
    }

    /// Evicts until there will be room once the log knows of it.
    fn make_room(&mut self, need: u32) -> Step {
        if need > self.room.units() {
            return Step::Refuse(WriteOutcome::NoRoom);
        }
        let batch = EVICTION_BATCH.min(self.limit / 64);
        let mut spared = Vec::new();
        while self.room.free() + self.limbo_units < need.saturating_add(batch) {
            let Some(slot) = self.policy.victim() else { break };
            if self.entry(slot).is_some_and(|entry| entry.state == State::Growing) {
                spared.push(slot);
            } else {
                self.drop_slot(slot);
            }
        }
        spared.into_iter().for_each(|slot| self.readmit(slot));
        let enough = self.room.free() + self.limbo_units >= need;
        if enough { Step::Record } else { Step::Refuse(WriteOutcome::NoRoom) }
    }

    /// The groups are written: they stand, unless the object was removed or purged meanwhile.
    pub(crate) fn commit(&mut self, offer: &Offer, claim: &Claim) -> bool {
        let wanted = self.writing.get(&offer.key) == Some(&claim.serial);
        let purged = self.purges.since(offer.born, &offer.key, &offer.tags).is_some();
        if !wanted || purged {
            self.abandon(&offer.key, claim);
            return false;
        }
        self.writing.remove(&offer.key);
        match claim.grows {
            Some(slot) => self.grow(slot, claim),
            None => self.stand(offer, claim),
        }
    }

    /// The groups may yet be written: a device that did not answer in time may still do what it was asked. Nobody
    /// else gets the units before the device was opened anew, which waits for that, and the index with it.
    pub(crate) fn withhold(&mut self, key: &SegmentKey) {
        self.writing.remove(key);
    }

    /// The groups were not written, or not wholly, and will not be.
    pub(crate) fn abandon(&mut self, key: &SegmentKey, claim: &Claim) {
        if self.writing.get(key) == Some(&claim.serial) {
            self.writing.remove(key);
        }
        match claim.grows.and_then(|slot| Some((slot, self.growing(slot, claim.serial)?))) {
            Some((slot, _)) => self.entries[slot.0 as usize].state = State::Fresh,
            // New, or removed while it grew: the units were the claim's alone.
            None => self.give_up(&claim.extents),
        }
    }

    fn grow(&mut self, slot: Slot, claim: &Claim) -> bool {
        let Some(entry) = self.growing(slot, claim.serial) else {
            self.give_up(&claim.extents);
            return false;
        };
        self.entries[slot.0 as usize].state = State::Fresh;
        if let Some(present) = self.partial.get_mut(&slot.0) {
            present.union(&claim.groups);
            if present.is_full() {
                self.partial.remove(&slot.0);
            }
        }
        self.record_put(slot, &entry);
        true
    }

    fn stand(&mut self, offer: &Offer, claim: &Claim) -> bool {
        let (Some(part), [first, further @ ..]) =
            (log::part_number(offer.key.part), claim.extents.as_slice())
        else {
            return false;
        };
        let (name, is_new) = self.names.hold(&offer.key, &offer.tags);
        if is_new && self.recording {
            let named = Name::of(&offer.key, &offer.tags);
            log::put_name(&mut self.pending, name, &named);
        }
        let entry = Entry {
            root_tag: tag_of(offer.root),
            name,
            part,
            len: offer.len as u32,
            serial: claim.serial,
            first: *first,
            born: offer.born,
            state: State::Fresh,
        };
        let slot = self.seat(entry, further, &claim.groups);
        self.policy.admit(slot, &offer.key, self.footprint(&claim.extents), false);
        self.record_put(slot, &entry);
        true
    }

    /// Gives an entry a slot. Its name is held already.
    fn seat(&mut self, entry: Entry, further: &[Extent], present: &GroupSet) -> Slot {
        let at = self.vacant.pop().unwrap_or_else(|| {
            if self.entries.len() == self.entries.capacity() {
                // An eighth at a time: doubling would hold twice the memory for a while.
                self.entries.reserve_exact(self.entries.len() / 8 + 64);
            }
            self.entries.push(VACANT);
            self.entries.len() as u32 - 1
        });
        self.entries[at as usize] = entry;
        if !further.is_empty() {
            self.further.insert(at, further.into());
        }
        if !present.is_full() {
            self.partial.insert(at, present.clone());
        }
        let Self { slots, entries, .. } = self;
        slots.insert_unique(hash_of(entry.name, entry.part), at, |slot| {
            let entry = &entries[*slot as usize];
            hash_of(entry.name, entry.part)
        });
        self.objects += 1;
        Slot(at)
    }

    /// Forgets some groups of an object if it is still this one, so that they can be written anew; the object
    /// itself with the last of them.
    pub(crate) fn lose(&mut self, slot: Slot, serial: u32, groups: &[u64]) {
        let Some(entry) = self.entry(slot).copied().filter(|entry| entry.serial == serial) else { return };
        let present = self.partial.entry(slot.0).or_insert_with(|| GroupSet::all(u64::from(entry.len)));
        groups.iter().for_each(|group| present.remove(*group));
        if present.is_empty() {
            self.remove_slot(slot);
        } else {
            self.record_put(slot, &entry);
        }
    }

    /// Forgets an object if it is still this one.
    pub(crate) fn remove_if(&mut self, slot: Slot, serial: u32) {
        if self.entry(slot).is_some_and(|entry| entry.serial == serial) {
            self.remove_slot(slot);
        }
    }

    /// The policy forgot a slot that is still needed.
    fn readmit(&mut self, slot: Slot) {
        let Some(entry) = self.entry(slot).copied() else { return };
        let Some(name) = self.names.get(entry.name) else { return };
        let key = name.key(log::part_of(entry.part));
        let bytes = self.footprint(&self.extents(slot, &entry));
        self.policy.admit(slot, &key, bytes, true);
    }

    fn remove_slot(&mut self, slot: Slot) {
        self.policy.forget(slot);
        self.drop_slot(slot);
    }

    /// Takes an object out that the policy has forgotten already.
    fn drop_slot(&mut self, slot: Slot) {
        let Some(entry) = self.entry(slot).copied() else { return };
        if self.recording {
            log::put_drop(&mut self.pending, entry.name, entry.part);
        }
        self.vacate(slot);
    }

    fn vacate(&mut self, slot: Slot) {
        let Some(entry) = self.entry(slot).copied() else { return };
        let extents = self.extents(slot, &entry);
        if entry.state != State::Growing {
            // What grows belongs to its writer, too; he gives it up.
            self.give_up(&extents);
        }
        if let Ok(found) = self.slots.find_entry(hash_of(entry.name, entry.part), |at| *at == slot.0) {
            found.remove();
        }
        self.names.release(entry.name);
        self.further.remove(&slot.0);
        self.partial.remove(&slot.0);
        self.entries[slot.0 as usize] = VACANT;
        self.vacant.push(slot.0);
        self.objects -= 1;
    }

    fn give_up(&mut self, extents: &[Extent]) {
        self.limbo.extend_from_slice(extents);
        self.limbo_units += extents.iter().map(|extent| extent.units).sum::<u32>();
    }

    fn place(&self, slot: Slot, entry: &Entry) -> Place {
        let present = self.partial.get(&slot.0).cloned();
        Place {
            slot,
            serial: entry.serial,
            extents: self.extents(slot, entry),
            present: present.unwrap_or_else(|| GroupSet::all(u64::from(entry.len))),
            tags: self.names.get(entry.name).map(|name| name.tags.clone()).unwrap_or_default(),
        }
    }

    fn extents(&self, slot: Slot, entry: &Entry) -> Vec<Extent> {
        let further = self.further.get(&slot.0).map_or(&[][..], |further| further);
        std::iter::once(entry.first).chain(further.iter().copied()).collect()
    }

    fn footprint(&self, extents: &[Extent]) -> u64 {
        extents.iter().map(|extent| u64::from(extent.units)).sum::<u64>() * self.geometry.unit
    }

    fn slot_of(&self, key: &SegmentKey) -> Option<Slot> {
        self.slot_at(self.names.find(key)?, log::part_number(key.part)?)
    }

    fn slot_at(&self, name: u32, part: u32) -> Option<Slot> {
        let is = |slot: &u32| {
            let entry = &self.entries[*slot as usize];
            entry.name == name && entry.part == part
        };
        self.slots.find(hash_of(name, part), is).map(|slot| Slot(*slot))
    }

    fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot.0 as usize).filter(|entry| entry.state != State::Vacant)
    }

    fn growing(&self, slot: Slot, serial: u32) -> Option<Entry> {
        let entry = self.entry(slot)?;
        (entry.serial == serial && entry.state == State::Growing)
            .then_some(Entry { state: State::Fresh, ..*entry })
    }

    fn new_serial(&mut self) -> u32 {
        self.next_serial = self.next_serial.wrapping_add(1);
        self.next_serial
    }
}

/// The first 8 bytes of a root: enough to tell two versions apart before the disk is read, and the digests there
/// are checked against the whole root.
fn tag_of(root: Digest) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&root.0[..8]);
    u64::from_le_bytes(first)
}

/// Numbers are ours, so any good mixing will do (the finaliser of splitmix64).
fn hash_of(name: u32, part: u32) -> u64 {
    let mut mixed = (u64::from(name) << 32 | u64::from(part)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
