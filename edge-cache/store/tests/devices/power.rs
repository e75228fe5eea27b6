//! Real file systems that lose their power: what a sync promises must hold on them, not only in our model.

use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use store::device::PAGE;
use store::{Device, DirDevice, DirOptions, FileName, IoBackend};

use crate::mount::Mount;
use crate::support::{LOG, PAGE_LEN, SLAB, bytes_of};

const NEW: FileName = FileName::Log(8);
const OLD: FileName = FileName::Slab(9);
const PAGES: u64 = 64;

fn device(mount: &Mount, options: DirOptions) -> DirDevice {
    DirDevice::new(mount.path().join("made/when/opened"), options)
}

async fn write(device: &DirDevice, file: FileName, at: u64, bytes: Bytes) {
    device.write(file, at, vec![bytes]).await.expect("writes");
}

/// Syncs some things and leaves others unsynced.
async fn before_the_loss(device: &DirDevice) {
    device.open().await.expect("opens");
    for slab in [SLAB, OLD] {
        device.resize(slab, PAGES * PAGE).await.expect("room");
        write(device, slab, 0, bytes_of(1, PAGES as usize * PAGE_LEN)).await;
        device.sync(slab).await.expect("syncs");
    }
    for at in 0..50 {
        write(device, LOG, at * 100, bytes_of(at, 100)).await;
        device.sync(LOG).await.expect("syncs");
    }
    device.resize(OLD, 0).await.expect("removes");
    device.sync(OLD).await.expect("syncs the absence");
    // From here on nothing is promised.
    write(device, SLAB, 0, bytes_of(2, PAGES as usize / 2 * PAGE_LEN)).await;
    write(device, LOG, 5_000, bytes_of(9, 100)).await;
    write(device, NEW, 0, bytes_of(9, 100)).await;
}

/// Checks the promises; says whether anything was lost that had not been promised.
async fn after_the_loss(device: &DirDevice) -> bool {
    let files = device.open().await.expect("opens");
    assert!(files.iter().all(|(file, _)| *file != OLD), "its removal was safe");
    for at in 0..50 {
        assert_eq!(device.read(LOG, at * 100, 100).await.expect("synced"), bytes_of(at, 100));
    }
    let slab = device.read(SLAB, 0, PAGES as usize * PAGE_LEN).await.expect("its length was safe");
    let (old, new) = (bytes_of(1, slab.len()), bytes_of(2, slab.len()));
    let half = slab.len() / 2;
    assert!(slab[half..] == old[half..], "synced and not touched since");
    for page in (0..half).step_by(PAGE_LEN).map(|at| at..at + PAGE_LEN) {
        assert!(slab[page.clone()] == old[page.clone()] || slab[page.clone()] == new[page], "old or new");
    }
    let tail = device.read(LOG, 5_000, 100).await.map_err(|error| error.kind());
    tail != Ok(bytes_of(9, 100)) || device.read(NEW, 0, 100).await.is_err()
}

async fn round(kind: &str, temp: &Path, options: DirOptions) -> Option<bool> {
    let (file, at) = (temp.join("image"), temp.join("mounted"));
    let mount = Mount::in_file(kind, &file, &at)?;
    let first = device(&mount, options);
    match first.open().await {
        Err(error) if error.kind() == ErrorKind::Unsupported => return None,
        opened => drop(opened.expect("opens")),
    }
    before_the_loss(&first).await;
    let lost_power = mount.lose_power();
    drop(first);
    drop(mount);
    let mount = Mount::again(&file, &at)?;
    let lost_something = after_the_loss(&device(&mount, options)).await;
    lost_power.then_some(lost_something)
}

#[tokio::test]
async fn what_was_synced_survives_a_real_file_system_that_lost_its_power() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut lost = Vec::new();
    for kind in ["xfs", "ext4"] {
        for io in [IoBackend::Threads, IoBackend::IoUring] {
            for direct in [true, false] {
                let options = DirOptions { io, direct, ..DirOptions::default() };
                lost.extend(round(kind, temp.path(), options).await);
            }
        }
    }
    let count = lost.iter().filter(|lost| **lost).count();
    println!("{} losses of power, of which {count} took something that was not promised", lost.len());
    assert!(lost.is_empty() || lost.contains(&true), "the power went and took nothing: {lost:?}");
}
