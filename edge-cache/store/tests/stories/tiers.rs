//! How the tiers work together when nothing is broken.

use std::sync::Arc;
use std::time::Duration;

use media::ByteRange;
use media::digest::groups_of;
use prometheus::Registry;
use store::{
    ByteSize, DiskConfig, MemoryDevice, OpenError, ReadFault, SegmentStore, StoreConfig, Tier, Usage,
};

use crate::support::{Node, Sample, disk_only, footprint, with_disk};

#[tokio::test(start_paused = true)]
async fn memory_first_then_disk_then_memory_again() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 100_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert!(sample.find(&node.store).is_empty());
    sample.insert_into(&node.store);
    assert_eq!(sample.tier(&node.store), Some(Tier::Memory), "at once");
    node.store.flush().await;
    assert_eq!(node.writes("written"), 1);

    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert_eq!(node.recovered("kept"), 1);
    assert_eq!(sample.tier(&node.store), Some(Tier::Disk), "after a restart");
    assert!(sample.hit(&node.store).await);
    assert_eq!(sample.tier(&node.store), Some(Tier::Memory), "the whole read promoted it");
    sample.insert_into(&node.store);
    node.store.flush().await;
    assert_eq!((node.writes("present"), node.writes("written")), (1, 0), "and it is not written again");
}

#[tokio::test(start_paused = true)]
async fn other_content_under_the_same_key_is_not_found() {
    let device = MemoryDevice::new();
    let (old, new) = (Sample::new(1, 0, 50_000), Sample::new(1, 1, 50_000));
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    old.insert_into(&node.store);
    node.store.flush().await;
    assert!(new.find(&node.store).is_empty());
    assert!(node.store.lookup(&old.key, 49_999, old.root()).is_empty());
    new.insert_into(&node.store);
    node.store.flush().await;
    assert!(old.find(&node.store).is_empty());
    assert!(new.hit(&node.store).await);
    assert_eq!(node.store.usage().disk.objects, 1, "the old one is gone");
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    assert!(new.hit(&node.store).await && old.find(&node.store).is_empty());
}

#[tokio::test(start_paused = true)]
async fn ranges_come_from_disk_group_by_group() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 100_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    for (start, end) in [(0, 1), (16_384, 16_385), (99_999, 100_000), (20_000, 80_000)] {
        // Each from a fresh object: with and without the header in the same read.
        let node = Node::over(&device, &with_disk(1 << 20)).await;
        let object = sample.find(&node.store).disk.expect("on disk");
        let groups = groups_of(ByteRange::new(start, end).expect("not empty"));
        let first = groups.start as usize * 16_384;
        let last = (groups.end as usize * 16_384).min(100_000);
        let read = object.read(groups).await.expect("reads");
        assert_eq!(read.concat(), &sample.bytes[first..last]);
        assert_eq!(object.read(7..9).await, Ok(vec![]), "past the end");
        assert_eq!(object.read(6..900).await.expect("reads").concat(), &sample.bytes[6 * 16_384..]);
        assert_eq!(sample.tier(&node.store), Some(Tier::Disk), "a part is not promoted");
    }
}

#[tokio::test(start_paused = true)]
async fn digests_come_from_either_tier() {
    let device = MemoryDevice::new();
    let (sample, other) = (Sample::new(1, 0, 100_000), Sample::new(1, 1, 100_000));
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let digests = async |node: &Node, sample: &Sample| {
        let found = node.store.digests(&sample.key, sample.len(), sample.root()).await;
        found.map(|found| found.as_deref().cloned())
    };
    assert_eq!(digests(&node, &sample).await, Ok(None));
    sample.insert_into(&node.store);
    assert_eq!(digests(&node, &sample).await, Ok(Some((*sample.digests).clone())));
    assert_eq!(digests(&node, &other).await, Ok(None));
    node.store.flush().await;

    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert_eq!(digests(&node, &sample).await, Ok(Some((*sample.digests).clone())));
    assert_eq!(digests(&node, &other).await, Ok(None));
    device.flip(store::FileName::Slab(0), 600, 1);
    assert_eq!(digests(&node, &sample).await, Err(ReadFault::Corrupt));
    assert!(sample.find(&node.store).is_empty());
}

#[tokio::test(start_paused = true)]
async fn empty_and_tiny_segments_are_segments() {
    let device = MemoryDevice::new();
    let samples = [0, 1, 16_383, 16_384, 16_385].map(|len| Sample::new(len as u32, 0, len));
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    for sample in &samples {
        assert_eq!(sample.tier(&node.store), Some(Tier::Disk));
        assert!(sample.hit(&node.store).await);
    }
}

