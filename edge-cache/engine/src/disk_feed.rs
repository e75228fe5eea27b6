//! Groups of an object on disk, in order, for one viewer.
//!
//! A viewer holds one batch and has the next read ahead; the batches of all viewers together have a budget,
//! and where it is spent a viewer reads group by group, so that slow viewers cost little. A batch that does not
//! come within the patience sends the viewer elsewhere; the read goes on, so that the tier learns how slow it is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{DiskObject, ReadFault};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Why a viewer goes on elsewhere than on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// What the tier said.
    Fault(ReadFault),
    /// The tier has not answered yet, and the viewer does not wait longer.
    Impatient,
}

impl Departure {
    pub(crate) const ALL: [Self; 5] = [
        Self::Fault(ReadFault::Corrupt),
        Self::Fault(ReadFault::Gone),
        Self::Fault(ReadFault::Device),
        Self::Fault(ReadFault::Slow),
        Self::Impatient,
    ];

    /// Whether another look at the disk may find more: the object or some of it is gone, the disk itself is well.
    pub(crate) const fn is_about_the_object(self) -> bool {
        matches!(self, Self::Fault(ReadFault::Corrupt | ReadFault::Gone))
    }

    /// The word used in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.as_str(),
            Self::Impatient => "impatient",
        }
    }
}

/// How viewers read from disk.
#[derive(Clone)]
pub(crate) struct Reading {
    /// Groups of one batch.
    pub(crate) batch: u64,
    pub(crate) patience: Duration,
    /// Groups that all viewers together may have read and not yet sent.
    pub(crate) budget: Arc<Semaphore>,
}

/// A part of the budget; `None` for a single group, which is always allowed.
type Room = Option<OwnedSemaphorePermit>;

/// A batch on its way. The read has its room with it: one that a viewer does not wait for any more takes memory as
/// long as the disk takes.
struct Ahead {
    read: AbortOnDropHandle<(Result<Vec<Bytes>, ReadFault>, Room)>,
    groups: u64,
}

/// One viewer's place in a run of groups on disk.
pub(crate) struct DiskFeed {
    object: DiskObject,
    reading: Reading,
    /// The group that comes next.
    at: u64,
    ready: VecDeque<Bytes>,
    _room: Room,
    ahead: Option<Ahead>,
    /// Groups not yet asked for.
    unread: Range<u64>,
}

impl DiskFeed {
    pub(crate) fn new(object: DiskObject, groups: Range<u64>, reading: Reading) -> Self {
        let at = groups.start;
        Self { object, reading, at, ready: VecDeque::new(), _room: None, ahead: None, unread: groups }
    }

    /// Whether a group is the one that comes next.
    pub(crate) fn is_at(&self, n: u64) -> bool {
        self.at == n && (!self.ready.is_empty() || self.ahead.is_some() || !self.unread.is_empty())
    }

    /// The next group. Walking away wastes a read, nothing more.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Departure> {
        if self.ready.is_empty() {
            let ahead = self.ahead.take().unwrap_or_else(|| self.begin());
            self.ready = self.wait(ahead).await?.into();
            if !self.unread.is_empty() {
                self.ahead = Some(self.begin());
            }
        }
        let group = self.ready.pop_front().ok_or(Departure::Fault(ReadFault::Gone))?;
        self.at += 1;
        Ok(group)
    }

    async fn wait(&mut self, mut ahead: Ahead) -> Result<Vec<Bytes>, Departure> {
        let Ok(read) = timeout(self.reading.patience, &mut ahead.read).await else {
            ahead.read.detach();
            return Err(Departure::Impatient);
        };
        // A reader task that was stopped or broke read nothing: as good as an evicted object.
        let (read, room) = read.unwrap_or((Err(ReadFault::Gone), None));
        self._room = room;
        // A group's place in a batch is its number: a short one would be wrong bytes from there on.
        let whole = |groups: &Vec<Bytes>| groups.len() as u64 == ahead.groups;
        read.and_then(|groups| Some(groups).filter(whole).ok_or(ReadFault::Gone)).map_err(Departure::Fault)
    }

    fn begin(&mut self) -> Ahead {
        let left = self.unread.end - self.unread.start;
        let whole = u32::try_from(self.reading.batch.min(left)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.reading.budget).try_acquire_many_owned(whole).ok();
        let groups = self.unread.start..self.unread.start + if room.is_some() { u64::from(whole) } else { 1 };
        self.unread.start = groups.end;
        let object = self.object.clone();
        let count = groups.end - groups.start;
        let read = tokio::spawn(async move { (object.read(groups).await, room) });
        Ahead { read: AbortOnDropHandle::new(read), groups: count }
    }
}
