//! The seam to the disk: numbered files that appear whole or not at all.
//!
//! The tier above owns the format, the index, the capacity and the recovery; a device only moves bytes. It is
//! not trusted to return what was written: everything read from it is verified above.

mod dir;
mod memory;

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

pub use self::dir::DirDevice;
pub use self::memory::MemoryDevice;

/// A boxed future, so that devices can stand behind `Arc<dyn Device>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names one file of a device. Numbers grow and are never given twice, so a late removal can never hit a newer
/// object, and their order is the order in which objects were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a device holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Every file with its length in bytes, in no particular order.
    pub files: Vec<(FileId, u64)>,
    /// How many unfinished writes were found and cleared away.
    pub leftovers: u64,
    /// How many things were found that no device of ours wrote; they are left alone.
    pub strangers: u64,
}

/// Numbered files that appear whole or not at all.
///
/// Errors are the operating system's. Dropping a future may leave its operation running; it still ends in one
/// of the states that its documentation names.
pub trait Device: Send + Sync {
    /// Clears unfinished writes away and lists what is there. Called once, before anything else.
    fn list(&self) -> BoxFuture<'_, io::Result<Listing>>;

    /// Exactly the bytes of a range; [`io::ErrorKind::UnexpectedEof`] when the file is shorter,
    /// [`io::ErrorKind::NotFound`] when there is none.
    fn read(&self, file: FileId, range: Range<u64>) -> BoxFuture<'_, io::Result<Bytes>>;

    /// Stores a new file, the parts one after the other. After `Ok` it is listed and readable, and a killed
    /// process does not change that; after an error it may be there whole, in part or not at all.
    fn write(&self, file: FileId, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;

    /// Removes a file. One that is not there is removed already.
    fn remove(&self, file: FileId) -> BoxFuture<'_, io::Result<()>>;
}