#[tokio::test(start_paused = true)]
async fn groups_that_come_one_by_one_make_a_segment() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 100_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_groups(&node.store, &[2, 3]);
    assert_eq!(sample.groups(&node.store).await, [2, 3], "from memory");
    node.store.flush().await;
    let written = node.metric("weir_store_disk_written_bytes_total", "");
    assert_eq!(written, 4096 + 2 * 16_384, "the header and what there is");

    let node = Node::over(&device, &disk_only(1 << 20)).await;
    assert_eq!(node.recovered("kept"), 1);
    assert_eq!(sample.groups(&node.store).await, [2, 3], "from disk, after a restart");
    assert_eq!(sample.tier(&node.store), None, "the first group is nowhere");
    let object = sample.find(&node.store).disk.expect("in part");
    assert_eq!(object.read(2..7).await.expect("reads").len(), 2, "up to the gap");
    assert_eq!(object.read(0..3).await, Ok(vec![]), "nothing before it");
    assert_eq!(object.body().await, Err(ReadFault::Gone));
    assert!(!sample.find(&node.store).is_empty(), "which is no fault of the object");

    sample.insert_groups(&node.store, &[0, 2, 6]);
    node.store.flush().await;
    let more = node.metric("weir_store_disk_written_bytes_total", "");
    assert_eq!(more, 16_384 + 4096, "only what was missing: the first, and the short last in a page");
    assert_eq!(sample.groups(&node.store).await, [0, 2, 3, 6]);
    sample.insert_into(&node.store);
    node.store.flush().await;
    assert!(sample.hit(&node.store).await);
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    assert!(sample.hit(&node.store).await, "whole after a restart, too");
    assert_eq!(node.store.usage().disk.objects, 1);
}

