//! Many viewers, one fill.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use media::ByteRange;
use tokio::time::Instant;

use super::world::*;
use crate::*;

const LEN: u64 = SEGMENTS[0] as u64;

#[tokio::test(start_paused = true)]
async fn a_thousand_viewers_of_a_cold_segment_cost_one_fetch_and_stream_along() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let begun = Instant::now();
    let viewers = (0..1_000).map(|_| async {
        let serving = world.serve_all(0).await.expect("served");
        let (first, outcome) = (begun.elapsed(), serving.outcome);
        assert_eq!(read(serving.body).await.expect("whole"), world.film.segment(0));
        (first, outcome, begun.elapsed())
    });
    let viewers = join_all(viewers).await;
    assert_eq!(world.sources[0].asked(VIDEO), [0], "one upstream fetch");
    assert_eq!(world.bought(), LEN);
    let leaders = viewers.iter().filter(|(_, outcome, _)| *outcome == Outcome::Filled).count();
    let joined = viewers.iter().filter(|(_, outcome, _)| *outcome == Outcome::Joined).count();
    assert_eq!((leaders, joined), (1, 999));
    let earliest = viewers.iter().map(|(first, ..)| *first).min().expect("viewers");
    let latest = viewers.iter().map(|(first, ..)| *first).max().expect("viewers");
    let end = viewers.iter().map(|(.., end)| *end).max().expect("viewers");
    assert!(latest - earliest <= Duration::from_millis(50), "{earliest:?} {latest:?}");
    assert!(latest * 10 < end, "the first bytes come long before the fill ends: {latest:?} {end:?}");
    assert_eq!(world.metric("weir_engine_fills_total{end=\"stored\"}"), 1);
    assert_eq!(world.play(0).await, Outcome::Memory);
    assert_eq!(world.bought(), LEN);
}

#[tokio::test(start_paused = true)]
async fn whoever_joins_at_half_gets_the_first_half_at_once() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let leader = world.serve_all(0).await.expect("served");
    world.until("the half", |world| world.bought() >= LEN / 2).await;
    let begun = Instant::now();
    let mut joiner = world.serve_all(0).await.expect("served");
    assert_eq!(joiner.outcome, Outcome::Joined);
    assert_eq!(joiner.source.expect("who delivers").as_str(), "source-0");
    let mut bytes = Vec::new();
    while bytes.len() < 480_000 {
        bytes.extend_from_slice(&joiner.body.next().await.expect("more").expect("good"));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    bytes.extend(read(joiner.body).await.expect("whole"));
    assert_eq!(bytes, world.film.segment(0));
    assert_eq!(read(leader.body).await.expect("whole"), world.film.segment(0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_slows_nobody_and_still_gets_everything() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let slow = world.serve_all(0).await.expect("served");
    let begun = Instant::now();
    world.play(0).await;
    assert!(begun.elapsed() < Duration::from_millis(200));
    world.until_no_fill_runs().await;
    world.forget(0).await;
    assert_eq!(read(slow.body).await.expect("whole"), world.film.segment(0));
    assert_eq!(world.bought(), LEN);
}

#[tokio::test(start_paused = true)]
async fn when_the_last_reader_leaves_early_the_fetch_stops() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let viewers = [world.serve_all(0).await.expect("served"), world.serve_all(0).await.expect("served")];
    for viewer in viewers {
        assert_eq!(world.metric("weir_engine_running_fills"), 1);
        drop(viewer);
    }
    world.until_no_fill_runs().await;
    assert!(world.bought() < LEN / 10, "{}", world.bought());
    assert_eq!(world.metric("weir_engine_fills_total{end=\"abandoned\"}"), 1);
    assert_eq!(world.metric("weir_engine_buffered_bytes"), 0);
    assert_eq!(world.play(0).await, Outcome::Memory, "the next viewer finds what had come");
    assert!(world.bought() <= LEN + 2 * media::GROUP_LEN, "and buys the rest: {}", world.bought());
}

#[tokio::test(start_paused = true)]
async fn when_the_last_reader_leaves_late_the_fill_is_finished() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let viewer = world.serve_all(0).await.expect("served");
    world.until("the half", |world| world.bought() >= LEN / 2 + 32 * 1024).await;
    drop(viewer);
    world.until_no_fill_runs().await;
    assert_eq!(world.metric("weir_engine_fills_total{end=\"stored\"}"), 1);
    assert_eq!(world.play(0).await, Outcome::Memory);
    assert_eq!(world.bought(), LEN);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_who_walks_away_while_waiting_leaves_the_fill_to_the_others() {
    let world = World::new(&[Act::StallAt(0), Act::Deliver], Setup::default()).await;
    let (impatient, patient) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(100), world.serve_all(0)),
        world.serve_all(0)
    );
    assert!(impatient.is_err());
    assert_eq!(read(patient.expect("served").body).await.expect("whole"), world.film.segment(0));
    assert_eq!(world.bought(), LEN);
}

