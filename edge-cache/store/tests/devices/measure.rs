//! What each way into the kernel costs on this machine. Not a test: it has no opinion.
//!
//! `cargo test --release -p store --test devices -- --ignored --nocapture measure`

use std::fs;

use futures_util::{StreamExt, stream};
use store::device::PAGE;
use store::{Device, DirDevice, DirOptions, FileName, IoBackend};
use tokio::time::Instant;

use crate::support::{SLAB, bytes_of};

const SIZE: u64 = 1 << 30;
const AT_ONCE: usize = 8;
const READ: usize = 256 << 10;
const WRITE: usize = 4 << 20;
const READS: u64 = 8_192;

/// Seconds of all threads of this process, those of the kernel for it included.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("a process");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

async fn stage(name: &str, ops: u64, bytes: u64, work: impl Future<Output = ()>) {
    let (cpu, start) = (cpu_seconds(), Instant::now());
    work.await;
    let (cpu, wall) = (cpu_seconds() - cpu, start.elapsed().as_secs_f64());
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "{name:40} {:8.0} ops/s {:6.2} GB/s {:6.3} CPU-s/GB",
        ops as f64 / wall,
        gigabytes / wall,
        cpu / gigabytes
    );
}

async fn measure(io: IoBackend, direct: bool, round: u64) {
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let options = DirOptions { io, direct, io_threads: AT_ONCE, ..DirOptions::default() };
    let device = DirDevice::new(temp.path().to_owned(), options);
    device.open().await.expect("opens");
    device.resize(SLAB, SIZE).await.expect("room");
    let name = |what: &str| format!("{round} {io:?} direct={direct} {what}");
    let parts: Vec<_> = (0..WRITE / 16_384).map(|n| bytes_of(n as u64, 16_384)).collect();
    for what in ["write into new room", "write again"] {
        let writes = stream::iter((0..SIZE).step_by(WRITE)).map(|at| device.write(SLAB, at, parts.clone()));
        let all = async {
            writes.buffer_unordered(AT_ONCE).for_each(|done| async { done.expect("writes") }).await;
            device.sync(SLAB).await.expect("syncs");
        };
        stage(&name(what), SIZE / WRITE as u64, SIZE, all).await;
    }
    let place = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % ((SIZE - READ as u64) / PAGE) * PAGE;
    let reads = stream::iter(0..READS).map(|n| device.read(SLAB, place(n), READ));
    let all = reads.buffer_unordered(AT_ONCE).for_each(|done| async { drop(done.expect("reads")) });
    stage(&name("read 256 KiB"), READS, READS * READ as u64, all).await;
    let reads = stream::iter(0..READS).map(|n| device.read(SLAB, place(n), 16_384));
    let all = reads.buffer_unordered(AT_ONCE).for_each(|done| async { drop(done.expect("reads")) });
    stage(&name("read 16 KiB"), READS, READS * 16_384, all).await;
    let appends = async {
        for at in 0..200 {
            device.write(FileName::Log(1), at * 100, vec![bytes_of(at, 100)]).await.expect("writes");
            device.sync(FileName::Log(1)).await.expect("syncs");
        }
    };
    stage(&name("append and sync"), 200, 20_000, appends).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, of a minute or two and 1 GiB of disk"]
async fn measure_the_ways_into_the_kernel() {
    for round in 0..3 {
        for direct in [true, false] {
            for io in [IoBackend::Threads, IoBackend::IoUring] {
                measure(io, direct, round).await;
            }
        }
    }
}
