//! The process is killed, or the power fails, after every single step.

use std::time::Duration;

use proptest::prelude::*;
use store::{FileName, MemoryDevice, PurgeKind, Scope, StoreConfig, SyncPolicy};

use crate::support::{Node, Sample, disk_only, virtual_time};

const CAPACITY: u64 = 200_000;

fn samples() -> Vec<Sample> {
    (0..12).map(|n| Sample::new(n, 0, 9_000 * (n as usize % 5 + 1))).collect()
}

/// Fills, grows, evicts, adds groups, purges and reads.
async fn live(node: &Node, samples: &[Sample]) {
    for (number, sample) in samples.iter().enumerate() {
        if number % 4 == 1 {
            sample.insert_groups(&node.store, &[1]);
            node.store.flush().await;
        }
        sample.insert_into(&node.store);
        node.store.flush().await;
        if number % 5 == 2 {
            samples[number - 1].purge_from(&node.store).await;
        }
        samples[number / 2].hit(&node.store).await;
    }
    node.store.flush().await;
}

/// Whatever a start finds is right to the last byte; and it goes on from there.
async fn recovered_well(device: &MemoryDevice, config: &StoreConfig, samples: &[Sample]) -> u64 {
    let node = Node::over(device, config).await;
    assert_eq!(node.recovered("rejected"), 0);
    let mut whole = 0;
    for sample in samples {
        whole += u64::from(!sample.groups(&node.store).await.is_empty());
    }
    let faults = ["corrupt", "gone", "device", "slow"].map(|fault| node.faults(fault));
    assert_eq!(
        (whole, faults),
        (node.recovered("kept"), [0; 4]),
        "what is in the index can be read and is right"
    );
    live(&node, samples).await;
    whole
}

#[tokio::test(start_paused = true)]
async fn killed_after_every_operation() {
    let samples = samples();
    let untouched = MemoryDevice::new();
    live(&Node::over(&untouched, &disk_only(CAPACITY)).await, &samples).await;
    let steps = untouched.operations();
    assert!(steps > 50, "{steps}");
    for killed_at in 1..=steps {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &disk_only(CAPACITY)).await;
        device.stop_after(Some(killed_at));
        live(&node, &samples).await;
        device.stop_after(None);
        recovered_well(&device, &disk_only(CAPACITY), &samples).await;
    }
}

/// The write that is under way at the kill takes place in part.
#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_every_write() {
    let samples = samples();
    for killed_at in (1..90).step_by(2) {
        for torn in [0, 1, 100, 4096, 5000, 20_000] {
            let device = MemoryDevice::new();
            let node = Node::over(&device, &disk_only(CAPACITY)).await;
            device.stop_after(Some(killed_at));
            live(&node, &samples).await;
            // One more operation, of which only a part takes place, and then nothing any more.
            let extra = Sample::new(100 + torn as u32, 0, 30_000);
            one_torn_write(&device, torn, &extra).await;
            let mut all = samples.clone();
            all.push(extra);
            recovered_well(&device, &disk_only(CAPACITY), &all).await;
        }
    }
}

/// Starts, has one write torn, and is killed.
async fn one_torn_write(device: &MemoryDevice, torn: u64, extra: &Sample) {
    device.stop_after(None);
    let node = Node::over(device, &disk_only(CAPACITY)).await;
    device.tear_next_write(torn);
    extra.insert_into(&node.store);
    node.store.flush().await;
    assert_eq!(node.writes("failed"), 1);
}

/// Everything a store reported as written before it was killed is a hit after.
#[tokio::test(start_paused = true)]
async fn what_was_written_stays_written() {
    let samples: Vec<Sample> = (0..20).map(|n| Sample::new(n, 0, 5_000 + n as usize)).collect();
    for killed_at in 1..60 {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &disk_only(10 << 20)).await;
        device.stop_after(Some(killed_at));
        samples.iter().for_each(|sample| sample.insert_into(&node.store));
        node.store.flush().await;
        let written = node.writes("written");
        device.stop_after(None);
        let node = Node::over(&device, &disk_only(10 << 20)).await;
        let kept = node.recovered("kept");
        assert!(kept >= written, "{kept} of {written}");
        let mut hits = 0;
        for sample in &samples {
            hits += u64::from(sample.hit(&node.store).await);
        }
        assert_eq!(hits, kept, "killed at {killed_at}");
    }
}

