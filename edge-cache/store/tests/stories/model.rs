//! Random histories against a reference model: a map.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use store::{ByteSize, FileName, MemoryDevice, StoreConfig};

use crate::support::{Node, Sample, disk_only, footprint, virtual_time, with_disk};

#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    InsertGroups(u32, Vec<u64>),
    Read(u32),
    Purge(u32),
    Flush,
    Restart,
    Damage(usize, u64),
    Wait(u64),
}

fn step(keys: u32) -> impl Strategy<Value = Step> {
    let groups = proptest::collection::vec(0u64..6, 1..4);
    prop_oneof![
        6 => (0..keys).prop_map(Step::Insert),
        5 => (0..keys, groups).prop_map(|(key, groups)| Step::InsertGroups(key, groups)),
        6 => (0..keys).prop_map(Step::Read),
        2 => (0..keys).prop_map(Step::Purge),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
        1 => (any::<usize>(), any::<u64>()).prop_map(|(file, at)| Step::Damage(file, at)),
        1 => (0u64..20).prop_map(Step::Wait),
    ]
}

fn samples(count: u32) -> Vec<Sample> {
    let len = |n: u32| [0, 1, 700, 16_384, 16_385, 33_000, 50_000, 80_000][n as usize % 8];
    (0..count).map(|n| Sample::new(n, 0, len(n) + n as usize)).collect()
}

fn all(sample: &Sample) -> BTreeSet<u64> {
    (0..sample.digests.as_slice().len() as u64).collect()
}

/// With room for everything the store is a map from keys to sets of groups, across restarts too.
async fn roomy(config: StoreConfig, steps: Vec<Step>) {
    let (device, samples) = (MemoryDevice::new(), samples(16));
    let mut node = Node::over(&device, &config).await;
    let mut model: HashMap<u32, BTreeSet<u64>> = HashMap::new();
    for step in steps {
        match step {
            Step::Insert(n) => {
                samples[n as usize].insert_into(&node.store);
                model.insert(n, all(&samples[n as usize]));
            }
            Step::InsertGroups(n, groups) => {
                let sample = &samples[n as usize];
                let groups: Vec<u64> =
                    groups.into_iter().filter(|group| all(sample).contains(group)).collect();
                if !groups.is_empty() {
                    sample.insert_groups(&node.store, &groups);
                    model.entry(n).or_default().extend(groups);
                }
            }
            Step::Read(n) => {
                node.store.flush().await;
                let read = samples[n as usize].groups(&node.store).await;
                assert_eq!(BTreeSet::from_iter(read), model.get(&n).cloned().unwrap_or_default());
            }
            Step::Purge(n) => {
                samples[n as usize].purge_from(&node.store).await;
                model.remove(&n);
            }
            Step::Restart => {
                node.store.flush().await;
                node = Node::over(&device, &config).await;
                assert_eq!(node.recovered("kept"), model.len() as u64);
            }
            Step::Flush => node.store.flush().await,
            Step::Damage(..) | Step::Wait(_) => {}
        }
    }
    node.store.flush().await;
    assert_eq!(node.store.usage().disk.objects, model.len() as u64);
}

/// Without room, with a slow and rotting disk: bounds hold and whatever comes is right.
async fn tight(steps: Vec<Step>) {
    const CAPACITY: u64 = 200_000;
    const MEMORY: u64 = 120_000;
    let (device, samples) = (MemoryDevice::new(), samples(16));
    let config = StoreConfig { memory_bytes: ByteSize::from(MEMORY), ..with_disk(CAPACITY) };
    let mut node = Node::over(&device, &config).await;
    device.set_delay(Duration::from_millis(5));
    for step in steps {
        match step {
            Step::Insert(n) => samples[n as usize].insert_into(&node.store),
            Step::InsertGroups(n, groups) => samples[n as usize].insert_groups(&node.store, &groups),
            Step::Read(n) => drop(samples[n as usize].groups(&node.store).await),
            Step::Purge(n) => {
                samples[n as usize].purge_from(&node.store).await;
                assert!(samples[n as usize].find(&node.store).is_empty());
            }
            Step::Flush => node.store.flush().await,
            Step::Restart => node = Node::over(&device, &config).await,
            Step::Damage(slab, at) => device.flip(FileName::Slab(slab as u32 % 2), at % 140_000, 0x10),
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
        let usage = node.store.usage();
        assert!(usage.memory.bytes <= MEMORY && usage.disk.bytes <= CAPACITY, "{usage:?}");
        assert!(footprint(&device) <= CAPACITY);
    }
    node.store.flush().await;
    device.set_delay(Duration::ZERO);
    let usage = node.store.usage().disk;
    let node = Node::over(&device, &config).await;
    assert_eq!(node.store.usage().disk, usage, "a restart finds what was known, unit by unit");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_roomy_store_is_a_map(steps in proptest::collection::vec(step(16), 1..60)) {
        virtual_time(roomy(with_disk(64 << 20), steps));
    }

    #[test]
    fn a_roomy_disk_is_a_map(steps in proptest::collection::vec(step(16), 1..60)) {
        virtual_time(roomy(disk_only(64 << 20), steps));
    }

    #[test]
    fn a_tight_store_is_right_and_bounded(steps in proptest::collection::vec(step(16), 1..80)) {
        virtual_time(tight(steps));
    }
}
