//! A node that is killed while it fills, and comes back over the same disk.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use engine::Outcome;
use futures_util::future::join_all;
use store::MemoryDevice;
use testkit::{Chance, Node, NodeConfig, Script, Viewing, World, life, seeds, story_in_lives};
use tokio::time::timeout;

const REGRESSIONS: &[u64] = &[];

fn world(seed: u64) -> World {
    World::new(seed).source("origin", Script::honest())
}

/// Every key at once, whole.
async fn everything(world: &World, node: &Node) -> Vec<(String, testkit::Played)> {
    let plays = world.package.keys().into_iter().map(|key| async move {
        let played = node.play(&key.to_string(), &Viewing::whole(&key, &world.package)).await;
        (key.to_string(), played)
    });
    join_all(plays).await
}

/// The first life: it ends after some time, without a flush, wherever fills and writes stand. How many objects
/// were on record by then.
fn killed(seed: u64, device: &Arc<MemoryDevice>) -> u64 {
    let chance = Chance::new(seed).for_("kill");
    device.set_delay(Duration::from_millis(chance.for_("delay").below(60)));
    life(async {
        let world = world(seed);
        let node = world.node_with(NodeConfig::disk_only(device)).await;
        let left = Duration::from_millis(chance.for_("after").between(20, 600));
        // Killed in the middle or just after the last byte; both happen.
        let _ = timeout(left, everything(&world, &node)).await;
        node.metric("weir_store_disk_writes_total{outcome=\"written\"}")
    })
}

/// The second life: how many of the objects were disk hits, and how many there are.
fn reopened(seed: u64, device: &Arc<MemoryDevice>) -> (u64, u64) {
    life(async {
        let world = world(seed);
        let node = world.node_with(NodeConfig::disk_only(device)).await;
        let recovered = node.store.usage().disk.objects;
        let (mut hits, mut missed) = (0, 0);
        let played = everything(&world, &node).await;
        let all = played.len() as u64;
        for (key, played) in played {
            assert!(played.is_whole(), "{key}: {played:?}");
            match played.outcome {
                Some(Outcome::Disk) => hits += 1,
                _ => missed += played.bytes,
            }
        }
        assert_eq!(hits, recovered, "what was recovered is served");
        let bought: u64 =
            world.sources[0].transfers().iter().filter(|t| is_body(&t.question.object)).map(|t| t.sent).sum();
        assert_eq!(bought, missed, "a hit costs no upstream byte and a miss no byte twice");
        (hits, all)
    })
}

fn is_body(object: &str) -> bool {
    !object.ends_with(".weir")
}

#[test]
fn after_a_kill_what_was_written_is_a_hit_and_nothing_is_wrong() {
    let (none, some, all) = (Cell::new(0), Cell::new(0), Cell::new(0));
    story_in_lives("killed while filling", seeds(30, REGRESSIONS), |seed| {
        let device = Arc::new(MemoryDevice::new());
        let written = killed(seed, &device);
        let (hits, objects) = reopened(seed, &device);
        assert!(hits >= written, "every object whose write had finished: {hits} of {written}");
        let counter = match hits {
            0 => &none,
            hits if hits < objects => &some,
            _ => &all,
        };
        counter.set(counter.get() + 1);
    });
    assert!(some.get() > 5, "too few kills in the middle: {none:?} {some:?} {all:?}");
}

#[test]
fn a_torn_write_costs_its_own_object_only() {
    story_in_lives("torn while writing", seeds(20, REGRESSIONS), |seed| {
        let (device, chance) = (Arc::new(MemoryDevice::new()), Chance::new(seed).for_("tear"));
        life(async {
            let world = world(seed);
            let node = world.node_with(NodeConfig::disk_only(&device)).await;
            let half = world.package.media("v404", 0);
            assert!(node.play("before", &Viewing::whole(&half, &world.package)).await.is_whole());
            node.store.flush().await;
            // The next write loses its end; nothing after it reaches the disk.
            device.tear_next_write(chance.below(300_000));
            device.stop_after(Some(1));
            let torn = world.package.media("v720", 1);
            assert!(node.play("torn", &Viewing::whole(&torn, &world.package)).await.is_whole());
            node.store.flush().await;
        });
        device.stop_after(None);
        let (hits, _) = reopened(seed, &device);
        assert_eq!(hits, 1);
    });
}
