//! The door of the room: describe and serve.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use media::index::{Entry, Index, PublicKey};
use media::{ByteRange, Digest, GroupSet, RenditionKind, SegmentKey, Tag};
use prometheus::Registry;
use sourcing::{SourceId, Sources};
use store::{Held, PurgeKind, Purged, Scope, SegmentStore};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::catalog::Catalog;
use crate::config::EngineConfig;
use crate::cursor::{Ask, Cursor, Found};
use crate::disk_feed::Reading;
use crate::error::{Failure, ServeError};
use crate::fill::Wish;
use crate::fill::admission::Admission;
use crate::fill::table::{Entered, Table};
use crate::fill::task::Task;
use crate::heat::Heat;
use crate::lists::Lists;
use crate::load::Load;
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
    pub(crate) admission: Arc<Admission>,
    pub(crate) heat: Heat,
    pub(crate) load: Arc<Load>,
    /// Fills that may go on at once although nobody waits.
    pub(crate) completions: Arc<Semaphore>,
    catalog: Catalog,
    promotions: Promotions,
    reading: Reading,
    tasks: TaskTracker,
}

impl Inner {
    /// What a byte costs where it was bought last; where nothing was, at the cheapest.
    pub(crate) fn price_of(&self, source: Option<&SourceId>) -> u64 {
        let report = self.sources.report();
        let of = |report: &sourcing::SourceReport| report.price.picodollars_per_byte;
        let known = report.iter().find(|report| Some(&report.id) == source).map(of);
        known.or_else(|| report.iter().map(of).min()).unwrap_or_default()
    }
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
    tags: Arc<[Tag]>,
    stale: bool,
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

    pub(crate) fn tags(&self) -> Arc<[Tag]> {
        Arc::clone(&self.tags)
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

/// How much of the engine's bounds is used, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strain {
    /// Fills that wait for their turn, of `engine.max_waiting_fills`.
    pub waiting_fills_percent: u32,
    /// Bytes that running fills have set aside, of `engine.fill_buffer_bytes`. What only lingers for slow readers
    /// makes room when it is needed and does not count.
    pub fill_buffer_percent: u32,
}

/// How much of a segment each tier has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiers {
    /// Groups the segment has.
    pub groups: u64,
    /// Those in memory.
    pub memory: u64,
    /// Those on disk; some may be in memory, too.
    pub disk: u64,
    /// Bytes that neither has: what would be bought.
    pub lacking_bytes: u64,
    /// Whether a fill is under way.
    pub filling: bool,
}

