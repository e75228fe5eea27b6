//! One load for all who ask for the same thing, owned by a task of its own.
//!
//! Whoever asks first begins the load and whoever asks meanwhile waits for it; all of them may leave. The load
//! puts what it found where it is kept before it lands, so a flight that begins later finds it there.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// The loads that are under way.
pub(crate) struct Flights<K, V> {
    flying: Mutex<HashMap<K, Arc<Landing<V>>>>,
    limit: usize,
}

/// Where those who wait for a load hear of it, in the order they came.
struct Landing<V> {
    found: OnceLock<Result<V, Grounded>>,
    landed: Notify,
}

/// Why there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grounded {
    /// Too many loads are under way.
    Full,
    /// The task was stopped before its end.
    Stopped,
}

impl<V: Clone> Landing<V> {
    async fn wait(&self) -> Result<V, Grounded> {
        let mut landed = pin!(self.landed.notified());
        // Listening begins before the look, so that nothing falls between them.
        landed.as_mut().enable();
        if let Some(found) = self.found.get() {
            return found.clone();
        }
        landed.await;
        self.found.get().cloned().unwrap_or(Err(Grounded::Stopped))
    }
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
        let landing = self.landing(key, tasks, load)?;
        landing.wait().await
    }

    fn landing<F>(
        self: &Arc<Self>,
        key: &K,
        tasks: &TaskTracker,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<Landing<V>>, Grounded>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let landing = {
            let mut flying = self.lock();
            if let Some(landing) = flying.get(key) {
                return Ok(Arc::clone(landing));
            }
            if flying.len() >= self.limit {
                return Err(Grounded::Full);
            }
            let landing = Arc::new(Landing { found: OnceLock::new(), landed: Notify::new() });
            flying.insert(key.clone(), Arc::clone(&landing));
            landing
        };
        let flight = Flight { flights: Arc::clone(self), key: key.clone(), landing: Arc::clone(&landing) };
        let load = load();
        // Not under the lock: a runtime that shuts down drops the task at once, and the flight takes the lock.
        tasks.spawn(async move {
            let found = load.await;
            // Told by the flight, which is over now.
            let _ = flight.landing.found.set(Ok(found));
        });
        Ok(landing)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Landing<V>>>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load's place in the table; given back however its task ends, and then those who wait hear of it.
struct Flight<K: Eq + Hash, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
    landing: Arc<Landing<V>>,
}

impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        self.flights.flying.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.landing.found.get_or_init(|| Err(Grounded::Stopped));
        self.landing.landed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::runtime::Runtime;
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

    #[test]
    fn a_load_that_cannot_begin_any_more_is_told_at_once() {
        let runtime = Runtime::new().expect("a runtime");
        let handle = runtime.handle().clone();
        drop(runtime);
        let (told, hears) = mpsc::sync_channel(1);
        // On a thread of its own: a lock that is taken twice would never let go.
        std::thread::spawn(move || {
            let _entered = handle.enter();
            let (flights, tasks) = (Flights::<_, ()>::new(1), TaskTracker::new());
            let found = flights.join(&1, &tasks, std::future::pending).now_or_never();
            told.send((found, flights.lock().len())).expect("heard");
        });
        let found = hears.recv_timeout(Duration::from_secs(5)).expect("an answer");
        assert_eq!(found, (Some(Err(Grounded::Stopped)), 0));
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