fn synced(capacity: u64) -> StoreConfig {
    let mut config = disk_only(capacity);
    config.disk[0].sync = SyncPolicy::Data;
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// With `sync = "data"` a power cut at any moment costs nothing that was reported as written, and leaves
    /// nothing that is wrong.
    #[test]
    fn the_power_fails(at in 1u64..150, seed in any::<u64>(), capacity in prop_oneof![Just(CAPACITY), Just(4 << 20)]) {
        virtual_time(async {
            let (device, samples) = (MemoryDevice::new(), samples());
            let node = Node::over(&device, &synced(capacity)).await;
            device.stop_after(Some(at));
            live(&node, &samples).await;
            let (written, evicted) = (node.writes("written"), node.metric("weir_store_evictions_total", "disk"));
            device.stop_after(None);
            device.lose_power(seed);
            drop(node);
            let kept = recovered_well(&device, &synced(capacity), &samples).await;
            if capacity > CAPACITY && evicted == 0 {
                // Each of twelve samples is written once or twice, and at most three are purged.
                assert!(kept + 3 >= written.saturating_sub(3).min(9), "{kept} of {written}");
            }
        });
    }

    /// With `sync = "none"` a power cut may cost the newest objects, and it may leave one that does not verify:
    /// it is found out and nothing else.
    #[test]
    fn the_power_fails_and_nothing_was_synced(at in 1u64..150, seed in any::<u64>()) {
        virtual_time(async {
            let (device, samples) = (MemoryDevice::new(), samples());
            let node = Node::over(&device, &disk_only(CAPACITY)).await;
            device.stop_after(Some(at));
            live(&node, &samples).await;
            device.stop_after(None);
            device.lose_power(seed);
            drop(node);
            let node = Node::over(&device, &disk_only(CAPACITY)).await;
            for sample in &samples {
                sample.groups(&node.store).await;
            }
            live(&node, &samples).await;
        });
    }
}

