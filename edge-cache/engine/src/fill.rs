//! One segment on its way into this node: one fetch, any number of readers.
//!
//! The fill belongs to its task and to the table, not to the viewer who came first. Verified groups are
//! published once and never change, so readers need no lock: each has a cursor, and waits only for the group
//! it needs next.

pub(crate) mod assembly;
pub(crate) mod table;
pub(crate) mod task;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use media::Digest;
use media::digest::{group_count, group_range};
use sourcing::SourceId;
use store::SegmentBody;
use tokio::sync::{Notify, watch};

use crate::error::{Failure, ServeError};

/// Whether a fill goes on: somebody reads it, or so much of it is there that throwing it away costs more than
/// the rest.
#[must_use]
pub fn worth_finishing(readers: usize, verified: u64, len: u64, finish_percent: u8) -> bool {
    readers > 0 || verified.saturating_mul(100) >= len.saturating_mul(u64::from(finish_percent))
}

/// One segment on its way.
pub(crate) struct Fill {
    len: u64,
    root: Digest,
    groups: Box<[OnceLock<Bytes>]>,
    progress: watch::Sender<Progress>,
    readers: AtomicUsize,
    /// The last reader has left.
    forsaken: Notify,
    /// Who delivers now.
    source: Mutex<Option<SourceId>>,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// Groups published so far.
    groups: u64,
    end: Option<Result<(), ServeError>>,
}

impl Fill {
    pub(crate) fn new(len: u64, root: Digest) -> Arc<Self> {
        Arc::new(Self {
            len,
            root,
            groups: (0..group_count(len)).map(|_| OnceLock::new()).collect(),
            progress: watch::Sender::default(),
            readers: AtomicUsize::new(0),
            forsaken: Notify::new(),
            source: Mutex::default(),
        })
    }

    pub(crate) fn source(&self) -> Option<SourceId> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn deliver_from(&self, source: &SourceId) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source.clone());
    }

    /// Puts a verified group where readers find it; [`Fill::announce`] then wakes them.
    fn put(&self, group: u64, bytes: Bytes) {
        if let Some(slot) = self.groups.get(group as usize) {
            // Only the fill's own task puts, each group once.
            let _ = slot.set(bytes);
        }
    }

    /// Wakes the readers: all groups before `groups` are there.
    fn announce(&self, groups: u64) {
        self.progress.send_modify(|progress| progress.groups = groups);
    }

    fn end(&self, end: Result<(), ServeError>) {
        self.progress.send_modify(|progress| progress.end = Some(end));
    }

    fn has_ended(&self) -> bool {
        self.progress.borrow().end.is_some()
    }

    fn verified_bytes(&self) -> u64 {
        group_range(self.len, self.progress.borrow().groups).start
    }

    /// All groups together; `None` while one is missing.
    fn body(&self) -> Option<SegmentBody> {
        let groups: Option<Vec<Bytes>> = self.groups.iter().map(|slot| slot.get().cloned()).collect();
        SegmentBody::new(self.len, groups?)
    }
}

/// One viewer's hold on a fill. Dropping it is leaving.
pub(crate) struct Reader {
    fill: Arc<Fill>,
    progress: watch::Receiver<Progress>,
}

impl Reader {
    /// Called with the table locked, so that a fill is never given up between being found and being joined.
    fn join(fill: &Arc<Fill>) -> Self {
        fill.readers.fetch_add(1, Ordering::AcqRel);
        Self { fill: Arc::clone(fill), progress: fill.progress.subscribe() }
    }

    /// A group, as soon as it is verified. What was published stays readable whatever became of the fill.
    pub(crate) async fn group(&mut self, n: u64) -> Result<Bytes, ServeError> {
        let slot = self.fill.groups.get(n as usize);
        let slot =
            slot.ok_or_else(|| ServeError::new(Failure::NoSuchSegment, "past the end of the segment"))?;
        if let Some(bytes) = slot.get() {
            return Ok(bytes.clone());
        }
        let come = |progress: &Progress| progress.groups > n || progress.end.is_some();
        let end = self.progress.wait_for(come).await.ok().and_then(|progress| progress.end.clone());
        match (slot.get(), end) {
            (Some(bytes), _) => Ok(bytes.clone()),
            (None, Some(Err(error))) => Err(error),
            (None, _) => Err(ServeError::new(Failure::SourcesExhausted, "the fill ended without this group")),
        }
    }

    pub(crate) fn source(&self) -> Option<SourceId> {
        self.fill.source()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.fill.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.fill.forsaken.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_goes_on_while_it_is_worth_it() {
        for (readers, verified, len, percent, expected) in [
            (1, 0, 100, 50, true),
            (0, 0, 100, 50, false),
            (0, 49, 100, 50, false),
            (0, 50, 100, 50, true),
            (0, 100, 100, 101, false),
            (0, 0, 100, 0, true),
            (0, u64::MAX, u64::MAX, 50, true),
        ] {
            assert_eq!(
                worth_finishing(readers, verified, len, percent),
                expected,
                "{readers} {verified} {percent}"
            );
        }
    }
}
