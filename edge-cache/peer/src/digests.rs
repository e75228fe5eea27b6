//! The group digests of what we serve. The store vouches for its bytes but hands out no digest lists, so a
//! segment is hashed when a neighbour first asks for it, and the list is kept.

use std::fmt;
use std::sync::Arc;

use media::{Digest, GroupDigests};
use moka::future::Cache;
use store::Stored;
use tokio::sync::Semaphore;

use crate::config::LinkConfig;

/// Why there is no list for a segment that the store holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoDigests {
    #[error("it could not be read: {0}")]
    Read(&'static str),
    #[error("its bytes are not those of its root")]
    Root,
    #[error("the node is shutting down")]
    Closing,
}

/// Bounded by bytes; one hashing for each root, whoever waits for it.
pub(crate) struct DigestLists {
    known: Cache<Digest, Arc<GroupDigests>>,
    hashing: Arc<Semaphore>,
}

impl fmt::Debug for DigestLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestLists").finish_non_exhaustive()
    }
}

impl DigestLists {
    pub(crate) fn new(config: &LinkConfig) -> Self {
        let known = Cache::builder()
            .max_capacity(config.digest_cache.bytes())
            .weigher(|_, list: &Arc<GroupDigests>| bytes(list))
            .build();
        Self { known, hashing: Arc::new(Semaphore::new(config.max_hashing)) }
    }

    /// The list of a stored segment, hashed now if it is not known.
    pub(crate) async fn of(&self, root: Digest, held: &Stored) -> Result<Arc<GroupDigests>, NoDigests> {
        let list = self.known.try_get_with(root, self.hash(root, held)).await;
        list.map_err(|error| NoDigests::clone(&error))
    }

    async fn hash(&self, root: Digest, held: &Stored) -> Result<Arc<GroupDigests>, NoDigests> {
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| NoDigests::Closing)?;
        let body = match held {
            Stored::Memory(body) => body.clone(),
            Stored::Disk(object) => object.body().await.map_err(|fault| NoDigests::Read(fault.as_str()))?,
        };
        let hashed = tokio::task::spawn_blocking(move || {
            let list = GroupDigests::of(&body.groups().concat());
            drop(permit);
            list
        });
        let list = hashed.await.map_err(|_| NoDigests::Closing)?;
        if list.root() == root { Ok(Arc::new(list)) } else { Err(NoDigests::Root) }
    }
}

/// What a list costs: its digests, its root and a little for the table.
fn bytes(list: &GroupDigests) -> u32 {
    u32::try_from(list.as_slice().len() * 32 + 160).unwrap_or(u32::MAX)
}
