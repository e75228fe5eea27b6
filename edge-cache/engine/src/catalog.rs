//! Which packages there are: signed indexes, fetched once and kept by weight.
//!
//! A load belongs to a task of its own, not to whoever asked first. A purge that covers an index is noticed when
//! the index is used next: after a hard one it is fetched anew, after a soft one it is served only while no
//! source delivers it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media::index::{INDEX_OBJECT, Index, MAX_INDEX_LEN, PublicKey, object_path};
use media::{PackageId, SegmentKey, Tag, TitleId};
use moka::future::Cache;
use sourcing::{Exhausted, Leg, SourceError, SourceId, Sources, Want};
use store::{Epoch, PurgeKind, SegmentStore};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::config::EngineConfig;
use crate::error::{Failure, ServeError};
use crate::flights::{Flights, Grounded};
use crate::outlived::Outlived;

type Package = (TitleId, PackageId);

/// An index as it lies in memory is a few vectors of entries: about twice its encoding.
const WEIGHT_OF_ENCODED: usize = 2;

/// Loads that may wait for each one that may run.
const WAITING_LOADS: usize = 64;

pub(crate) struct Catalog {
    flights: Arc<Flights<Package, Result<Loaded, ServeError>>>,
    loader: Arc<Loader>,
    tasks: TaskTracker,
}

/// What loads share; they outlive whoever began them.
struct Loader {
    sources: Arc<Sources>,
    store: Arc<SegmentStore>,
    trusted: Vec<PublicKey>,
    indexes: Cache<Package, Loaded>,
    misses: Cache<Package, Miss>,
    loads: Semaphore,
    load_wait: Duration,
    deadline: Duration,
    miss_for: Duration,
}

/// An index, as whoever asks gets it.
pub(crate) struct Known {
    pub(crate) index: Arc<Index>,
    pub(crate) tags: Arc<[Tag]>,
    /// It was purged softly, and no source delivers it.
    pub(crate) stale: bool,
}

#[derive(Clone)]
struct Loaded {
    index: Arc<Index>,
    tags: Arc<[Tag]>,
    weight: u32,
    /// The newest purge when its load began.
    born: Epoch,
    outlived: Arc<Outlived>,
    /// When a source may be asked again for one that was purged softly.
    retry: Arc<Mutex<Option<Instant>>>,
}

/// Remembered with its end in tokio's time: the cache's own clock is private.
#[derive(Clone)]
struct Miss {
    error: ServeError,
    until: Instant,
}

impl Catalog {
    pub(crate) fn new(
        config: &EngineConfig,
        (sources, store): (&Arc<Sources>, &Arc<SegmentStore>),
        trusted: Vec<PublicKey>,
        tasks: &TaskTracker,
    ) -> Self {
        let indexes = Cache::builder().max_capacity(config.index_cache_bytes.bytes());
        let loader = Loader {
            sources: Arc::clone(sources),
            store: Arc::clone(store),
            trusted,
            indexes: indexes.weigher(|_, loaded: &Loaded| loaded.weight).build(),
            misses: Cache::new(config.max_index_misses),
            loads: Semaphore::new(config.max_index_loads),
            load_wait: config.admission_wait,
            deadline: config.index_deadline,
            miss_for: config.index_miss_for,
        };
        let flights = Flights::new(config.max_index_loads.saturating_mul(WAITING_LOADS));
        Self { flights, loader: Arc::new(loader), tasks: tasks.clone() }
    }

