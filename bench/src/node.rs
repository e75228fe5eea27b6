//! The real engine over the real store, with the film in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{Engine, EngineConfig, Outcome};
use futures_util::{TryStreamExt, stream};
use media::index::SigningKey;
use media::{ByteRange, SegmentKey};
use prometheus::Registry;
use sourcing::{
    BoxFuture, Offer, Opened, Price, Reason, Source, SourceError, SourceId, SourceKind, Sources,
    SourcingConfig, Want,
};
use store::{SegmentStore, StoreConfig};

use crate::film::Film;
use crate::{Doing, Fault};

/// How often a segment is asked for until it must be in memory, a millisecond apart.
const WARM_TRIES: u32 = 5_000;

/// A node whose memory holds the whole film.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) registry: Registry,
}

impl Node {
    /// Builds the node and reads every segment until it is a memory hit.
    pub(crate) async fn warm(film: &Film) -> Result<Self, Fault> {
        let key = SigningKey::from_seed([7; 32]);
        let registry = Registry::new();
        let id: SourceId = "film".parse().doing("naming the source")?;
        let source = Arc::new(FilmSource { id, objects: film.objects(&key)? });
        let offer = Offer { source, price: Price::default() };
        let sources = Sources::new(SourcingConfig::default(), vec![offer], &registry).doing("sourcing")?;
        let store =
            SegmentStore::open(&StoreConfig::default(), Vec::new(), &registry).await.doing("the store")?;
        let engine = Engine::new(
            EngineConfig::default(),
            store,
            sources,
            vec![key.public()],
            Arc::default(),
            &registry,
        );
        let node = Self { engine: engine.doing("the engine")?, registry };
        for piece in &film.pieces {
            node.settle(&piece.key).await?;
        }
        Ok(node)
    }

    async fn settle(&self, key: &SegmentKey) -> Result<(), Fault> {
        for _ in 0..WARM_TRIES {
            let serving = self.open(key).await?;
            let outcome = serving.outcome;
            let _: Vec<Bytes> = serving.body.try_collect().await.doing("filling a segment")?;
            if outcome == Outcome::Memory {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(Fault::new("warming up", format_args!("{key} does not stay in memory")))
    }

    /// The way of a request through the engine, up to the first bytes.
    pub(crate) async fn open(&self, key: &SegmentKey) -> Result<engine::Serving, Fault> {
        let described = self.engine.describe(key).await.doing("describing")?;
        let range = ByteRange::whole(described.len()).ok_or_else(|| Fault::new("serving", "an empty one"))?;
        self.engine.serve(&described, range, None).await.doing("serving")
    }
}

/// A store of objects in memory.
struct FilmSource {
    id: SourceId,
    objects: HashMap<String, Bytes>,
}

impl Source for FilmSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let error = |reason| SourceError::new(reason, &want.object);
            let object = self.objects.get(&want.object).ok_or_else(|| error(Reason::NotFound))?;
            let len = object.len() as u64;
            let (start, end) = want.range.map_or((0, len), |range| (range.start(), range.end()));
            if end > len {
                return Err(error(Reason::Changed));
            }
            let body = object.slice(start as usize..end as usize);
            Ok(Opened { len: end - start, body: Box::pin(stream::iter([Ok(body)])) })
        })
    }
}
