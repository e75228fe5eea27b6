//! Brings the records of the index into the log, and begins a new log when the old one has grown long.
//!
//! One append at a time; whoever comes meanwhile finds its records taken along by the next (group commit). Units
//! that were given up are released when the records that say so are in.
//!
//! A start goes on with the log it has read. A new log begins with everything that stands, said again in small
//! steps between the records of what happens meanwhile. Until it says that it is complete, a start reads the old
//! one first, so there is no moment at which a crash loses more than the records of the last append.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::drive::Drive;
use super::index::Index;
use super::log::{self, FRAME_HEAD, HEADER_LEN};
use crate::config::SyncPolicy;
use crate::device::FileName;

/// A log is worth replacing when it is so long, and so many times as long as what it has to say.
const LEAST_REPLACED: u64 = 16 << 20;
const GROWN: u64 = 3;
/// What there is to say of an object, its share of a name included.
const SAID_OF_EACH: u64 = 44;
/// Slots told again in one step: some 100 us of the index's lock.
const STEP: u32 = 2048;
/// So much room shows that a full file system is full no more.
const ROOM: u64 = 1 << 20;

pub(crate) struct Journal {
    drive: Drive,
    sync: SyncPolicy,
    tail: tokio::sync::Mutex<Tail>,
}

/// Where the log ends.
#[derive(Default)]
pub(crate) struct Tail {
    generation: u64,
    end: u64,
    /// The log says everything that stood when it was begun.
    complete: bool,
    /// How much was said when everything was said last.
    said: u64,
    /// Older logs, which go when this one is complete.
    older: Vec<u64>,
    /// An append failed, or nobody saw its end: what the log holds is not known any more.
    broken: bool,
    /// A sync failed: what the kernel shows of the log may never have reached the disk.
    unsound: bool,
    /// Counts restarts: what was begun before one is not for the log after it.
    restarts: u64,
}

/// What a log that is read back is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It can be gone on with.
    Continue,
    /// What it says is so, but the next loss of power may tear it in the middle: nothing is written behind it.
    Read,
}

impl Tail {
    /// The log that follows these. It does not exist yet.
    pub(crate) fn after(logs: Vec<u64>) -> Self {
        let generation = logs.iter().max().map_or(1, |newest| newest.saturating_add(1));
        Self { generation, older: logs, ..Self::default() }
    }

    /// The end of a log that a start has read. Older ones go when it is complete.
    pub(crate) fn of(generation: u64, end: u64, complete: bool, older: Vec<u64>) -> Self {
        Self { generation, end, complete, older, ..Self::default() }
    }

    /// Whether the log says everything that stood when it was begun.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }
}

impl Journal {
    /// A journal that takes nothing until [`Journal::restart`].
    pub(crate) fn new(drive: Drive, sync: SyncPolicy) -> Self {
        let mut tail = Tail::after(Vec::new());
        tail.broken = true;
        Self { drive, sync, tail: tail.into() }
    }

    /// Takes nothing more until [`Journal::restart`]. Tells what a log that is read back is worth.
    pub(crate) async fn stop(&self) -> Trust {
        let mut tail = self.tail.lock().await;
        tail.broken = true;
        if tail.unsound { Trust::Read } else { Trust::Continue }
    }

    /// Whether the file system has room for more of the log.
    pub(crate) async fn has_room(&self) -> io::Result<()> {
        let tail = self.tail.lock().await;
        let file = FileName::Log(tail.generation);
        self.drive.resize(file, tail.end + ROOM).await?;
        self.drive.resize(file, tail.end).await
    }

    /// Whether an append failed, or the journal was stopped.
    pub(crate) async fn is_broken(&self) -> bool {
        self.tail.lock().await.broken
    }

    /// Goes on at another place, after a start or a return.
    pub(crate) async fn restart(&self, tail: Tail) {
        let mut own = self.tail.lock().await;
        *own = Tail { restarts: own.restarts + 1, ..tail };
    }

