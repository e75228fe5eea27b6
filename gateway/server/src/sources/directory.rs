//! Objects as files below one directory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use sourcing::{BoxFuture, Opened, Reason, Source, SourceError, SourceId, SourceKind, Want};

use super::answer::{check_total, checked_name, exact, fault};

/// A directory of packages: `<root>/<title>/<package>/<object>`.
///
/// Reads go to the runtime's blocking threads, one `read_bytes` at a time; what nobody waits for any more is
/// not read. The file stays open for the length of a transfer, so a package that is replaced meanwhile ends
/// as the package it began as.
#[derive(Debug)]
pub(crate) struct DirectorySource {
    id: SourceId,
    root: PathBuf,
    read_bytes: usize,
}

impl DirectorySource {
    pub(crate) fn new(id: SourceId, root: PathBuf, read_bytes: usize) -> Self {
        Self { id, root, read_bytes: read_bytes.max(1) }
    }

    async fn transfer(&self, want: &Want) -> Result<Opened, SourceError> {
        let path = self.root.join(checked_name(&want.object)?);
        let (file, total) = blocking(move || open(&path)).await.map_err(|error| told(&error))?;
        check_total(Some(total), want)?;
        let (start, end) = want.range.map_or((0, total), |range| (range.start(), range.end()));
        if end > total {
            return Err(fault(Reason::Changed, format_args!("{} has only {total} bytes", want.object)));
        }
        let read = Read { file: Arc::new(file), at: start, end, step: self.read_bytes };
        Ok(Opened { len: end - start, body: exact(end - start, stream::try_unfold(read, Read::next)) })
    }
}

impl Source for DirectorySource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(self.transfer(want))
    }
}

/// A transfer in progress.
struct Read {
    file: Arc<File>,
    at: u64,
    end: u64,
    step: usize,
}

impl Read {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, SourceError> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let (file, at, len) = (Arc::clone(&self.file), self.at, left.min(self.step));
        if len == 0 {
            return Ok(None);
        }
        let chunk = blocking(move || read(&file, at, len)).await.map_err(|error| told(&error))?;
        if chunk.is_empty() {
            // The file was cut after it was opened; `exact` says so.
            return Ok(None);
        }
        self.at += chunk.len() as u64;
        Ok(Some((chunk, self)))
    }
}

fn open(path: &std::path::Path) -> io::Result<(File, u64)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn read(file: &File, at: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    loop {
        match file.read_at(&mut buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(count) => {
                buffer.truncate(count);
                return Ok(buffer.into());
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn told(error: &io::Error) -> SourceError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Reason::NotFound,
        io::ErrorKind::PermissionDenied => Reason::Refused,
        _ => Reason::Unavailable,
    };
    fault(reason, error)
}
