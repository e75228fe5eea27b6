//! What the index tells the log, and what it makes of a log it is told.

use super::{Entry, Index, MAX_LEN, State};
use crate::disk::log::{self, Put, Record};
use crate::disk::room::Extent;
use crate::format::object_len;
use crate::policy::Slot;
use media::GroupSet;

impl Index {
    /// What the log still has to take, and the units that are free once it has.
    pub(crate) fn take_pending(&mut self) -> (Vec<u8>, Vec<Extent>) {
        self.limbo_units = 0;
        let limbo = std::mem::take(&mut self.limbo);
        // They count as taken until they are released.
        (std::mem::take(&mut self.pending), limbo)
    }

    /// The log has taken the records.
    pub(crate) fn release(&mut self, limbo: Vec<Extent>) {
        limbo.into_iter().for_each(|extent| self.room.release(extent));
    }

    /// Begins to say everything again, for a new log: names and purges at once, objects by and by. They come
    /// before what is pending, which may speak of the names.
    pub(crate) fn retell(&mut self) {
        let later = std::mem::take(&mut self.pending);
        let Self { names, purges, pending, .. } = self;
        names.iter().for_each(|(number, name)| log::put_name(pending, number, name));
        purges.purges().for_each(|(scope, epoch, kind)| log::put_purge(pending, scope, epoch, kind));
        pending.extend_from_slice(&later);
    }

    /// Says some objects again, those of `count` slots from `from` on. The slot to go on from; `None` after the
    /// last.
    pub(crate) fn retell_objects(&mut self, from: u32, count: u32) -> Option<u32> {
        let end = (self.entries.len() as u32).min(from.saturating_add(count));
        for slot in from..end {
            let entry = self.entries[slot as usize];
            if entry.state != State::Vacant {
                self.record_put(Slot(slot), &entry);
            }
        }
        (end < self.entries.len() as u32).then_some(end)
    }

    /// What a log says happened. `false` when it makes no sense here; then nothing happened.
    pub(crate) fn replay(&mut self, record: Record) -> bool {
        match record {
            Record::Name { number, name } => self.names.define(number, name),
            Record::Put(mut put) => {
                // Nothing was fetched after purges that are still to come.
                put.born = put.born.min(self.purges.newest());
                let stands = self.replay_put(&put);
                if stands {
                    self.rejected.remove(&(put.name, put.part));
                } else {
                    self.rejected.insert((put.name, put.part));
                }
                stands
            }
            Record::Drop { name, part } => {
                self.rejected.remove(&(name, part));
                if let Some(slot) = self.slot_at(name, part) {
                    self.remove_slot(slot);
                    self.settle();
                }
                true
            }
            Record::Stale { name, part } => {
                if let Some(slot) = self.slot_at(name, part) {
                    self.make_stale(slot);
                }
                true
            }
            Record::Purge { scope, epoch, kind } => {
                self.purge(&scope, epoch, kind);
                self.settle();
                true
            }
        }
    }

    fn replay_put(&mut self, put: &Put) -> bool {
        if let Some(slot) = self.slot_at(put.name, put.part) {
            if self.says(slot, put) {
                return true;
            }
            self.remove_slot_keeping_name(slot);
            self.settle();
        }
        let Some((first, further, present)) = self.sensible(put) else {
            return false;
        };
        let claimed = put.extents.iter().take_while(|extent| self.room.claim(**extent)).count();
        let Some(key) = self.names.get(put.name).map(|name| name.key(log::part_of(put.part))) else {
            return false;
        };
        if claimed < put.extents.len() {
            put.extents[..claimed].iter().for_each(|extent| self.room.release(*extent));
            return false;
        }
        self.names.hold_number(put.name);
        let entry = Entry {
            root_tag: put.root_tag,
            name: put.name,
            part: put.part,
            len: put.len,
            serial: self.new_serial(),
            first,
            born: put.born,
            state: State::Fresh,
        };
        let slot = self.seat(entry, &further, &present);
        self.policy.admit(slot, &key, self.footprint(&put.extents), put.warm);
        true
    }

    /// Whether a put says what is known: a log that is told again says most of it.
    fn says(&self, slot: Slot, put: &Put) -> bool {
        let same = |entry: &Entry| {
            let present = self.partial.get(&slot.0).map_or(&[][..], GroupSet::words);
            entry.state == State::Fresh
                && (entry.root_tag, entry.len, entry.born) == (put.root_tag, put.len, put.born)
                && present == put.present
                && self.extents(slot, entry) == put.extents
        };
        self.entry(slot).is_some_and(same)
    }

    /// The parts of a put that hang together.
    fn sensible(&self, put: &Put) -> Option<(Extent, Vec<Extent>, GroupSet)> {
        let len = u64::from(put.len);
        let need = object_len(len)?.div_ceil(self.geometry.unit);
        let units: u64 = put.extents.iter().map(|extent| u64::from(extent.units)).sum();
        let (first, further) = put.extents.split_first()?;
        let present = match put.present.as_slice() {
            [] => GroupSet::all(len),
            words => GroupSet::from_words(len, words)?,
        };
        self.names.get(put.name)?;
        (units == need && len <= MAX_LEN).then(|| (*first, further.to_vec(), present))
    }

    /// While a log is read nothing is written, so what was given up is free at once.
    fn settle(&mut self) {
        let (_, limbo) = self.take_pending();
        self.release(limbo);
    }

    /// All logs were read: everything from here on is recorded. What they named and no object has is forgotten.
    /// What they spoke of and could not be is dropped on record, for its units may be somebody else's soon.
    pub(crate) fn replayed(&mut self) {
        self.names.forget_unused();
        self.recording = true;
        for (name, part) in std::mem::take(&mut self.rejected) {
            log::put_drop(&mut self.pending, name, part);
        }
    }

    /// The same without letting go of the name, for a put that says the object again.
    fn remove_slot_keeping_name(&mut self, slot: Slot) {
        let Some(name) = self.entry(slot).map(|entry| entry.name) else { return };
        self.names.hold_number(name);
        self.remove_slot(slot);
        self.names.unhold(name);
    }

    pub(super) fn record_put(&mut self, slot: Slot, entry: &Entry) {
        if !self.recording {
            return;
        }
        let present = self.partial.get(&slot.0).map(|present| present.words().to_vec());
        let put = Put {
            name: entry.name,
            part: entry.part,
            root_tag: entry.root_tag,
            len: entry.len,
            born: entry.born,
            warm: self.policy.is_warm(slot),
            extents: self.extents(slot, entry),
            present: present.unwrap_or_default(),
        };
        log::put_put(&mut self.pending, &put);
        if entry.state == State::Stale {
            log::put_stale(&mut self.pending, entry.name, entry.part);
        }
    }
}
