//! One load for all who ask for the same thing, owned by a task of its own.
//!
//! Whoever asks first begins the load and whoever asks meanwhile waits for it; all of them may leave. The load
//! puts what it found where it is kept before it lands, so a flight that begins later finds it there.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

type Ticket<V> = watch::Receiver<Option<V>>;

/// The loads that are under way.
pub(crate) struct Flights<K, V> {
    flying: Mutex<HashMap<K, Ticket<V>>>,
    limit: usize,
}

/// Why there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grounded {
    /// Too many loads are under way.
    Full,
    /// The task was stopped before its end.
    Stopped,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { flying: Mutex::default(), limit })
    }

    /// Waits for the load of a key; where none is under way, begins `load`. Walking away leaves it to the others.
    pub(crate) async fn join<F>(
        self: &Arc<Self>,
        key: &K,
        tasks: &TaskTracker,
        load: impl FnOnce() -> F,
    ) -> Result<V, Grounded>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut ticket = self.ticket(key, tasks, load)?;
        let landed = ticket.wait_for(Option::is_some).await.map_err(|_| Grounded::Stopped)?;
        landed.clone().ok_or(Grounded::Stopped)
    }

    fn ticket<F>(
        self: &Arc<Self>,
        key: &K,
        tasks: &TaskTracker,
        load: impl FnOnce() -> F,
    ) -> Result<Ticket<V>, Grounded>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flying = self.lock();
        if let Some(ticket) = flying.get(key) {
            return Ok(ticket.clone());
        }
        if flying.len() >= self.limit {
            return Err(Grounded::Full);
        }
        let (landing, ticket) = watch::channel(None);
        flying.insert(key.clone(), ticket.clone());
        let (load, flight) = (load(), Flight { flights: Arc::clone(self), key: key.clone() });
        tasks.spawn(async move {
            let found = load.await;
            drop(flight);
            landing.send_replace(Some(found));
        });
        Ok(ticket)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Ticket<V>>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load's place in the table; given back however its task ends.
struct Flight<K: Eq + Hash, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        self.flights.flying.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_load_survives_whoever_began_it() {
        let (flights, tasks, loads) = (Flights::new(1), TaskTracker::new(), Arc::new(AtomicU32::new(0)));
        let load = || {
            let loads = Arc::clone(&loads);
            async move {
                sleep(Duration::from_secs(1)).await;
                loads.fetch_add(1, Ordering::Relaxed)
            }
        };
        let first = timeout(Duration::from_millis(10), flights.join(&"key", &tasks, load)).await;
        assert!(first.is_err(), "the first leaves");
        let others = join_all((0..100).map(|_| flights.join(&"key", &tasks, load))).await;
        assert!(others.iter().all(|found| *found == Ok(0)), "{others:?}");
        assert_eq!(flights.join(&"other", &tasks, load).await, Ok(1), "the place was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_at_most() {
        let (flights, tasks) = (Flights::<_, ()>::new(1), TaskTracker::new());
        let waiting = flights.join(&1, &tasks, std::future::pending);
        let refused = timeout(Duration::from_secs(1), flights.join(&2, &tasks, std::future::pending));
        let (waiting, refused) = tokio::join!(timeout(Duration::from_secs(1), waiting), refused);
        assert!(waiting.is_err());
        assert_eq!(refused, Ok(Err(Grounded::Full)));
    }
}
