//! The bounded I/O pool: at most so many operations in the kernel at once, whichever way they take.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::io::pwritev;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::files::{Files, Handle};
use super::options::IoBackend;
use super::transfer::{Call, Transfer};
use super::uring::Ring;

/// More places than any disk has use for.
const MOST_PLACES: u32 = 1024;

/// The right to be in the kernel. It travels with the operation, not with the caller: whoever walks away
/// leaves it behind, and it comes back when the kernel is done.
pub(super) type Place = OwnedSemaphorePermit;

/// A transfer with everything it needs, so that it ends well without its caller.
pub(super) struct Job {
    pub(super) handle: Handle,
    pub(super) transfer: Transfer,
    pub(super) files: Arc<Files>,
    pub(super) place: Place,
}

impl Job {
    /// Ends the job with the kernel's last word. The place is free when this returns.
    pub(super) fn finish(self, outcome: io::Result<()>) -> io::Result<Bytes> {
        match outcome {
            Ok(()) => Ok(self.transfer.into_bytes()),
            Err(error) => {
                self.files.failed(&self.handle, &error);
                if self.transfer.is_sync() {
                    self.files.sync_failed(self.handle.name);
                }
                Err(error)
            }
        }
    }

    /// Does all of it on this thread.
    fn run(mut self) -> io::Result<Bytes> {
        loop {
            let answer = match self.transfer.next() {
                Call::Read { at, into } => self.handle.file().read_at(into, at),
                Call::Write { at, from } => pwritev(&self.handle, &from, at).map_err(io::Error::from),
                Call::Sync { data_only } => sync(self.handle.file(), data_only).map(|()| 0),
            };
            if let ControlFlow::Break(outcome) = self.transfer.advance(answer) {
                return self.finish(outcome);
            }
        }
    }
}

fn sync(file: &File, data_only: bool) -> io::Result<()> {
    if data_only { file.sync_data() } else { file.sync_all() }
}

/// A bounded number of places and the way into the kernel.
#[derive(Debug)]
pub(super) struct Pool {
    places: Arc<Semaphore>,
    size: u32,
    ring: Mutex<Option<Arc<Ring>>>,
}

impl Pool {
    /// No thread and no ring yet: [`Pool::start`] makes them.
    pub(super) fn new(size: usize) -> Self {
        let size = u32::try_from(size).unwrap_or(u32::MAX).clamp(1, MOST_PLACES);
        Self { places: Arc::new(Semaphore::new(size as usize)), size, ring: Mutex::new(None) }
    }

    /// Chooses the way into the kernel. May block. A ring that works is kept.
    ///
    /// # Errors
    /// When only an io_uring is wanted and the kernel does not give one.
    pub(super) fn start(&self, io: IoBackend) -> io::Result<()> {
        if io == IoBackend::Threads || self.ring().as_ref().is_some_and(|ring| ring.works()) {
            return Ok(());
        }
        let ring = match Ring::start(self.size) {
            Ok(ring) => Some(Arc::new(ring)),
            Err(error) if io == IoBackend::IoUring => {
                let text = format!("io_uring cannot be used ({error}); the other ways are auto and threads");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            Err(error) => {
                tracing::info!(%error, "io_uring cannot be used; the disk is worked with threads");
                None
            }
        };
        *self.ring() = ring;
        Ok(())
    }

    fn ring(&self) -> MutexGuard<'_, Option<Arc<Ring>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. Nothing has happened yet if the caller walks away here.
    pub(super) async fn place(&self) -> io::Result<Place> {
        self.places.clone().acquire_owned().await.map_err(io::Error::other)
    }

    /// Waits until nothing is in the kernel, and lets nothing in while the result is held.
    pub(super) async fn all_places(&self) -> io::Result<Place> {
        self.places.clone().acquire_many_owned(self.size).await.map_err(io::Error::other)
    }

    /// Runs a call that blocks, on a thread, and gives the place back for more. It ends even when the caller
    /// walks away.
    pub(super) async fn call<T, F>(&self, place: Place, call: F) -> io::Result<(T, Place)>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        tokio::task::spawn_blocking(move || Ok((call()?, place))).await.map_err(io::Error::other)?
    }

    /// Runs a transfer to its end, even when the caller walks away.
    pub(super) async fn run(&self, job: Job) -> io::Result<Bytes> {
        let ring = self.ring().clone();
        let refused = match ring {
            Some(ring) => match ring.submit(job) {
                Ok(answer) => return answer.await.map_err(io::Error::other)?,
                Err(job) => job,
            },
            None => job,
        };
        tokio::task::spawn_blocking(move || refused.run()).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::device::FileName;
    use crate::device::files::Purpose;

    #[tokio::test]
    async fn calls_keep_their_places_when_their_callers_walk_away() {
        let pool = Arc::new(Pool::new(2));
        let (release, released) = sync_channel::<()>(0);
        let (begin, begun) = sync_channel(5);
        let released = Arc::new(Mutex::new(released));
        let callers: Vec<_> = (0..5)
            .map(|number| {
                let (pool, begin, released) = (pool.clone(), begin.clone(), released.clone());
                tokio::spawn(async move {
                    let place = pool.place().await?;
                    let call = move || {
                        begin.send(number).map_err(io::Error::other)?;
                        released.lock().expect("no panic").recv().map_err(io::Error::other)
                    };
                    pool.call(place, call).await.map(drop)
                })
            })
            .collect();
        // The blocking receive must not stop the runtime of the callers.
        let (first, begun) = tokio::task::spawn_blocking(move || ([begun.recv(), begun.recv()], begun))
            .await
            .expect("no panic");
        assert!(first.iter().all(Result::is_ok));
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        for caller in callers {
            assert!(caller.await.expect_err("aborted").is_cancelled());
        }
        assert_eq!(pool.places.available_permits(), 0, "two calls hang, though nobody waits for them");
        assert!(begun.try_recv().is_err(), "the other three never began");
        drop(release);
        drop(pool.all_places().await.expect("both come back"));
        assert!(begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_broken_ring_is_done_without_and_replaced_by_the_next_start() {
        let temp = tempfile::tempdir().expect("a directory");
        let files = Arc::new(Files::new(temp.path().to_owned(), 1, false));
        let pool = Pool::new(1);
        if let Err(error) = pool.start(IoBackend::IoUring) {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            return eprintln!("skipped: {error}");
        }
        let write = async |text: &'static str| {
            let handle = files.open(FileName::Log(1), Purpose::Write)?;
            let transfer = Transfer::write(0, vec![Bytes::from_static(text.as_bytes())], false);
            pool.run(Job { handle, transfer, files: files.clone(), place: pool.place().await? }).await
        };
        let ring = pool.ring().clone().expect("started");
        pool.start(IoBackend::Auto).expect("runs already");
        assert!(pool.ring().as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &ring)));
        write("first").await.expect("writes through the ring");
        ring.refuse_from_now_on();
        write("other").await.expect("writes with a thread");
        let written = std::fs::read(temp.path().join(FileName::Log(1).to_string()));
        assert_eq!(written.expect("there"), b"other");
        pool.start(IoBackend::Auto).expect("starts anew");
        assert!(pool.ring().as_ref().is_some_and(|ring| ring.works()));
    }
}
