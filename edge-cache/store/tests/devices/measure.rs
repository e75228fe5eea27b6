//! What each way into the kernel costs on this machine. Not a test: it has no opinion.
//!
//! `cargo test --release -p store --test devices -- --ignored --nocapture measure`

use std::fs;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use store::device::PAGE;
use store::{Device, DirDevice, DirOptions, FileName, IoBackend};
use tokio::time::Instant;

use crate::support::{SLAB, bytes_of};

const SIZE: u64 = 512 << 20;
const AT_ONCE: usize = 8;
const WRITE: usize = 4 << 20;
const READS: u64 = 4_096;
const ROUNDS: usize = 5;

/// Seconds of all threads of this process, those that the kernel runs for it included.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("a process");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// Does so many operations of so many bytes, some of them at once, and tells what they cost.
async fn stage<F: Future<Output = ()>>(
    name: &str,
    ops: u64,
    bytes: u64,
    at_once: usize,
    op: impl Fn(u64) -> F,
) {
    let timed = |n| {
        let done = op(n);
        async move {
            let start = Instant::now();
            done.await;
            start.elapsed()
        }
    };
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let mut waits: Vec<Duration> = stream::iter(0..ops).map(timed).buffer_unordered(at_once).collect().await;
    let (cpu, wall) = (cpu_seconds() - cpu, start.elapsed().as_secs_f64());
    waits.sort_unstable();
    let wait = |percent: usize| waits[(waits.len() - 1) * percent / 100];
    println!(
        "{name:42} {:8.0} ops/s {:7.1} us CPU/op {:6.3} CPU-s/GB  p50 {:?} p99 {:?}",
        ops as f64 / wall,
        cpu * 1e6 / ops as f64,
        cpu / (ops * bytes) as f64 * 1e9,
        wait(50),
        wait(99),
    );
}

async fn measure(io: IoBackend, direct: bool) {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let options = DirOptions { io, direct, io_threads: AT_ONCE, ..DirOptions::default() };
    let device = &DirDevice::new(temp.path().to_owned(), options);
    device.open().await.expect("opens");
    device.resize(SLAB, SIZE).await.expect("room");
    let name = |what: &str| format!("{io:?} direct={direct} {what}");
    let parts: Vec<_> = (0..WRITE / 16_384).map(|n| bytes_of(n as u64, 16_384)).collect();
    for what in ["write 4 MiB, new room", "write 4 MiB again"] {
        let write = |n| {
            let parts = parts.clone();
            async move { device.write(SLAB, n * WRITE as u64, parts).await.expect("writes") }
        };
        stage(&name(what), SIZE / WRITE as u64, WRITE as u64, AT_ONCE, write).await;
        device.sync(SLAB).await.expect("syncs");
    }
    for (what, len) in [("read 256 KiB", 256 << 10), ("read 16 KiB", 16 << 10)] {
        let place = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % ((SIZE - len) / PAGE) * PAGE;
        let read = |n| async move { drop(device.read(SLAB, place(n), len as usize).await.expect("reads")) };
        stage(&name(what), READS, len, AT_ONCE, read).await;
        stage(&name(&format!("{what}, one by one")), READS / 4, len, 1, read).await;
    }
    let append = |n| async move {
        device.write(FileName::Log(1), n * 100, vec![bytes_of(n, 100)]).await.expect("writes");
        device.sync(FileName::Log(1)).await.expect("syncs");
    };
    stage(&name("append and sync"), 100, 100, 1, append).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, of a minute or two and 512 MiB of disk"]
async fn measure_the_ways_into_the_kernel() {
    for _ in 0..ROUNDS {
        for direct in [true, false] {
            for io in [IoBackend::Threads, IoBackend::IoUring] {
                measure(io, direct).await;
            }
        }
    }
}
