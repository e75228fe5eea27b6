//! Several disks, of which one may fail and come back.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use store::{ByteSize, Device, DiskConfig, MemoryDevice, StoreConfig};

use crate::support::{Node, Sample, disk, disk_only};

const DISKS: usize = 3;

fn config(capacities: [u64; DISKS]) -> StoreConfig {
    let numbered = |(number, capacity): (usize, u64)| DiskConfig {
        path: format!("disk{number}").into(),
        ..disk(capacity)
    };
    let disk = capacities.into_iter().enumerate().map(numbered).collect();
    StoreConfig { memory_bytes: ByteSize::from(0), disk, ..StoreConfig::default() }
}

fn devices() -> Vec<MemoryDevice> {
    (0..DISKS).map(|_| MemoryDevice::new()).collect()
}

async fn start(devices: &[MemoryDevice], config: &StoreConfig) -> Node {
    let again = |device: &MemoryDevice| Arc::new(device.after_kill()) as Arc<dyn Device>;
    Node::start(config, devices.iter().map(again).collect()).await
}

async fn fill(node: &Node, samples: &[Sample]) {
    for sample in samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
}

async fn hits(node: &Node, samples: &[Sample]) -> usize {
    let mut hits = 0;
    for sample in samples {
        hits += usize::from(sample.hit(&node.store).await);
    }
    hits
}

fn bytes_on(device: &MemoryDevice) -> u64 {
    crate::support::footprint(device)
}

#[tokio::test(start_paused = true)]
async fn objects_are_spread_by_capacity_and_all_are_found_again() {
    let (devices, config) = (devices(), config([1 << 20, 1 << 20, 4 << 20]));
    let samples: Vec<Sample> = (0..60).map(|number| Sample::new(number, 0, 20_000)).collect();
    let node = start(&devices, &config).await;
    fill(&node, &samples).await;
    assert_eq!(hits(&node, &samples).await, 60);
    let held: Vec<u64> = devices.iter().map(bytes_on).collect();
    assert!(held[2] > held[0] + held[1], "{held:?}");
    assert!(held.iter().all(|bytes| *bytes > 0), "{held:?}");
    let node = start(&devices, &config).await;
    assert_eq!(hits(&node, &samples).await, 60);
}

