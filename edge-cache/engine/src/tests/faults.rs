//! Sources and disks that break, stall and lie.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use media::GROUP_LEN;
use sourcing::Reason;
use store::{ByteSize, FileName, MemoryDevice};
use tokio::time::Instant;

use super::world::*;
use crate::*;

const LEN: u64 = SEGMENTS[0] as u64;
const HALF: u64 = LEN / 2;

#[tokio::test(start_paused = true)]
async fn a_source_that_dies_at_any_point_costs_ten_viewers_nothing() {
    for percent in [1, 10, 33, 50, 66, 90, 99] {
        let at = LEN * percent / 100;
        let world = World::new(&[Act::CutAt(at), Act::Deliver], Setup::default()).await;
        join_all((0..10).map(|_| world.play(0))).await;
        assert!(world.bought() <= LEN + GROUP_LEN, "cut at {at}: {} bytes for {LEN}", world.bought());
        assert_eq!((world.sources[0].asked(VIDEO).len(), world.sources[1].asked(VIDEO).len()), (1, 1));
        assert_eq!(world.metric("weir_engine_failures_total{reason=\"sources-exhausted\"}"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_source_costs_its_timeout_and_no_more() {
    let setup = Setup::default();
    let timeout = setup.sourcing.stall_timeout;
    let world = World::new(&[Act::StallAt(HALF), Act::Deliver], setup).await;
    let begun = Instant::now();
    world.play(0).await;
    assert!(begun.elapsed() <= timeout + Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(world.bought() <= LEN + GROUP_LEN);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_byte_is_seen_by_nobody_and_bought_elsewhere() {
    for at in [0, 1, GROUP_LEN - 1, GROUP_LEN, HALF, LEN - 1] {
        let world = World::new(&[Act::FlipAt(at), Act::Deliver], Setup::default()).await;
        join_all((0..10).map(|_| world.play(0))).await;
        assert_eq!(world.metric("weir_engine_verify_failures_total{kind=\"http\"}"), 1);
        assert_eq!(world.sources[1].asked(VIDEO), [at / GROUP_LEN * GROUP_LEN], "from the wrong group on");
        world.play(1).await;
        assert_eq!(world.sources[0].asked(VIDEO).len(), 1, "the liar rests");
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_on_the_second_source_ends_the_body_and_is_never_spliced() {
    let world = World::new(&[Act::CutAt(HALF), Act::Deliver], Setup::default()).await;
    let other: Vec<u8> = world.film.video.iter().map(|byte| byte ^ 0x5a).collect();
    world.sources[1].replace(VIDEO, Some(other.into()));
    let mut serving = world.serve_all(0).await.expect("begun");
    world.sources[0].is_away(true);
    let (mut bytes, mut error) = (Vec::new(), None);
    while let Some(piece) = serving.body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(broken) => error = Some(broken.reason),
        }
    }
    assert_eq!(error, Some(Failure::SourcesExhausted));
    assert!(bytes == world.film.segment(0)[..(HALF / GROUP_LEN * GROUP_LEN) as usize]);
    assert!(world.metric("weir_engine_verify_failures_total{kind=\"http\"}") >= 1);
}

#[tokio::test(start_paused = true)]
async fn when_all_sources_fail_before_the_first_byte_everybody_hears_it() {
    for (act, expected) in [
        (Act::Fail(Reason::Unavailable), Failure::SourcesExhausted),
        (Act::Fail(Reason::NotFound), Failure::SourcesExhausted),
        (Act::Hang, Failure::SourcesExhausted),
        (Act::FlipAt(5), Failure::SourcesExhausted),
        (Act::OtherLength, Failure::Changed),
    ] {
        let world = World::new(&[act, act], Setup::default()).await;
        for serving in join_all((0..10).map(|_| world.serve_all(0))).await {
            assert_eq!(serving.expect_err("nobody delivers").reason, expected, "{act:?}");
        }
        world.until_no_fill_runs().await;
        assert_eq!(world.metric("weir_engine_buffered_bytes"), 0);
        let end = format!("weir_engine_fills_total{{end=\"{}\"}}", expected.as_str());
        assert_eq!(world.metric(&end), 1, "one fill for all");
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_sources_fail_in_the_middle_the_body_ends_with_the_error_after_right_bytes_only() {
    let world = World::new(&[Act::CutAt(HALF)], Setup::default()).await;
    let mut serving = world.serve_all(0).await.expect("begun");
    world.sources[0].act(Act::Fail(Reason::Refused));
    let (mut bytes, mut error) = (Vec::new(), None);
    while let Some(piece) = serving.body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(broken) => error = Some(broken.reason),
        }
    }
    assert_eq!(error, Some(Failure::SourcesExhausted));
    assert_eq!(bytes.len() as u64, HALF / GROUP_LEN * GROUP_LEN);
    assert_eq!(bytes, world.film.segment(0)[..bytes.len()]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_is_held_by_the_deadline() {
    let setup = Setup::default();
    let deadline = setup.engine.fill_deadline;
    // A group takes nearly the stall timeout: slow, and not yet given up.
    let world = World::new(&[Act::Drip(Duration::from_millis(450))], setup).await;
    let begun = Instant::now();
    let serving = world.serve_all(0).await.expect("begun");
    let broken = read(serving.body).await.expect_err("too slow");
    assert_eq!(broken.reason, Failure::Deadline);
    assert!(begun.elapsed() <= deadline + Duration::from_millis(10));
}

/// Everything from disk, one batch at a time.
async fn on_disk(device: &Arc<MemoryDevice>) -> World {
    let setup = Setup { device: Some(Arc::clone(device)), ..Setup::disk_only() };
    let world = World::new(&[Act::Deliver], setup).await;
    world.play(0).await;
    world.until_no_fill_runs().await;
    world.store.flush().await;
    assert_eq!(world.play(0).await, Outcome::Disk);
    assert_eq!(world.bought(), LEN);
    world
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_in_the_middle_is_no_viewers_business() {
    let device = Arc::new(MemoryDevice::new());
    let world = on_disk(&device).await;
    let mut serving = world.serve_all(0).await.expect("served");
    assert_eq!(serving.outcome, Outcome::Disk);
    let mut bytes = serving.body.next().await.expect("more").expect("good").to_vec();
    device.fail_reads(Some(io::ErrorKind::Other));
    bytes.extend(read(serving.body).await.expect("whole"));
    assert_eq!(bytes, world.film.segment(0));
    assert!(world.bought() < 2 * LEN, "the rest came from a fill, and only the rest");
    assert_eq!(world.metric("weir_engine_disk_departures_total{reason=\"device\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rotten_block_is_never_served_and_repaired() {
    let device = Arc::new(MemoryDevice::new());
    let world = on_disk(&device).await;
    // The first object of the first slab: a page of header, then the segment.
    device.flip(FileName::Slab(0), 4096 + LEN - 1_000, 0x01);
    world.play(0).await;
    world.until_no_fill_runs().await;
    world.store.flush().await;
    let bought = world.bought();
    assert!(bought <= 2 * LEN);
    assert_eq!(world.play(0).await, Outcome::Disk, "there again");
    assert_eq!(world.bought(), bought);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_nothing_is_bought_again_and_what_is_wanted_returns_to_memory() {
    let device = Arc::new(MemoryDevice::new());
    on_disk(&device).await;
    let mut setup = Setup { device: Some(device), ..Setup::disk_only() };
    setup.store.memory_bytes = ByteSize::mib(64);
    let world = World::new(&[Act::Fail(Reason::Unavailable)], setup).await;
    assert_eq!(world.play(0).await, Outcome::Disk);
    assert_eq!(world.play(0).await, Outcome::Disk);
    world.until("the promotion", |world| world.store.usage().memory.objects == 1).await;
    assert_eq!(world.play(0).await, Outcome::Memory);
    assert_eq!(world.bought(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_says_so_and_keeps_its_bounds() {
    let engine = EngineConfig { max_fills: 1, max_waiting_fills: 1, ..EngineConfig::default() };
    let wait = engine.admission_wait;
    let setup = Setup { engine, ..Setup::default() };
    let world = World::new(&[Act::StallAt(HALF)], setup).await;
    let _running = world.serve_all(0).await.expect("begun");
    let begun = Instant::now();
    let waiting = async {
        let refused = world.serve_all(1).await.expect_err("no turn");
        (refused.reason, begun.elapsed())
    };
    let refused = async {
        tokio::time::sleep(wait / 2).await;
        let refused = world.serve_all(3).await.expect_err("no room");
        (refused.reason, begun.elapsed())
    };
    let (waiting, refused) = tokio::join!(waiting, refused);
    assert_eq!(waiting, (Failure::Overloaded, wait));
    assert_eq!(refused, (Failure::Overloaded, wait / 2));
    assert!(world.serve_all(0).await.is_ok(), "joining costs nothing");
}

#[tokio::test(start_paused = true)]
async fn the_fill_buffer_is_bounded_in_bytes() {
    let engine = EngineConfig { fill_buffer_bytes: ByteSize::mib(1), ..EngineConfig::default() };
    let world = World::new(&[Act::Deliver], Setup { engine, ..Setup::default() }).await;
    let begun = world.serve_all(0).await.expect("begun");
    assert_eq!(world.metric("weir_engine_buffered_bytes"), LEN);
    let second = world.serve_all(1).await.expect("it waits for the first to end, and not too long");
    assert_eq!(second.outcome, Outcome::Filled);
    assert!(world.bought() >= LEN);
    drop(begun);
}

/// Three unreliable sources and an honest one; whatever the first three do, every range is right.
#[tokio::test(start_paused = true)]
async fn a_hundred_seeds_of_trouble_and_no_wrong_byte() {
    for seed in 0..100_u64 {
        let mut draws = noise_of(seed);
        let mut act = || match draws(8) {
            0 => Act::Deliver,
            1 => Act::CutAt(draws(LEN)),
            2 => Act::StallAt(draws(LEN)),
            3 => Act::FlipAt(draws(LEN)),
            4 => Act::Fail(Reason::ALL[draws(9) as usize]),
            5 => Act::Hang,
            6 => Act::OtherLength,
            _ => Act::CutAt(0),
        };
        let world = World::new(&[act(), act(), act(), Act::Deliver], Setup::default()).await;
        let ranges: Vec<_> = (0..6).map(|_| (draws(LEN), draws(LEN))).collect();
        let viewers = ranges.into_iter().map(|(a, b)| {
            let (world, range) = (&world, a.min(b)..a.max(b) + 1);
            async move {
                let serving = world.serve(0, range.clone()).await.expect("an honest source is there");
                let bytes = read(serving.body).await.expect("whole");
                assert_eq!(
                    bytes,
                    world.film.segment(0)[range.start as usize..range.end as usize],
                    "seed {seed}"
                );
            }
        });
        join_all(viewers).await;
    }
}

/// Draws below a bound, from one seed.
fn noise_of(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |bound| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    }
}

/// The task dies with its runtime; a reader elsewhere must not wait for it forever, and begins anew.
#[test]
fn a_fill_whose_task_is_stopped_tells_its_readers() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let first = runtime().expect("a runtime");
    let (world, serving) = first.block_on(async {
        let world = World::new(&[Act::StallAt(HALF)], Setup::default()).await;
        let serving = world.serve_all(0).await.expect("begun");
        (world, serving)
    });
    drop(first);
    assert_eq!(world.metric("weir_engine_fills_total{end=\"stopped\"}"), 1);
    assert_eq!(world.metric("weir_engine_running_fills"), 0);
    world.sources[0].act(Act::Deliver);
    let bytes = runtime().expect("a runtime").block_on(read(serving.body)).expect("whole");
    assert_eq!(bytes, world.film.segment(0));
}
