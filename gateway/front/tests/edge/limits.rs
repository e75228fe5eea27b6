//! Viewers who are slow, silent or too many.

use std::time::Duration;

use front::FrontConfig;
use tokio::time::{Instant, sleep};

use crate::client::Wire;
use crate::world::{Choice, World};

fn short(change: impl FnOnce(&mut FrontConfig)) -> Choice {
    let mut choice = Choice::default();
    choice.config.header_timeout = Duration::from_millis(300);
    choice.config.idle_timeout = Duration::from_secs(2);
    choice.config.write_timeout = Duration::from_millis(800);
    change(&mut choice.config);
    choice
}

fn ended(cause: &str) -> String {
    format!("weir_front_connections_ended_total{{cause=\"{cause}\"}}")
}

#[tokio::test]
async fn a_silent_connection_and_a_slow_head_are_dropped() {
    let world = World::with(short(|_| {})).await;
    let began = Instant::now();
    assert_eq!(Wire::open(world.address()).await.more().await, 0);
    assert!(began.elapsed() >= Duration::from_millis(250));
    world.until(&ended("slow-head"), 1.0).await;

    // One byte at a time keeps a read timer happy, but not this one.
    let mut slow = Wire::open(world.address()).await;
    assert_eq!(slow.get("/healthz", "").await.status, 200);
    let began = Instant::now();
    let drip = async {
        for byte in "GET /healthz HTTP/1.1\r\nHost: e\r\nX-Slow: loris and on and on".bytes() {
            if tokio::io::AsyncWriteExt::write_all(&mut slow.socket, &[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(40)).await;
        }
    };
    drip.await;
    world.until(&ended("slow-head"), 2.0).await;
    assert!(began.elapsed() < Duration::from_secs(5));

    // The beginning of the HTTP/2 preface, for ever.
    let mut preface = Wire::open(world.address()).await;
    preface.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(preface.more().await, 0);
    world.until(&ended("slow-head"), 3.0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_later_than_a_slow_head() {
    let world = World::with(short(|_| {})).await;
    let mut wire = Wire::open(world.address()).await;
    wire.get("/healthz", "").await;
    sleep(Duration::from_millis(600)).await;
    assert_eq!(wire.get("/healthz", "").await.status, 200, "longer than a head may take");
    let began = Instant::now();
    assert_eq!(wire.more().await, 0);
    assert!(began.elapsed() >= Duration::from_millis(1800), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_viewer_who_stops_reading_is_dropped() {
    let mut world = World::with(Choice { big: 24_000_000, ..short(|_| {}) }).await;
    let path = world.path("v720/1.m4s");
    let mut wire = Wire::narrow(world.address()).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    let line = world.line().await;
    assert_eq!(line["end"], "viewer-stalled", "{line}");
    assert!(line["bytes"].as_u64().expect("a number") < 24_000_000);
    world.until(&ended("stalled"), 1.0).await;
    assert!(wire.rest().await.len() < 24_000_000);
}

#[tokio::test]
async fn a_slow_viewer_and_a_slow_source_are_waited_for() {
    let mut world = World::with(Choice { big: 600_000, ..short(|_| {}) }).await;
    world.source.hold_at(300_000);
    let path = world.path("v720/1.m4s");
    let mut wire = Wire::narrow(world.address()).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    wire.head().await.expect("a response");
    // Two write timeouts without a byte, and it is not the viewer's fault.
    sleep(Duration::from_millis(1700)).await;
    world.source.release();
    let body = wire.rest_slowly(600_000).await;
    assert!(body == *world.bytes("v720/1.m4s"), "{} bytes", body.len());
    assert_eq!(world.line().await["end"], "complete");
}

#[tokio::test]
async fn when_all_are_busy_one_connection_too_many_is_closed_at_once() {
    let choice = short(|config| {
        config.max_connections = 2;
        config.write_timeout = Duration::from_secs(20);
    });
    let world = World::with(Choice { big: 600_000, ..choice }).await;
    world.source.hold_at(300_000);
    let path = world.path("v720/1.m4s");
    let (mut first, mut second) = (Wire::open(world.address()).await, Wire::open(world.address()).await);
    for wire in [&mut first, &mut second] {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
        wire.head().await.expect("a response");
    }
    assert_eq!(Wire::open(world.address()).await.more().await, 0);
    world.until("weir_front_connections_refused_total", 1.0).await;
    drop(first);
    world.until("weir_front_connections", 1.0).await;
    assert_eq!(Wire::open(world.address()).await.get("/healthz", "").await.status, 200);
}

#[tokio::test]
async fn a_full_house_closes_the_connection_that_has_been_idle_longest() {
    let world = World::with(short(|config| {
        config.max_connections = 3;
        config.idle_timeout = Duration::from_secs(60);
    }))
    .await;
    let mut wires = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(world.address()).await;
        assert_eq!(wire.get("/healthz", "").await.status, 200);
        sleep(Duration::from_millis(5)).await;
        wires.push(wire);
    }
    // The first has not been idle longest any more.
    assert_eq!(wires[0].get("/healthz", "").await.status, 200);
    let mut newcomer = Wire::open(world.address()).await;
    assert_eq!(newcomer.get("/healthz", "").await.status, 200);
    assert_eq!(wires[1].more().await, 0, "the second made room");
    world.until(&ended("crowded"), 1.0).await;
    for at in [0, 2] {
        assert_eq!(wires[at].get("/healthz", "").await.status, 200, "{at}");
    }
    assert!(world.metric("weir_front_connections_refused_total") < 0.5);
}

#[tokio::test]
async fn an_address_has_only_so_many_connections() {
    let world = World::with(short(|config| config.max_connections_per_address = 2)).await;
    let (mut first, mut second) = (Wire::open(world.address()).await, Wire::open(world.address()).await);
    assert_eq!(first.get("/healthz", "").await.status, 200);
    assert_eq!(second.get("/healthz", "").await.status, 200);
    assert_eq!(Wire::open(world.address()).await.more().await, 0);
    world.until("weir_front_connections_refused_by_address_total", 1.0).await;
    let other = tokio::net::TcpSocket::new_v4().expect("a socket");
    other.bind(([127, 0, 0, 2], 0).into()).expect("another address of this machine");
    let mut other = Wire::over(other.connect(world.address()).await.expect("connects"));
    assert_eq!(other.get("/healthz", "").await.status, 200);
    drop(first);
    world.until("weir_front_connections", 2.0).await;
    assert_eq!(Wire::open(world.address()).await.get("/healthz", "").await.status, 200);
}

#[tokio::test]
async fn a_front_that_cannot_work_does_not_start() {
    let world = World::new().await;
    let taken = world.address();
    let mut choice = Choice::default();
    choice.config.plain = vec![taken];
    let error = crate::world::start_error(choice).await;
    assert!(error.starts_with(&format!("cannot listen on {taken}: ")), "{error}");
    let mut choice = Choice::default();
    choice.config.tls = vec![([127, 0, 0, 1], 0).into()];
    assert_eq!(crate::world::start_error(choice).await, "front.tls: needs a certificate and key");
}
