//! Purges while everything goes on.

use std::sync::Arc;

use futures_util::StreamExt;
use sourcing::Reason;
use store::{ByteSize, PurgeKind, Scope};

use super::world::*;
use crate::*;

const LEN: u64 = SEGMENTS[0] as u64;
const INDEX: &str = "bbb/00000000000000ff/index.weir";

fn title() -> Scope {
    Scope::Title("bbb".parse().expect("a title"))
}

async fn world() -> World {
    World::new(&[Act::Deliver], Setup::default()).await
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_hard_is_fetched_anew_with_its_index_and_digests() {
    let world = world().await;
    world.play(0).await;
    world.until_no_fill_runs().await;
    let listed = world.listed();
    let purged = world.engine.purge(&title(), PurgeKind::Hard).await;
    assert_eq!(purged.objects, 1);
    assert_eq!(world.play(0).await, Outcome::Filled);
    assert_eq!(world.bought(), 2 * LEN);
    assert_eq!((world.sources[0].asked(INDEX).len(), world.listed()), (2, 2 * listed));
    world.until_no_fill_runs().await;
    assert_eq!(world.play(0).await, Outcome::Memory, "once");
    assert_eq!(world.metric("weir_store_purges_total{kind=\"hard\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_purge_of_one_segment_leaves_its_neighbours_and_the_index() {
    let world = world().await;
    world.play(0).await;
    world.play(1).await;
    world.until_no_fill_runs().await;
    world.engine.purge(&Scope::Segment(key(1)), PurgeKind::Hard).await;
    assert_eq!((world.play(0).await, world.play(1).await), (Outcome::Memory, Outcome::Filled));
    assert_eq!(world.sources[0].asked(INDEX).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fill_begun_before_a_purge_serves_its_readers_and_is_joined_and_stored_by_nobody() {
    for kind in [PurgeKind::Hard, PurgeKind::Soft] {
        let world = world().await;
        let mut before = world.serve_all(0).await.expect("served");
        world.engine.purge(&title(), kind).await;
        let after = world.serve_all(0).await.expect("served");
        assert_eq!(after.outcome, Outcome::Filled, "{kind:?}: not joined");
        let mut bytes = Vec::new();
        while let Some(piece) = before.body.next().await {
            bytes.extend_from_slice(&piece.expect("good"));
        }
        assert!(bytes == world.film.segment(0), "{kind:?}: whoever reads it finishes");
        drop(after);
        world.until_no_fill_runs().await;
        world.forget(0).await;
        // The second fill was given up early; nothing of the first may be there.
        assert_eq!(world.play(0).await, Outcome::Filled, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_ends_after_a_purge_is_not_stored() {
    let world = world().await;
    let before = world.serve_all(0).await.expect("served");
    world.engine.purge(&title(), PurgeKind::Hard).await;
    assert!(read(before.body).await.expect("whole") == world.film.segment(0));
    world.until_no_fill_runs().await;
    assert_eq!(world.store.usage().memory.objects, 0);
    assert_eq!(world.play(0).await, Outcome::Filled);
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_softly_is_served_only_while_no_source_delivers() {
    let world = world().await;
    world.play(0).await;
    world.until_no_fill_runs().await;
    world.engine.purge(&title(), PurgeKind::Soft).await;
    world.sources[0].act(Act::Fail(Reason::Unavailable));
    let index = world.film.objects[INDEX].clone();
    world.sources[0].replace(INDEX, None);
    assert_eq!(world.serve_all(0).await.expect_err("the title is gone").reason, Failure::NoSuchTitle);
    world.sources[0].replace(INDEX, Some(index));
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let stale = world.serve_all(0).await.expect("better than nothing");
    assert_eq!((stale.outcome, stale.stale), (Outcome::Memory, true));
    assert!(read(stale.body).await.expect("whole") == world.film.segment(0));
    assert_eq!(world.metric("weir_engine_stale_total"), 1);
    world.sources[0].act(Act::Deliver);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let fresh = world.serve_all(0).await.expect("served");
    assert_eq!((fresh.outcome, fresh.stale), (Outcome::Filled, false));
    assert!(read(fresh.body).await.expect("whole") == world.film.segment(0));
}

#[tokio::test(start_paused = true)]
async fn a_soft_purge_keeps_the_index_for_when_every_source_is_away() {
    let world = world().await;
    world.play(0).await;
    world.until_no_fill_runs().await;
    world.engine.purge(&title(), PurgeKind::Soft).await;
    world.sources[0].is_away(true);
    let stale = world.serve_all(0).await.expect("better than nothing");
    assert!(stale.stale);
    let asked = world.sources[0].asked(INDEX).len();
    let _again = world.serve_all(0).await.expect("better than nothing");
    assert_eq!(world.sources[0].asked(INDEX).len(), asked, "not asked for each request");
    world.engine.purge(&title(), PurgeKind::Hard).await;
    assert!(world.serve_all(0).await.is_err(), "a hard purge leaves nothing");
}

#[tokio::test(start_paused = true)]
async fn a_load_of_an_index_begun_before_a_purge_is_no_answer_after_it() {
    let world = world().await;
    let before = async { world.engine.describe(&key(0)).await.map(|_| ()) };
    let after = async {
        tokio::task::yield_now().await;
        world.engine.purge(&title(), PurgeKind::Hard).await;
        world.engine.describe(&key(0)).await.map(|_| ())
    };
    assert_eq!(tokio::join!(before, after), (Ok(()), Ok(())));
    assert_eq!(world.sources[0].asked(INDEX).len(), 2);
}

/// Real threads: viewers of every range, a memory that keeps little, and purges all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_purged_meanwhile_every_viewer_gets_its_bytes() {
    let mut setup = Setup::default();
    setup.store.memory_bytes = ByteSize::mib(1);
    setup.engine.fill_buffer_bytes = ByteSize::mib(2);
    let world = Arc::new(World::new(&[Act::Deliver, Act::Deliver], setup).await);
    let viewers = (0..12_u64).map(|viewer| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for turn in 0..12 {
                let n = (viewer + turn) as u32 % 4;
                let len = u64::from(SEGMENTS[n as usize]);
                let from = (viewer * 7_919 + turn * 104_729) % len;
                let end = (from + 1 + viewer * 31_337).min(len);
                world.play_range(n, from..end).await;
                let kind = if turn % 2 == 0 { PurgeKind::Hard } else { PurgeKind::Soft };
                let scope = if viewer % 3 == 0 { title() } else { Scope::Segment(key(n)) };
                world.engine.purge(&scope, kind).await;
            }
        })
    });
    for viewer in futures_util::future::join_all(viewers).await {
        viewer.expect("no panic");
    }
    world.until_no_fill_runs().await;
    assert_eq!(world.metric("weir_engine_buffered_bytes"), 0);
    assert_eq!(world.metric("weir_engine_lingering_fills"), 0);
}
