//! A source that fails in the middle of a segment.

use std::time::Duration;

use futures_util::future::join_all;
use media::{ByteRange, GROUP_LEN, SegmentKey};
use testkit::{Behaviour, Chance, Fault, NodeConfig, Played, Script, Version, Viewing, World, seeds, story};

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

fn whole(world: &World) -> ByteRange {
    world.package.location(&key(world)).1
}

/// What the first source sent of the segment before it was given up.
fn sent_first(world: &World) -> u64 {
    let transfers = world.sources[0].transfers_of(&world.package.location(&key(world)).0, whole(world));
    transfers.iter().map(|transfer| transfer.sent).sum()
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
    let timeout = NodeConfig::default().sourcing.patience.unknown;
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
fn a_reset_source_is_continued_from_what_had_arrived() {
    story("a source resets", seeds(20, REGRESSIONS), |seed| async move {
        let world = world(seed, Behaviour::faulty(Fault::Reset(somewhere(seed))));
        let viewers = ten(&world).await;
        assert!(viewers.iter().all(Played::is_whole), "{viewers:?}");
        assert_resumed(&world, sent_first(&world));
    });
}

#[test]
fn a_dripping_source_is_given_up_like_a_silent_one() {
    let timeout = NodeConfig::default().sourcing.patience.unknown;
    story("a source drips", seeds(20, REGRESSIONS), |seed| async move {
        let smooth = ten(&world(seed, Behaviour::default())).await;
        let world = world(seed, Behaviour::faulty(Fault::Drip(somewhere(seed))));
        let dripped = ten(&world).await;
        for (smooth, dripped) in smooth.iter().zip(&dripped) {
            assert!(dripped.is_whole(), "{dripped:?}");
            let added = (dripped.ended - dripped.arrived).saturating_sub(smooth.ended - smooth.arrived);
            // A group that was nearly there may still be completed, and the next one waited for.
            assert!(added <= timeout * 2 + Duration::from_millis(300), "{added:?} more");
        }
        assert_resumed(&world, sent_first(&world));
    });
}

#[test]
fn another_version_is_never_spliced_in() {
    story("another version", seeds(20, REGRESSIONS), |seed| async move {
        for (version, taken) in [(Version::Length, false), (Version::Bytes, false), (Version::Tag, true)] {
            let world = world(seed, Behaviour::faulty(Fault::Version(version)));
            let viewers = ten(&world).await;
            assert!(viewers.iter().all(Played::is_whole), "{version:?}: {viewers:?}");
            let asked = world.sources[1].transfers_of(&world.package.location(&key(&world)).0, whole(&world));
            assert_eq!(asked.is_empty(), taken, "{version:?}");
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
