//! A device in memory, for tests and simulation.

mod chance;
mod image;

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::image::{Files, Image};
use super::{BoxFuture, Device, FileName, check_place, closed};

/// Places of a device that was not told otherwise.
const PLACES: u32 = 8;

/// A device in memory, for tests and simulation: no thread, no file, only tokio's clock, so that the real
/// index, writer and recovery run in virtual time.
///
/// What it holds outlives the store that used it: opening a second store over it is what a restart after
/// `kill -9` finds, and [`MemoryDevice::lose_power`] is a restart after a power cut. Faults stay until they are
/// taken back. As with a real disk an operation that began runs to its end when its caller walks away.
#[derive(Debug)]
pub struct MemoryDevice {
    disk: Arc<Disk>,
    process: u64,
}

#[derive(Debug)]
struct Disk {
    state: Mutex<State>,
    places: Arc<Semaphore>,
    size: u32,
    hung: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    files: Files,
    faults: Faults,
    operations: u64,
    /// Which process has the device open.
    owner: Option<u64>,
    processes: u64,
    /// Counts power losses: what began before one has no effect after it.
    power_losses: u64,
    /// Files whose last sync failed.
    unsound: Vec<FileName>,
}

#[derive(Debug, Default)]
struct Faults {
    opens: Option<io::ErrorKind>,
    reads: Option<io::ErrorKind>,
    writes: Option<io::ErrorKind>,
    syncs: Option<io::ErrorKind>,
    resizes: Option<io::ErrorKind>,
    capacity: Option<u64>,
    delay: Duration,
    tear: Option<u64>,
    operations_left: Option<u64>,
}

impl Default for MemoryDevice {
    fn default() -> Self {
        Self::with_places(PLACES)
    }
}

impl MemoryDevice {
    /// An empty device without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty device that does so many operations at once, at least 1.
    #[must_use]
    pub fn with_places(places: u32) -> Self {
        let size = places.max(1);
        let places = Arc::new(Semaphore::new(size as usize));
        let disk = Disk { state: Mutex::default(), places, size, hung: watch::Sender::new(false) };
        Self { disk: Arc::new(disk), process: 0 }
    }

    /// The same disk as another process sees it, which has not opened it.
    #[must_use]
    pub fn another_process(&self) -> Self {
        let mut state = self.lock();
        state.processes += 1;
        Self { disk: self.disk.clone(), process: state.processes }
    }

