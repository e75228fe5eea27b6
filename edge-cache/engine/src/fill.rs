//! One segment, or some groups of it, on its way into this node: one owner, any number of readers.
//!
//! The fill belongs to its task and to the table, not to the viewer who came first. Each reader says which
//! groups it lacks; the task fetches what is wanted and not here. Verified groups are published once and never
//! change. The task holds them, then the lingering list; a reader holds only a weak handle, so a slow one costs
//! a cursor. While it waits for a group, and only then, it holds on: the group it waits for always reaches it.

pub(crate) mod admission;
pub(crate) mod assembly;
pub(crate) mod plan;
pub(crate) mod strand;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod wants;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use media::digest::group_count;
use media::{Digest, GroupSet};
use sourcing::SourceId;
use store::{Epoch, SegmentBody};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::admission::Admission;
use self::wants::{Outlook, Wants};
use crate::error::ServeError;
use crate::outlived::Outlived;

/// The verified groups of a fill. Whoever holds this keeps them alive.
pub(crate) struct Groups(Box<[OnceLock<Bytes>]>);

impl Groups {
    fn new(len: u64) -> Self {
        Self((0..group_count(len)).map(|_| OnceLock::new()).collect())
    }

    pub(crate) fn get(&self, n: u64) -> Option<Bytes> {
        self.0.get(usize::try_from(n).ok()?)?.get().cloned()
    }

    /// What is here, as the store keeps it; `None` while nothing is.
    pub(crate) fn body(&self, len: u64) -> Option<SegmentBody> {
        let groups: Vec<_> = self.0.iter().map(|slot| slot.get().cloned()).collect();
        if groups.iter().all(Option::is_none) {
            return None;
        }
        SegmentBody::partial(len, groups)
    }
}

/// One segment on its way.
pub(crate) struct Fill {
    pub(crate) len: u64,
    pub(crate) root: Digest,
    /// The newest purge when it began.
    pub(crate) born: Epoch,
    outlived: Outlived,
    groups: Weak<Groups>,
    wants: Mutex<Wants>,
    /// Wakes the task: somebody came, left, or wants more.
    changed: Notify,
    /// Wakes the readers, in the order they began to wait: a group came, or none will come any more.
    progress: Notify,
    /// Who delivered last.
    source: Mutex<Option<SourceId>>,
    admission: Arc<Admission>,
}

impl Fill {
    /// A fill and its groups; whoever has them owes the fill a task.
    pub(crate) fn new(
        len: u64,
        root: Digest,
        born: Epoch,
        admission: &Arc<Admission>,
    ) -> (Arc<Self>, Arc<Groups>) {
        let groups = Arc::new(Groups::new(len));
        let fill = Self {
            len,
            root,
            born,
            outlived: Outlived::new(born),
            groups: Arc::downgrade(&groups),
            wants: Mutex::new(Wants::new(len)),
            changed: Notify::new(),
            progress: Notify::new(),
            source: Mutex::default(),
            admission: Arc::clone(admission),
        };
        (Arc::new(fill), groups)
    }

    pub(crate) fn source(&self) -> Option<SourceId> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn deliver_from(&self, source: &SourceId) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source.clone());
    }

    /// Puts a verified group where readers find it; [`Fill::announce`] then wakes them.
    fn put(&self, groups: &Groups, n: u64, bytes: Bytes) {
        if let Some(slot) = usize::try_from(n).ok().and_then(|n| groups.0.get(n)) {
            // Each group is claimed by one strand; a second copy would be as good as the first.
            let _ = slot.set(bytes);
            self.wants().arrived(n);
        }
    }

    fn announce(&self) {
        self.progress.notify_waiters();
    }

    /// Nothing more will come. Readers of what is here go on.
    fn close(&self, error: Option<ServeError>) {
        self.wants().close(error);
        self.announce();
    }

    pub(crate) fn readers(&self) -> usize {
        self.wants().readers()
    }

    /// When the earliest of those who wait needs what is still to come; `None` when none of them said.
    fn needed_by(&self) -> Option<Instant> {
        self.wants().needed_by()
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a viewer wants of a fill.
pub(crate) struct Wish {
    /// The groups that no tier has for it.
    pub(crate) lacks: GroupSet,
    /// Whether it came here first.
    pub(crate) newcomer: bool,
    /// When its player needs them; `None` when it did not say.
    pub(crate) needed_by: Option<Instant>,
}

/// One viewer's hold on a fill. Dropping it is leaving.
pub(crate) struct Reader {
    id: u64,
    fill: Arc<Fill>,
    groups: Weak<Groups>,
    lacks: Arc<GroupSet>,
}

impl Reader {
    /// Called with the table locked, so that a fill is never closed between being found and being joined.
    fn join(fill: &Arc<Fill>, wish: Wish) -> Self {
        let lacks = Arc::new(wish.lacks);
        let id = fill.wants().join(Arc::clone(&lacks), wish.newcomer, wish.needed_by);
        fill.changed.notify_one();
        Self { id, fill: Arc::clone(fill), groups: fill.groups.clone(), lacks }
    }

    /// Whether this viewer counts on the fill for a group.
    pub(crate) fn expects(&self, n: u64) -> bool {
        self.lacks.has(n)
    }

    /// A group that is here.
    pub(crate) fn at_hand(&self, n: u64) -> Option<Bytes> {
        self.groups.upgrade()?.get(n)
    }

    /// A group, as soon as it is verified; `None` when the fill gave it up or ends without it.
    ///
    /// # Errors
    /// [`ServeError`] when no source delivers it.
    pub(crate) async fn group(&self, n: u64) -> Result<Option<Bytes>, ServeError> {
        // Held until the group is here: what somebody waits for is not given up under him.
        let Some(groups) = self.groups.upgrade() else { return Ok(None) };
        loop {
            let mut progress = pin!(self.fill.progress.notified());
            // Listening begins before the look, so that nothing falls between them.
            progress.as_mut().enable();
            let outlook = self.fill.wants().outlook(n);
            if let Some(bytes) = groups.get(n) {
                return Ok(Some(bytes));
            }
            match outlook {
                Outlook::Coming => progress.await,
                Outlook::Closed => return Ok(None),
                Outlook::Failed(error) => return Err(error),
            }
        }
    }

    pub(crate) fn source(&self) -> Option<SourceId> {
        self.fill.source()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let last = self.fill.wants().leave(self.id);
        self.fill.changed.notify_one();
        if last {
            self.fill.admission.forget(&self.fill);
        }
    }
}
