//! Slow viewers cost a cursor, whatever they read.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use media::GROUP_LEN;
use store::{ByteSize, MemoryDevice, StoreConfig};
use tokio::time::sleep;

use super::world::*;
use crate::*;

const LEN: u64 = SEGMENTS[0] as u64;

/// A node with next to no memory.
fn tiny(memory: ByteSize) -> Setup {
    let engine = EngineConfig { fill_buffer_bytes: ByteSize::mib(1), ..EngineConfig::default() };
    let store = StoreConfig { memory_bytes: memory, ..StoreConfig::default() };
    Setup { engine, store, ..Setup::default() }
}

/// Reads a body to its end with a rest after each piece.
async fn read_slowly(serving: Serving, rest: Duration) -> Vec<u8> {
    let (mut bytes, mut body) = (Vec::new(), serving.body);
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.expect("right bytes, then the end"));
        sleep(rest).await;
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_ended_lingers_for_its_slow_reader_and_no_longer() {
    let world = World::new(&[Act::Deliver], tiny(ByteSize::from(0))).await;
    let slow = world.serve_all(0).await.expect("served");
    world.until("the end of the fill", |world| world.metric("weir_engine_running_fills") == 0).await;
    assert_eq!(world.metric("weir_engine_lingering_fills"), 1);
    assert!(read(slow.body).await.expect("whole") == world.film.segment(0));
    assert_eq!(world.bought(), LEN);
    assert_eq!(world.metric("weir_engine_lingering_fills"), 0);
    assert_eq!((world.metric("weir_engine_buffered_bytes"), world.metric("weir_engine_group_bytes")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_had_to_make_room_goes_on_at_its_group() {
    let world = World::new(&[Act::Deliver], tiny(ByteSize::from(0))).await;
    let mut slow = world.serve_all(0).await.expect("served");
    let mut bytes = slow.body.next().await.expect("more").expect("good").to_vec();
    world.until_no_fill_runs().await;
    world.play(1).await;
    assert_eq!(world.metric("weir_engine_cut_readers_total"), 1);
    bytes.extend(read(slow.body).await.expect("whole"));
    assert!(bytes == world.film.segment(0));
    assert!(world.bought() <= 2 * LEN + u64::from(SEGMENTS[1]), "{}", world.bought());
}

#[tokio::test(start_paused = true)]
async fn without_memory_and_disk_slow_readers_everywhere_all_end_and_little_is_bought_in_vain() {
    let world = World::new(&[Act::Deliver], tiny(ByteSize::from(0))).await;
    let viewers = [(0, 0), (1, 0), (0, 300_000), (3, 0), (0, 900_000), (1, 200_000), (0, 10), (4, 7_500_000)];
    let rests = [1, 7, 3, 40, 11, 2, 29, 5].map(Duration::from_millis);
    let wanted: u64 = viewers.iter().map(|(n, from)| u64::from(SEGMENTS[*n as usize]) - from).sum();
    let read = viewers.into_iter().zip(rests).map(|((n, from), rest)| {
        let world = &world;
        async move {
            let len = u64::from(SEGMENTS[n as usize]);
            let serving = world.serve(n, from..len).await.expect("served");
            let truth = world.film.segment(n as usize).slice(from as usize..);
            assert!(read_slowly(serving, rest).await == truth, "{n} from {from}");
        }
    });
    join_all(read).await;
    assert!(world.metric("weir_engine_cut_readers_total") > 0, "they were in each other's way");
    let bound = 4 * wanted;
    assert!(world.bought() <= bound, "{} for {wanted}", world.bought());
    assert_eq!(world.metric("weir_engine_group_bytes"), 0);
}

/// With a disk whoever was cut off goes on from there and nothing is bought twice.
#[tokio::test(start_paused = true)]
async fn what_lies_on_disk_is_not_bought_again_for_slow_readers() {
    let device = Arc::new(MemoryDevice::new());
    let setup = Setup { engine: tiny(ByteSize::from(0)).engine, device: Some(device), ..Setup::disk_only() };
    let world = World::new(&[Act::Deliver], setup).await;
    let (mut viewers, mut once) = (Vec::new(), 0);
    for n in [0, 1, 3, 4] {
        let mut slow = world.serve_all(n).await.expect("served");
        let first = slow.body.next().await.expect("more").expect("good");
        viewers.push((n, first, slow.body));
        once += u64::from(SEGMENTS[n as usize]);
        world.until_no_fill_runs().await;
        world.store.flush().await;
    }
    assert!(world.metric("weir_engine_cut_readers_total") >= 2);
    for (n, first, body) in viewers {
        let rest = read(body).await.expect("whole");
        assert!([&first[..], &rest[..]].concat() == world.film.segment(n as usize), "{n}");
    }
    assert_eq!(world.bought(), once);
}

/// A node that is full turns nobody away whose response has begun.
#[tokio::test(start_paused = true)]
async fn whoever_has_begun_waits_for_a_full_node() {
    let mut setup = tiny(ByteSize::from(0));
    setup.engine.max_fills = 1;
    setup.engine.max_waiting_fills = 0;
    let world = World::new(&[Act::Deliver], setup).await;
    let mut slow = world.serve_all(1).await.expect("served");
    let mut bytes = slow.body.next().await.expect("more").expect("good").to_vec();
    world.until_no_fill_runs().await;
    world.play(4).await;
    world.sources[0].act(Act::Drip(Duration::from_millis(20)));
    let stranger = world.serve_all(0).await.expect("it fetches for 2.5 s");
    bytes.extend(read(slow.body).await.expect("whole"));
    assert!(bytes == world.film.segment(1));
    assert!(read(stranger.body).await.expect("whole") == world.film.segment(0));
}

/// Ten thousand viewers who took one piece and stopped, of a thousand segments.
#[tokio::test(start_paused = true)]
async fn ten_thousand_slow_readers_hold_no_more_than_the_budgets() {
    let (memory, lens) = (ByteSize::mib(4), [4 * GROUP_LEN as u32; 1_000]);
    let setup = Setup { film: Film::of(&lens), ..tiny(memory) };
    let budget = memory.bytes() + setup.engine.fill_buffer_bytes.bytes();
    let world = World::new(&[Act::Deliver], setup).await;
    let mut viewers = Vec::new();
    for n in 0..lens.len() as u32 {
        for serving in join_all((0..10).map(|_| world.serve_all(n))).await {
            let mut serving = serving.expect("served");
            serving.body.next().await.expect("more").expect("good");
            viewers.push((n, serving.body));
        }
        let held = world.metric("weir_engine_group_bytes");
        assert!(held * 10 <= budget * 11, "{held} bytes of groups are alive, the budgets are {budget}");
    }
    world.until_no_fill_runs().await;
    assert_eq!(viewers.len(), 10_000);
    for (n, body) in viewers.into_iter().step_by(97) {
        assert!(read(body).await.expect("whole") == world.film.segment(n as usize)[GROUP_LEN as usize..]);
    }
}

/// What memory gives up under a viewer is read from disk or bought again.
#[tokio::test(start_paused = true)]
async fn a_memory_hit_keeps_nothing_alive() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    world.play(0).await;
    world.until_no_fill_runs().await;
    let mut hit = world.serve_all(0).await.expect("served");
    assert_eq!(hit.outcome, Outcome::Memory);
    let mut bytes = hit.body.next().await.expect("more").expect("good").to_vec();
    world.forget(0).await;
    assert_eq!(world.metric("weir_engine_group_bytes"), 0);
    bytes.extend(read(hit.body).await.expect("whole"));
    assert!(bytes == world.film.segment(0));
    assert!(world.bought() <= 2 * LEN);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_viewer_slows_nobody() {
    let world = World::new(&[Act::Deliver], tiny(ByteSize::from(0))).await;
    let slow = async {
        let serving = world.serve_all(0).await.expect("served");
        read_slowly(serving, Duration::from_millis(100)).await
    };
    let fast = async {
        let begun = tokio::time::Instant::now();
        world.play(0).await;
        begun.elapsed()
    };
    let (slow, fast) = tokio::join!(slow, fast);
    assert!(slow == world.film.segment(0));
    assert!(fast < Duration::from_millis(200), "{fast:?}");
    assert_eq!(world.bought(), LEN);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hesitates_is_left_for_a_fill_and_keeps_its_object() {
    let device = Arc::new(MemoryDevice::new());
    let setup = Setup { device: Some(Arc::clone(&device)), ..Setup::disk_only() };
    let patience = setup.engine.disk_patience;
    let world = World::new(&[Act::Deliver], setup).await;
    world.play(0).await;
    world.until_no_fill_runs().await;
    world.store.flush().await;
    device.set_delay(Duration::from_millis(600));
    let begun = tokio::time::Instant::now();
    let serving = world.serve_all(0).await.expect("served");
    assert_eq!(serving.outcome, Outcome::Filled);
    assert!(begun.elapsed() <= patience + Duration::from_millis(50), "{:?}", begun.elapsed());
    assert!(read(serving.body).await.expect("whole") == world.film.segment(0));
    assert_eq!(world.metric("weir_engine_disk_departures_total{reason=\"impatient\"}"), 1);
    device.set_delay(Duration::ZERO);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.play(0).await, Outcome::Disk, "a slow disk is not a miss");
}

#[tokio::test(start_paused = true)]
async fn what_a_disk_still_reads_for_nobody_has_its_room() {
    let device = Arc::new(MemoryDevice::new());
    let setup = Setup { device: Some(Arc::clone(&device)), ..Setup::disk_only() };
    let world = World::new(&[Act::Deliver], setup).await;
    world.play(0).await;
    world.until_no_fill_runs().await;
    world.store.flush().await;
    let free = || world.engine.reading().budget.available_permits();
    let all = free();
    device.set_delay(Duration::from_millis(600));
    for _ in 0..2 {
        drop(world.serve_all(0).await.expect("from a fill"));
    }
    assert_eq!(world.metric("weir_engine_disk_departures_total{reason=\"impatient\"}"), 2);
    assert!(free() < all, "the disk has not answered yet");
    sleep(Duration::from_secs(30)).await;
    assert_eq!(free(), all);
}
