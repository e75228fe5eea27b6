//! The effect runner of ingest: carries out what [`control::ingest`] decides and journals what happened.
//!
//! Each ingest is one task. It loads its journal, and while an effect is pending: carries it out, writes the event
//! it ended as, shows the new stage in the catalogue. The journal's writes are conditional on its length, so two
//! runners of one ingest cannot both go on. Nothing is kept in memory that a restart would miss: the newest
//! ingest of every title stands in the catalogue, and [`Ingests::resume`] takes up those that are not settled.
//!
//! Every effect may be carried out any number of times: what it makes is made beside its place and renamed (see
//! [`work`]), and each makes first what it needs and does not find, so that even a lost work directory only costs
//! time.

mod assemble;
mod bif;
mod effects;
mod facts;
mod index;
mod layout;
mod runner;
mod timeless;
pub mod work;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::ingest::{Failure, Progress, RetryPolicy};
use control_api::rest::Stage;
use media::PackageId;
use media::index::SigningKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::seams::{
    Catalog, CatalogEntry, Entropy, Journal, ObjectError, ObjectStore, StateError, ToolError, Transcoder,
    WallClock,
};
use crate::telemetry::Metrics;

/// What ingests work with.
pub struct World {
    /// The titles.
    pub catalog: Arc<dyn Catalog>,
    /// The event logs.
    pub journal: Arc<dyn Journal>,
    /// Where mezzanine files and captions are.
    pub mezzanine: Arc<dyn ObjectStore>,
    /// Where packages go.
    pub packages: Arc<dyn ObjectStore>,
    /// The tools.
    pub transcoder: Arc<dyn Transcoder>,
    /// The time.
    pub clock: Arc<dyn WallClock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Signs the indexes.
    pub index_key: Arc<SigningKey>,
    /// What the program counts.
    pub metrics: Arc<Metrics>,
}

/// The bounds and manners of ingests.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where work files lie.
    pub work_dir: PathBuf,
    /// Ingests at once.
    pub parallel: usize,
    /// Ingests that may wait for their turn.
    pub max_waiting: usize,
    /// How often an effect is tried.
    pub retry: RetryPolicy,
    /// The longest caption file that is read, in bytes.
    pub caption_limit: u64,
    /// Seconds between two thumbnails.
    pub thumbnail_every_s: u32,
    /// How often the records are tried before an ingest waits for the next start.
    pub state_attempts: u32,
    /// The wait in between.
    pub state_delay: Duration,
    /// Keep the work files of settled ingests.
    pub keep_work: bool,
}

/// How far a running ingest is, for those who look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// The stage, more timely than the catalogue's.
    pub stage: Stage,
    /// Of the whole, 0 to 100.
    pub percent: u8,
    /// The film's length once it was measured, else 0.
    pub duration_ms: u64,
}

/// A promise that one more ingest may be started. Dropped unused, it returns.
pub struct Slot(#[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>);

/// The running ingests.
#[derive(Clone)]
pub struct Ingests(Arc<Inner>);

struct Inner {
    world: World,
    options: Options,
    /// One permit for each ingest that is running or waiting.
    slots: Arc<Semaphore>,
    /// One permit for each ingest at work.
    turns: Semaphore,
    live: Mutex<HashMap<PackageId, Arc<Watch>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Where a task shows its progress.
#[derive(Default)]
struct Watch {
    state: Mutex<control::ingest::State>,
    permille: AtomicU16,
    /// Nothing follows but the record of the end: whoever sees that may start the ingest again.
    ended: AtomicBool,
}

impl Ingests {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(world: World, options: Options) -> Self {
        let slots = Arc::new(Semaphore::new(options.parallel + options.max_waiting));
        let turns = Semaphore::new(options.parallel);
        let (live, tasks, stop) = (Mutex::default(), TaskTracker::new(), CancellationToken::new());
        Self(Arc::new(Inner { world, options, slots, turns, live, tasks, stop }))
    }

    /// Room for one more ingest; `None` when too many wait.
    #[must_use]
    pub fn reserve(&self) -> Option<Slot> {
        Arc::clone(&self.0.slots).try_acquire_owned().ok().map(|permit| Slot(Some(permit)))
    }

    /// Starts the newest ingest of a title that stands in the catalogue; a failed one is tried again. One that
    /// runs already goes on as it is.
    pub fn start(&self, entry: CatalogEntry, slot: Slot) {
        let package = entry.ingest.package;
        let watch = Arc::new(Watch::default());
        {
            let mut live = self.0.live();
            if live.get(&package).is_some_and(|other| !other.ended.load(Ordering::Acquire)) {
                return;
            }
            live.insert(package, Arc::clone(&watch));
        }
        let this = self.clone();
        self.0.tasks.spawn(async move {
            let _slot = slot;
            tokio::select! {
                biased;
                () = this.0.stop.cancelled() => {}
                () = runner::run(&this.0, entry, &watch) => {}
            }
            let mut live = this.0.live();
            if live.get(&package).is_some_and(|newest| Arc::ptr_eq(newest, &watch)) {
                live.remove(&package);
            }
        });
    }

    /// Takes up every ingest that is not settled. Returns how many.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub async fn resume(&self) -> Result<usize, StateError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.0.world.catalog.list(after.as_ref(), 100).await?;
            let Some(last) = page.last() else { return Ok(count) };
            after = Some(last.title.clone());
            for entry in page.into_iter().filter(|entry| !entry.ingest.settled()) {
                count += 1;
                // They were let in once; a smaller bound today does not put them out.
                self.start(entry, self.reserve().unwrap_or(Slot(None)));
            }
        }
    }

    /// How far a running ingest is.
    #[must_use]
    pub fn progress(&self, package: PackageId) -> Option<Live> {
        let watch = Arc::clone(self.0.live().get(&package)?);
        let state = watch.state();
        let Progress { stage, percent } = state.progress(watch.permille.load(Ordering::Relaxed));
        Some(Live { stage, percent, duration_ms: state.facts().map_or(0, |facts| facts.duration_ms) })
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.0.live().is_empty()
    }

    /// Stops every ingest where it stands and waits until the tools are gone. The journals are intact: the next
    /// start goes on.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, HashMap<PackageId, Arc<Watch>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, control::ingest::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an effect did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// Whether the same input would fail again.
    pub permanent: bool,
    /// What the operator should read.
    pub detail: String,
}

impl Fault {
    /// Trying again is pointless.
    #[must_use]
    pub fn permanent(detail: String) -> Self {
        Self { permanent: true, detail }
    }

    /// Trying again may help.
    #[must_use]
    pub fn transient(detail: String) -> Self {
        Self { permanent: false, detail }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        // Tools can be talkative; the journal keeps what a person reads.
        let detail = fault.detail.chars().take(2000).collect();
        Self { permanent: fault.permanent, detail }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::transient(format!("work files: {error}"))
    }
}

impl From<ToolError> for Fault {
    fn from(error: ToolError) -> Self {
        Self { permanent: error.permanent, detail: error.to_string() }
    }
}

impl From<ObjectError> for Fault {
    fn from(error: ObjectError) -> Self {
        let permanent =
            matches!(error, ObjectError::NotFound(_) | ObjectError::BadName(_) | ObjectError::Range(_));
        Self { permanent, detail: error.to_string() }
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self { permanent: matches!(error, StateError::Corrupt(_)), detail: error.to_string() }
    }
}
