//! What was purged is not served again, whatever happens around it.

use std::sync::Arc;
use std::time::Duration;

use store::{FileName, MemoryDevice, PurgeKind, Scope, SegmentBody, Tier};

use crate::support::{Node, Sample, disk_only, with_disk};

fn samples() -> [Sample; 4] {
    [
        Sample::new(1, 0, 40_000),
        Sample::new(2, 0, 40_000).tagged("vendor-acme"),
        Sample::new(3, 0, 40_000).of_title("other").tagged("vendor-acme"),
        Sample::new(4, 0, 40_000).of_title("other-film"),
    ]
}

fn title(text: &str) -> Scope {
    Scope::Title(text.parse().expect("a title"))
}

/// Every scope, in both tiers, at once and after a restart.
#[tokio::test(start_paused = true)]
async fn each_scope_takes_what_it_says_from_every_tier() {
    let tag = Scope::Tag("vendor-acme".parse().expect("a tag"));
    let one = Scope::Segment(samples()[0].key.clone());
    let rendition = Scope::Prefix("other/0000000000000007/v720/".to_owned());
    for (scope, left) in [
        (one, [false, true, true, true]),
        (title("film"), [false, false, true, true]),
        (title("other"), [true, true, false, true]),
        (Scope::Prefix("other".to_owned()), [true, true, false, false]),
        (rendition, [true, true, false, true]),
        // The tags are those of the first segment that came of a rendition: the film's, which has none.
        (tag, [true, true, false, true]),
    ] {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        for sample in samples() {
            sample.insert_into(&node.store);
            node.store.flush().await;
        }
        let purged = node.store.purge(&scope, PurgeKind::Hard).await;
        assert_eq!(purged.objects, left.iter().filter(|left| !**left).count() as u64, "{scope}");
        let restarted = Node::over(&device, &disk_only(1 << 20)).await;
        for (sample, left) in samples().iter().zip(left) {
            assert_eq!(sample.hit(&node.store).await, left, "{scope}: {}", sample.key);
            assert_eq!(sample.hit(&restarted.store).await, left, "{scope}, restarted: {}", sample.key);
        }
        assert_eq!(restarted.store.epoch(), node.store.epoch(), "purges are counted across restarts");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_swept_by_tag_and_title() {
    let node = Node::start(&with_disk(1 << 20), vec![Arc::new(MemoryDevice::new())]).await;
    samples().iter().for_each(|sample| sample.insert_into(&node.store));
    let tag = Scope::Tag("vendor-acme".parse().expect("a tag"));
    node.store.purge(&tag, PurgeKind::Hard).await;
    let memory = samples().map(|sample| sample.find(&node.store).memory.is_some());
    assert_eq!(memory, [true, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_began_before_a_purge_is_never_stored() {
    let device = MemoryDevice::new();
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    let sample = Sample::new(1, 0, 40_000);
    let before = sample.terms(&node.store);
    assert_eq!(node.store.purged_since(before.born, &sample.key, &[]), None);
    node.store.purge(&title("film"), PurgeKind::Hard).await;
    assert_eq!(node.store.purged_since(before.born, &sample.key, &[]), Some(PurgeKind::Hard));
    let body = SegmentBody::of(&sample.bytes);
    node.store.insert(&sample.key, sample.digests.clone(), body, &before);
    node.store.flush().await;
    assert!(sample.find(&node.store).is_empty());
    sample.insert_into(&node.store);
    node.store.flush().await;
    assert!(sample.hit(&node.store).await, "one that began after it is");
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert!(sample.hit(&node.store).await, "and the purge does not reach it after a restart");
}

/// The purge comes at every moment of a slow write.
#[tokio::test(start_paused = true)]
async fn a_purge_meets_a_write_at_any_moment() {
    for millis in (0..900).step_by(50) {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        device.set_delay(Duration::from_millis(100));
        let sample = Sample::new(1, 0, 40_000);
        sample.insert_into(&node.store);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        node.store.purge(&title("film"), PurgeKind::Hard).await;
        assert!(sample.find(&node.store).is_empty(), "{millis} ms");
        node.store.flush().await;
        assert!(sample.find(&node.store).is_empty(), "{millis} ms");
        device.set_delay(Duration::ZERO);
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        assert!(sample.find(&node.store).is_empty(), "{millis} ms, restarted");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_softly_is_there_for_the_worst_case_only() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 40_000);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    node.store.purge(&title("film"), PurgeKind::Soft).await;
    let stale = |node: &Node| node.store.lookup_stale(&sample.key, sample.len(), sample.root());
    assert!(sample.find(&node.store).is_empty());
    assert_eq!(stale(&node).tier_of(0), Some(Tier::Memory));

    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert!(sample.find(&node.store).is_empty(), "still stale after a restart");
    let object = stale(&node).disk.expect("on disk");
    assert_eq!(object.body().await.expect("reads").groups().count(), 3);
    assert!(sample.find(&node.store).is_empty(), "reading it does not make it fresh");

    sample.insert_into(&node.store);
    node.store.flush().await;
    assert!(sample.hit(&node.store).await, "a new copy takes its place");
    assert_eq!(node.store.usage().disk.objects, 1);
    let node = Node::over(&device, &with_disk(1 << 20)).await;
    assert!(sample.hit(&node.store).await);
}

#[tokio::test(start_paused = true)]
async fn a_hard_purge_takes_what_a_soft_one_left_and_is_not_undone_by_one() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 40_000);
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    let before = node.store.epoch();
    sample.insert_into(&node.store);
    node.store.flush().await;
    for kind in [PurgeKind::Soft, PurgeKind::Hard, PurgeKind::Soft] {
        node.store.purge(&title("film"), kind).await;
    }
    assert!(node.store.lookup_stale(&sample.key, sample.len(), sample.root()).is_empty());
    assert_eq!(node.store.purged_since(before, &sample.key, &[]), Some(PurgeKind::Hard));
}

/// One of two disks is away when the purge comes, and the process restarts before it is back.
#[tokio::test(start_paused = true)]
async fn a_disk_that_was_away_is_swept_when_it_returns() {
    let devices = [MemoryDevice::new(), MemoryDevice::new()];
    let mut config = disk_only(1 << 20);
    config.disk.push(store::DiskConfig { path: "other".into(), ..config.disk[0].clone() });
    let both =
        || devices.iter().map(|device| Arc::new(device.after_kill()) as Arc<dyn store::Device>).collect();
    let samples: Vec<Sample> = (0..20).map(|number| Sample::new(number, 0, 20_000)).collect();
    let node = Node::start(&config, both()).await;
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    let on_disk = |device: &MemoryDevice| device.contents(FileName::Slab(0)).is_some();
    assert!(devices.iter().all(on_disk), "each has its share");

    devices[1].fail_opens(Some(std::io::ErrorKind::Other));
    let node = Node::start(&config, both()).await;
    let purged = node.store.purge(&title("film"), PurgeKind::Hard).await;
    assert_eq!(purged.disks_behind, 1);

    devices[1].fail_opens(None);
    let node = Node::start(&config, both()).await;
    for sample in &samples {
        assert!(sample.find(&node.store).is_empty(), "the other disk remembered");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(node);
    // And by then it is on record there, too.
    let alone = disk_only(1 << 20);
    let node = Node::start(&alone, vec![Arc::new(devices[1].after_kill())]).await;
    assert!(samples.iter().all(|sample| sample.find(&node.store).is_empty()));
}
