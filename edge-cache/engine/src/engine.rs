//! The door of the room: describe and serve.

use std::fmt;
use std::sync::Arc;

use media::index::{Entry, Index, PublicKey};
use media::{ByteRange, Digest, RenditionKind, SegmentKey};
use prometheus::Registry;
use sourcing::{SourceId, Sources};
use store::{SegmentStore, Stored};
use tokio_util::task::TaskTracker;

use crate::body::{Body, Cursor, Found};
use crate::catalog::Catalog;
use crate::config::EngineConfig;
use crate::error::{Failure, ServeError};
use crate::fill::table::{Entered, Table, look};
use crate::fill::task::{Admission, Task};
use crate::lists::Lists;
use crate::metrics::Metrics;
use crate::promotion::{Promotions, promote};

/// The read-through cache. Clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: EngineConfig,
    pub(crate) store: Arc<SegmentStore>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) lists: Lists,
    pub(crate) table: Table,
    pub(crate) admission: Admission,
    catalog: Catalog,
    promotions: Promotions,
    tasks: TaskTracker,
}

/// Why the engine cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Values that cannot work; every one with its key.
    #[error("the engine's configuration cannot work: {}", .0.join("; "))]
    Values(Vec<String>),
    /// A metric of the same name is registered already.
    #[error("the engine's metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What a key is: everything about a segment but its bytes.
#[derive(Clone)]
pub struct Described {
    /// The key.
    pub key: SegmentKey,
    /// What the signed index says about it.
    pub entry: Entry,
    index: Arc<Index>,
}

impl Described {
    /// The segment's length in bytes; never 0.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from(self.entry.segment.len)
    }

    /// Never true: an index holds no empty segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entry.segment.len == 0
    }

    /// The BLAKE3 hash of its bytes.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.entry.segment.root
    }

    /// What its rendition carries.
    #[must_use]
    pub fn kind(&self) -> RenditionKind {
        self.entry.kind
    }

    /// The index of its package.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }
}

impl fmt::Debug for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Described({}, {} bytes)", self.key, self.len())
    }
}

/// Where a response's first byte came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The memory tier.
    Memory,
    /// The disk tier.
    Disk,
    /// A fill that another viewer had started.
    Joined,
    /// A fill that this viewer started.
    Filled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Disk, Self::Joined, Self::Filled];

    /// The word used in logs, metrics and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Joined => "joined",
            Self::Filled => "filled",
        }
    }
}

/// A response that has begun: its first bytes are at hand.
#[derive(Debug)]
pub struct Serving {
    /// Where the first byte came from.
    pub outcome: Outcome,
    /// Who delivered it to the fill, if it came from one.
    pub source: Option<SourceId>,
    /// The bytes of the range, and not one more.
    pub body: Body,
}

impl Engine {
    /// Puts the engine together; nothing is fetched before the first request. Must be called within a tokio
    /// runtime if `store` was.
    ///
    /// # Errors
    /// [`ConfigError`]: impossible values, no trusted key, or metrics that exist already.
    pub fn new(
        config: EngineConfig,
        store: Arc<SegmentStore>,
        sources: Arc<Sources>,
        trusted: Vec<PublicKey>,
        registry: &Registry,
    ) -> Result<Self, ConfigError> {
        let mut problems = config.problems();
        if trusted.is_empty() {
            problems.push("trusted index keys: none is given, so no title could be served".to_owned());
        }
        if !problems.is_empty() {
            return Err(ConfigError::Values(problems));
        }
        let metrics = Arc::new(Metrics::register(registry)?);
        Ok(Self(Arc::new(Inner {
            catalog: Catalog::new(&config, Arc::clone(&sources), trusted),
            lists: Lists::new(&config, Arc::clone(&sources), Arc::clone(&metrics)),
            table: Table::new(config.max_fills + config.max_waiting_fills),
            admission: Admission::new(&config, metrics.buffered_bytes.clone()),
            promotions: Promotions::new(config.max_promotions),
            tasks: TaskTracker::new(),
            store,
            sources,
            metrics,
            config,
        })))
    }

    /// Says what a key is, from the signed index of its package; fetches the index if it is not in memory.
    /// Walking away is harmless.
    ///
    /// # Errors
    /// [`ServeError`]: there is no such title or segment, the index is not trusted, or no source delivered it.
    pub async fn describe(&self, key: &SegmentKey) -> Result<Described, ServeError> {
        let found = self.0.catalog.index(key).await.and_then(|index| {
            let missing =
                || ServeError::new(Failure::NoSuchSegment, format_args!("{key} is not in the index"));
            let entry = index.resolve(key).ok_or_else(missing)?;
            Ok(Described { key: key.clone(), entry, index })
        });
        found.inspect_err(|error| self.0.metrics.failed(error.reason))
    }

    /// Gives the bytes of a range. Returns when the first of them are at hand, so that an error can still be
    /// answered. Walking away, now or in the middle of the body, leaves the fill: it goes on if others read it
    /// or if it is worth finishing.
    ///
    /// # Errors
    /// [`ServeError`]: no source delivered, the time ran out, or the node is full. A range that reaches past
    /// the end is [`Failure::NoSuchSegment`].
    pub async fn serve(&self, described: &Described, range: ByteRange) -> Result<Serving, ServeError> {
        let begun = self.begin(described, range).await;
        begun.inspect_err(|error| self.0.metrics.failed(error.reason))
    }

    async fn begin(&self, described: &Described, range: ByteRange) -> Result<Serving, ServeError> {
        let past =
            || ServeError::new(Failure::NoSuchSegment, format_args!("{range} reaches past {described:?}"));
        let mut cursor = Cursor::new(self.clone(), described.clone(), range).ok_or_else(past)??;
        let first = cursor.next().await?.ok_or_else(past)?;
        self.0.metrics.served(cursor.outcome());
        Ok(Serving { outcome: cursor.outcome(), source: cursor.source(), body: Body::new(first, cursor) })
    }

    /// Waits until every running fill has ended (their deadline bounds that) and the store has written what it
    /// was given. Requests are still served meanwhile; the caller has stopped taking new ones.
    pub async fn drain(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.store.flush().await;
    }

    /// Body bytes handed out and requests served since the start.
    #[must_use]
    pub fn delivered(&self) -> (u64, u64) {
        self.0.metrics.delivered()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn disk_batch_groups(&self) -> u64 {
        self.0.config.disk_batch_bytes.bytes() / media::GROUP_LEN
    }

    /// Where to read a segment from now. `disk` is false for a viewer who has met a disk fault.
    pub(crate) fn feed(&self, described: &Described, disk: bool) -> Result<(Outcome, Found), ServeError> {
        let inner = &self.0;
        let (key, len, root) = (&described.key, described.len(), described.root());
        let look = || look(&inner.store, key, len, root, disk);
        if let Some(stored) = look() {
            self.promote(key, &stored);
            return Ok(Found::stored(stored));
        }
        match inner.table.enter(key, len, root, look)? {
            Entered::Stored(stored) => Ok(Found::stored(stored)),
            Entered::Joined(reader) => Ok((Outcome::Joined, Found::Fill(reader))),
            Entered::Led(reader, fill) => {
                inner.tasks.spawn(Task::new(Arc::clone(inner), described.clone(), fill).run());
                Ok((Outcome::Filled, Found::Fill(reader)))
            }
        }
    }

    fn promote(&self, key: &SegmentKey, stored: &Stored) {
        if let Stored::Disk(object) = stored
            && let Some(permit) = self.0.promotions.hit(key)
        {
            self.0.tasks.spawn(promote(object.clone(), permit));
        }
    }
}
