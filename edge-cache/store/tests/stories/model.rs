//! Random histories against a reference model: a map.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use store::{ByteSize, MemoryDevice, StoreConfig, Stored};

use crate::support::{Node, Sample, footprint, with_disk};

#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    Read(u32),
    ReadGroups(u32, u64, u64),
    Remove(u32),
    Flush,
    Restart,
    Damage(usize, u64),
    Wait(u64),
}

fn step(keys: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..keys).prop_map(Step::Insert),
        6 => (0..keys).prop_map(Step::Read),
        3 => (0..keys, 0u64..6, 0u64..6).prop_map(|(key, from, count)| Step::ReadGroups(key, from, count)),
        2 => (0..keys).prop_map(Step::Remove),
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

fn virtual_time<F: Future>(story: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("builds").block_on(story)
}

/// Some groups, right if they came at all.
async fn read_groups(sample: &Sample, node: &Node, from: u64, count: u64) -> bool {
    let Some(Stored::Disk(object)) = sample.find(&node.store) else { return sample.hit(&node.store).await };
    let Ok(groups) = object.read(from..from + count).await else { return false };
    let start = (from as usize * 16_384).min(sample.bytes.len());
    let end = ((from + count) as usize * 16_384).min(sample.bytes.len()).max(start);
    assert_eq!(groups.concat(), &sample.bytes[start..end]);
    true
}

/// With room for everything the store is a map, across restarts too.
async fn roomy(steps: Vec<Step>) {
    let (device, samples) = (Arc::new(MemoryDevice::new()), samples(16));
    let config = with_disk(64 << 20);
    let mut node = Node::over(&device, &config).await;
    let mut model: HashMap<u32, ()> = HashMap::new();
    for step in steps {
        match step {
            Step::Insert(n) => {
                samples[n as usize].insert_into(&node.store);
                // A write still under way when the key is removed and inserted again would make this one skip.
                node.store.flush().await;
                model.insert(n, ());
            }
            Step::Read(n) => assert_eq!(samples[n as usize].hit(&node.store).await, model.contains_key(&n)),
            Step::ReadGroups(n, from, count) => {
                let hit = read_groups(&samples[n as usize], &node, from, count).await;
                assert_eq!(hit, model.contains_key(&n));
            }
            Step::Remove(n) => {
                node.store.remove(&samples[n as usize].key);
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
        let usage = node.store.usage();
        assert_eq!(usage.disk.objects, model.len() as u64);
    }
}

/// Without room, with a slow and rotting disk: bounds hold and whatever comes is right.
async fn tight(steps: Vec<Step>) {
    const CAPACITY: u64 = 200_000;
    const MEMORY: u64 = 120_000;
    let (device, samples) = (Arc::new(MemoryDevice::new()), samples(16));
    device.set_delay(Duration::from_millis(5));
    let config = StoreConfig { memory_bytes: ByteSize::from(MEMORY), ..with_disk(CAPACITY) };
    let mut node = Node::over(&device, &config).await;
    for step in steps {
        match step {
            Step::Insert(n) => samples[n as usize].insert_into(&node.store),
            Step::Read(n) => drop(samples[n as usize].hit(&node.store).await),
            Step::ReadGroups(n, from, count) => {
                read_groups(&samples[n as usize], &node, from, count).await;
            }
            Step::Remove(n) => {
                node.store.remove(&samples[n as usize].key);
                assert!(samples[n as usize].find(&node.store).is_none());
            }
            Step::Flush => node.store.flush().await,
            Step::Restart => {
                node.store.flush().await;
                node = Node::over(&device, &config).await;
            }
            Step::Damage(file, at) => {
                let files = device.files();
                if let Some((file, len)) = files.get(file % files.len().max(1)) {
                    device.flip(*file, at % len.max(&1), 0x10);
                }
            }
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
        let usage = node.store.usage();
        assert!(usage.memory.bytes <= MEMORY && usage.disk.bytes <= CAPACITY, "{usage:?}");
        assert!(footprint(&device) <= CAPACITY);
    }
    node.store.flush().await;
    assert_eq!(node.store.usage().disk.objects, device.files().len() as u64, "every file is accounted for");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_roomy_store_is_a_map(steps in proptest::collection::vec(step(16), 1..60)) {
        virtual_time(roomy(steps));
    }

    #[test]
    fn a_tight_store_is_right_and_bounded(steps in proptest::collection::vec(step(16), 1..80)) {
        virtual_time(tight(steps));
    }
}
