//! Only what somebody lacks is bought.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use media::GROUP_LEN;
use store::ByteSize;
use tokio::time::Instant;

use super::world::*;
use crate::*;

const MB: u64 = 1_000_000;
/// The segment of 8 MB.
const LONG: u32 = 4;
const LEN: u64 = SEGMENTS[LONG as usize] as u64;

async fn world() -> World {
    World::new(&[Act::Deliver], Setup::default()).await
}

#[tokio::test(start_paused = true)]
async fn a_cold_range_buys_itself_and_the_whole_buys_the_rest() {
    let world = world().await;
    let begun = Instant::now();
    assert_eq!(world.play_range(LONG, 4 * MB..5 * MB).await, Outcome::Filled);
    world.until_no_fill_runs().await;
    let upstream = world.bought() + world.listed();
    assert!(upstream * 100 <= MB * 125, "{upstream} bytes for {MB}");
    assert!(
        begun.elapsed() < Duration::from_millis(200),
        "it did not begin at the start: {:?}",
        begun.elapsed()
    );
    assert_eq!(world.metric("weir_engine_fills_total{end=\"part\"}"), 1);
    assert_eq!(world.play_range(LONG, 4 * MB..5 * MB).await, Outcome::Memory);
    assert_eq!(world.bought() + world.listed(), upstream, "the repeat is a hit");
    assert_eq!(world.play(LONG).await, Outcome::Filled);
    world.until_no_fill_runs().await;
    assert_eq!(world.bought(), LEN, "only the rest");
    assert_eq!(world.play(LONG).await, Outcome::Memory);
}

#[tokio::test(start_paused = true)]
async fn a_range_far_ahead_of_a_running_fill_gets_its_own_strand_and_nothing_is_bought_twice() {
    let world = world().await;
    let whole = world.serve_all(LONG).await.expect("served");
    let begun = Instant::now();
    assert_eq!(world.play_range(LONG, 6 * MB..7 * MB).await, Outcome::Joined);
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    assert_eq!(read(whole.body).await.expect("whole"), world.film.segment(LONG as usize));
    world.until_no_fill_runs().await;
    assert_eq!(world.metric("weir_engine_fills_total{end=\"stored\"}"), 1, "one fill");
    // What was in flight when a strand met the other's groups.
    assert!(world.bought() <= LEN + 2 * GROUP_LEN, "{}", world.bought());
}

#[tokio::test(start_paused = true)]
async fn a_range_a_little_ahead_waits_for_the_strand() {
    let world = world().await;
    let whole = world.serve_all(LONG).await.expect("served");
    assert_eq!(world.play_range(LONG, 400_000..500_000).await, Outcome::Joined);
    assert_eq!(world.sources[0].asked(VIDEO).len(), 1);
    drop(whole);
}

#[tokio::test(start_paused = true)]
async fn ranges_behind_and_between_are_fetched_once() {
    let engine = EngineConfig { max_completions: 0, ..EngineConfig::default() };
    let world = World::new(&[Act::Deliver], Setup { engine, ..Setup::default() }).await;
    let ranges = [5 * MB..6 * MB, MB..2 * MB, 5 * MB..6 * MB, 3 * MB..4 * MB, MB / 2..3 * MB];
    let outcomes = join_all(ranges.into_iter().map(|range| world.play_range(LONG, range))).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Filled).count(), 1);
    world.until_no_fill_runs().await;
    let wanted = 4 * MB + MB / 2;
    assert!(world.bought() <= wanted + 8 * GROUP_LEN, "{} for {wanted}", world.bought());
}

#[tokio::test(start_paused = true)]
async fn strands_are_so_many_at_most() {
    let engine = EngineConfig { max_strands: 1, ..EngineConfig::default() };
    let world = World::new(&[Act::Deliver], Setup { engine, ..Setup::default() }).await;
    let whole = world.serve_all(LONG).await.expect("served");
    world.play_range(LONG, 6 * MB..7 * MB).await;
    assert_eq!(world.sources[0].asked(VIDEO).len(), 1, "it waited");
    assert_eq!(read(whole.body).await.expect("whole"), world.film.segment(LONG as usize));
}