    /// Returns when everything that happened before the call is in the log; with `sync = "data"`, or if `sure`,
    /// safe from a loss of power.
    pub(crate) async fn flush(&self, index: &Mutex<Index>, sure: bool) -> io::Result<()> {
        let mut tail = self.tail.lock().await;
        self.append(&mut tail, index, sure, false).await
    }

    async fn append(
        &self,
        tail: &mut Tail,
        index: &Mutex<Index>,
        sure: bool,
        complete: bool,
    ) -> io::Result<()> {
        if tail.broken {
            return Err(io::Error::other("the log is broken off"));
        }
        let (records, limbo) = lock(index).take_pending();
        // As long as it is under way: a caller may walk away and never see its end.
        tail.broken = true;
        self.write(tail, records.into(), sure, complete).await?;
        tail.broken = false;
        lock(index).release(limbo);
        Ok(())
    }

    async fn write(&self, tail: &mut Tail, records: Bytes, sure: bool, complete: bool) -> io::Result<()> {
        let file = FileName::Log(tail.generation);
        if tail.end == 0 {
            self.drive.write(file, 0, vec![log::header(tail.generation)]).await?;
            tail.end = HEADER_LEN;
        }
        if complete || !records.is_empty() {
            let (frames, end) = frames(tail, records, complete);
            self.drive.write(file, tail.end, frames).await?;
            tail.end = end;
        }
        if sure || self.sync == SyncPolicy::Data {
            self.drive.sync(file).await.inspect_err(|_| tail.unsound = true)?;
        }
        Ok(())
    }

    /// Whether the log has grown so long that a new one is worth its while, or was never told to its end.
    pub(crate) async fn is_long(&self, objects: u64) -> bool {
        let tail = self.tail.lock().await;
        let needed = tail.said.max(objects * SAID_OF_EACH);
        !tail.complete || tail.end > LEAST_REPLACED.max(needed * GROWN)
    }

    /// Whether the log still lacks what stood when it was begun.
    pub(crate) async fn is_incomplete(&self) -> bool {
        !self.tail.lock().await.complete
    }

    /// Begins a new log behind the present one, which stays until the new one is complete. Nobody appends to the
    /// new one before its names are pending.
    pub(crate) async fn replace(&self, index: &Mutex<Index>) -> io::Result<()> {
        let mut tail = self.tail.lock().await;
        self.append(&mut tail, index, false, false).await?;
        lock(index).retell();
        let mut logs = std::mem::take(&mut tail.older);
        logs.push(tail.generation);
        *tail = Tail { restarts: tail.restarts, ..Tail::after(logs) };
        Ok(())
    }

    /// Says every object that stands again, step by step, and removes the older logs. `false` when the disk was
    /// opened anew meanwhile: then it is to be done again.
    pub(crate) async fn retell(&self, index: &Mutex<Index>) -> io::Result<bool> {
        let (begun, restarts) = {
            let tail = self.tail.lock().await;
            (tail.end, tail.restarts)
        };
        let mut next = Some(0);
        while let Some(from) = next {
            next = lock(index).retell_objects(from, STEP);
            self.flush(index, false).await?;
            tokio::task::yield_now().await;
        }
        let mut tail = self.tail.lock().await;
        if tail.restarts != restarts {
            return Ok(false);
        }
        self.append(&mut tail, index, true, true).await?;
        (tail.complete, tail.said) = (true, tail.end - begun);
        for generation in std::mem::take(&mut tail.older) {
            self.drive.resize(FileName::Log(generation), 0).await?;
        }
        Ok(true)
    }
}

/// Some records in as many frames as they need, and where the last one ends.
fn frames(tail: &Tail, mut records: Bytes, complete: bool) -> (Vec<Bytes>, u64) {
    let (mut frames, mut end) = (Vec::new(), tail.end);
    loop {
        let here = records.split_to(log::frame_len(&records));
        let last = records.is_empty();
        frames.push(log::frame_head(tail.generation, end, complete && last, &here));
        end += (FRAME_HEAD + here.len()) as u64;
        frames.push(here);
        if last {
            return (frames, end);
        }
    }
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
