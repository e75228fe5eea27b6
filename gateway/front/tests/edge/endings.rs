//! How responses end when something goes wrong, and how a front ends.

use std::time::Duration;

use engine::{PurgeKind, Scope};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::client::Wire;
use crate::world::{SOON, World};

#[tokio::test]
async fn a_source_that_dies_never_looks_like_the_end() {
    let mut world = World::new().await;
    world.source.cut_at(150_000);
    let path = world.path("v720/1.m4s");
    let mut wire = Wire::open(world.address()).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    let head = wire.head().await.expect("a response");
    assert_eq!((head.status, head.field("content-length")), (200, "300000"));
    let got = wire.rest().await;
    assert!(got.len() < 300_000 && world.bytes("v720/1.m4s").starts_with(&got), "{} bytes", got.len());
    let line = world.line().await;
    assert_eq!((&line["end"], &line["status"]), (&"upstream-error".into(), &200.into()));
    assert_eq!(line["bytes"], got.len());
    world.until("weir_front_connections", 0.0).await;
}

#[tokio::test]
async fn a_source_that_is_dead_is_an_error_that_nobody_keeps() {
    let mut world = World::new().await;
    world.source.cut_at(0);
    let mut wire = Wire::open(world.address()).await;
    let reply = wire.get(&world.path("v720/1.m4s"), "").await;
    assert_eq!((reply.status, reply.field("cache-control")), (503, "no-store"));
    assert_eq!(reply.text(), "sources-exhausted: no source has it now\n");
    let proxy_status = "test-1; error=destination_unavailable; details=\"sources-exhausted\"";
    assert_eq!(reply.field("proxy-status"), proxy_status);
    let retry: u32 = reply.field("retry-after").parse().expect("seconds");
    assert!((2..=10).contains(&retry));
    assert_eq!(world.line().await["refused"], "sources-exhausted");
    assert_eq!(wire.get(&world.path("main.m3u8"), "").await.status, 200, "the connection still stands");
}

#[tokio::test]
async fn what_was_purged_softly_is_served_while_no_source_delivers_and_says_so() {
    let mut world = World::new().await;
    let (path, bytes) = (world.path("v720/0.m4s"), world.bytes("v720/0.m4s").clone());
    let mut wire = Wire::open(world.address()).await;
    assert_eq!(wire.get(&path, "").await.body, bytes);
    assert!(world.line().await.get("stale").is_none());
    world.engine.purge(&Scope::Title("bbb".parse().expect("a title")), PurgeKind::Soft).await;
    world.source.cut_at(0);
    let stale = wire.get(&path, "").await;
    assert_eq!((stale.status, &stale.body), (200, &bytes.to_vec()));
    assert_eq!(stale.field("cache-status"), "test-1; fwd=stale; detail=memory");
    assert_eq!(world.line().await["stale"], true);
}

#[tokio::test]
async fn a_viewer_may_leave_at_any_time() {
    let mut world = World::new().await;
    world.source.hold_at(150_000);
    let path = world.path("v720/1.m4s");
    let mut wire = Wire::open(world.address()).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    wire.head().await.expect("a response");
    world.until("weir_front_requests_in_flight", 1.0).await;
    drop(wire);
    let line = world.line().await;
    assert_eq!((&line["end"], &line["part"]), (&"viewer-left".into(), &"1".into()));
    world.until("weir_front_requests_in_flight", 0.0).await;
    world.until("weir_front_connections", 0.0).await;
}

#[tokio::test]
async fn a_viewer_who_leaves_before_the_answer_has_a_line_too() {
    let mut world = World::new().await;
    world.source.hold_at(0);
    let mut wire = Wire::open(world.address()).await;
    wire.send(format!("GET {} HTTP/1.1\r\nHost: e\r\n\r\n", world.path("v720/1.m4s"))).await;
    world.until("weir_front_requests_in_flight", 1.0).await;
    drop(wire);
    let line = world.line().await;
    assert_eq!((&line["end"], &line["status"]), (&"viewer-left".into(), &serde_json::Value::Null));
    world.until("weir_front_requests_total{class=\"none\",kind=\"unknown\"}", 0.0).await;
    world.until("weir_front_requests_total{class=\"none\",kind=\"video\"}", 1.0).await;
}