#[tokio::test(start_paused = true)]
async fn what_a_leaver_had_bought_is_kept() {
    let world = world().await;
    let mut viewer = world.serve_all(LONG).await.expect("served");
    for _ in 0..60 {
        viewer.body.next().await.expect("more").expect("good");
    }
    drop(viewer);
    world.until_no_fill_runs().await;
    assert_eq!(world.metric("weir_engine_fills_total{end=\"abandoned\"}"), 1);
    assert_eq!(world.metric("weir_engine_completions_total{verdict=\"not-worth\"}"), 1);
    let bought = world.bought();
    assert!(bought < LEN / 4, "{bought}");
    assert_eq!(world.play_range(LONG, 0..MB / 2).await, Outcome::Memory);
    world.play(LONG).await;
    world.until_no_fill_runs().await;
    assert!(world.bought() <= LEN + 2 * GROUP_LEN, "{}", world.bought());
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_several_wanted_is_completed_unless_the_node_is_loaded() {
    for (level, verdict, whole) in
        [(Level::Calm, "worth", true), (Level::NoDiskAdmission, "overloaded", false)]
    {
        let world = world().await;
        world.engine.load().set(level);
        join_all((0..3).map(|_| world.play_range(LONG, MB..2 * MB))).await;
        world.until_no_fill_runs().await;
        assert_eq!(world.metric(&format!("weir_engine_completions_total{{verdict=\"{verdict}\"}}")), 1);
        assert_eq!(world.bought() >= LEN, whole, "{verdict}: {}", world.bought());
    }
}

#[tokio::test(start_paused = true)]
async fn a_completion_ends_when_the_node_becomes_loaded() {
    let world = world().await;
    join_all((0..3).map(|_| world.play_range(LONG, MB..2 * MB))).await;
    world.until("the completion", |world| world.bought() > 3 * MB).await;
    world.engine.load().set(Level::NoDiskAdmission);
    world.until_no_fill_runs().await;
    assert!(world.bought() < LEN, "{}", world.bought());
    assert_eq!(world.play_range(LONG, MB..2 * MB).await, Outcome::Memory, "what there was is kept");
}

#[tokio::test(start_paused = true)]
async fn under_load_the_disk_is_spared() {
    let world = World::new(&[Act::Deliver], Setup::disk_only()).await;
    world.engine.load().set(Level::NoDiskAdmission);
    world.play(0).await;
    world.until_no_fill_runs().await;
    world.store.flush().await;
    assert_eq!(world.store.usage().disk.objects, 0);
}

/// One strand finds no source; those on the other still get theirs.
#[tokio::test(start_paused = true)]
async fn a_source_that_turns_away_in_the_middle_breaks_only_those_who_need_it() {
    let world = world().await;
    let good = world.serve(LONG, 0..4 * MB).await.expect("served");
    world.sources[0].act(Act::Fail(sourcing::Reason::Refused));
    let failed = world.serve(LONG, 6 * MB..7 * MB).await.expect_err("refused");
    assert_eq!(failed.reason, Failure::SourcesExhausted);
    assert_eq!(read(good.body).await.expect("it goes on"), world.film.segment(LONG as usize)[..4_000_000]);
}

#[tokio::test(start_paused = true)]
async fn digest_pages_are_bounded_in_bytes() {
    let engine = EngineConfig { digest_page_bytes: ByteSize::from(3_000), ..EngineConfig::default() };
    let world = World::new(&[Act::Deliver], Setup { engine, ..Setup::default() }).await;
    world.play(0).await;
    let lists = (62 + 19) * 32 + 2 * 32;
    assert_eq!(world.listed(), lists, "the neighbours that fit, not the long one");
    world.play(1).await;
    assert_eq!(world.listed(), lists);
}
