//! Every device that this machine can run, each over a place of its own.

use std::io::ErrorKind;
use std::path::PathBuf;

use bytes::Bytes;
use store::device::PAGE;
use store::{Device, DirDevice, DirOptions, FileName, IoBackend, MemoryDevice};
use tempfile::TempDir;

pub(crate) const LOG: FileName = FileName::Log(7);
pub(crate) const SLAB: FileName = FileName::Slab(3);
pub(crate) const PAGE_LEN: usize = PAGE as usize;

/// A device, and the way to its place for a second process.
pub(crate) struct Rig {
    pub(crate) name: String,
    pub(crate) device: Box<dyn Device>,
    place: Place,
}

enum Place {
    Dir(TempDir, DirOptions),
    Memory(MemoryDevice),
}

impl Rig {
    fn dir(io: IoBackend, direct: bool) -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        let options = DirOptions { io, direct, io_threads: 4, open_files: 3 };
        let name = format!("{io:?}, direct: {direct}");
        Self {
            name,
            device: Box::new(DirDevice::new(root(&temp), options)),
            place: Place::Dir(temp, options),
        }
    }

    fn memory() -> Self {
        let device = MemoryDevice::new();
        let place = Place::Memory(device.another_process());
        Self { name: "memory".into(), device: Box::new(device), place }
    }

    /// The same files as another process sees them, not opened.
    pub(crate) fn another_process(&self) -> Box<dyn Device> {
        match &self.place {
            Place::Dir(temp, options) => Box::new(DirDevice::new(root(temp), *options)),
            Place::Memory(device) => Box::new(device.another_process()),
        }
    }

    /// Kills the process and starts it again.
    pub(crate) async fn restart(&mut self) -> Vec<(FileName, u64)> {
        self.device = self.another_process();
        // What the dead process left in the kernel holds its lock until it has ended.
        loop {
            match self.device.open().await {
                Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::task::yield_now().await,
                opened => return opened.expect("opens"),
            }
        }
    }

    pub(crate) async fn read(&self, file: FileName, at: u64, len: usize) -> Bytes {
        let read = self.device.read(file, at, len).await;
        read.unwrap_or_else(|error| panic!("{}: {file} {len} at {at}: {error}", self.name))
    }

    pub(crate) async fn write(&self, file: FileName, at: u64, bytes: &[u8]) {
        let written = self.device.write(file, at, vec![Bytes::copy_from_slice(bytes)]).await;
        written.unwrap_or_else(|error| panic!("{}: {file} at {at}: {error}", self.name));
    }

    pub(crate) async fn resize(&self, file: FileName, len: u64) {
        let resized = self.device.resize(file, len).await;
        resized.unwrap_or_else(|error| panic!("{}: {file} to {len}: {error}", self.name));
    }

    pub(crate) async fn fails_to_read(&self, file: FileName, at: u64, len: usize) -> ErrorKind {
        let read = self.device.read(file, at, len).await;
        read.expect_err(&format!("{}: {file} {len} at {at}", self.name)).kind()
    }
}

fn root(temp: &TempDir) -> PathBuf {
    temp.path().join("made/when/opened")
}

/// Every device, open and empty. An io_uring that the kernel refuses is left out with a message.
pub(crate) async fn rigs() -> Vec<Rig> {
    let mut rigs = vec![Rig::memory()];
    for io in [IoBackend::Threads, IoBackend::IoUring] {
        rigs.extend([Rig::dir(io, false), Rig::dir(io, true)]);
    }
    let mut open = Vec::new();
    for rig in rigs {
        match rig.device.open().await {
            Ok(files) => {
                assert_eq!(files, [], "{}", rig.name);
                open.push(rig);
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                eprintln!("skipped: {}: {error}", rig.name);
            }
            Err(error) => panic!("{}: {error}", rig.name),
        }
    }
    open
}

/// Bytes that follow from a seed, different at every place.
pub(crate) fn bytes_of(seed: u64, len: usize) -> Bytes {
    (0..len as u64).map(|at| ((at * 31 + seed * 17 + (at >> 8) * 7 + (at >> 12) * 3) % 251) as u8).collect()
}
