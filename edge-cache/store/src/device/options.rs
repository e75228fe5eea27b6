//! How a directory is worked with.

use serde::{Deserialize, Serialize};

/// How a [`DirDevice`](super::DirDevice) works with its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirOptions {
    /// Which way operations take into the kernel; default `auto`.
    pub io: IoBackend,
    /// Most operations in the kernel at once, at least 1; default 8. One that hangs keeps its place.
    pub io_threads: usize,
    /// Whether slabs bypass the page cache; default `true`. The memory tier decides what stays in memory then,
    /// and no segment is held twice. File systems that refuse it are used with the page cache.
    pub direct: bool,
    /// Most files kept open, at least 1; default 256. The one that was used longest ago is closed first.
    pub open_files: usize,
}

impl Default for DirOptions {
    fn default() -> Self {
        Self { io: IoBackend::Auto, io_threads: 8, direct: true, open_files: 256 }
    }
}

/// The way reads, writes and syncs take into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoBackend {
    /// `io-uring` where the kernel allows it, `threads` where it does not. Eight direct reads at once cost the
    /// ring 0.18 CPU-s/GB and threads 0.25 in pieces of 256 KiB, 1.0 and 3.0 in pieces of 16 KiB, at the same
    /// rate; writes cost no more (`tests/devices/measure.rs`).
    Auto,
    /// One io_uring for each device; opening the device fails where the kernel does not allow it.
    IoUring,
    /// One thread for each operation that is under way.
    Threads,
}
