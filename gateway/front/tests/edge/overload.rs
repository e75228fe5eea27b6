//! More to do than can be done: who is sent away, who is refused, and who does not notice.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use front::FrontConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::Wire;
use crate::http2::{ask, send, speak};
use crate::world::{Choice, FILM, World};

fn small(change: impl FnOnce(&mut FrontConfig)) -> Choice {
    let mut choice = Choice { big: 600_000, ..Choice::default() };
    choice.config.overload.max_active_responses = 4;
    choice.config.overload.cdn = Some("https://cdn.example/films".to_owned());
    change(&mut choice.config);
    choice
}

/// Viewers of one session in the middle of a response that does not end until the source is released.
async fn busy(world: &World, viewers: usize) -> Vec<Wire> {
    world.source.hold_at(300_000);
    let path = world.path("v720/1.m4s");
    let mut wires = Vec::new();
    for _ in 0..viewers {
        let mut wire = Wire::open(world.address()).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
        assert_eq!(wire.head().await.expect("a response").status, 200);
        wires.push(wire);
    }
    wires
}

#[tokio::test]
async fn new_sessions_go_to_the_cdn_and_served_ones_stay() {
    let world = World::with(small(|_| {})).await;
    let mut wire = Wire::open(world.address()).await;
    assert_eq!(wire.get(&world.path("main.m3u8"), "").await.status, 200);
    let wires = busy(&world, 4).await;
    world.until("weir_front_overload_level", 4.0).await;
    let opened = world.source.opened.load(Relaxed);
    let judged = "weir_front_token_checks_total{judged=\"verified\"}";
    let verified = world.metric(judged);

    let new = world.path_of("session-2", "main.m3u8");
    let away = wire.get(&format!("{new}?CMCD=x"), "").await;
    assert_eq!((away.status, away.field("cache-control")), (307, "no-store"));
    assert_eq!(away.field("location"), format!("https://cdn.example/films{new}"));
    assert_eq!(away.field("access-control-allow-origin"), "*");
    // A segment is never redirected.
    let stranger = wire.get(&world.path_of("session-2", "v720/0.m4s"), "").await;
    assert_eq!((stranger.status, stranger.field("cache-control")), (503, "no-store"));
    assert!(stranger.text().starts_with("shed: "), "{}", stranger.text());
    let retry: u32 = stranger.field("retry-after").parse().expect("seconds");
    assert!((2..=10).contains(&retry));
    assert_eq!(stranger.field("proxy-status"), "test-1; error=http_request_denied; details=\"shed\"");
    assert!((world.metric(judged) - verified).abs() < 0.5, "the refused cost no signature check");
    assert_eq!(world.source.opened.load(Relaxed), opened, "and no upstream byte");
    for part in ["main.m3u8", "v720/index.m3u8", "v720/init.mp4"] {
        // Each with a token of its own: it is the session that counts.
        assert_eq!(wire.get(&world.path(part), "").await.status, 200, "{part} of a session under way");
    }
    for (what, count) in [("sent-away", 1.0), ("stranger", 1.0), ("session", 0.0), ("known", 0.0)] {
        world.until(&format!("weir_front_shed_total{{what=\"{what}\"}}"), count).await;
    }

    world.source.release();
    for mut wire in wires {
        assert_eq!(wire.rest_slowly(600_000).await.len(), 600_000, "running responses are not cut");
    }
    let began = Instant::now();
    world.until("weir_front_overload_level", 0.0).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(wire.get(&new, "").await.status, 200);
}

#[tokio::test]
async fn without_a_cdn_new_sessions_are_told_to_come_back() {
    let world = World::with(small(|config| config.overload.cdn = None)).await;
    let _wires = busy(&world, 4).await;
    let mut wire = Wire::open(world.address()).await;
    // The bound on responses holds at once, before the governor looks.
    let refused = wire.get(&world.path_of("session-2", "main.m3u8"), "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.fields.contains_key("retry-after"));
    assert_eq!(wire.get("/healthz", "").await.status, 200, "health is told at any level");
}

#[tokio::test]
async fn even_a_served_session_has_a_bound() {
    let world = World::with(small(|_| {})).await;
    let wires = busy(&world, 5).await;
    let mut wire = Wire::open(world.address()).await;
    assert_eq!(wire.get(&world.path("v720/0.m4s"), "").await.status, 503);
    world.until("weir_front_shed_total{what=\"known\"}", 1.0).await;
    drop(wires);
    world.until("weir_front_requests_in_flight", 0.0).await;
    assert_eq!(wire.get(&world.path("v720/init.mp4"), "").await.status, 200);
}

#[tokio::test]
async fn whoever_is_refused_takes_nobodys_place() {
    let world = World::with(small(|_| {})).await;
    // Many refusals that nobody ever reads: their windows stay closed.
    let mut sender = speak(TcpStream::connect(world.address()).await.expect("connects"), Some(0)).await;
    let mut unread = Vec::new();
    for _ in 0..30 {
        let response = send(&mut sender, ask(&format!("/p/made-up/{FILM}/main.m3u8"))).await;
        assert_eq!(response.status(), 403);
        unread.push(response);
    }
    let mut wire = Wire::open(world.address()).await;
    assert_eq!(wire.get(&world.path("main.m3u8"), "").await.status, 200, "a new session has room");
    assert!(world.metric("weir_front_requests_in_flight") < 0.5);
}

#[tokio::test]
async fn one_session_cannot_take_everybodys_places() {
    let choice = small(|config| config.overload.max_responses_per_session = 3);
    let world = World::with(choice).await;
    let wires = busy(&world, 3).await;
    let mut wire = Wire::open(world.address()).await;
    let refused = wire.get(&world.path("v720/0.m4s"), "").await;
    assert_eq!((refused.status, refused.field("cache-control")), (429, "no-store"));
    assert!(refused.fields.contains_key("retry-after") && refused.text().starts_with("too-many-at-once: "));
    world.until("weir_front_shed_total{what=\"greedy\"}", 1.0).await;
    let other = world.path_of("session-2", "v720/init.mp4");
    assert_eq!(wire.get(&other, "").await.status, 200, "another session has its own");
    drop(wires);
    world.until("weir_front_requests_in_flight", 0.0).await;
    assert_eq!(wire.get(&world.path("v720/init.mp4"), "").await.status, 200);
}

#[tokio::test]
async fn a_full_uplink_sends_new_sessions_away() {
    let choice = small(|config| {
        config.overload.max_active_responses = 1000;
        // 600,000 bytes in a second are 4.8 times that.
        config.overload.egress_bits_per_second = 1_000_000;
    });
    let world = World::with(choice).await;
    let mut wire = Wire::open(world.address()).await;
    let began = Instant::now();
    while world.metric("weir_front_overload_level") < 4.5 {
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(wire.get(&world.path("v720/1.m4s"), "").await.body.len(), 600_000);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(wire.get(&world.path_of("session-2", "main.m3u8"), "").await.status, 307);
    assert_eq!(wire.get(&world.path("v720/1.m4s"), "").await.status, 200, "a known one goes on");
    world.until("weir_front_overload_level", 0.0).await;
}