#[tokio::test(start_paused = true)]
async fn ranges_are_exact_cold_and_warm() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let truth = world.film.segment(0);
    let mut outcomes = Vec::new();
    for range in [500_000..600_000, 0..1, 16_383..16_385, LEN - 1..LEN, 0..LEN] {
        let serving = world.serve(0, range.clone()).await.expect("served");
        outcomes.push(serving.outcome);
        let bytes = read(serving.body).await.expect("whole");
        assert_eq!(bytes, truth[range.start as usize..range.end as usize], "{range:?}");
    }
    assert_eq!(outcomes[0], Outcome::Filled);
    assert_eq!(world.bought(), LEN);
    let past = world.serve(0, 0..LEN + 1).await.expect_err("past the end");
    assert_eq!(past.reason, Failure::NoSuchSegment);
}

#[tokio::test(start_paused = true)]
async fn segments_of_every_size_play_and_neighbours_share_one_page_of_digests() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    for n in 0..SEGMENTS.len() as u32 {
        assert_eq!(world.play(n).await, Outcome::Filled);
        assert_eq!(world.play(n).await, Outcome::Memory);
    }
    assert_eq!(world.sources[0].asked("bbb/00000000000000ff/groups.weir").len(), 1);
    assert_eq!(world.sources[0].asked("bbb/00000000000000ff/index.weir").len(), 1);
    assert_eq!(world.bought(), world.film.video.len() as u64);
    let total: u64 = SEGMENTS.iter().map(|len| u64::from(*len)).sum();
    assert_eq!(world.metric("weir_engine_bytes_total{outcome=\"filled\"}"), total);
    assert_eq!(world.metric("weir_engine_bytes_total{outcome=\"memory\"}"), total);
    assert_eq!(world.metric("weir_engine_fill_seconds_count"), SEGMENTS.len() as u64);
}

/// Real threads: between "not in the store" and "on its way" no viewer may find neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_viewer_slips_between_the_end_of_a_fill_and_the_store() {
    let world = Arc::new(World::new(&[Act::Deliver], Setup::default()).await);
    let viewers = (0..8).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let described = world.engine.describe(&key(2)).await.expect("described");
            let whole = ByteRange::whole(described.len()).expect("not empty");
            for _ in 0..200 {
                let serving = world.engine.serve(&described, whole, None).await.expect("served");
                assert_eq!(read(serving.body).await.expect("whole"), world.film.segment(2));
                tokio::task::yield_now().await;
            }
        })
    });
    for viewer in join_all(viewers).await {
        viewer.expect("no panic");
    }
    assert_eq!(world.sources[0].asked(VIDEO).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_the_fills_and_the_disk() {
    let world = World::new(&[Act::Deliver], Setup::disk_only()).await;
    let _viewer = world.serve_all(0).await.expect("served");
    world.engine.drain().await;
    assert_eq!(world.metric("weir_engine_running_fills"), 0);
    assert_eq!(world.store.usage().disk.objects, 1);
}