/// A response that has begun: its first bytes are at hand.
#[derive(Debug)]
pub struct Serving {
    /// Where the first byte came from.
    pub outcome: Outcome,
    /// Who delivered it to the fill, if it came from one.
    pub source: Option<SourceId>,
    /// It was purged softly, and is served because no source delivers a newer one.
    pub stale: bool,
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
        load: Arc<Load>,
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
        let (tasks, admission) = (TaskTracker::new(), Admission::new(&config, metrics.admission.clone()));
        let limit = config.max_fills + config.max_waiting_fills;
        let lists = Lists::new(&config, (&sources, &store), Arc::clone(&metrics), &tasks);
        Ok(Self(Arc::new(Inner {
            catalog: Catalog::new(&config, (&sources, &store), trusted, &tasks),
            lists,
            table: Table::new(limit, Arc::clone(&store), Arc::clone(&admission)),
            admission,
            heat: Heat::default(),
            load,
            completions: Arc::new(Semaphore::new(config.max_completions)),
            promotions: Promotions::new(config.max_promotions),
            reading: config.reading(),
            tasks,
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
        let found = self.0.catalog.index(key).await.and_then(|known| {
            let missing =
                || ServeError::new(Failure::NoSuchSegment, format_args!("{key} is not in the index"));
            let entry = known.index.resolve(key).ok_or_else(missing)?;
            Ok(Described {
                key: key.clone(),
                entry,
                index: known.index,
                tags: known.tags,
                stale: known.stale,
            })
        });
        found.inspect_err(|error| self.0.metrics.failed(error.reason))
    }

    /// Gives the bytes of a range. Returns when the first of them are at hand, so that an error can still be
    /// answered. `needed_by` is when the player runs dry without them, if it said so: a fill hurries for the
    /// earliest of its readers. Walking away, now or in the middle of the body, leaves the fill: it goes on if others wait for
    /// it or if the rest is worth its price.
    ///
    /// # Errors
    /// [`ServeError`]: no source delivered, the time ran out, or the node is full. A range that reaches past
    /// the end is [`Failure::NoSuchSegment`].
    pub async fn serve(
        &self,
        described: &Described,
        range: ByteRange,
        needed_by: Option<Instant>,
    ) -> Result<Serving, ServeError> {
        self.0.heat.asked(&described.key.title, Instant::now());
        let begun = self.begin(described, range, needed_by).await;
        begun.inspect_err(|error| self.0.metrics.failed(error.reason))
    }

    async fn begin(
        &self,
        described: &Described,
        range: ByteRange,
        needed_by: Option<Instant>,
    ) -> Result<Serving, ServeError> {
        let past =
            || ServeError::new(Failure::NoSuchSegment, format_args!("{range} reaches past {described:?}"));
        let mut cursor = Cursor::new(self.clone(), described.clone(), range, needed_by).ok_or_else(past)?;
        let first = cursor.next().await?.ok_or_else(past)?;
        self.0.metrics.served(cursor.outcome());
        Ok(Serving {
            outcome: cursor.outcome(),
            source: cursor.source(),
            stale: cursor.is_stale() || described.stale,
            body: Body::new(first, cursor),
        })
    }

    /// Makes everything a scope covers unfindable, at once and in all tiers; it is on record when this returns.
    /// A fill that is under way serves those who read it already and is not stored; whoever comes from now on
    /// has it fetched anew. After a soft purge the old bytes are served only while no source delivers.
    pub async fn purge(&self, scope: &Scope, kind: PurgeKind) -> Purged {
        // The indexes and digest lists in memory carry the number of the newest purge they are known to have
        // outlived; the next look at each compares it.
        self.0.store.purge(scope, kind).await
    }

    /// Where the groups of a segment are on this node. Reads no byte, buys nothing and counts no request.
    #[must_use]
    pub fn tiers(&self, described: &Described) -> Tiers {
        let (len, inner) = (described.len(), &self.0);
        let held = inner.store.peek(&described.key, len, described.root());
        let memory = held.memory.as_ref().map(store::SegmentBody::present);
        let disk = held.disk.as_ref().map(store::DiskObject::present);
        let count = |groups: &Option<GroupSet>| groups.as_ref().map_or(0, GroupSet::count);
        let mut lacking = GroupSet::all(len);
        memory.iter().chain(&disk).for_each(|held| lacking.subtract(held));
        Tiers {
            groups: lacking.capacity(),
            memory: count(&memory),
            disk: count(&disk),
            lacking_bytes: lacking.bytes(),
            filling: inner.table.is_filling(&described.key),
        }
    }

    /// How near the engine is to refusing work.
    #[must_use]
    pub fn strain(&self) -> Strain {
        let waiting = self.0.table.len().saturating_sub(self.0.config.max_fills);
        let percent = (waiting * 100).checked_div(self.0.config.max_waiting_fills).unwrap_or(0);
        Strain {
            waiting_fills_percent: u32::try_from(percent).unwrap_or(u32::MAX),
            fill_buffer_percent: self.0.admission.buffer_percent(),
        }
    }

    /// The level of load that this engine goes by.
    #[must_use]
    pub fn load(&self) -> &Arc<Load> {
        &self.0.load
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

    pub(crate) fn reading(&self) -> Reading {
        self.0.reading.clone()
    }

    pub(crate) fn turn_wait(&self) -> Duration {
        self.0.config.admission_wait
    }

    pub(crate) fn fill_deadline(&self) -> Duration {
        self.0.config.fill_deadline
    }

    /// Groups that a viewer who was cut off asks for at first.
    pub(crate) fn first_window(&self) -> u64 {
        self.0.config.strand_near_bytes.bytes() / media::GROUP_LEN
    }

    /// Where to read groups of a segment from now.
    pub(crate) fn feed(&self, described: &Described, ask: &Ask) -> Result<Found, ServeError> {
        let (inner, len) = (&self.0, described.len());
        let look = || {
            let mut held = inner.store.lookup(&described.key, len, described.root());
            held.disk = held.disk.filter(|_| ask.disk);
            let lacks = lacking(&held, len, ask.groups.clone());
            (held, lacks)
        };
        let (held, lacks) = look();
        if ask.newcomer {
            self.promote(&described.key, &held);
        }
        if lacks.is_empty() {
            return Ok(Found { held, fill: None });
        }
        let wish = Wish { lacks, newcomer: ask.newcomer, needed_by: ask.needed_by };
        Ok(match inner.table.enter(described, wish, look)? {
            Entered::Stored(held) => Found { held, fill: None },
            Entered::Joined(reader) => Found { held, fill: Some((Outcome::Joined, reader)) },
            Entered::Led(held, reader, fill) => {
                inner.tasks.spawn(Task::new(Arc::clone(inner), described.clone(), fill).run());
                Found { held, fill: Some((Outcome::Filled, reader)) }
            }
        })
    }

    /// What some tier has of a group when no source delivers it, and whether that is stale.
    pub(crate) fn leftovers(&self, described: &Described, group: u64) -> Option<(Held, bool)> {
        let (store, len, root) = (&self.0.store, described.len(), described.root());
        let held = store.lookup_stale(&described.key, len, root);
        held.tier_of(group)?;
        let stale = store.lookup(&described.key, len, root).tier_of(group).is_none();
        Some((held, stale))
    }

    fn promote(&self, key: &SegmentKey, held: &Held) {
        if held.memory.is_none()
            && let Some(object) = &held.disk
            && self.0.load.allows_disk()
            && let Some(permit) = self.0.promotions.hit(key)
        {
            self.0.tasks.spawn(promote(object.clone(), permit));
        }
    }
}

/// The groups of a range that no tier has.
fn lacking(held: &Held, len: u64, groups: Range<u64>) -> GroupSet {
    let mut lacks = GroupSet::none(len);
    if held.memory.as_ref().is_some_and(store::SegmentBody::is_whole) {
        return lacks;
    }
    lacks.insert_all(groups);
    if let Some(present) = held.groups() {
        lacks.subtract(&present);
    }
    lacks
}