#[tokio::test(start_paused = true)]
async fn after_a_takeover_that_failed_each_disk_comes_back_by_itself() {
    let (devices, config) = (devices(), config([2 << 20; DISKS]));
    let samples: Vec<Sample> = (0..60).map(|number| Sample::new(number, 0, 20_000)).collect();
    let node = start(&devices, &config).await;
    fill(&node, &samples).await;
    node.store.detach().await;
    // The first is broken meanwhile, the last is still held by the other process.
    devices[0].fail_opens(Some(ErrorKind::Other));
    let alone = StoreConfig { disk: vec![config.disk[2].clone()], ..config.clone() };
    let other = Node::start(&alone, vec![Arc::new(devices[2].another_process())]).await;
    assert!(node.store.attach().await.is_err(), "one is held");
    let second = node.recovered("kept");
    assert!(second > 0, "the one between is back");
    assert!(node.store.attach().await.is_err());
    assert_eq!(node.recovered("kept"), second, "and is left alone");
    other.store.detach().await;
    node.store.attach().await.expect("it is free");
    assert!(node.recovered("kept") > second);
    devices[0].fail_opens(None);
    tokio::time::sleep(config.disk[0].offline_for * 2).await;
    assert_eq!(hits(&node, &samples).await, 60, "all are back");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_costs_its_share_until_it_is_back() {
    let (devices, config) = (devices(), config([2 << 20; DISKS]));
    let samples: Vec<Sample> = (0..60).map(|number| Sample::new(number, 0, 20_000)).collect();
    let node = start(&devices, &config).await;
    fill(&node, &samples).await;
    devices[1].fail_reads(Some(ErrorKind::Other));
    devices[1].fail_writes(Some(ErrorKind::Other));
    devices[1].fail_opens(Some(ErrorKind::Other));
    let before = hits(&node, &samples).await;
    let left = hits(&node, &samples).await;
    assert!((20..60).contains(&left) && before <= left, "{before} {left}");
    assert_eq!(node.faults("device"), 1, "the first failure takes the disk off");

    let more: Vec<Sample> = (60..90).map(|number| Sample::new(number, 0, 20_000)).collect();
    fill(&node, &more).await;
    assert_eq!(hits(&node, &more).await, 30, "the others take what it would have taken");
    assert_eq!(node.writes("failed"), 0);

    devices[1].fail_reads(None);
    devices[1].fail_writes(None);
    devices[1].fail_opens(None);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(hits(&node, &samples).await, 60, "back by itself, with everything it had");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_missing_at_the_start_does_not_hold_the_node_up() {
    let (devices, config) = (devices(), config([2 << 20; DISKS]));
    let samples: Vec<Sample> = (0..30).map(|number| Sample::new(number, 0, 20_000)).collect();
    fill(&start(&devices, &config).await, &samples).await;
    devices[0].fail_opens(Some(ErrorKind::NotFound));
    let node = start(&devices, &config).await;
    let without = hits(&node, &samples).await;
    assert!((1..30).contains(&without));
    devices[0].fail_opens(None);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(hits(&node, &samples).await, 30);
}

#[tokio::test(start_paused = true)]
async fn an_empty_disk_in_the_place_of_a_failed_one_is_taken_up() {
    let (devices, config) = (devices(), config([2 << 20; DISKS]));
    let samples: Vec<Sample> = (0..30).map(|number| Sample::new(number, 0, 20_000)).collect();
    let node = start(&devices, &config).await;
    fill(&node, &samples).await;
    devices[2].fail_reads(Some(ErrorKind::Other));
    hits(&node, &samples).await;
    // The operator changes the disk while the node runs.
    devices[2].fail_reads(None);
    for (file, _) in devices[2].files() {
        devices[2].truncate(file, 0);
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    let left = hits(&node, &samples).await;
    assert!(left < 30);
    fill(&node, &samples).await;
    assert_eq!(hits(&node, &samples).await, 30);
    assert_eq!(node.faults("corrupt"), 0, "what is not there is not looked for");
}

/// Two processes over one directory would write over each other.
#[tokio::test(start_paused = true)]
async fn a_disk_that_another_process_holds_is_an_error() {
    let device = MemoryDevice::new();
    let _holder = Node::start(&disk_only(1 << 20), vec![Arc::new(device.another_process())]).await;
    let registry = prometheus::Registry::new();
    let second: Vec<Arc<dyn Device>> = vec![Arc::new(device.another_process())];
    let refused = store::SegmentStore::open(&disk_only(1 << 20), second, &registry).await;
    assert!(matches!(refused, Err(store::OpenError::Device(error)) if error.kind() == ErrorKind::WouldBlock));
}

/// The same on real directories, one of which is on no file system any more.
#[tokio::test]
async fn real_directories() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut config = config([4 << 20, 4 << 20, 4 << 20]);
    for disk in &mut config.disk {
        disk.path = temp.path().join(&disk.path);
    }
    let samples: Vec<Sample> = (0..40).map(|number| Sample::new(number, 0, 30_000)).collect();
    let node = Node::start(&config, Vec::new()).await;
    fill(&node, &samples).await;
    assert_eq!(hits(&node, &samples).await, 40);
    let again = store::SegmentStore::open(&config, Vec::new(), &prometheus::Registry::new()).await;
    assert!(again.is_err(), "the directories are held");
    drop(node);
    std::fs::remove_dir_all(temp.path().join("disk1")).expect("removes");
    let node = Node::start(&config, Vec::new()).await;
    let left = hits(&node, &samples).await;
    assert!((10..40).contains(&left), "{left}");
    fill(&node, &samples).await;
    assert_eq!(hits(&node, &samples).await, 40);
}