#[tokio::test(start_paused = true)]
async fn purged_is_gone_from_both_tiers_and_stays_gone() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 50_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    sample.purge_from(&node.store).await;
    assert!(sample.find(&node.store).is_empty());
    node.store.flush().await;
    assert_eq!(node.store.usage().disk, Usage::default().disk);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert!(sample.find(&node.store).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_under_way_ends_without_effect_when_it_is_purged() {
    let device = MemoryDevice::new();
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    device.set_delay(Duration::from_millis(100));
    let sample = Sample::new(1, 0, 50_000);
    sample.insert_into(&node.store);
    tokio::time::sleep(Duration::from_millis(150)).await;
    sample.purge_from(&node.store).await;
    node.store.flush().await;
    assert_eq!((node.writes("removed"), node.writes("written")), (1, 0));
    assert!(sample.find(&node.store).is_empty());
    assert_eq!(node.store.usage().disk.bytes, 0, "its units are free again");
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_while_it_is_read_does_not_come_back() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 50_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let object = sample.find(&node.store).disk.expect("on disk");
    device.set_delay(Duration::from_millis(100));
    let reading = tokio::spawn(async move { object.body().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    sample.purge_from(&node.store).await;
    let _ = reading.await.expect("no panic");
    assert!(sample.find(&node.store).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_eviction_between_lookup_and_read_is_no_corruption() {
    let device = MemoryDevice::new();
    let node = Node::over(&device, &disk_only(120_000)).await;
    let samples = [0, 1, 2].map(|number| Sample::new(number, 0, 50_000));
    samples[0].insert_into(&node.store);
    node.store.flush().await;
    let object = samples[0].find(&node.store).disk.expect("on disk");
    for sample in &samples[1..] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    assert_eq!(object.read(0..1).await, Err(ReadFault::Gone));
    assert_eq!((node.faults("gone"), node.faults("corrupt")), (1, 0));
    assert_eq!(node.metric("weir_store_evictions_total", "disk"), 1);
    assert!(samples[1].hit(&node.store).await && samples[2].hit(&node.store).await);
}

#[tokio::test(start_paused = true)]
async fn the_slabs_never_outgrow_the_capacity_and_room_is_found_again() {
    let device = MemoryDevice::new();
    let capacity = 300_000;
    let node = Node::over(&device, &disk_only(capacity)).await;
    device.set_delay(Duration::from_millis(3));
    for number in 0..100 {
        Sample::new(number, 0, 1000 * (number as usize % 90)).insert_into(&node.store);
        tokio::time::sleep(Duration::from_millis(u64::from(number % 5))).await;
        assert!(footprint(&device) <= capacity && node.store.usage().disk.bytes <= capacity);
    }
    node.store.flush().await;
    let usage = node.store.usage().disk;
    assert!(usage.bytes > capacity / 2, "{usage:?}");
    Sample::new(200, 0, 400_000).insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("no-room"), 1);
    assert_eq!(node.store.usage().disk, usage, "what can never fit drives nobody out");
    device.set_delay(Duration::ZERO);
    let node = Node::over(&device, &disk_only(capacity)).await;
    assert_eq!(node.store.usage().disk, usage, "a restart counts the same");
}

#[tokio::test(start_paused = true)]
async fn an_object_in_pieces_is_whole() {
    let device = MemoryDevice::new();
    let node = Node::over(&device, &disk_only(60 * 4096)).await;
    // Ten objects of six units each; every other one goes, and a larger one takes their places.
    let small: Vec<Sample> = (0..10).map(|number| Sample::new(number, 0, 5 * 4096)).collect();
    for sample in &small {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    for sample in small.iter().step_by(2) {
        sample.purge_from(&node.store).await;
    }
    let large = Sample::new(50, 0, 28 * 4096);
    large.insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.metric("weir_store_evictions_total", "disk"), 0, "nobody had to go");
    let node = Node::over(&device, &disk_only(60 * 4096)).await;
    device.set_delay(Duration::from_millis(300));
    let begun = tokio::time::Instant::now();
    assert!(large.hit(&node.store).await);
    assert!(begun.elapsed() < disk_only(0).disk[0].read_timeout, "{:?} for one read", begun.elapsed());
    device.set_delay(Duration::ZERO);
    for (number, sample) in small.iter().enumerate() {
        assert_eq!(sample.hit(&node.store).await, number % 2 == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_may_grow_and_shrink_between_starts() {
    let device = MemoryDevice::new();
    let samples: Vec<Sample> = (0..12).map(|number| Sample::new(number, 0, 40_000)).collect();
    let node = Node::over(&device, &disk_only(12 * 45_056)).await;
    for sample in &samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    assert_eq!(node.store.usage().disk.objects, 12);
    let smaller = 5 * 45_056;
    let node = Node::over(&device, &disk_only(smaller)).await;
    assert_eq!(node.recovered("kept"), 5);
    assert!(footprint(&device) <= smaller, "the file system has the rest back");
    for (number, sample) in samples.iter().enumerate() {
        assert_eq!(sample.hit(&node.store).await, number < 5);
    }
    let node = Node::over(&device, &disk_only(12 * 45_056)).await;
    for sample in &samples[5..] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    assert_eq!(node.store.usage().disk.objects, 12);
    assert_eq!(node.metric("weir_store_evictions_total", "disk"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_costs_the_disk_copy_only() {
    let device = MemoryDevice::new();
    let mut config = with_disk(1 << 20);
    config.disk[0].write_queue = ByteSize::from(4 * 64 * 1024);
    let node = Node::over(&device, &config).await;
    device.set_delay(Duration::from_secs(5));
    let samples: Vec<Sample> = (0..10).map(|number| Sample::new(number, 0, 20_000)).collect();
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    assert_eq!(node.writes("queue-full"), 6);
    assert!(samples.iter().all(|sample| sample.tier(&node.store) == Some(Tier::Memory)));
    node.store.flush().await;
    assert_eq!(node.writes("written"), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_memory_only_spares_the_disk() {
    let device = MemoryDevice::new();
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let sample = Sample::new(1, 0, 20_000);
    let terms = store::Terms { disk: false, ..sample.terms(&node.store) };
    let body = store::SegmentBody::of(&sample.bytes);
    node.store.insert(&sample.key, sample.digests.clone(), body, &terms);
    node.store.flush().await;
    assert_eq!((sample.tier(&node.store), node.writes("written")), (Some(Tier::Memory), 0));
}

#[tokio::test(start_paused = true)]
async fn another_process_takes_the_disk_over_and_gives_it_back() {
    let device = MemoryDevice::new();
    let (before, during, after) =
        (Sample::new(1, 0, 40_000), Sample::new(2, 0, 40_000), Sample::new(3, 0, 40_000));
    let old = Node::over(&device, &disk_only(1 << 20)).await;
    before.insert_into(&old.store);
    old.store.detach().await;
    assert!(old.is("detached"));
    assert!(before.hit(&old.store).await, "the old process still reads");
    after.insert_into(&old.store);
    old.store.flush().await;
    assert_eq!(old.writes("paused"), 1, "but writes nothing");

    let new = Node::start(&disk_only(1 << 20), vec![Arc::new(device.another_process())]).await;
    assert!(before.hit(&new.store).await, "the index is warm");
    during.insert_into(&new.store);
    new.store.flush().await;
    assert!(old.store.attach().await.is_err(), "while another process has it");
    new.store.detach().await;
    old.store.attach().await.expect("it is free again");
    for sample in [&before, &during] {
        assert!(sample.hit(&old.store).await);
    }
    after.insert_into(&old.store);
    old.store.flush().await;
    assert!(after.hit(&old.store).await && old.is("online"));
}

#[tokio::test(start_paused = true)]
async fn too_long_a_segment_is_not_kept() {
    let config = StoreConfig { max_object_bytes: ByteSize::from(1000), ..StoreConfig::default() };
    let node = Node::start(&config, Vec::new()).await;
    let (short, long) = (Sample::new(1, 0, 1000), Sample::new(2, 0, 1001));
    short.insert_into(&node.store);
    long.insert_into(&node.store);
    assert!(!short.find(&node.store).is_empty() && long.find(&node.store).is_empty());
}

#[tokio::test]
async fn an_impossible_configuration_is_refused_with_every_reason() {
    let device = Arc::new(MemoryDevice::new());
    let stray = SegmentStore::open(&StoreConfig::default(), vec![device], &Registry::new()).await;
    assert!(matches!(stray, Err(OpenError::Config(problems)) if problems.len() == 1));
    let disk = DiskConfig { writers: 0, write_queue: ByteSize::from(0), ..DiskConfig::default() };
    let config = StoreConfig { disk: vec![disk], ..StoreConfig::default() };
    let refused = SegmentStore::open(&config, Vec::new(), &Registry::new()).await;
    assert!(matches!(refused, Err(OpenError::Config(problems)) if problems.len() == 2));
}
