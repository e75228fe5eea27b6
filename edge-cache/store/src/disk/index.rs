//! Which file holds which object, and how much room is promised. Values only: no I/O, no clock.

use std::collections::{HashMap, VecDeque};

use media::{Digest, SegmentKey};

use crate::device::FileId;
use crate::metrics::WriteOutcome;
use crate::policy::S3Fifo;
use crate::store::TierUsage;
use crate::table::{Table, TooLarge};

/// One object that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) file: FileId,
    pub(crate) len: u64,
    pub(crate) root: Digest,
}

/// A file that has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doomed {
    file: FileId,
    bytes: u64,
}

/// The index. A file is in exactly one of four states: being written, standing, doomed, or stuck (doomed, but
/// its removal failed).
///
/// Standing, promised and stuck bytes together never exceed the capacity. A writer removes the doomed files
/// before it writes, so neither do the files on the disk.
pub(crate) struct Index {
    capacity: u64,
    standing: Table<Kept>,
    writing: HashMap<SegmentKey, (FileId, Digest)>,
    promised: u64,
    doomed: VecDeque<Doomed>,
    stuck: Vec<Doomed>,
    next_file: u64,
    /// Whether the background removal runs.
    pub(crate) burial_runs: bool,
}

impl Index {
    pub(crate) fn new(capacity: u64, next_file: u64) -> Self {
        Self {
            capacity,
            standing: Table::new(capacity, 0, Box::new(S3Fifo::new(capacity))),
            writing: HashMap::new(),
            promised: 0,
            doomed: VecDeque::new(),
            stuck: Vec::new(),
            next_file,
            burial_runs: false,
        }
    }

    pub(crate) fn usage(&self) -> TierUsage {
        TierUsage { bytes: self.standing.bytes(), objects: self.standing.len() as u64 }
    }

    /// Somebody asked for the key.
    pub(crate) fn count_request(&mut self, key: &SegmentKey) {
        self.standing.get(key);
    }

    /// The file of an object of exactly this content.
    pub(crate) fn find(&self, key: &SegmentKey, len: u64, root: Digest) -> Option<FileId> {
        let kept = self.standing.peek(key).filter(|kept| kept.len == len && kept.root == root)?;
        Some(kept.file)
    }

    /// Whether this content stands or is on its way.
    pub(crate) fn knows(&self, key: &SegmentKey, root: Digest) -> bool {
        self.standing.peek(key).is_some_and(|kept| kept.root == root)
            || self.writing.get(key).is_some_and(|(_, on_its_way)| *on_its_way == root)
    }

    /// Whether this very file stands for the key.
    pub(crate) fn holds(&self, key: &SegmentKey, file: FileId) -> bool {
        self.standing.peek(key).is_some_and(|kept| kept.file == file)
    }

    /// Promises room for a new file, dooming what must go for it.
    pub(crate) fn claim(
        &mut self,
        key: &SegmentKey,
        root: Digest,
        bytes: u64,
    ) -> Result<FileId, WriteOutcome> {
        // One writer for each key: two contents under one key do not happen in a healthy catalogue.
        if self.knows(key, root) || self.writing.contains_key(key) {
            return Err(WriteOutcome::Present);
        }
        let stuck: u64 = self.stuck.iter().map(|stuck| stuck.bytes).sum();
        let limit = self.capacity.saturating_sub(self.promised).saturating_sub(stuck);
        let evicted = self.standing.evict_for(bytes, limit).map_err(|TooLarge| WriteOutcome::NoRoom)?;
        self.doom_all(evicted);
        self.promised += bytes;
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.writing.insert(key.clone(), (file, root));
        Ok(file)
    }

    /// The file is written: it stands, unless its key was removed meanwhile.
    pub(crate) fn commit(&mut self, key: &SegmentKey, kept: Kept, bytes: u64) -> bool {
        self.promised -= bytes;
        if !self.stop_writing(key, kept.file) {
            self.doom(kept.file, bytes);
            return false;
        }
        self.stand(key, kept, bytes)
    }

    /// The file was not written, or not wholly.
    pub(crate) fn abandon(&mut self, key: &SegmentKey, file: FileId, bytes: u64, touched: bool) {
        self.promised -= bytes;
        self.stop_writing(key, file);
        if touched {
            self.doom(file, bytes);
        }
    }

    /// A file found at start stands; tells what it replaced and how many others had to go.
    pub(crate) fn adopt(&mut self, key: &SegmentKey, kept: Kept, bytes: u64) -> Adopted {
        let superseded = self.standing.peek(key).is_some();
        let before = self.standing.len() as u64 - u64::from(superseded);
        self.stand(key, kept, bytes);
        Adopted { superseded, evicted: before + 1 - self.standing.len() as u64 }
    }

    pub(crate) fn remove(&mut self, key: &SegmentKey) {
        self.writing.remove(key);
        let removed = self.standing.remove(key);
        self.doom_all(removed);
    }

    /// Removes the key if this very file stands for it.
    pub(crate) fn remove_file(&mut self, key: &SegmentKey, file: FileId) {
        if self.holds(key, file) {
            let removed = self.standing.remove(key);
            self.doom_all(removed);
        }
    }

    pub(crate) fn doom(&mut self, file: FileId, bytes: u64) {
        self.doomed.push_back(Doomed { file, bytes });
    }

    /// The file to remove next; it stays first until [`Index::buried`] or [`Index::set_aside`].
    pub(crate) fn next_doomed(&self) -> Option<FileId> {
        self.doomed.front().map(|doomed| doomed.file)
    }

    /// The first doomed file is gone.
    pub(crate) fn buried(&mut self) {
        self.doomed.pop_front();
    }

    /// The first doomed file could not be removed: it keeps its room, and nobody waits for it.
    pub(crate) fn set_aside(&mut self) {
        self.stuck.extend(self.doomed.pop_front());
    }

    pub(crate) fn stuck(&self) -> Vec<FileId> {
        self.stuck.iter().map(|stuck| stuck.file).collect()
    }

    /// A stuck file is gone after all.
    pub(crate) fn unstuck(&mut self, file: FileId) {
        self.stuck.retain(|stuck| stuck.file != file);
    }

    fn stand(&mut self, key: &SegmentKey, kept: Kept, bytes: u64) -> bool {
        let replaced = self.standing.remove(key);
        let (evicted, stands) = match self.standing.insert(key, kept, bytes) {
            Ok(evicted) => (evicted, true),
            Err(TooLarge) => (vec![(kept, bytes)], false),
        };
        self.doom_all(replaced.into_iter().chain(evicted));
        stands
    }

    fn doom_all(&mut self, gone: impl IntoIterator<Item = (Kept, u64)>) {
        self.doomed.extend(gone.into_iter().map(|(kept, bytes)| Doomed { file: kept.file, bytes }));
    }

    /// Whether the key was still being written by this file.
    fn stop_writing(&mut self, key: &SegmentKey, file: FileId) -> bool {
        let ours = self.writing.get(key).is_some_and(|(writing, _)| *writing == file);
        if ours {
            self.writing.remove(key);
        }
        ours
    }
}

/// What the adoption of a file did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Adopted {
    /// An older file of the same key is doomed.
    pub(crate) superseded: bool,
    /// How many files are doomed because the capacity is smaller than what was there, this one included.
    pub(crate) evicted: u64,
}
