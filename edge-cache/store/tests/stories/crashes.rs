//! The process is killed, or the power fails, after every single step.

use std::fs;
use std::sync::Arc;

use store::{FileId, MemoryDevice, StoreConfig};

use crate::support::{Node, Sample, disk_only, footprint, with_disk};

const CAPACITY: u64 = 200_000;

/// Fills, evicts, removes and reads. Says which segments stood on disk at the end, as the running store saw it.
async fn live(node: &Node, samples: &[Sample]) {
    for (number, sample) in samples.iter().enumerate() {
        sample.insert_into(&node.store);
        node.store.flush().await;
        if number % 3 == 2 {
            node.store.remove(&samples[number - 1].key);
        }
        samples[number / 2].hit(&node.store).await;
    }
    node.store.flush().await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_every_operation() {
    let samples: Vec<Sample> = (0..12).map(|n| Sample::new(n, 0, 9_000 * (n as usize % 5 + 1))).collect();
    let untouched = Arc::new(MemoryDevice::new());
    live(&Node::over(&untouched, &disk_only(CAPACITY)).await, &samples).await;
    let steps = untouched.operations();
    assert!(steps > 30, "{steps}");

    for killed_at in 1..=steps {
        let device = Arc::new(MemoryDevice::new());
        let node = Node::over(&device, &disk_only(CAPACITY)).await;
        device.stop_after(Some(killed_at - 1));
        live(&node, &samples).await;
        device.stop_after(None);
        let left = device.files().len() as u64;

        let node = Node::over(&device, &disk_only(CAPACITY)).await;
        assert_eq!(node.recovered("kept"), left, "whatever was written whole is found");
        assert!(footprint(&device) <= CAPACITY);
        let mut hits = 0;
        for sample in &samples {
            hits += u64::from(sample.hit(&node.store).await);
        }
        assert_eq!(hits, left, "killed at {killed_at}");
        live(&node, &samples).await;
    }
}

/// Everything a store reported as written before it was killed is a hit after.
#[tokio::test(start_paused = true)]
async fn what_was_written_stays_written() {
    let samples: Vec<Sample> = (0..20).map(|n| Sample::new(n, 0, 5_000 + n as usize)).collect();
    for killed_at in 1..20 {
        let device = Arc::new(MemoryDevice::new());
        let node = Node::over(&device, &disk_only(10 << 20)).await;
        device.stop_after(Some(killed_at));
        samples.iter().for_each(|sample| sample.insert_into(&node.store));
        node.store.flush().await;
        let written = node.writes("written");
        assert_eq!(written, killed_at, "one operation for each write");
        device.stop_after(None);
        let node = Node::over(&device, &disk_only(10 << 20)).await;
        assert_eq!((node.recovered("kept"), node.recovered("malformed")), (written, 0));
    }
}

/// The power fails while a file that already has its name is on its way to the platter.
#[tokio::test(start_paused = true)]
async fn torn_at_every_length() {
    let (whole, torn) = (Sample::new(1, 0, 20_000), Sample::new(2, 0, 40_000));
    let file_len = 4096 + 40_000;
    for len in
        (0..file_len).step_by(331).chain([511, 512, 513, 608, 4095, 4096, 4097, file_len - 1, file_len])
    {
        let device = Arc::new(MemoryDevice::new());
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        whole.insert_into(&node.store);
        node.store.flush().await;
        device.tear_next_write(len);
        // Torn, and nothing after it: the machine is off.
        device.stop_after(Some(1));
        torn.insert_into(&node.store);
        node.store.flush().await;
        device.stop_after(None);
        assert_eq!(device.files().len(), 2);

        let node = Node::over(&device, &disk_only(1 << 20)).await;
        let survived = len == file_len;
        assert_eq!(node.recovered("malformed"), u64::from(!survived), "torn at {len}");
        assert_eq!(torn.hit(&node.store).await, survived, "torn at {len}");
        assert!(whole.hit(&node.store).await);
    }
}

#[tokio::test(start_paused = true)]
async fn leftovers_duplicates_and_a_smaller_capacity_are_settled_at_start() {
    let device = Arc::new(MemoryDevice::new());
    let samples: Vec<Sample> = (0..8).map(|n| Sample::new(n, 0, 20_000)).collect();
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    for sample in &samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    drop(node);
    // The same object again under a newer number, as when a crash came before the old file was removed.
    let newest = device.contents(FileId(7)).expect("there");
    device.put(FileId(100), newest);
    device.leave_leftovers(3);

    let smaller = disk_only(5 * 28_672);
    let node = Node::over(&device, &smaller).await;
    assert_eq!((node.recovered("leftover"), node.recovered("superseded")), (3, 1));
    assert_eq!((node.recovered("kept"), node.recovered("over-capacity")), (5, 3));
    assert_eq!(device.files().len(), 5);
    assert!(footprint(&device) <= 5 * 28_672);
    for (number, sample) in samples.iter().enumerate() {
        assert_eq!(sample.hit(&node.store).await, number >= 3, "the oldest go first");
    }
    samples[1].insert_into(&node.store);
    node.store.flush().await;
    let newest = device.files().last().map(|(file, _)| *file);
    assert_eq!(newest, Some(FileId(101)), "numbers go on after the highest ever seen");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_a_newer_format_is_not_guessed_at() {
    let device = Arc::new(MemoryDevice::new());
    let sample = Sample::new(1, 0, 100);
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let file = device.files()[0].0;
    let mut bytes = device.contents(file).expect("there").to_vec();
    bytes[8] = 2;
    let sum = blake3::hash(&bytes[..504]);
    bytes[504..512].copy_from_slice(&sum.as_bytes()[..8]);
    device.put(file, bytes.into());
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    assert_eq!((node.recovered("unsupported"), node.recovered("kept")), (1, 0));
    assert!(sample.find(&node.store).is_none());
}

/// The same on a real directory: partial temporary files at every boundary, and cut files under final names.
#[tokio::test]
async fn a_directory_after_a_crash() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut config: StoreConfig = with_disk(64 << 20);
    config.disk.as_mut().expect("given").path = temp.path().to_owned();
    let (whole, other) = (Sample::new(1, 0, 40_000), Sample::new(2, 0, 40_000));
    let node = Node::start(&config, None).await;
    whole.insert_into(&node.store);
    node.store.flush().await;
    drop(node);
    let bytes = fs::read(temp.path().join("objects/00/0000000000000000")).expect("the first file");
    assert_eq!(bytes.len(), 44_096);

    let boundaries = [0, 1, 512, 608, 4096, 4096 + 16_384, 4096 + 32_768, 44_095];
    for len in boundaries {
        fs::write(temp.path().join("incoming/0000000000000001"), &bytes[..len]).expect("writes");
        fs::write(temp.path().join("objects/02/0000000000000002"), &bytes[..len]).expect("writes");
        let node = Node::start(&config, None).await;
        let found = ["kept", "leftover", "malformed"].map(|outcome| node.recovered(outcome));
        assert_eq!(found, [1, 1, 1], "cut at {len}");
        assert!(whole.hit(&node.store).await && !other.hit(&node.store).await);
        assert!(!temp.path().join("incoming/0000000000000001").exists());
        assert!(!temp.path().join("objects/02/0000000000000002").exists());
    }
}
