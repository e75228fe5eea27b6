//! What a purge means for the index of a disk.

use super::{Entry, Index, State};
use crate::disk::log;
use crate::policy::Slot;
use crate::purge::{Epoch, Ledger, PurgeKind, Scope};

impl Index {
    /// Sweeps what a purge is about and notes the purge for what is still to come. Tells how many objects.
    pub(crate) fn purge(&mut self, scope: &Scope, epoch: Epoch, kind: PurgeKind) -> u64 {
        self.purges.note(scope.clone(), epoch, kind);
        if self.recording {
            log::put_purge(&mut self.pending, scope, epoch, kind);
        }
        let meant = self.meant(scope, epoch);
        for slot in &meant {
            match kind {
                PurgeKind::Soft => self.make_stale(*slot),
                PurgeKind::Hard => {
                    self.policy.forget(*slot);
                    self.vacate(*slot);
                }
            }
        }
        meant.len() as u64
    }

    /// What others remember of purges, and this disk does not.
    pub(crate) fn unknown(&self, ledger: &Ledger) -> Vec<(Scope, Epoch, PurgeKind)> {
        let purges = ledger.purges().filter(|(scope, epoch, kind)| !self.purges.knows(scope, *epoch, *kind));
        purges.map(|(scope, epoch, kind)| (scope.clone(), epoch, kind)).collect()
    }

    /// The objects a purge is about: older than it, and covered by it.
    fn meant(&self, scope: &Scope, epoch: Epoch) -> Vec<Slot> {
        if self.objects == 0 {
            // As at the beginning of a log, which tells all purges before any object.
            return Vec::new();
        }
        let is_older = |entry: &Entry| entry.born < epoch || epoch == Epoch::LAST;
        if let Scope::Segment(key) = scope {
            let slot = self.slot_of(key);
            return slot.filter(|slot| self.entry(*slot).is_some_and(is_older)).into_iter().collect();
        }
        // Scopes speak of renditions and titles, so each name is asked once, whatever its number of segments.
        let mut covered = Vec::new();
        for (number, name) in self.names.iter() {
            covered.resize(number as usize + 1, false);
            covered[number as usize] = scope.covers(&name.key(media::Part::Init), &name.tags);
        }
        let is_meant = |entry: &Entry| {
            entry.state != State::Vacant
                && is_older(entry)
                && covered.get(entry.name as usize).copied().unwrap_or_default()
        };
        let entries = (0..).zip(&self.entries).filter(|(_, entry)| is_meant(entry));
        entries.map(|(slot, _)| Slot(slot)).collect()
    }

    pub(super) fn make_stale(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot.0 as usize];
        if entry.state == State::Fresh {
            entry.state = State::Stale;
        } else if entry.state == State::Growing {
            // What is being added began before the purge: the object goes as a whole.
            self.remove_slot(slot);
        }
    }
}
