//! A disk that is slow, full, broken, hung or rotten, or that loses its power. No viewer notices.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use engine::Outcome;
use futures_util::future::{join, join_all};
use store::{ByteSize, MemoryDevice, SyncPolicy};
use testkit::{Chance, Node, NodeConfig, Played, Script, Viewing, World, life, seeds, story, story_in_lives};
use tokio::time::{sleep, timeout};

const REGRESSIONS: &[u64] = &[];
const VIEWERS: u64 = 24;
const ONLINE: &str = "weir_store_disk_mode{disk=\"0\",mode=\"online\"}";

fn world(seed: u64) -> World {
    World::new(seed).source("origin", Script::honest())
}

/// A node over the disk, with so much memory.
async fn node(world: &World, device: &Arc<MemoryDevice>, memory: ByteSize) -> Node {
    let mut config = NodeConfig::disk_only(device);
    config.store.memory_bytes = memory;
    config.store.disk[0].offline_for = Duration::from_millis(500);
    world.node_with(config).await
}

async fn whole(world: &World, node: &Node, rendition: &str, n: u32) -> Played {
    let viewing = Viewing::whole(&world.package.media(rendition, n), &world.package);
    let played = node.play(&format!("{rendition}-{n}"), &viewing).await;
    assert!(played.is_whole(), "{played:?}");
    played
}

/// Half a second for each operation: more than a read may take.
#[test]
fn a_slow_disk_is_left_alone_and_comes_back() {
    story("a slow disk", seeds(10, REGRESSIONS), |seed| async move {
        let (world, device) = (world(seed), Arc::new(MemoryDevice::new()));
        // The one is longer than all of memory, the other fits.
        let node = node(&world, &device, ByteSize::from(900_000)).await;
        whole(&world, &node, "v720", 0).await;
        whole(&world, &node, "a-en", 0).await;
        node.store.flush().await;
        assert_eq!(whole(&world, &node, "v720", 0).await.outcome, Some(Outcome::Disk));
        assert_eq!(whole(&world, &node, "a-en", 0).await.outcome, Some(Outcome::Memory));
        device.set_delay(Duration::from_millis(500));
        let failed = world.log.now();
        let offline = async {
            node.until("the disk is left alone", |node| node.metric(ONLINE) == 0).await;
            world.log.now() - failed
        };
        let (slow, offline) = join(whole(&world, &node, "v720", 0), offline).await;
        assert!(offline <= Duration::from_secs(1), "{offline:?}");
        let limit = Duration::from_millis(600);
        assert!(
            slow.ttfb().is_some_and(|ttfb| ttfb <= limit),
            "a slow disk is no miss and no wait: {slow:?}"
        );
        let hot = whole(&world, &node, "a-en", 0).await;
        assert_eq!((hot.outcome, hot.ttfb()), (Some(Outcome::Memory), Some(Duration::ZERO)));
        device.set_delay(Duration::ZERO);
        node.until("the disk is back", |node| node.metric(ONLINE) == 1).await;
    });
}

/// One thing that happens to a disk.
fn harm(device: &MemoryDevice, chance: Chance) {
    let fault = chance.for_("is-over").happens(40);
    let some = |kind| (!fault).then_some(kind);
    let files = device.files();
    let file = files.get(chance.for_("file").below(files.len() as u64) as usize).copied();
    let Some((file, len)) = file else { return };
    let at = |name: &str| chance.for_(name).below(len);
    match chance.for_("which").below(12) {
        0 => device.fail_reads(some(ErrorKind::Other)),
        1 => device.fail_writes(some(ErrorKind::ReadOnlyFilesystem)),
        2 => device.fail_syncs(some(ErrorKind::Other)),
        3 => device.fail_resizes(some(ErrorKind::StorageFull)),
        4 => device.fail_opens(some(ErrorKind::NotFound)),
        5 => device.set_capacity((!fault).then(|| chance.for_("capacity").below(2_000_000))),
        6 => device.set_delay(Duration::from_millis(chance.for_("delay").below(700))),
        7 => device.hang(!fault),
        8 => device.flip(file, at("flip"), 1 << chance.for_("bit").below(8)),
        9 => device.zero(file, at("from")..at("from") + 4_096),
        10 => device.swap(file, at("a") / 16_384 * 16_384, at("b") / 16_384 * 16_384, 16_384),
        _ => device.truncate(file, at("cut")),
    }
}

#[test]
fn whatever_a_disk_does_every_viewer_gets_every_byte() {
    story("a disk in trouble", seeds(40, REGRESSIONS), |seed| async move {
        let (world, device) = (world(seed), Arc::new(MemoryDevice::new()));
        // Memory for a few segments, so that most hits are reads of the disk.
        let node = node(&world, &device, ByteSize::from(500_000)).await;
        let vandal = async {
            for n in 0..40 {
                let chance = world.chance.for_("harm").nth(n);
                sleep(Duration::from_millis(chance.for_("pause").below(400))).await;
                harm(&device, chance);
            }
        };
        let keys = world.package.keys();
        let viewers = (0..VIEWERS).map(|n| {
            let (node, world, keys) = (&node, &world, &keys);
            async move {
                for round in 0..6 {
                    let chance = world.chance.for_("viewer").nth(n).nth(round);
                    sleep(Duration::from_millis(chance.for_("pause").below(1_500))).await;
                    let key = &keys[chance.for_("key").below(keys.len() as u64) as usize];
                    let played =
                        node.play(&format!("viewer-{n}"), &Viewing::whole(key, &world.package)).await;
                    assert!(played.is_whole(), "{key}: {played:?}");
                }
            }
        });
        join(join_all(viewers), vandal).await;
    });
}

#[test]
fn what_was_synced_outlives_the_power() {
    story_in_lives("the power goes", seeds(30, REGRESSIONS), |seed| {
        let (device, chance) = (Arc::new(MemoryDevice::new()), Chance::new(seed).for_("power"));
        let synced = |device: &Arc<MemoryDevice>| {
            let mut config = NodeConfig::disk_only(device);
            config.store.disk[0].sync = SyncPolicy::Data;
            config
        };
        let stored = life(async {
            let world = world(seed);
            let node = world.node_with(synced(&device)).await;
            whole(&world, &node, "v404", 0).await;
            whole(&world, &node, "a-en", 0).await;
            node.store.flush().await;
            let stored = node.store.usage().disk.objects;
            // More is on its way when it happens.
            let more = join(whole(&world, &node, "v720", 0), whole(&world, &node, "v404", 1));
            let _ = timeout(Duration::from_millis(chance.for_("after").below(600)), more).await;
            device.lose_power(chance.bits());
            stored
        });
        let device = Arc::new(device.another_process());
        life(async {
            let world = world(seed);
            let node = world.node_with(synced(&device)).await;
            assert!(node.store.usage().disk.objects >= stored, "{stored} were stored");
            for (rendition, n, kept) in
                [("v404", 0, true), ("a-en", 0, true), ("v720", 0, false), ("v404", 1, false)]
            {
                let outcome = whole(&world, &node, rendition, n).await.outcome;
                assert!(!kept || outcome == Some(Outcome::Disk), "{rendition} {n}: {outcome:?}");
            }
        });
    });
}
