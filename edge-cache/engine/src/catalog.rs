//! Which packages there are: signed indexes, fetched once and kept by weight.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media::index::{INDEX_OBJECT, Index, MAX_INDEX_LEN, PublicKey, object_path};
use media::{PackageId, SegmentKey, TitleId};
use moka::future::Cache;
use sourcing::{Exhausted, Leg, SourceError, SourceId, Sources, Want};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::config::EngineConfig;
use crate::error::{Failure, ServeError};

type Package = (TitleId, PackageId);

/// An index as it lies in memory is a few vectors of entries: about twice its encoding.
const WEIGHT_OF_ENCODED: usize = 2;

pub(crate) struct Catalog {
    sources: Arc<Sources>,
    trusted: Vec<PublicKey>,
    indexes: Cache<Package, Loaded>,
    misses: Cache<Package, Miss>,
    loads: Semaphore,
    load_wait: Duration,
    deadline: Duration,
    miss_for: Duration,
}

#[derive(Clone)]
struct Loaded {
    index: Arc<Index>,
    weight: u32,
}

/// Remembered with its end in tokio's time: the cache's own clock is private.
#[derive(Clone)]
struct Miss {
    error: ServeError,
    until: Instant,
}

impl Catalog {
    pub(crate) fn new(config: &EngineConfig, sources: Arc<Sources>, trusted: Vec<PublicKey>) -> Self {
        let indexes = Cache::builder().max_capacity(config.index_cache_bytes.bytes());
        Self {
            sources,
            trusted,
            indexes: indexes.weigher(|_, loaded: &Loaded| loaded.weight).build(),
            misses: Cache::new(config.max_index_misses),
            loads: Semaphore::new(config.max_index_loads),
            load_wait: config.admission_wait,
            deadline: config.index_deadline,
            miss_for: config.index_miss_for,
        }
    }

    /// The index of a key's package; one load for all who ask at the same time. When the caller whose request
    /// runs the load walks away, another waiter starts it anew.
    pub(crate) async fn index(&self, key: &SegmentKey) -> Result<Arc<Index>, ServeError> {
        let package = (key.title.clone(), key.package);
        if let Some(loaded) = self.indexes.get(&package).await {
            return Ok(loaded.index);
        }
        if let Some(miss) = self.misses.get(&package).await.filter(|miss| miss.until > Instant::now()) {
            return Err(miss.error);
        }
        let loaded = self.indexes.try_get_with_by_ref(&package, self.load(&package)).await;
        loaded.map(|loaded| loaded.index).map_err(|error| ServeError::clone(&error))
    }

    async fn load(&self, package: &Package) -> Result<Loaded, ServeError> {
        let Ok(Ok(_permit)) = timeout(self.load_wait, self.loads.acquire()).await else {
            return Err(ServeError::new(Failure::Overloaded, "too many indexes are being loaded"));
        };
        let loaded = self.fetch(package).await;
        if let Err(error) = &loaded
            && matches!(error.reason, Failure::NoSuchTitle | Failure::Untrusted)
        {
            let miss = Miss { error: error.clone(), until: Instant::now() + self.miss_for };
            self.misses.insert(package.clone(), miss).await;
        }
        loaded
    }

    /// Asks one source after another until one of them has an index that a trusted key signed. An index that
    /// does not open may be the fault of ingest, not of the source that keeps it: nobody is demoted for it,
    /// but no source is asked twice either.
    async fn fetch(&self, (title, package): &Package) -> Result<Loaded, ServeError> {
        let path = object_path(title, *package, INDEX_OBJECT);
        let deadline = Instant::now() + self.deadline;
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
            match self.open(&mut leg).await {
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

    async fn open(&self, leg: &mut Leg) -> Result<Result<Loaded, ServeError>, SourceError> {
        if leg.promised() > MAX_INDEX_LEN as u64 {
            let detail = format!("{} bytes, an index has at most {MAX_INDEX_LEN}", leg.promised());
            return Ok(Err(ServeError::new(Failure::Untrusted, detail)));
        }
        let bytes = receive(leg).await?;
        leg.chunk().await?;
        let weight = u32::try_from(bytes.len() * WEIGHT_OF_ENCODED).unwrap_or(u32::MAX);
        let opened = Index::open(&bytes, &self.trusted);
        Ok(opened
            .map(|index| Loaded { index: Arc::new(index), weight })
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
