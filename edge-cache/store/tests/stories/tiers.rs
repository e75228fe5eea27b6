//! How the two tiers work together when nothing is broken.

use std::sync::Arc;
use std::time::Duration;

use media::ByteRange;
use media::digest::groups_of;
use prometheus::Registry;
use store::{
    ByteSize, DiskConfig, MemoryDevice, OpenError, ReadFault, SegmentStore, StoreConfig, Stored, Tier, Usage,
};

use crate::support::{Node, Sample, disk_only, footprint, with_disk};

fn tier(sample: &Sample, node: &Node) -> Option<Tier> {
    sample.find(&node.store).map(|stored| stored.tier())
}

#[tokio::test(start_paused = true)]
async fn memory_first_then_disk_then_memory_again() {
    let device = Arc::new(MemoryDevice::new());
    let sample = Sample::new(1, 0, 100_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert!(sample.find(&node.store).is_none());
    sample.insert_into(&node.store);
    assert_eq!(tier(&sample, &node), Some(Tier::Memory), "at once");
    node.store.flush().await;
    assert_eq!(node.writes("written"), 1);

    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert_eq!(node.recovered("kept"), 1);
    assert_eq!(tier(&sample, &node), Some(Tier::Disk), "after a restart");
    assert!(sample.hit(&node.store).await);
    assert_eq!(tier(&sample, &node), Some(Tier::Memory), "the whole read promoted it");
    assert_eq!(device.files().len(), 1, "and did not write it again");
}

#[tokio::test(start_paused = true)]
async fn other_content_under_the_same_key_is_not_found() {
    let device = Arc::new(MemoryDevice::new());
    let (old, new) = (Sample::new(1, 0, 50_000), Sample::new(1, 1, 50_000));
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    old.insert_into(&node.store);
    node.store.flush().await;
    assert!(new.find(&node.store).is_none());
    assert!(node.store.lookup(&old.key, 49_999, old.root()).is_none());
    new.insert_into(&node.store);
    node.store.flush().await;
    assert!(old.find(&node.store).is_none());
    assert!(new.hit(&node.store).await);
    assert_eq!(device.files().len(), 1, "the old file is gone");
}

#[tokio::test(start_paused = true)]
async fn ranges_come_from_disk_group_by_group() {
    let device = Arc::new(MemoryDevice::new());
    let sample = Sample::new(1, 0, 100_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let Some(Stored::Disk(object)) = sample.find(&node.store) else { panic!("on disk") };
    for (start, end) in [(0, 1), (16_384, 16_385), (99_999, 100_000), (20_000, 80_000)] {
        let groups = groups_of(ByteRange::new(start, end).expect("not empty"));
        let first = groups.start as usize * 16_384;
        let last = (groups.end as usize * 16_384).min(100_000);
        let read = object.read(groups).await.expect("reads");
        assert_eq!(read.concat(), &sample.bytes[first..last]);
    }
    assert_eq!(object.read(7..9).await, Ok(vec![]), "past the end");
    assert_eq!(object.read(6..900).await.expect("reads").concat(), &sample.bytes[6 * 16_384..]);
    assert_eq!(tier(&sample, &node), Some(Tier::Disk), "a part is not promoted");
}

#[tokio::test(start_paused = true)]
async fn digests_come_from_either_tier() {
    let device = Arc::new(MemoryDevice::new());
    let (sample, other) = (Sample::new(1, 0, 100_000), Sample::new(1, 1, 100_000));
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let digests = async |node: &Node, sample: &Sample| {
        node.store
            .digests(&sample.key, sample.len(), sample.root())
            .await
            .map(|found| found.as_deref().cloned())
    };
    assert_eq!(digests(&node, &sample).await, Ok(None));
    sample.insert_into(&node.store);
    assert_eq!(digests(&node, &sample).await, Ok(Some((*sample.digests).clone())));
    assert_eq!(digests(&node, &other).await, Ok(None));
    node.store.flush().await;

    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert_eq!(digests(&node, &sample).await, Ok(Some((*sample.digests).clone())));
    assert_eq!(digests(&node, &other).await, Ok(None));
    device.flip(device.files()[0].0, 600, 1);
    assert_eq!(digests(&node, &sample).await, Err(ReadFault::Corrupt));
    assert!(sample.find(&node.store).is_none());
}

#[tokio::test(start_paused = true)]
async fn empty_and_tiny_segments_are_segments() {
    let device = Arc::new(MemoryDevice::new());
    let samples = [0, 1, 16_383, 16_384, 16_385].map(|len| Sample::new(len as u32, 0, len));
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    for sample in &samples {
        assert_eq!(tier(sample, &node), Some(Tier::Disk));
        assert!(sample.hit(&node.store).await);
    }
}

#[tokio::test(start_paused = true)]
async fn removed_is_gone_from_both_tiers_and_the_device() {
    let device = Arc::new(MemoryDevice::new());
    let sample = Sample::new(1, 0, 50_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    node.store.remove(&sample.key);
    assert!(sample.find(&node.store).is_none());
    node.store.flush().await;
    assert_eq!(device.files(), []);
    assert_eq!(node.store.usage().disk, Usage::default().disk);
}

#[tokio::test(start_paused = true)]
async fn a_write_under_way_ends_without_effect_when_its_key_is_removed() {
    let device = Arc::new(MemoryDevice::new());
    device.set_delay(Duration::from_millis(100));
    let sample = Sample::new(1, 0, 50_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.store.remove(&sample.key);
    node.store.flush().await;
    assert_eq!((node.writes("removed"), node.writes("written")), (1, 0));
    assert!(sample.find(&node.store).is_none());
    assert_eq!(device.files(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_while_it_is_read_does_not_come_back() {
    let device = Arc::new(MemoryDevice::new());
    let sample = Sample::new(1, 0, 50_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let Some(Stored::Disk(object)) = sample.find(&node.store) else { panic!("on disk") };
    device.set_delay(Duration::from_millis(100));
    let reading = tokio::spawn(async move { object.body().await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    node.store.remove(&sample.key);
    let _ = reading.await.expect("no panic");
    assert!(sample.find(&node.store).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_eviction_between_lookup_and_read_is_told() {
    let device = Arc::new(MemoryDevice::new());
    let node = Node::over(&device, &disk_only(120_000)).await;
    let samples = [0, 1, 2].map(|number| Sample::new(number, 0, 50_000));
    samples[0].insert_into(&node.store);
    node.store.flush().await;
    let Some(Stored::Disk(object)) = samples[0].find(&node.store) else { panic!("on disk") };
    samples[1..].iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    assert_eq!(object.read(0..1).await, Err(ReadFault::Gone));
    assert_eq!(node.faults("gone"), 1);
    assert_eq!(node.metric("weir_store_evictions_total", "disk"), 1);
    assert!(samples[1].hit(&node.store).await && samples[2].hit(&node.store).await);
}

#[tokio::test(start_paused = true)]
async fn the_files_never_outgrow_the_capacity() {
    let device = Arc::new(MemoryDevice::new());
    let capacity = 300_000;
    device.set_delay(Duration::from_millis(3));
    let node = Node::over(&device, &disk_only(capacity)).await;
    for number in 0..100 {
        Sample::new(number, 0, 1000 * (number as usize % 90)).insert_into(&node.store);
        tokio::time::sleep(Duration::from_millis(u64::from(number % 5))).await;
        assert!(footprint(&device) <= capacity && node.store.usage().disk.bytes <= capacity);
    }
    node.store.flush().await;
    let usage = node.store.usage().disk;
    assert_eq!(usage.bytes, footprint(&device), "every file is accounted for");
    assert!(usage.bytes > capacity / 2, "{usage:?}");
    Sample::new(200, 0, 400_000).insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("no-room"), 1);
    assert_eq!(node.store.usage().disk, usage, "what can never fit drives nobody out");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_costs_the_disk_copy_only() {
    let device = Arc::new(MemoryDevice::new());
    device.set_delay(Duration::from_secs(5));
    let mut config = with_disk(1 << 20);
    config.disk.as_mut().expect("given").write_queue = ByteSize::from(4 * 64 * 1024);
    let node = Node::over(&device, &config).await;
    let samples: Vec<Sample> = (0..10).map(|number| Sample::new(number, 0, 20_000)).collect();
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    assert_eq!(node.writes("queue-full"), 6);
    assert!(samples.iter().all(|sample| tier(sample, &node) == Some(Tier::Memory)));
    node.store.flush().await;
    assert_eq!(node.writes("written"), 4);
}

#[tokio::test(start_paused = true)]
async fn too_long_a_segment_is_not_kept() {
    let config = StoreConfig { max_object_bytes: ByteSize::from(1000), ..StoreConfig::default() };
    let node = Node::start(&config, None).await;
    let (short, long) = (Sample::new(1, 0, 1000), Sample::new(2, 0, 1001));
    short.insert_into(&node.store);
    long.insert_into(&node.store);
    assert!(short.find(&node.store).is_some() && long.find(&node.store).is_none());
}

#[tokio::test]
async fn an_impossible_configuration_is_refused_with_every_reason() {
    let device = Arc::new(MemoryDevice::new());
    let stray = SegmentStore::open(&StoreConfig::default(), Some(device), &Registry::new()).await;
    assert!(matches!(stray, Err(OpenError::Config(problems)) if problems.len() == 1));
    let disk = DiskConfig { writers: 0, write_queue: ByteSize::from(0), ..DiskConfig::default() };
    let config = StoreConfig { disk: vec![disk], ..StoreConfig::default() };
    let refused = SegmentStore::open(&config, None, &Registry::new()).await;
    assert!(matches!(refused, Err(OpenError::Config(problems)) if problems.len() == 2));
}
