//! The seam to a disk: a few large files that are read and written at any place.
//!
//! The tier above owns the format, the index, the room and the recovery; a device only moves bytes. It is not
//! trusted to return what was written: everything that is read from it is verified above.
//!
//! What a device promises, and the tier relies on:
//! - a write that returned `Ok` is read back by everybody who comes later, a killed and restarted process
//!   included; only a loss of power may undo it, unless a [`Device::sync`] of that file came after it;
//! - a write that failed, or whose caller walked away, may have taken place in whole, in part (by pages of
//!   4096 bytes) or not at all; one whose caller walked away may also take place later, so that its pages must
//!   not be given to anybody else before a [`Device::close`] has returned;
//! - at most a configured number of operations run at once, [`Device::open`] included. One that hangs keeps its
//!   place until it ends, even when its caller has walked away, so that hung calls cannot pile up.

mod buffer;
mod dir;
mod files;
mod memory;
mod options;
mod pool;
mod transfer;
mod uring;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::str::FromStr;

use bytes::Bytes;

pub use self::dir::DirDevice;
pub use self::memory::MemoryDevice;
pub use self::options::{DirOptions, IoBackend};

/// A boxed future, so that devices can stand behind `Arc<dyn Device>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The unit of everything in a slab: offsets and lengths there are multiples of it.
pub const PAGE: u64 = 4096;

/// Names one file of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    /// `disk.weir`: what this disk is; two pages.
    Superblock,
    /// `index-<generation>.log`: what lies where; appended to, in pieces of any length.
    Log(u64),
    /// `slab-<number>.dat`: segments. Written and read in whole pages at page boundaries only.
    Slab(u32),
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superblock => f.write_str("disk.weir"),
            Self::Log(generation) => write!(f, "index-{generation:08}.log"),
            Self::Slab(number) => write!(f, "slab-{number:05}.dat"),
        }
    }
}

/// The name is not of a file of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no file of a disk tier is called so")]
pub struct Stranger;

impl FromStr for FileName {
    type Err = Stranger;

    fn from_str(text: &str) -> Result<Self, Stranger> {
        let number = |prefix: &str, suffix: &str| text.strip_prefix(prefix)?.strip_suffix(suffix);
        let log = || number("index-", ".log")?.parse().ok().map(Self::Log);
        let slab = || number("slab-", ".dat")?.parse().ok().map(Self::Slab);
        let name = if text == "disk.weir" { Some(Self::Superblock) } else { log().or_else(slab) };
        // One name, one spelling: no signs, no other number of zeros.
        name.filter(|name| name.to_string() == text).ok_or(Stranger)
    }
}

/// A few large files. Errors are the operating system's.
pub trait Device: Send + Sync {
    /// Takes the device over and lists its files with their lengths. Called at the start, and again after a
    /// failure or a [`Device::close`]: whatever was open before is opened anew, so that a disk that was
    /// unplugged and mounted again is found. [`io::ErrorKind::WouldBlock`] while another process holds it.
    fn open(&self) -> BoxFuture<'_, io::Result<Vec<(FileName, u64)>>>;

    /// Lets go of the device for another process, after what is under way has ended: until the next
    /// [`Device::open`] writes, syncs and resizes fail with [`io::ErrorKind::Other`]. Files stay readable.
    fn close(&self) -> BoxFuture<'_, io::Result<()>>;

    /// Exactly `len` bytes from `at` on; [`io::ErrorKind::UnexpectedEof`] when the file is shorter,
    /// [`io::ErrorKind::NotFound`] when there is none, [`io::ErrorKind::InvalidInput`] for less than pages of a
    /// slab.
    fn read(&self, file: FileName, at: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>>;

    /// Writes the parts one after the other from `at` on, making the file longer where it has to (and making
    /// the file, when it is no slab). What is wrong with the place fails as in [`Device::read`].
    fn write(&self, file: FileName, at: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;

    /// After `Ok`, nothing written to the file before can be lost with the power, its length and name included,
    /// nor can a file that is not there come back. A sync that failed keeps failing until the next
    /// [`Device::open`]: the kernel forgets what it could not write, so a second try would prove nothing. What
    /// was written since the last good sync counts as lost then, unless its checksum says otherwise.
    fn sync(&self, file: FileName) -> BoxFuture<'_, io::Result<()>>;

    /// Makes a file exactly so long, making the file if need be and setting its room aside, so that later
    /// writes within it do not find the disk full ([`io::ErrorKind::StorageFull`] now instead). New bytes read
    /// as zeros. 0 removes the file; one that is not there is removed already. Must not run together with other
    /// operations on the same file.
    fn resize(&self, file: FileName, len: u64) -> BoxFuture<'_, io::Result<()>>;
}

/// Refuses what no file of this kind may be asked for, before any device sees it.
fn check_place(file: FileName, at: u64, len: u64) -> io::Result<()> {
    let whole_pages = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
    if matches!(file, FileName::Slab(_)) && !whole_pages {
        let text = format!("{file}: {len} bytes at {at} are not whole pages");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // The kernel's offsets are signed.
    if at.checked_add(len).is_none_or(|end| i64::try_from(end).is_err()) {
        let text = format!("{file}: {len} bytes at {at} end beyond any file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// What is answered while another process may own the files.
fn closed() -> io::Error {
    io::Error::other("the device is closed; nothing is written before it is opened again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_one_name() {
        for name in [FileName::Superblock, FileName::Log(0), FileName::Log(u64::MAX), FileName::Slab(12)] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in
            ["", "lock", "disk", "index-1.log", "index-+0000001.log", "slab-00001", "slab-99999999999.dat"]
        {
            assert_eq!(text.parse::<FileName>(), Err(Stranger), "{text}");
        }
    }
    #[test]
    fn slabs_are_asked_for_in_pages_and_nothing_beyond_the_end_of_files() {
        let (slab, log, last) = (FileName::Slab(1), FileName::Log(1), i64::MAX as u64);
        for (file, at, len, fine) in [
            (slab, 0, PAGE, true),
            (slab, 3 * PAGE, 0, true),
            (slab, 1, PAGE, false),
            (slab, PAGE, PAGE + 1, false),
            (log, 1, 1, true),
            (log, last, 0, true),
            (log, last, 1, false),
            (log, u64::MAX, 2, false),
        ] {
            assert_eq!(check_place(file, at, len).is_ok(), fine, "{file} {at} {len}");
        }
    }
}
