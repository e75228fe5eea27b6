//! The operator's listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use front::{Admin, AdminConfig};
use prometheus::{IntCounter, Registry};

use crate::client::Wire;

#[tokio::test]
async fn metrics_health_and_readiness() {
    let registry = Registry::new();
    let counter = IntCounter::new("weir_test_total", "A test").expect("valid");
    registry.register(Box::new(counter.clone())).expect("registered");
    counter.inc_by(42);
    let ready = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ready);
    let readiness = move || if told.load(Relaxed) { Ok(()) } else { Err("no index yet".to_owned()) };
    let config = AdminConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..AdminConfig::default() };
    let admin = Admin::start(&config, registry, Arc::new(readiness)).expect("starts");
    let mut wire = Wire::open(admin.address().expect("bound")).await;

    let metrics = wire.get("/metrics", "").await;
    assert!(metrics.text().contains("\nweir_test_total 42\n"), "{}", metrics.text());
    assert_eq!(metrics.field("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(wire.get("/healthz", "").await.status, 200);
    let not_yet = wire.get("/readyz", "").await;
    assert_eq!((not_yet.status, not_yet.text()), (503, "not ready: no index yet\n"));
    ready.store(true, Relaxed);
    assert_eq!(wire.get("/readyz", "").await.status, 200);
    assert_eq!(wire.get("/p/x/y/main.m3u8", "").await.status, 404);
    wire.send("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.reply(false).await.status, 200);
    wire.send("DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let refused = wire.reply(true).await;
    assert_eq!((refused.status, refused.field("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn it_is_bounded() {
    let config = AdminConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), max_connections: 1 };
    let admin = Admin::start(&config, Registry::new(), Arc::new(|| Ok(()))).expect("starts");
    let address = admin.address().expect("bound");
    let mut first = Wire::open(address).await;
    assert_eq!(first.get("/healthz", "").await.status, 200);
    assert_eq!(Wire::open(address).await.more().await, 0, "the second is closed at once");
    assert_eq!(first.get("/healthz", "").await.status, 200);
    drop(admin);
    assert_eq!(first.more().await, 0, "dropped with its owner");
}