    /// The index of a key's package; one load for all who ask at the same time.
    pub(crate) async fn index(&self, key: &SegmentKey) -> Result<Known, ServeError> {
        let package = (key.title.clone(), key.package);
        let old = match self.loader.indexes.get(&package).await {
            None => None,
            Some(loaded) => match self.loader.purged(&package, &loaded) {
                None => return Ok(loaded.known(false)),
                Some(PurgeKind::Hard) => None,
                Some(PurgeKind::Soft) if loaded.rests() => return Ok(loaded.known(true)),
                Some(PurgeKind::Soft) => Some(loaded),
            },
        };
        if let Some(miss) = self.loader.misses.get(&package).await.filter(|miss| miss.until > Instant::now())
        {
            return Err(miss.error);
        }
        match (self.fly(&package).await, old) {
            (Ok(loaded), _) => Ok(loaded.known(false)),
            (Err(error), Some(old)) if error.reason.is_absence_of_sources() => {
                old.rest_until(Instant::now() + self.loader.miss_for);
                Ok(old.known(true))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Loads an index. A load that began before a purge of it is no answer for whoever came after.
    async fn fly(&self, package: &Package) -> Result<Loaded, ServeError> {
        let came = self.loader.store.epoch();
        loop {
            let loader = Arc::clone(&self.loader);
            let load = || {
                let package = package.clone();
                async move { loader.load(&package).await }
            };
            let loaded = self.flights.join(package, &self.tasks, load).await.unwrap_or_else(grounded)?;
            if loaded.born >= came || self.loader.purged(package, &loaded).is_none() {
                return Ok(loaded);
            }
        }
    }
}

fn grounded(why: Grounded) -> Result<Loaded, ServeError> {
    Err(match why {
        Grounded::Full => ServeError::new(Failure::Overloaded, "too many indexes are being loaded"),
        Grounded::Stopped => ServeError::new(Failure::SourcesExhausted, "the load of the index was stopped"),
    })
}

impl Loaded {
    fn known(&self, stale: bool) -> Known {
        Known { index: Arc::clone(&self.index), tags: Arc::clone(&self.tags), stale }
    }

    fn rests(&self) -> bool {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| until > Instant::now())
    }

    fn rest_until(&self, until: Instant) {
        *self.retry.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

impl Loader {
    /// Whether an index was purged: the main playlist stands for it.
    fn purged(&self, (title, package): &Package, loaded: &Loaded) -> Option<PurgeKind> {
        let main = SegmentKey::main(title.clone(), *package);
        loaded.outlived.purged(&self.store, &main, &loaded.tags)
    }

    /// The load that landed just before this one began may have brought it.
    async fn load(&self, package: &Package) -> Result<Loaded, ServeError> {
        if let Some(loaded) = self.indexes.get(package).await
            && self.purged(package, &loaded).is_none()
        {
            return Ok(loaded);
        }
        let Ok(Ok(_permit)) = timeout(self.load_wait, self.loads.acquire()).await else {
            return Err(ServeError::new(Failure::Overloaded, "too many indexes are being loaded"));
        };
        let loaded = self.fetch(package).await;
        match &loaded {
            Ok(loaded) => self.indexes.insert(package.clone(), loaded.clone()).await,
            Err(error) if matches!(error.reason, Failure::NoSuchTitle | Failure::Untrusted) => {
                let miss = Miss { error: error.clone(), until: Instant::now() + self.miss_for };
                self.misses.insert(package.clone(), miss).await;
            }
            Err(_) => {}
        }
        loaded
    }

    /// Asks one source after another until one of them has an index that a trusted key signed. An index that
    /// does not open may be the fault of ingest, not of the source that keeps it: nobody is demoted for it,
    /// but no source is asked twice either.
    async fn fetch(&self, (title, package): &Package) -> Result<Loaded, ServeError> {
        let path = object_path(title, *package, INDEX_OBJECT);
        let (deadline, born) = (Instant::now() + self.deadline, self.store.epoch());
        let mut fetch = self.sources.fetch(Want::object(path.clone()), deadline);
        let mut refused: Vec<(SourceId, ServeError)> = Vec::new();
        loop {
            let mut leg = match (fetch.next_leg(0).await, refused.last()) {
                (Ok(leg), _) => leg,
                (Err(_), Some((_, error))) => return Err(error.clone()),
                (Err(exhausted), None) => return Err(missing(&path, &exhausted, deadline)),
            };
            if let Some((_, error)) = refused.iter().find(|(by, _)| by == leg.source()) {
                return Err(error.clone());
            }
            match self.open(&mut leg, born).await {
                Ok(Ok(loaded)) => return Ok(loaded),
                Ok(Err(error)) => {
                    tracing::warn!(%path, source = %leg.source(), error = error.detail, "an index is not trusted");
                    refused.push((leg.source().clone(), error));
                }
                Err(error) => {
                    tracing::debug!(%path, source = %leg.source(), %error, "an index did not arrive");
                }
            }
        }
    }

    async fn open(&self, leg: &mut Leg, born: Epoch) -> Result<Result<Loaded, ServeError>, SourceError> {
        if leg.promised() > MAX_INDEX_LEN as u64 {
            let detail = format!("{} bytes, an index has at most {MAX_INDEX_LEN}", leg.promised());
            return Ok(Err(ServeError::new(Failure::Untrusted, detail)));
        }
        let bytes = receive(leg).await?;
        leg.chunk().await?;
        let weight = u32::try_from(bytes.len() * WEIGHT_OF_ENCODED).unwrap_or(u32::MAX);
        let opened = Index::open(&bytes, &self.trusted);
        Ok(opened
            .map(|index| Loaded {
                tags: index.tags.as_slice().into(),
                index: Arc::new(index),
                weight,
                born,
                outlived: Arc::new(Outlived::new(born)),
                retry: Arc::default(),
            })
            .map_err(|error| ServeError::new(Failure::Untrusted, error)))
    }
}

fn missing(path: &str, exhausted: &Exhausted, deadline: Instant) -> ServeError {
    match exhausted.not_found {
        true => ServeError::new(Failure::NoSuchTitle, format_args!("{path} is nowhere")),
        false => ServeError::exhausted(path, exhausted, deadline),
    }
}

/// Everything a leg promised, without the last word on it: the caller may still find the bytes wrong.
pub(crate) async fn receive(leg: &mut Leg) -> Result<Bytes, SourceError> {
    let promised = usize::try_from(leg.promised()).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::new();
    while bytes.len() < promised {
        match leg.chunk().await? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok(bytes.freeze())
}
