//! Files in a directory, through the portable calls of the standard library on a bounded number of threads.
//!
//! ```text
//! <root>/lock                  held while a process uses the directory
//! <root>/incoming/<id>         being written; whatever is found here at start is unfinished
//! <root>/objects/<xx>/<id>     whole objects; <xx> are the last two hex digits of the id
//! ```

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use super::{BoxFuture, Device, FileId, Listing};
use crate::config::SyncPolicy;

/// 256 directories keep each one small at a million objects (about 4,000 names).
const SHARDS: u64 = 256;
/// No device counts this far; a name beyond it is a stranger's and must not use the numbers up.
const HIGHEST: FileId = FileId(u64::MAX / 2);

/// Files in a directory of a local file system.
///
/// At most `io_threads` threads are in file system calls at once. A call that began runs to its end on its
/// thread even when the caller walked away: its permit goes with it, so hung calls cannot pile up.
pub struct DirDevice {
    root: Arc<Path>,
    sync: SyncPolicy,
    threads: Arc<Semaphore>,
    io_threads: usize,
    _lock: File,
}

impl DirDevice {
    /// Takes a directory over, creating what is missing.
    ///
    /// # Errors
    /// The operating system's, or [`io::ErrorKind::WouldBlock`] while another process holds the directory.
    pub async fn open(root: &Path, sync: SyncPolicy, io_threads: usize) -> io::Result<Self> {
        let threads = Arc::new(Semaphore::new(io_threads));
        let root: Arc<Path> = root.into();
        let prepared = root.clone();
        let lock = blocking(&threads, move || prepare(&prepared)).await?;
        Ok(Self { root, sync, threads, io_threads, _lock: lock })
    }

    fn object(&self, file: FileId) -> PathBuf {
        shard(&self.root, file.0 % SHARDS).join(file.to_string())
    }

    async fn list_all(&self) -> io::Result<Listing> {
        let root = self.root.clone();
        let cleared = blocking(&self.threads, move || clear_incoming(&incoming(&root))).await?;
        let shards = stream::iter(0..SHARDS).map(|number| {
            let dir = shard(&self.root, number);
            blocking(&self.threads, move || list_shard(&dir, number))
        });
        let add = |mut all: Listing, part: Listing| async move {
            all.files.extend(part.files);
            all.strangers += part.strangers;
            Ok(all)
        };
        shards.buffer_unordered(self.io_threads).try_fold(cleared, add).await
    }
}

impl Device for DirDevice {
    fn list(&self) -> BoxFuture<'_, io::Result<Listing>> {
        Box::pin(self.list_all())
    }

    fn read(&self, file: FileId, range: Range<u64>) -> BoxFuture<'_, io::Result<Bytes>> {
        let path = self.object(file);
        Box::pin(blocking(&self.threads, move || read_range(&path, range)))
    }

    fn write(&self, file: FileId, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let (temporary, path) = (incoming(&self.root).join(file.to_string()), self.object(file));
        let sync = self.sync;
        Box::pin(blocking(&self.threads, move || write_whole(&temporary, &path, &parts, sync)))
    }

    fn remove(&self, file: FileId) -> BoxFuture<'_, io::Result<()>> {
        let path = self.object(file);
        Box::pin(blocking(&self.threads, move || absent_is_fine(fs::remove_file(path))))
    }
}

/// Runs one call on a thread of its own. The permit lives as long as the call.
async fn blocking<T, F>(threads: &Arc<Semaphore>, call: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let permit = threads.clone().acquire_owned().await.map_err(io::Error::other)?;
    let run = move || {
        let _permit = permit;
        call()
    };
    tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?
}

fn incoming(root: &Path) -> PathBuf {
    root.join("incoming")
}

fn shard(root: &Path, number: u64) -> PathBuf {
    root.join("objects").join(format!("{number:02x}"))
}

fn prepare(root: &Path) -> io::Result<File> {
    fs::create_dir_all(incoming(root))?;
    let lock = File::options().create(true).write(true).truncate(false).open(root.join("lock"))?;
    lock.try_lock()?;
    for number in 0..SHARDS {
        fs::create_dir_all(shard(root, number))?;
    }
    Ok(lock)
}

/// Only names of our own form are touched: a directory given by mistake loses nothing.
fn clear_incoming(dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if parse_name(&entry).is_some() {
            absent_is_fine(fs::remove_file(entry.path()))?;
            listing.leftovers += 1;
        } else {
            listing.strangers += 1;
        }
    }
    Ok(listing)
}

fn list_shard(dir: &Path, number: u64) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match parse_name(&entry).filter(|file| file.0 % SHARDS == number) {
            Some(file) if entry.file_type()?.is_file() => listing.files.push((file, entry.metadata()?.len())),
            _ => listing.strangers += 1,
        }
    }
    Ok(listing)
}

fn parse_name(entry: &fs::DirEntry) -> Option<FileId> {
    let name = entry.file_name();
    let name = name.to_str()?;
    let id = FileId(u64::from_str_radix(name, 16).ok()?);
    (id.to_string() == name && id <= HIGHEST).then_some(id)
}

fn read_range(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let wanted = range.end.saturating_sub(range.start);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut buffer = Vec::with_capacity(usize::try_from(wanted).map_err(io::Error::other)?);
    file.take(wanted).read_to_end(&mut buffer)?;
    if buffer.len() as u64 == wanted { Ok(buffer.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Bytes under a temporary name, then synced if so configured, then the final name.
fn write_whole(temporary: &Path, path: &Path, parts: &[Bytes], sync: SyncPolicy) -> io::Result<()> {
    let written = write_parts(temporary, parts, sync).and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // The first error is the one to tell; a temporary file that stays is cleared at the next start.
        let _ = fs::remove_file(temporary);
    }
    written
}

fn write_parts(path: &Path, parts: &[Bytes], sync: SyncPolicy) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    match sync {
        SyncPolicy::None => Ok(()),
        SyncPolicy::Data => file.sync_data(),
    }
}

fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
