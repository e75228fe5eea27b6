//! The contract of a device, for every implementation, and what only a directory can get wrong.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use store::{Device, DirDevice, FileId, Listing, MemoryDevice, SyncPolicy};

use crate::support::{Node, Sample, with_disk};

/// What the tier relies on.
async fn keeps_the_contract(device: &dyn Device) {
    assert_eq!(device.list().await.expect("lists"), Listing::default());
    let file = FileId(0x1ff);
    assert_eq!(device.read(file, 0..1).await.expect_err("absent").kind(), ErrorKind::NotFound);
    device.remove(file).await.expect("absent is removed already");

    let parts = vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
    device.write(file, parts).await.expect("writes");
    device.write(FileId(2), vec![Bytes::new()]).await.expect("writes nothing");
    for (range, expected) in [(0..7, &b"abcdefg"[..]), (2..4, b"cd"), (6..7, b"g"), (7..7, b"")] {
        assert_eq!(device.read(file, range).await.expect("reads"), expected);
    }
    for range in [0..8, 7..8, 100..101] {
        assert_eq!(device.read(file, range).await.expect_err("short").kind(), ErrorKind::UnexpectedEof);
    }
    let many: Vec<Bytes> = (0..3000u32).map(|n| Bytes::from(n.to_le_bytes().to_vec())).collect();
    device.write(FileId(3), many.clone()).await.expect("more parts than one call takes");
    assert_eq!(device.read(FileId(3), 0..12_000).await.expect("reads"), many.concat());

    let mut listing = device.list().await.expect("lists");
    listing.files.sort_unstable();
    assert_eq!(listing.files, [(FileId(2), 0), (FileId(3), 12_000), (file, 7)]);
    device.remove(file).await.expect("removes");
    assert_eq!(device.read(file, 0..1).await.expect_err("gone").kind(), ErrorKind::NotFound);
    assert_eq!(device.list().await.expect("lists").files.len(), 2);
}

async fn dir(path: &Path, sync: SyncPolicy) -> DirDevice {
    DirDevice::open(path, sync, 4).await.expect("opens")
}

#[tokio::test]
async fn every_device_keeps_the_contract() {
    keeps_the_contract(&MemoryDevice::new()).await;
    for sync in [SyncPolicy::None, SyncPolicy::Data] {
        let temp = tempfile::tempdir().expect("a directory");
        keeps_the_contract(&dir(temp.path(), sync).await).await;
    }
}

#[tokio::test]
async fn unfinished_writes_are_cleared_and_strangers_left_alone() {
    let temp = tempfile::tempdir().expect("a directory");
    drop(dir(temp.path(), SyncPolicy::None).await);
    let put = |path: &str| fs::write(temp.path().join(path), b"x").expect("writes");
    let ours = ["incoming/0000000000000001", "incoming/00000000000000ff"];
    let strangers = [
        "incoming/notes.txt",
        "objects/00/1",
        "objects/00/00000000000000FF",
        "objects/00/0000000000000001",
        "objects/ff/ffffffffffffffff",
    ];
    ours.iter().chain(&strangers).for_each(|path| put(path));
    fs::create_dir(temp.path().join("objects/05/0000000000000005"))
        .expect("a directory with the name of a file");
    put("objects/01/0000000000000001");

    let listing = dir(temp.path(), SyncPolicy::None).await.list().await.expect("lists");
    assert_eq!(listing, Listing { files: vec![(FileId(1), 1)], leftovers: 2, strangers: 6 });
    assert!(ours.iter().all(|path| !temp.path().join(path).exists()));
    assert!(strangers.iter().all(|path| temp.path().join(path).exists()));
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let temp = tempfile::tempdir().expect("a directory");
    let first = dir(temp.path(), SyncPolicy::None).await;
    let second = DirDevice::open(temp.path(), SyncPolicy::None, 4).await;
    assert_eq!(second.err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    drop(first);
    dir(temp.path(), SyncPolicy::None).await;
}

#[tokio::test]
async fn a_failed_write_leaves_no_temporary_file() {
    let temp = tempfile::tempdir().expect("a directory");
    let device = dir(temp.path(), SyncPolicy::None).await;
    fs::remove_dir(temp.path().join("objects/07")).expect("empty");
    let failed = device.write(FileId(7), vec![Bytes::from_static(b"x")]).await;
    assert_eq!(failed.expect_err("no place to go").kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(temp.path().join("incoming")).expect("lists").count(), 0);
}

#[tokio::test]
async fn a_store_over_a_directory_survives_restarts() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut config = with_disk(64 << 20);
    config.disk.as_mut().expect("given").path = temp.path().join("cache");
    let samples: Vec<Sample> =
        (0..40).map(|n| Sample::new(n, 0, 50_000 * (n as usize % 4) + n as usize)).collect();
    let node = Node::start(&config, None).await;
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    node.store.remove(&samples[3].key);
    node.store.flush().await;
    drop(node);

    let node = Node::start(&config, None).await;
    assert_eq!(node.recovered("kept"), 39);
    for (number, sample) in samples.iter().enumerate() {
        assert_eq!(sample.hit(&node.store).await, number != 3);
    }
    let store = Arc::downgrade(&node.store);
    drop(node);
    assert!(store.upgrade().is_none(), "nothing keeps a closed store alive");
}
