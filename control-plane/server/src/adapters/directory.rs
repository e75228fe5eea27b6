//! A directory as object store: what runs without a cloud, and what a gateway on the same machine reads.
//!
//! An object is a file at its name. A put writes a file beside the tree, forces it to the disk and renames it
//! into place, so a reader sees an old object, a new one or none, never half of one, also after a power cut.
//! One control plane owns the directory: at start it removes what an earlier process left half written.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::TryStreamExt;
use media::ByteRange;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use crate::seams::{BoxFuture, ObjectError, ObjectInfo, ObjectRead, ObjectStore, Payload, check_object_name};

/// Where puts are prepared. No object name begins with a dot, so it can never be one.
const STAGING: &str = ".staging";
/// Bytes per read: large enough that syscalls do not count.
const READ_LEN: usize = 128 * 1024;

/// The object store.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    puts: AtomicU64,
}

impl DirectoryStore {
    /// Opens the directory, creating it if absent, and forgets unfinished puts. A store that is only read from
    /// may be read-only.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] when the directory cannot be made or cleaned.
    pub async fn open(root: &Path) -> Result<Self, ObjectError> {
        fs::create_dir_all(root).await.map_err(|e| failed(root, &e))?;
        let staging = root.join(STAGING);
        match fs::remove_dir_all(&staging).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&staging, &error)),
            _ => {}
        }
        Ok(Self { root: root.to_owned(), puts: AtomicU64::new(0) })
    }

    fn path(&self, name: &str) -> Result<PathBuf, ObjectError> {
        check_object_name(name)?;
        Ok(self.root.join(name))
    }

    async fn put_staged(&self, name: &str, payload: &Payload) -> Result<u64, ObjectError> {
        let path = self.path(name)?;
        let staging = self.root.join(STAGING);
        let staged = staging.join(self.puts.fetch_add(1, Ordering::Relaxed).to_string());
        let place = async {
            fs::create_dir_all(&staging).await?;
            let len = write_durably(&staged, payload).await?;
            let parent = path.parent().unwrap_or(&self.root);
            fs::create_dir_all(parent).await?;
            fs::rename(&staged, &path).await?;
            // The rename is durable only when the directory is.
            File::open(parent).await?.sync_all().await?;
            Ok(len)
        };
        place.await.map_err(|e: io::Error| failed(&path, &e))
    }
}

impl ObjectStore for DirectoryStore {
    fn put<'a>(&'a self, name: &'a str, payload: Payload) -> BoxFuture<'a, Result<u64, ObjectError>> {
        Box::pin(async move { self.put_staged(name, &payload).await })
    }

    fn read<'a>(
        &'a self,
        name: &'a str,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Result<ObjectRead, ObjectError>> {
        Box::pin(async move {
            let path = self.path(name)?;
            let (mut file, what) = open_file(&path, name).await?;
            let total = what.len();
            let (start, end) = range.map_or((0, total), |range| (range.start(), range.end()));
            if end > total {
                return Err(ObjectError::Range(name.to_owned()));
            }
            file.seek(io::SeekFrom::Start(start)).await.map_err(|e| failed(&path, &e))?;
            let len = end - start;
            let reader = ReaderStream::with_capacity(file.take(len), READ_LEN);
            let version = version(&what);
            Ok(ObjectRead { len, version, body: Box::pin(reader.map_err(move |e| failed(&path, &e))) })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>, ObjectError>> {
        Box::pin(async move {
            // The part of the prefix up to its last slash is a directory; the rest filters.
            let base = prefix.rsplit_once('/').map_or("", |(directory, _)| directory);
            if !base.is_empty() {
                check_object_name(base)?;
            }
            let mut found = Vec::new();
            let mut pending = vec![base.to_owned()];
            while let Some(directory) = pending.pop() {
                self.list_one(&directory, &mut pending, &mut found).await?;
            }
            found.retain(|object| object.name.starts_with(prefix));
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            let path = self.path(name)?;
            match fs::remove_file(&path).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&path, &e)),
                _ => {}
            }
            // Directories are not objects: those that became empty go too.
            let mut parent = path.parent();
            while let Some(directory) = parent.filter(|directory| *directory != self.root) {
                if fs::remove_dir(directory).await.is_err() {
                    break;
                }
                parent = directory.parent();
            }
            Ok(())
        })
    }

    fn local(&self, name: &str) -> Option<PathBuf> {
        self.path(name).ok()
    }
}

impl DirectoryStore {
    async fn list_one(
        &self,
        directory: &str,
        pending: &mut Vec<String>,
        found: &mut Vec<ObjectInfo>,
    ) -> Result<(), ObjectError> {
        let path = self.root.join(directory);
        let mut entries = match fs::read_dir(&path).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|e| failed(&path, &e))?,
        };
        while let Some(entry) = entries.next_entry().await.map_err(|e| failed(&path, &e))? {
            let Ok(file) = entry.file_name().into_string() else { continue };
            let name = if directory.is_empty() { file } else { format!("{directory}/{file}") };
            if check_object_name(&name).is_err() {
                continue;
            }
            match fs::metadata(entry.path()).await {
                Ok(what) if what.is_dir() => pending.push(name),
                Ok(what) => found.push(ObjectInfo { name, len: what.len() }),
                // Removed while we looked.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

async fn open_file(path: &Path, name: &str) -> Result<(File, Metadata), ObjectError> {
    let missing = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let file = match File::open(path).await {
        Err(e) if missing(&e) => return Err(ObjectError::NotFound(name.to_owned())),
        file => file.map_err(|e| failed(path, &e))?,
    };
    let what = file.metadata().await.map_err(|e| failed(path, &e))?;
    if what.is_dir() { Err(ObjectError::NotFound(name.to_owned())) } else { Ok((file, what)) }
}

/// Reading a film to hash it would take minutes; an edit that keeps both length and time is no accident.
fn version(what: &Metadata) -> String {
    let changed = what.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{}-{}", what.len(), changed.as_nanos())
}

async fn write_durably(path: &Path, payload: &Payload) -> io::Result<u64> {
    let mut file = File::create(path).await?;
    let len = match payload {
        Payload::Bytes(bytes) => write_bytes(&mut file, bytes).await?,
        Payload::File(from) => tokio::io::copy(&mut File::open(from).await?, &mut file).await?,
    };
    file.flush().await?;
    file.sync_all().await?;
    Ok(len)
}

async fn write_bytes(file: &mut File, bytes: &Bytes) -> io::Result<u64> {
    file.write_all(bytes).await?;
    Ok(bytes.len() as u64)
}

fn failed(path: &Path, error: &io::Error) -> ObjectError {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => ObjectError::Refused(detail),
        _ => ObjectError::Unavailable(detail),
    }
}