    /// The disk as the next process finds it after whoever had it open was killed.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        self.lock().owner = None;
        self.another_process()
    }

    /// Every open fails so, until `None`: the disk is unplugged.
    pub fn fail_opens(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.opens = fault;
    }

    /// Every read fails so, until `None`.
    pub fn fail_reads(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.reads = fault;
    }

    /// Every write fails so and changes nothing, until `None`.
    pub fn fail_writes(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.writes = fault;
    }

    /// Every sync fails so, until `None`. It makes nothing safe, and as with a real kernel no later one does
    /// either: what was to be safe is shown until the power fails, and is lost then.
    pub fn fail_syncs(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.syncs = fault;
    }

    /// Every resize fails so and changes nothing, until `None`.
    pub fn fail_resizes(&self, fault: Option<io::ErrorKind>) {
        self.lock().faults.resizes = fault;
    }

    /// What would take the files beyond so many bytes of whole pages fails as on a full disk, until `None`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().faults.capacity = bytes;
    }

    /// Every operation takes so long, in tokio's time.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().faults.delay = delay;
    }

    /// Every operation that begins from now on does not come back until `hang(false)`. It keeps its place.
    pub fn hang(&self, hangs: bool) {
        self.disk.hung.send_replace(hangs);
    }

    /// The next write leaves only its first `len` bytes and fails: the process was killed in the middle.
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
    pub fn files(&self) -> Vec<(FileName, u64)> {
        self.lock().files.list()
    }

    /// The bytes of a file.
    #[must_use]
    pub fn contents(&self, file: FileName) -> Option<Bytes> {
        let state = self.lock();
        let image = state.files.get(file)?;
        Some(image.read(0, usize::try_from(image.len()).ok()?).into())
    }

    /// Puts a file there, whatever it holds, as safe as after a sync.
    pub fn put(&self, file: FileName, bytes: &[u8]) {
        let mut state = self.lock();
        state.files.set_len(file, 0);
        state.files.write(file, 0, bytes);
        state.files.sync(file);
    }

    /// Flips bits of one byte: `mask` says which. Nothing happens past the end.
    pub fn flip(&self, file: FileName, at: u64, mask: u8) {
        self.rot(file, at..at.saturating_add(1), |bytes| bytes[0] ^= mask);
    }

    /// Turns bytes into zeros, as far as the file goes.
    pub fn zero(&self, file: FileName, range: Range<u64>) {
        self.rot(file, range, |bytes| bytes.fill(0));
    }

    /// Exchanges `len` bytes at `a` with those at `b`, which must not overlap. Nothing happens past the end.
    pub fn swap(&self, file: FileName, a: u64, b: u64, len: usize) {
        let mut state = self.lock();
        let Some(image) = state.files.get(file) else { return };
        if a.max(b).saturating_add(len as u64) <= image.len() {
            let (from_a, from_b) = (image.read(a, len), image.read(b, len));
            state.files.rot(file, a, &from_b);
            state.files.rot(file, b, &from_a);
        }
    }

    /// Cuts a file off; one that is shorter stays as it is.
    pub fn truncate(&self, file: FileName, len: u64) {
        self.lock().files.cut(file, len);
    }

    /// The machine loses its power and comes back. What was synced is there. Of everything else each page is
    /// what it was before or after, and files that were made, removed or changed in length may be what they
    /// were or what they became; the seed alone decides. The processes are dead: whoever goes on opens anew.
    pub fn lose_power(&self, seed: u64) {
        let mut state = self.lock();
        state.files.lose_power(seed);
        state.owner = None;
        state.power_losses += 1;
        state.unsound.clear();
    }

    fn rot(&self, file: FileName, range: Range<u64>, change: impl FnOnce(&mut [u8])) {
        let mut state = self.lock();
        let Some(image) = state.files.get(file) else { return };
        let len = range.end.min(image.len()).saturating_sub(range.start);
        let mut bytes = image.read(range.start, usize::try_from(len).unwrap_or(0));
        if !bytes.is_empty() {
            change(&mut bytes);
            state.files.rot(file, range.start, &bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.disk.lock()
    }

    /// Waits for a place and as long as an operation takes, then lets it act.
    async fn operate<T, F>(&self, act: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut State) -> io::Result<T> + Send + 'static,
    {
        let place = self.disk.places.clone().acquire_owned().await.map_err(io::Error::other)?;
        self.operate_in(place, act).await
    }

    async fn operate_in<T, F>(&self, place: OwnedSemaphorePermit, act: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut State) -> io::Result<T> + Send + 'static,
    {
        let disk = self.disk.clone();
        let (delay, power_losses) = disk.lock().begin()?;
        if delay.is_zero() && !*disk.hung.borrow() {
            return act(&mut disk.lock());
        }
        // A task of its own, because it goes on without its caller.
        let operation = async move {
            let _place = place;
            // The sender lives in the disk, which is held here.
            let _ = disk.hung.subscribe().wait_for(|hung| !hung).await;
            tokio::time::sleep(delay).await;
            let mut state = disk.lock();
            if state.power_losses == power_losses { act(&mut state) } else { Err(killed()) }
        };
        tokio::spawn(operation).await.map_err(io::Error::other)?
    }
}

impl Drop for MemoryDevice {
    /// The kernel lets go for a process that dies.
    fn drop(&mut self) {
        let process = self.process;
        let mut state = self.lock();
        state.owner = state.owner.filter(|owner| *owner != process);
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self) -> io::Result<(Duration, u64)> {
        self.operations += 1;
        match &mut self.faults.operations_left {
            Some(0) => return Err(killed()),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok((self.faults.delay, self.power_losses))
    }

    fn open(&mut self, process: u64) -> io::Result<Vec<(FileName, u64)>> {
        refuse(self.faults.opens)?;
        if self.owner.is_some_and(|owner| owner != process) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.owner = Some(process);
        self.unsound.clear();
        Ok(self.files.list())
    }

    fn close(&mut self, process: u64) {
        self.owner = self.owner.filter(|owner| *owner != process);
    }

    fn check_owner(&self, process: u64) -> io::Result<()> {
        if self.owner == Some(process) { Ok(()) } else { Err(closed()) }
    }

    fn read(&self, file: FileName, at: u64, len: usize) -> io::Result<Bytes> {
        refuse(self.faults.reads)?;
        let image = self.files.get(file).ok_or(io::ErrorKind::NotFound)?;
        if len > 0 && at + len as u64 > image.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(image.read(at, len).into())
    }

    fn write(&mut self, file: FileName, at: u64, parts: &[Bytes]) -> io::Result<()> {
        refuse(self.faults.writes)?;
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let before = self.files.get(file).map(Image::len);
        if before.is_none() && matches!(file, FileName::Slab(_)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.check_room(before.unwrap_or(0), if len == 0 { 0 } else { at + len })?;
        let torn = self.faults.tear.take();
        let mut left = torn.unwrap_or(len).min(len) as usize;
        let mut place = at;
        // The file is there even when nothing is written to it.
        self.files.write(file, at, &[]);
        for part in parts {
            let here = &part[..left.min(part.len())];
            self.files.write(file, place, here);
            place += here.len() as u64;
            left -= here.len();
        }
        if torn.is_some() { Err(killed()) } else { Ok(()) }
    }

    fn sync(&mut self, file: FileName) -> io::Result<()> {
        if self.unsound.contains(&file) {
            return Err(io::Error::other(format!(
                "{file}: an earlier sync failed; nothing proves a later one"
            )));
        }
        if let Err(error) = refuse(self.faults.syncs) {
            self.unsound.push(file);
            self.files.forget_unsynced(file);
            return Err(error);
        }
        self.files.sync(file);
        Ok(())
    }

    fn resize(&mut self, file: FileName, len: u64) -> io::Result<()> {
        refuse(self.faults.resizes)?;
        self.check_room(self.files.get(file).map_or(0, Image::len), len)?;
        self.files.set_len(file, len);
        if len == 0 {
            self.unsound.retain(|unsound| *unsound != file);
        }
        Ok(())
    }

    /// Whether a file of `before` bytes may become one of `after`.
    fn check_room(&self, before: u64, after: u64) -> io::Result<()> {
        let more = after.next_multiple_of(super::PAGE).saturating_sub(before.next_multiple_of(super::PAGE));
        let room = self.files.room();
        if more > 0 && self.faults.capacity.is_some_and(|capacity| room + more > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn refuse(fault: Option<io::ErrorKind>) -> io::Result<()> {
    fault.map_or(Ok(()), |kind| Err(kind.into()))
}

fn killed() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Device for MemoryDevice {
    fn open(&self) -> BoxFuture<'_, io::Result<Vec<(FileName, u64)>>> {
        let process = self.process;
        Box::pin(self.operate(move |state| state.open(process)))
    }

    fn close(&self) -> BoxFuture<'_, io::Result<()>> {
        let process = self.process;
        Box::pin(async move {
            let places = self.disk.places.clone().acquire_many_owned(self.disk.size);
            let places = places.await.map_err(io::Error::other)?;
            let close = move |state: &mut State| {
                state.close(process);
                Ok(())
            };
            self.operate_in(places, close).await
        })
    }

    fn read(&self, file: FileName, at: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            check_place(file, at, len as u64)?;
            self.operate(move |state| state.read(file, at, len)).await
        })
    }

    fn write(&self, file: FileName, at: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let process = self.process;
        Box::pin(async move {
            check_place(file, at, parts.iter().map(|part| part.len() as u64).sum())?;
            let write = move |state: &mut State| {
                state.check_owner(process)?;
                state.write(file, at, &parts)
            };
            self.operate(write).await
        })
    }

    fn sync(&self, file: FileName) -> BoxFuture<'_, io::Result<()>> {
        let process = self.process;
        let sync = move |state: &mut State| {
            state.check_owner(process)?;
            state.sync(file)
        };
        Box::pin(self.operate(sync))
    }

    fn resize(&self, file: FileName, len: u64) -> BoxFuture<'_, io::Result<()>> {
        let process = self.process;
        Box::pin(async move {
            check_place(file, 0, len)?;
            let resize = move |state: &mut State| {
                state.check_owner(process)?;
                state.resize(file, len)
            };
            self.operate(resize).await
        })
    }
}
