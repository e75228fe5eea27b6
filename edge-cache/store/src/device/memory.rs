//! A device in memory, for tests and simulation.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{BoxFuture, Device, FileId, Listing};

/// A device in memory, for tests and simulation: no thread, no file, only tokio's clock, so that the real
/// index, writer and recovery run in virtual time.
///
/// What it holds outlives the store that used it: opening a second store over it is what a restart after
/// `kill -9` finds. Faults stay until they are taken back.
#[derive(Debug, Default)]
pub struct MemoryDevice {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<FileId, Bytes>,
    leftovers: u64,
    operations: u64,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Faults {
    reads: Option<io::ErrorKind>,
    writes: Option<io::ErrorKind>,
    removals: Option<io::ErrorKind>,
    stuck: Option<FileId>,
    capacity: Option<u64>,
    delay: Duration,
    tear: Option<u64>,
    operations_left: Option<u64>,
}

impl MemoryDevice {
    /// An empty device without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every read fails so, until `None`.
    pub fn fail_reads(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.reads = fault;
    }

    /// Every write fails so and leaves nothing, until `None`.
    pub fn fail_writes(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.writes = fault;
    }

    /// Every removal fails so, until `None`.
    pub fn fail_removals(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.removals = fault;
    }

    /// This one file cannot be removed, until `None`.
    pub fn stick(&self, file: Option<FileId>) {
        self.lock().faults.stuck = file;
    }

    /// Writes that would take the files beyond so many bytes fail as on a full disk, until `None`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().faults.capacity = bytes;
    }

    /// Every operation takes so long, in tokio's time.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().faults.delay = delay;
    }

    /// The next write leaves only its first `len` bytes under its final name and fails: a power cut that kept
    /// the name and lost the rest.
    pub fn tear_next_write(&self, len: u64) {
        self.lock().faults.tear = Some(len);
    }

    /// After so many more operations every further one fails and changes nothing, as if the process had been
    /// killed there. `None` starts it again.
    pub fn stop_after(&self, operations: Option<u64>) {
        self.lock().faults.operations_left = operations;
    }

    /// How many operations were begun.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Every file with its length, in order.
    #[must_use]
    pub fn files(&self) -> Vec<(FileId, u64)> {
        self.lock().files.iter().map(|(file, bytes)| (*file, bytes.len() as u64)).collect()
    }

    /// The bytes of a file.
    #[must_use]
    pub fn contents(&self, file: FileId) -> Option<Bytes> {
        self.lock().files.get(&file).cloned()
    }

    /// Puts a file there, whatever it holds.
    pub fn put(&self, file: FileId, bytes: Bytes) {
        self.lock().files.insert(file, bytes);
    }

    /// Flips bits of one byte: `mask` says which. Nothing happens past the end.
    pub fn flip(&self, file: FileId, at: u64, mask: u8) {
        let mut state = self.lock();
        let Some(bytes) = state.files.get_mut(&file) else { return };
        let mut changed = BytesMut::from(&bytes[..]);
        if let Some(byte) = usize::try_from(at).ok().and_then(|at| changed.get_mut(at)) {
            *byte ^= mask;
        }
        *bytes = changed.freeze();
    }

    /// Cuts a file off.
    pub fn truncate(&self, file: FileId, len: u64) {
        if let Some(bytes) = self.lock().files.get_mut(&file) {
            bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        }
    }

    /// Pretends that so many unfinished writes lie about.
    pub fn leave_leftovers(&self, count: u64) {
        self.lock().leftovers += count;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as an operation takes, then lets it act unless the device has stopped.
    async fn operate<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T> + Send) -> io::Result<T> {
        let delay = self.begin()?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        act(&mut self.lock())
    }

    fn begin(&self) -> io::Result<Duration> {
        let mut state = self.lock();
        state.operations += 1;
        match &mut state.faults.operations_left {
            Some(0) => return Err(io::ErrorKind::BrokenPipe.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state.faults.delay)
    }
}

impl State {
    fn list(&mut self) -> Listing {
        let files = self.files.iter().map(|(file, bytes)| (*file, bytes.len() as u64)).collect();
        Listing { files, leftovers: std::mem::take(&mut self.leftovers), strangers: 0 }
    }

    fn read(&self, file: FileId, range: &Range<u64>) -> io::Result<Bytes> {
        refuse(self.faults.reads)?;
        let bytes = self.files.get(&file).ok_or(io::ErrorKind::NotFound)?;
        if range.end > bytes.len() as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A copy, as from any device: what is read stays what it was when the file changes.
        Ok(Bytes::copy_from_slice(&bytes[range.start as usize..range.end as usize]))
    }

    fn write(&mut self, file: FileId, parts: &[Bytes]) -> io::Result<()> {
        refuse(self.faults.writes)?;
        let mut bytes = Bytes::from(parts.concat());
        if let Some(len) = self.faults.tear.take() {
            bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            self.files.insert(file, bytes);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let held: u64 = self.files.values().map(|bytes| bytes.len() as u64).sum();
        if self.faults.capacity.is_some_and(|capacity| held + bytes.len() as u64 > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.files.insert(file, bytes);
        Ok(())
    }

    fn remove(&mut self, file: FileId) -> io::Result<()> {
        refuse(self.faults.removals)?;
        refuse(self.faults.stuck.filter(|stuck| *stuck == file).map(|_| io::ErrorKind::PermissionDenied))?;
        self.files.remove(&file);
        Ok(())
    }
}

fn refuse(fault: Option<io::ErrorKind>) -> io::Result<()> {
    fault.map_or(Ok(()), |kind| Err(kind.into()))
}

impl Device for MemoryDevice {
    fn list(&self) -> BoxFuture<'_, io::Result<Listing>> {
        Box::pin(self.operate(|state| Ok(state.list())))
    }

    fn read(&self, file: FileId, range: Range<u64>) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(self.operate(move |state| state.read(file, &range)))
    }

    fn write(&self, file: FileId, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.operate(move |state| state.write(file, &parts)))
    }

    fn remove(&self, file: FileId) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.operate(move |state| state.remove(file)))
    }
}
