//! Files in a directory of a local file system.
//!
//! ```text
//! <root>/lock                      locked while a process uses the directory; the kernel releases it when
//!                                  the process dies
//! <root>/disk.weir                 the superblock
//! <root>/index-<generation>.log    what lies where
//! <root>/slab-<number>.dat         segments
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::files::{Files, Handle, Purpose, SyncPlan};
use super::options::{DirOptions, IoBackend};
use super::pool::{Job, Place, Pool};
use super::transfer::Transfer;
use super::{BoxFuture, Device, FileName, check_place, closed};

/// Files in a directory of a local file system.
///
/// At most [`DirOptions::io_threads`] operations are in the kernel at once. One that began runs to its end even
/// when its caller walked away, and keeps its place and its buffers until then. Callers that wait for a place
/// and walk away have changed nothing.
#[derive(Debug)]
pub struct DirDevice {
    files: Arc<Files>,
    pool: Arc<Pool>,
    io: IoBackend,
}

impl DirDevice {
    /// A device over a directory that nobody has looked at yet: [`Device::open`] does.
    #[must_use]
    pub fn new(root: PathBuf, options: DirOptions) -> Self {
        let DirOptions { io, io_threads, direct, open_files } = options;
        let files = Arc::new(Files::new(root, open_files, direct));
        Self { files, pool: Arc::new(Pool::new(io_threads)), io }
    }

    async fn take_over(&self) -> io::Result<Vec<(FileName, u64)>> {
        let place = self.pool.place().await?;
        let (files, pool, io) = (self.files.clone(), self.pool.clone(), self.io);
        let take = move || {
            let listing = files.take()?;
            pool.start(io)?;
            files.open_for_changes();
            Ok(listing)
        };
        Ok(self.pool.call(place, take).await?.0)
    }

    async fn let_go(&self) -> io::Result<()> {
        self.files.close();
        // Whoever came in before that holds a place until it has ended.
        let _places = self.pool.all_places().await?;
        // One of them may have been an `open`.
        self.files.close();
        self.files.let_go();
        Ok(())
    }

    /// A place for something that changes files. Held, it keeps [`DirDevice::let_go`] waiting.
    async fn place_to_change(&self) -> io::Result<Place> {
        let place = self.pool.place().await?;
        if self.files.is_open() { Ok(place) } else { Err(closed()) }
    }

    async fn handle(&self, file: FileName, purpose: Purpose, place: Place) -> io::Result<(Handle, Place)> {
        if let Some(handle) = self.files.cached(file, purpose) {
            return Ok((handle, place));
        }
        let files = self.files.clone();
        self.pool.call(place, move || files.open(file, purpose)).await
    }

    async fn run(&self, handle: Handle, transfer: Transfer, place: Place) -> io::Result<Bytes> {
        self.pool.run(Job { handle, transfer, files: self.files.clone(), place }).await
    }

    async fn read_file(&self, file: FileName, at: u64, len: usize) -> io::Result<Bytes> {
        check_place(file, at, len as u64)?;
        let place = self.pool.place().await?;
        let (handle, place) = self.handle(file, Purpose::Read, place).await?;
        let transfer = Transfer::read(at, len, handle.direct);
        if transfer.is_empty() { Ok(Bytes::new()) } else { self.run(handle, transfer, place).await }
    }

    async fn write_file(&self, file: FileName, at: u64, parts: Vec<Bytes>) -> io::Result<()> {
        check_place(file, at, parts.iter().map(|part| part.len() as u64).sum())?;
        let place = self.place_to_change().await?;
        let (handle, place) = self.handle(file, Purpose::Write, place).await?;
        let transfer = Transfer::write(at, parts, handle.direct);
        if transfer.is_empty() { Ok(()) } else { self.run(handle, transfer, place).await.map(drop) }
    }

    async fn sync_file(&self, file: FileName) -> io::Result<()> {
        let place = self.place_to_change().await?;
        let plan = self.files.plan_sync(file)?;
        let place = match self.handle(file, Purpose::Read, place).await {
            Ok((handle, place)) => {
                self.run(handle, Transfer::sync(plan.settled), place).await?;
                self.place_to_change().await?
            }
            // It is the absence that is made safe then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.place_to_change().await?,
            Err(error) => return Err(error),
        };
        if plan.settled { Ok(()) } else { self.sync_names(file, plan, place).await }
    }

    async fn sync_names(&self, file: FileName, plan: SyncPlan, place: Place) -> io::Result<()> {
        let files = self.files.clone();
        self.pool.call(place, move || files.sync_names(file, plan)).await.map(drop)
    }

    async fn resize_file(&self, file: FileName, len: u64) -> io::Result<()> {
        check_place(file, 0, len)?;
        let place = self.place_to_change().await?;
        let files = self.files.clone();
        self.pool.call(place, move || files.resize(file, len)).await.map(drop)
    }
}

impl Device for DirDevice {
    fn open(&self) -> BoxFuture<'_, io::Result<Vec<(FileName, u64)>>> {
        Box::pin(self.take_over())
    }

    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.let_go())
    }

    fn read(&self, file: FileName, at: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(self.read_file(file, at, len))
    }

    fn write(&self, file: FileName, at: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.write_file(file, at, parts))
    }

    fn sync(&self, file: FileName) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.sync_file(file))
    }

    fn resize(&self, file: FileName, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.resize_file(file, len))
    }
}
