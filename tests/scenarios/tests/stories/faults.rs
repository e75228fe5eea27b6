//! A source that fails in the middle of a segment.

use std::time::Duration;

use futures_util::future::join_all;
use media::{GROUP_LEN, SegmentKey};
use testkit::{Behaviour, Chance, Fault, NodeConfig, Played, Script, Viewing, World, seeds, story};

const REGRESSIONS: &[u64] = &[];

/// A world whose cheaper source treats media so, and whose dearer one is honest.
fn world(seed: u64, behaviour: Behaviour) -> World {
    World::new(seed).source("cheap", Script::media(behaviour)).source("dear", Script::honest())
}

fn key(world: &World) -> SegmentKey {
    world.package.media("v720", 0)
}

/// Some byte of the segment.
fn somewhere(seed: u64) -> u64 {
    Chance::new(seed).for_("fault").below(1_000_000)
}

/// Ten viewers of the segment from a cold node.
async fn ten(world: &World) -> Vec<Played> {
    let (node, viewing) = (world.node().await, Viewing::whole(&key(world), &world.package));
    let names: Vec<String> = (0..10).map(|n| format!("viewer-{n}")).collect();
    join_all(names.iter().map(|name| node.play(name, &viewing))).await
}

/// The second source was asked once, for everything from the group that holds byte `at` on.
fn assert_resumed(world: &World, at: u64) {
    let (object, range) = world.package.location(&key(world));
    let resumed = world.sources[1].transfers_of(&object, range);
    let ranges: Vec<_> = resumed.iter().map(|transfer| transfer.question.range).collect();
    let verified = at / GROUP_LEN * GROUP_LEN;
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert_eq!((ranges[0].start(), ranges[0].end()), (range.start() + verified, range.end()));
    let (missing, again) = (range.len() - at, resumed[0].sent);
    assert!(again <= missing + GROUP_LEN, "{again} bytes read for {missing} missing ones");
}

#[test]
fn a_stalled_source_costs_its_timeout_and_the_next_goes_on_where_it_stopped() {
    let timeout = NodeConfig::default().sourcing.stall_timeout;
    story("a source stalls", seeds(20, REGRESSIONS), |seed| async move {
        let smooth = world(seed, Behaviour::default());
        let at = somewhere(seed);
        let smooth = ten(&smooth).await;
        let stalling = world(seed, Behaviour::faulty(Fault::Stall(at)));
        let stalled = ten(&stalling).await;
        for (smooth, stalled) in smooth.iter().zip(&stalled) {
            assert!(smooth.is_whole() && stalled.is_whole(), "{stalled:?}");
            let added = (stalled.ended - stalled.arrived).saturating_sub(smooth.ended - smooth.arrived);
            assert!(added <= timeout + Duration::from_millis(300), "stalled at {at}: {added:?} more");
            assert!(added + Duration::from_millis(50) >= timeout, "it did stall: {added:?}");
        }
        assert_resumed(&stalling, at);
    });
}

#[test]
fn a_source_that_dies_at_half_costs_ten_of_ten_viewers_nothing() {
    story("a source dies at half", seeds(20, REGRESSIONS), |seed| async move {
        for at in [500_000, somewhere(seed)] {
            let world = world(seed, Behaviour::faulty(Fault::Cut(at)));
            let viewers = ten(&world).await;
            assert_eq!(viewers.iter().filter(|viewer| viewer.is_whole()).count(), 10, "{viewers:?}");
            assert_resumed(&world, at);
        }
    });
}

#[test]
fn a_wrong_byte_is_seen_by_nobody() {
    story("a source lies", seeds(20, REGRESSIONS), |seed| async move {
        let at = somewhere(seed);
        let world = world(seed, Behaviour::faulty(Fault::Flip(at)));
        let viewers = ten(&world).await;
        assert!(viewers.iter().all(Played::is_whole), "{viewers:?}");
        assert_resumed(&world, at);
    });
}
