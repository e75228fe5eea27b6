//! What only a directory can get wrong.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use bytes::Bytes;
use store::device::PAGE;
use store::{Device, DirDevice, DirOptions, FileName, IoBackend};

use crate::mount::Mount;
use crate::support::{LOG, PAGE_LEN, SLAB, bytes_of};

fn device(root: &Path, open_files: usize) -> DirDevice {
    DirDevice::new(root.to_owned(), DirOptions { open_files, ..DirOptions::default() })
}

async fn write(device: &DirDevice, file: FileName, text: &'static str) -> Result<(), ErrorKind> {
    device.write(file, 0, vec![Bytes::from_static(text.as_bytes())]).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn strangers_are_left_alone() {
    let temp = tempfile::tempdir().expect("a directory");
    let strangers =
        ["notes.txt", "slab-1.dat", "slab-00001.dat.old", "index-00000001.log~", "disk", "SLAB-00001.DAT"];
    for name in strangers {
        fs::write(temp.path().join(name), name).expect("writes");
    }
    fs::create_dir(temp.path().join("slab-00009.dat")).expect("a directory with the name of a slab");
    std::os::unix::fs::symlink("notes.txt", temp.path().join("slab-00008.dat")).expect("a link with one");
    fs::write(temp.path().join("slab-00001.dat"), vec![0; PAGE_LEN]).expect("writes");
    let device = device(temp.path(), 8);
    assert_eq!(device.open().await.expect("opens"), [(FileName::Slab(1), PAGE)]);
    device.resize(FileName::Slab(1), 0).await.expect("ours");
    device.resize(FileName::Slab(8), PAGE).await.expect_err("the link is not");
    device.read(FileName::Slab(8), 0, PAGE_LEN).await.expect_err("nor is what it leads to");
    device.close().await.expect("closes");
    for name in strangers {
        assert_eq!(fs::read_to_string(temp.path().join(name)).expect("still there"), name);
    }
    assert!(temp.path().join("slab-00009.dat").is_dir() && temp.path().join("slab-00008.dat").is_symlink());
}

#[tokio::test]
async fn another_file_system_in_its_place_is_found() {
    let temp = tempfile::tempdir().expect("a directory");
    let (root, away) = (temp.path().join("disk"), temp.path().join("away"));
    let device = device(&root, 8);
    device.open().await.expect("opens");
    write(&device, LOG, "first").await.expect("writes");
    fs::rename(&root, &away).expect("unplugged");
    assert_eq!(device.read(LOG, 0, 5).await.expect("open handles go on"), "first");
    assert_eq!(device.open().await.expect("a new disk"), []);
    write(&device, LOG, "other").await.expect("writes");
    assert_eq!(fs::read(root.join(LOG.to_string())).expect("the new file"), b"other");
    assert_eq!(fs::read(away.join(LOG.to_string())).expect("the old file"), b"first");
    let second = DirDevice::new(root, DirOptions::default());
    assert_eq!(second.open().await.expect_err("its lock was taken").kind(), ErrorKind::WouldBlock);
    let old = DirDevice::new(away, DirOptions::default());
    assert_eq!(old.open().await.expect("the old lock was let go").len(), 1);
}

#[tokio::test]
async fn a_disk_that_fails_to_open_can_be_opened_later() {
    let temp = tempfile::tempdir().expect("a directory");
    let (root, away) = (temp.path().join("disk"), temp.path().join("away"));
    let device = device(&root, 8);
    device.open().await.expect("opens");
    write(&device, LOG, "kept").await.expect("writes");
    fs::rename(&root, &away).expect("unplugged");
    fs::write(&root, "no directory").expect("writes");
    assert!(device.open().await.is_err());
    assert_eq!(write(&device, LOG, "lost").await, Err(ErrorKind::Other), "not open");
    fs::remove_file(&root).expect("removes");
    fs::rename(&away, &root).expect("plugged in again");
    assert_eq!(device.open().await.expect("opens"), [(LOG, 4)]);
    write(&device, LOG, "more").await.expect("writes");
}

#[tokio::test]
async fn a_file_that_was_replaced_is_found_after_opening_again() {
    let temp = tempfile::tempdir().expect("a directory");
    let device = device(temp.path(), 8);
    device.open().await.expect("opens");
    write(&device, LOG, "first").await.expect("writes");
    let path = temp.path().join(LOG.to_string());
    fs::rename(&path, temp.path().join("aside")).expect("renames");
    fs::write(&path, "other").expect("writes");
    assert_eq!(device.read(LOG, 0, 5).await.expect("reads"), "first");
    device.open().await.expect("opens again");
    assert_eq!(device.read(LOG, 0, 5).await.expect("reads"), "other");
}

#[tokio::test]
async fn few_files_are_open_however_many_there_are() {
    let temp = tempfile::tempdir().expect("a directory");
    let device = device(temp.path(), 5);
    device.open().await.expect("opens");
    for number in 0..40 {
        device.resize(FileName::Slab(number), PAGE).await.expect("makes room");
        device.write(FileName::Slab(number), 0, vec![bytes_of(1, PAGE_LEN)]).await.expect("writes");
    }
    let links = fs::read_dir("/proc/self/fd").expect("lists").flatten();
    let targets = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let open = targets.filter(|target| target.starts_with(temp.path()) && !target.ends_with("lock")).count();
    assert_eq!(open, 5);
}

#[tokio::test]
async fn room_is_set_aside_and_given_back() {
    let temp = tempfile::tempdir().expect("a directory");
    let device = device(temp.path(), 8);
    device.open().await.expect("opens");
    let path = temp.path().join(SLAB.to_string());
    let room = || fs::metadata(&path).map_or(0, |metadata| metadata.blocks() * 512);
    for len in [1 << 20, 8 << 20, 2 << 20] {
        device.resize(SLAB, len).await.expect("makes room");
        assert!((len..len + (1 << 16)).contains(&room()), "{} for {len}", room());
    }
    assert_eq!(
        fs::metadata(&path).expect("there").permissions().mode() & 0o777,
        0o600,
        "nobody else reads it"
    );
    device.resize(SLAB, 0).await.expect("removes");
    assert_eq!(room(), 0);
}

#[tokio::test]
async fn a_full_disk_says_so_early_and_keeps_what_it_has() {
    let temp = tempfile::tempdir().expect("a directory");
    let Some(mount) = Mount::small(&temp.path().join("small")) else { return };
    for io in [IoBackend::Threads, IoBackend::Auto] {
        let device = DirDevice::new(mount.path().to_owned(), DirOptions { io, ..DirOptions::default() });
        device.open().await.expect("opens");
        device.resize(SLAB, 64 * PAGE).await.expect("fits");
        let bytes = bytes_of(1, 64 * PAGE_LEN);
        device.write(SLAB, 0, vec![bytes.clone()]).await.expect("writes");
        for (file, len) in [(SLAB, 4 << 20), (FileName::Slab(9), 4 << 20)] {
            let error = device.resize(file, len).await.expect_err("does not fit");
            assert_eq!(error.kind(), ErrorKind::StorageFull);
        }
        let beyond =
            device.write(LOG, 0, vec![Bytes::from(vec![1; 2 << 20])]).await.expect_err("does not fit");
        assert_eq!(beyond.kind(), ErrorKind::StorageFull);
        device.resize(LOG, 0).await.expect("gives its part back");
        assert_eq!(device.open().await.expect("opens"), [(SLAB, 64 * PAGE)], "as if nothing had been tried");
        assert_eq!(device.read(SLAB, 0, bytes.len()).await.expect("reads"), bytes);
        device.resize(FileName::Slab(9), 128 * PAGE).await.expect("the room was given back");
        device.resize(FileName::Slab(9), 0).await.expect("removes");
        device.resize(SLAB, 0).await.expect("removes");
    }
}

#[tokio::test]
async fn a_disk_that_became_read_only_is_still_read() {
    let temp = tempfile::tempdir().expect("a directory");
    let Some(mount) = Mount::small(&temp.path().join("small")) else { return };
    let first = device(mount.path(), 8);
    first.open().await.expect("opens");
    first.resize(SLAB, PAGE).await.expect("fits");
    let bytes = bytes_of(1, PAGE_LEN);
    first.write(SLAB, 0, vec![bytes.clone()]).await.expect("writes");
    drop(first);
    mount.read_only();
    let device = device(mount.path(), 8);
    assert_eq!(device.open().await.expect("opens"), [(SLAB, PAGE)]);
    for _ in 0..2 {
        assert_eq!(device.read(SLAB, 0, PAGE_LEN).await.expect("reads"), bytes);
        let refused = device.write(SLAB, 0, vec![bytes.clone()]).await.expect_err("read-only");
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
        let refused = device.resize(SLAB, 2 * PAGE).await.expect_err("read-only");
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    }
}
