//! Indexes that are missing, foreign or damaged, and digest lists that lie.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use media::SegmentKey;
use media::index::{Index, SigningKey};

use super::world::*;
use crate::*;

const INDEX: &str = "bbb/00000000000000ff/index.weir";
const GROUPS: &str = "bbb/00000000000000ff/groups.weir";

async fn reason(world: &World) -> Failure {
    world.engine.describe(&key(0)).await.expect_err("refused").reason
}

fn signed_by_a_stranger(film: &Film) -> Bytes {
    let index = Index::open(&film.objects[INDEX], &[signing_key().public()]).expect("ours");
    index.sign(&SigningKey::from_seed([8; 32])).into()
}

#[tokio::test(start_paused = true)]
async fn an_index_is_fetched_once_for_all_who_ask() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    for described in join_all((0..100).map(|_| async { world.engine.describe(&key(1)).await })).await {
        let described = described.expect("described");
        assert_eq!(described.len(), u64::from(SEGMENTS[1]));
    }
    assert_eq!(world.sources[0].asked(INDEX).len(), 1);
    assert!(world.sources[0].asked(VIDEO).is_empty(), "no body byte is touched");
}

#[tokio::test(start_paused = true)]
async fn an_index_whose_first_asker_left_is_still_asked_for_once() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let (key, late) = (key(1), Duration::from_millis(1));
    let left = async {
        tokio::time::timeout(Duration::from_micros(500), world.engine.describe(&key)).await.is_err()
    };
    let stayed = async {
        tokio::time::sleep(late / 4).await;
        join_all((0..100).map(|_| world.engine.describe(&key))).await
    };
    let (left, stayed) = tokio::join!(left, stayed);
    assert!(left && stayed.iter().all(Result::is_ok));
    assert_eq!(world.sources[0].asked(INDEX).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_index_does_not_name_does_not_exist() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let missing = world.engine.describe(&key(SEGMENTS.len() as u32)).await.expect_err("no such segment");
    assert_eq!(missing.reason, Failure::NoSuchSegment);
    let (other, _) = SegmentKey::parse("bbb/00000000000000ff/v404/0.m4s").expect("a key");
    assert_eq!(
        world.engine.describe(&other).await.expect_err("no such rendition").reason,
        Failure::NoSuchSegment
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_title_is_asked_for_once_a_second() {
    let world = World::new(&[Act::Deliver, Act::Deliver], Setup::default()).await;
    world.sources.iter().for_each(|source| source.replace(INDEX, None));
    for _ in 0..100 {
        assert_eq!(reason(&world).await, Failure::NoSuchTitle);
    }
    assert_eq!(world.sources[0].asked(INDEX).len(), 1);
    world.sources[1].replace(INDEX, Some(world.film.objects[INDEX].clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.engine.describe(&key(0)).await.is_ok(), "published meanwhile");
}

#[tokio::test(start_paused = true)]
async fn an_index_that_no_trusted_key_signed_is_refused() {
    let film = Film::new();
    let mut damaged = film.objects[INDEX].to_vec();
    damaged[40] ^= 1;
    let empty = Bytes::new();
    let huge = Bytes::from(vec![0; media::index::MAX_INDEX_LEN + 1]);
    for bad in [signed_by_a_stranger(&film), damaged.into(), empty, huge] {
        let world = World::new(&[Act::Deliver, Act::Deliver], Setup::default()).await;
        world.sources.iter().for_each(|source| source.replace(INDEX, Some(bad.clone())));
        assert_eq!(reason(&world).await, Failure::Untrusted);
        assert_eq!(world.metric("weir_engine_failures_total{reason=\"untrusted\"}"), 1);
        let asked: usize = world.sources.iter().map(|source| source.asked(INDEX).len()).sum();
        assert!(asked <= 3, "no storm: {asked}");
        // One good copy is enough.
        world.sources[1].replace(INDEX, Some(film.objects[INDEX].clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.play(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lying_list_of_digests_is_bought_elsewhere() {
    let world = World::new(&[Act::Deliver, Act::Deliver], Setup::default()).await;
    let mut lie = world.film.objects[GROUPS].to_vec();
    lie[100] ^= 1;
    world.sources[0].replace(GROUPS, Some(lie.into()));
    world.play(0).await;
    assert_eq!(world.metric("weir_engine_verify_failures_total{kind=\"http\"}"), 1);
    assert_eq!((world.sources[0].asked(GROUPS).len(), world.sources[1].asked(GROUPS).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_digests_nothing_is_served() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    world.sources[0].replace(GROUPS, None);
    assert_eq!(world.serve_all(0).await.expect_err("cannot be verified").reason, Failure::SourcesExhausted);
    assert_eq!(world.play(2).await, Outcome::Filled, "a single group needs no list");
}

#[tokio::test]
async fn impossible_configurations_are_refused() {
    let world = World::new(&[Act::Deliver], Setup::default()).await;
    let registry = prometheus::Registry::new();
    let sources = sourcing::Sources::new(
        sourcing::SourcingConfig::default(),
        vec![sourcing::Offer { source: world.sources[0].clone(), price: sourcing::Price::default() }],
        &registry,
    );
    let config = EngineConfig { max_fills: 0, ..EngineConfig::default() };
    let refused =
        Engine::new(config, world.store.clone(), sources.expect("good"), vec![], Arc::default(), &registry);
    let refused = refused.err().expect("refused").to_string();
    assert!(
        refused.contains("engine.max_fills") && refused.contains("no title could be served"),
        "{refused}"
    );
}
