//! Purges, as far as this program has a part in them: the engine's tiers, then the shelf.

use std::sync::{Arc, OnceLock};

use engine::{Engine, PurgeKind, Purged, Scope};
use front::{Purge, Purging};
use tokio::sync::RwLock;

use crate::sources::Shelf;

/// Carries purges out once there is something to purge, and as long as this process holds the disks.
#[derive(Default)]
pub(crate) struct Purger {
    cache: OnceLock<Cache>,
    /// True while another process holds the disks: a purge here would be lost. A purge holds it for reading.
    elsewhere: Arc<RwLock<bool>>,
}

#[derive(Clone)]
struct Cache {
    engine: Engine,
    shelf: Option<Arc<Shelf>>,
}

impl Purger {
    pub(crate) fn begin(&self, engine: &Engine, shelf: Option<&Arc<Shelf>>) {
        let cache = Cache { engine: engine.clone(), shelf: shelf.cloned() };
        // Only ever set by the start of the node.
        let _ = self.cache.set(cache);
    }

    /// Waits for the purges under way; new ones are told to come later until [`Purger::resume`].
    pub(crate) async fn suspend(&self) {
        *self.elsewhere.write().await = true;
    }

    pub(crate) async fn resume(&self) {
        *self.elsewhere.write().await = false;
    }
}

impl Purge for Purger {
    fn purge(&self, scope: Scope, kind: PurgeKind) -> Purging<'_> {
        Box::pin(async move {
            let cache = self.cache.get().cloned().ok_or("the cache is not open yet")?;
            let here = Arc::clone(&self.elsewhere).read_owned().await;
            if *here {
                return Err("another process of this node is taking over; ask again".to_owned());
            }
            // A task of its own: it goes on when the operator hangs up.
            let purge = tokio::spawn(async move {
                let purged = cache.purge(&scope, kind).await;
                drop(here);
                purged
            });
            purge.await.map_err(|_| "the purge broke off; ask again".to_owned())
        })
    }
}

impl Cache {
    async fn purge(self, scope: &Scope, kind: PurgeKind) -> Purged {
        let purged = self.engine.purge(scope, kind).await;
        if let (PurgeKind::Hard, Some(shelf)) = (kind, self.shelf) {
            let scope = scope.clone();
            let forgotten = tokio::task::spawn_blocking(move || shelf.forget(&scope)).await;
            match forgotten.map_err(std::io::Error::other).and_then(|forgotten| forgotten) {
                Ok(indexes) => tracing::debug!(indexes, "indexes went with a purge"),
                Err(error) => tracing::warn!(%error, "a purged index may still be on the shelf"),
            }
        }
        purged
    }
}