#[tokio::test]
async fn a_drain_lets_downloads_finish() {
    let mut world = World::new().await;
    world.source.hold_at(150_000);
    let (address, path) = (world.address(), world.path("v720/1.m4s"));
    let mut idle = Wire::open(address).await;
    assert_eq!(idle.get("/healthz", "").await.status, 200);
    let mut busy = Wire::open(address).await;
    busy.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    let head = busy.head().await.expect("a response");
    assert_eq!(head.status, 200);

    let front = world.front.take().expect("there");
    let drain = tokio::spawn(async move { front.drain(Instant::now() + SOON).await });
    assert_eq!(idle.more().await, 0, "an idle connection is closed at once");
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(SOON, refused).await.expect("the listener closes");
    assert!(!drain.is_finished());
    world.source.release();
    let rest = busy.rest().await;
    assert!(rest == *world.bytes("v720/1.m4s"), "{} bytes", rest.len());
    let drained = timeout(SOON, drain).await.expect("in time").expect("no panic");
    assert_eq!((drained.connections_cut, drained.responses_cut), (0, 0));
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let mut world = World::new().await;
    world.source.hold_at(150_000);
    let path = world.path("v720/1.m4s");
    let mut busy = Wire::open(world.address()).await;
    busy.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    busy.head().await.expect("a response");
    let front = world.front.take().expect("there");
    let drained = front.drain(Instant::now() + Duration::from_millis(100)).await;
    assert_eq!((drained.connections_cut, drained.responses_cut), (1, 1));
    assert!(busy.rest().await.len() < 300_000);
    assert_eq!(world.line().await["end"], "drained");
    world.until("weir_front_connections_ended_total{cause=\"drained\"}", 1.0).await;
}

#[tokio::test]
async fn the_last_response_before_a_drain_says_so() {
    let mut world = World::new().await;
    world.source.hold_at(0);
    let path = world.path("v720/1.m4s");
    let mut idle = Wire::open(world.address()).await;
    assert_eq!(idle.get("/healthz", "").await.status, 200);
    let mut wire = Wire::open(world.address()).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    world.until("weir_front_requests_in_flight", 1.0).await;
    let front = world.front.take().expect("there");
    let drain = tokio::spawn(async move { front.drain(Instant::now() + SOON).await });
    assert_eq!(idle.more().await, 0, "the drain has begun");
    world.source.release();
    let reply = wire.reply(true).await;
    assert_eq!(reply.field("connection"), "close");
    assert!(reply.body == *world.bytes("v720/1.m4s"));
    assert_eq!(wire.more().await, 0);
    assert_eq!(timeout(SOON, drain).await.expect("in time").expect("no panic").connections_cut, 0);
    world.until("weir_front_connections", 0.0).await;
}

#[tokio::test]
async fn a_front_that_is_replaced_gives_each_connection_one_more_response() {
    let mut world = World::new().await;
    let (path, address) = (world.path("v720/0.m4s"), world.address());
    let (mut asks, mut rests) = (Wire::open(address).await, Wire::open(address).await);
    assert_eq!(asks.get(&path, "").await.status, 200);
    assert_eq!(rests.get(&path, "").await.status, 200);
    let front = world.front.take().expect("there");
    let (now, short) = (Instant::now(), Duration::from_millis(600));
    let leaving = tokio::spawn(async move { front.leave(now + short, now + SOON).await });
    until_refused(address).await;
    let last = asks.get(&path, "").await;
    assert_eq!((last.status, last.field("connection")), (200, "close"));
    assert!(last.body == *world.bytes("v720/0.m4s"));
    assert_eq!(asks.more().await, 0);
    assert_eq!(rests.more().await, 0, "an idle one is closed politely in the end");
    let left = timeout(SOON, leaving).await.expect("in time").expect("no panic");
    assert_eq!((left.connections_cut, left.responses_cut), (0, 0));
    assert!(now.elapsed() >= short);
}

async fn until_refused(address: std::net::SocketAddr) {
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, refused).await.expect("the listener closes");
}