/// What was reported as written with `sync = "data"` is there after the power failed, every time.
#[tokio::test(start_paused = true)]
async fn what_was_synced_survives_the_power() {
    for seed in 0..200 {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &synced(4 << 20)).await;
        let samples: Vec<Sample> = (0..6).map(|n| Sample::new(n, 0, 30_000)).collect();
        for sample in &samples {
            sample.insert_into(&node.store);
        }
        device.stop_after(Some(seed % 40));
        node.store.flush().await;
        let written = node.writes("written");
        device.stop_after(None);
        device.lose_power(seed);
        drop(node);
        let node = Node::over(&device, &synced(4 << 20)).await;
        let mut hits = 0;
        for sample in &samples {
            hits += u64::from(sample.hit(&node.store).await);
        }
        assert!(hits >= written, "{hits} of {written}, seed {seed}");
        assert_eq!(node.faults("corrupt"), 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_was_answered_survives_the_power() {
    for seed in 0..50 {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &disk_only(4 << 20)).await;
        let sample = Sample::new(1, 0, 30_000);
        sample.insert_into(&node.store);
        node.store.flush().await;
        node.store.purge(&Scope::Title(sample.key.title.clone()), PurgeKind::Hard).await;
        device.lose_power(seed);
        drop(node);
        let node = Node::over(&device, &disk_only(4 << 20)).await;
        assert!(sample.find(&node.store).is_empty(), "seed {seed}");
    }
}

/// The log is replaced by a shorter one now and then; a kill at any moment of that loses nothing, and neither do
/// several in a row.
#[tokio::test(start_paused = true)]
async fn killed_while_the_log_is_being_replaced() {
    let samples: Vec<Sample> = (0..30).map(|n| Sample::new(n, 0, 6_000)).collect();
    let mut most_logs = 0;
    for killed_at in 0..12 {
        let device = MemoryDevice::new();
        let node = Node::over(&device, &disk_only(10 << 20)).await;
        samples.iter().for_each(|sample| sample.insert_into(&node.store));
        node.store.flush().await;
        // Long enough to be worth replacing: purges take the space of their text.
        for n in 0..270 {
            let prefix = Scope::Prefix(format!("{n}{}", "x".repeat(65_000)));
            node.store.purge(&prefix, PurgeKind::Hard).await;
        }
        device.stop_after(Some(4 + killed_at));
        Sample::new(99, 0, 6_000).insert_into(&node.store);
        tokio::time::sleep(Duration::from_secs(1)).await;
        for again in 1..4 {
            device.stop_after(None);
            most_logs = most_logs.max(logs(&device));
            let next = std::sync::Arc::new(device.after_kill());
            let node = Node::start(&disk_only(10 << 20), vec![next]).await;
            assert!(node.recovered("kept") >= 30, "killed at {killed_at}, again {again}");
            device.stop_after(Some(again));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        device.stop_after(None);
        let node = Node::over(&device, &disk_only(10 << 20)).await;
        node.until("one log", |_| logs(&device) == 1).await;
        for sample in &samples {
            assert!(sample.hit(&node.store).await);
        }
        // Three tellings that were killed and one that was not.
        assert!(logs_len(&device) < 80 << 20, "{} bytes", logs_len(&device));
    }
    assert_eq!(most_logs, 2, "the old one stays until the new one is complete, and no third one comes");
}

fn logs_len(device: &MemoryDevice) -> u64 {
    let logs = device.files().into_iter().filter(|(file, _)| matches!(file, FileName::Log(_)));
    logs.map(|(_, len)| len).sum()
}

fn logs(device: &MemoryDevice) -> usize {
    device.files().iter().filter(|(file, _)| matches!(file, FileName::Log(_))).count()
}

#[tokio::test(start_paused = true)]
async fn what_another_version_left_is_not_guessed_at() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 100);
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let mut page = device.contents(FileName::Superblock).expect("there").to_vec();
    page[8] = 2;
    let sum = blake3::hash(&page[..20]);
    page[20..28].copy_from_slice(&sum.as_bytes()[..8]);
    device.put(FileName::Superblock, &page);
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    assert_eq!((node.recovered("reformatted"), node.recovered("kept")), (1, 0));
    sample.insert_into(&node.store);
    node.store.flush().await;
    assert!(sample.hit(&node.store).await);
}

/// One page of a superblock rots, and the other is there.
#[tokio::test(start_paused = true)]
async fn a_damaged_superblock_costs_nothing() {
    for page in 0..2 {
        let (device, sample) = (MemoryDevice::new(), Sample::new(1, 0, 30_000));
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        sample.insert_into(&node.store);
        node.store.flush().await;
        for again in 0..2 {
            device.zero(FileName::Superblock, page * 4096..(page + 1) * 4096);
            let node = Node::over(&device, &disk_only(1 << 20)).await;
            assert_eq!(node.recovered("reformatted"), 0, "page {page}, time {again}");
            assert!(sample.hit(&node.store).await);
        }
    }
}

/// A disk keeps the units it was formatted with, whatever the configuration says later.
#[tokio::test(start_paused = true)]
async fn the_geometry_is_the_disks_own() {
    let device = MemoryDevice::new();
    let sample = Sample::new(1, 0, 100_000);
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    let mut other = disk_only(1 << 20);
    other.disk[0].unit_bytes = store::ByteSize::from(64 * 1024);
    other.disk[0].slab_bytes = store::ByteSize::mib(1);
    let node = Node::over(&device, &other).await;
    assert!(sample.hit(&node.store).await);
    assert_eq!(node.store.usage().disk.bytes, 26 * 4096);
}
