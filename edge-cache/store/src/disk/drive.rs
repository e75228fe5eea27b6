//! A device with a patience: every operation ends, in time or with an error.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use super::geometry::{Geometry, Piece, deal};
use super::room::Extent;
use crate::device::{Device, FileName};

/// Opening lists a directory and setting room aside may write to it: they get more time than a read.
const PATIENT: u32 = 3;
/// An object in many pieces takes no more of the device's places than leaves some for others.
const PIECES_AT_ONCE: usize = 4;

/// A device whose operations end with [`io::ErrorKind::TimedOut`] when it does not answer. What was begun may
/// still take place then.
#[derive(Clone)]
pub(crate) struct Drive {
    device: Arc<dyn Device>,
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Drive {
    pub(crate) fn new(device: Arc<dyn Device>, read_timeout: Duration, write_timeout: Duration) -> Self {
        Self { device, read_timeout, write_timeout }
    }

    pub(crate) async fn open(&self) -> io::Result<Vec<(FileName, u64)>> {
        within(self.write_timeout * PATIENT, self.device.open()).await
    }

    pub(crate) async fn close(&self) -> io::Result<()> {
        within(self.write_timeout, self.device.close()).await
    }

    pub(crate) async fn read(&self, file: FileName, at: u64, len: u64) -> io::Result<Bytes> {
        within(self.read_timeout, self.read_piece(file, at, len)).await
    }

    pub(crate) async fn write(&self, file: FileName, at: u64, parts: Vec<Bytes>) -> io::Result<()> {
        within(self.write_timeout, self.device.write(file, at, parts)).await
    }

    pub(crate) async fn sync(&self, file: FileName) -> io::Result<()> {
        within(self.write_timeout, self.device.sync(file)).await
    }

    pub(crate) async fn resize(&self, file: FileName, len: u64) -> io::Result<()> {
        within(self.write_timeout * PATIENT, self.device.resize(file, len)).await
    }

    /// The bytes of a range of an object, one buffer for each piece of the disk they lie in. However many those
    /// are, the patience is that for one read.
    pub(crate) async fn read_object(
        &self,
        geometry: Geometry,
        extents: &[Extent],
        range: std::ops::Range<u64>,
    ) -> io::Result<Vec<Bytes>> {
        let pieces = geometry.pieces(extents, range).into_iter();
        let reads = pieces.map(|Piece { file, at, len }| self.read_piece(file, at, len));
        within(self.read_timeout, stream::iter(reads).buffered(PIECES_AT_ONCE).try_collect()).await
    }

    async fn read_piece(&self, file: FileName, at: u64, len: u64) -> io::Result<Bytes> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.device.read(file, at, len).await
    }

    /// Writes parts of an object from a place in it on. Tells which files were written to.
    pub(crate) async fn write_object(
        &self,
        geometry: Geometry,
        extents: &[Extent],
        at: u64,
        parts: Vec<Bytes>,
    ) -> io::Result<Vec<FileName>> {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let mut files = Vec::new();
        for (piece, parts) in deal(&geometry.pieces(extents, at..at + len), parts) {
            self.write(piece.file, piece.at, parts).await?;
            files.push(piece.file);
        }
        Ok(files)
    }
}

async fn within<T>(patience: Duration, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}"));
    timeout(patience, operation).await.map_err(late)?
}
