//! The operator's listener.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{Epoch, PurgeKind, Purged, Scope};
use front::{
    Admin, AdminConfig, AdminParts, Explain, Explaining, Inheritance, Purge, Purging, Readiness, Unexplained,
};
use http::Request;
use http_body_util::Full;
use prometheus::{IntCounter, Registry};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Wire;
use crate::http2::speak;

/// Never done.
struct Endless;

impl Purge for Endless {
    fn purge(&self, _scope: Scope, _kind: PurgeKind) -> Purging<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn an_operator_who_hangs_up_is_not_waited_for() {
    let config =
        AdminConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), max_connections: 1, key_file: None };
    let ready: Readiness = Arc::new(|| Ok(()));
    let (purge, explain) = (Arc::new(Endless), Arc::new(Oracle));
    let parts = AdminParts { registry: Registry::new(), ready, purge, explain, key: None };
    let admin = Admin::start(&config, parts, &mut Inheritance::default()).expect("starts");
    let address = admin.address().expect("bound");
    let mut sender = speak(TcpStream::connect(address).await.expect("connects"), None).await;
    let body = Full::from(r#"{"title": "bbb"}"#);
    let purge = Request::post("http://a/purge").header("content-length", 16).body(body).expect("a request");
    sender.ready().await.expect("ready");
    let given_up = timeout(Duration::from_millis(200), sender.send_request(purge)).await;
    assert!(given_up.is_err(), "its stream is reset");
    // The connection rests, so it makes room as soon as the server knows.
    let served = async {
        loop {
            let mut other = Wire::open(address).await;
            // Where there is no room it is closed at once.
            let asked = other.socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if asked.is_ok() && other.head().await.is_some() {
                return;
            }
        }
    };
    // Long before the rule for stalled viewers would end it.
    timeout(Duration::from_secs(5), served).await.expect("room");
}

/// Takes note of what it is asked for.
#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Purge for Noted {
    fn purge(&self, scope: Scope, kind: PurgeKind) -> Purging<'_> {
        let mut noted = self.0.lock().expect("whole");
        noted.push(format!("{} {scope}", kind.as_str()));
        let epoch = Epoch(noted.len() as u32);
        Box::pin(async move { Ok(Purged { epoch, objects: 3, disks_behind: 1 }) })
    }
}

/// Knows one path.
struct Oracle;

impl Explain for Oracle {
    fn explain<'a>(&'a self, path: &'a str) -> Explaining<'a> {
        Box::pin(async move {
            match path {
                "bbb/00000000000000ff/v720/1.m4s" => Ok(r#"{"bytes":5}"#.to_owned()),
                "starting" => Err(Unexplained::Later("not open yet".to_owned())),
                "absent" => Err(Unexplained::Missing("no such segment".to_owned())),
                other => Err(Unexplained::Path(format!("{other:?} names nothing"))),
            }
        })
    }

    fn sources(&self, _bytes: u64) -> String {
        String::new()
    }
}

#[tokio::test]
async fn explanations_are_asked_for_by_path() {
    let config = AdminConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..AdminConfig::default() };
    let admin = start(&config, Registry::new(), Arc::new(|| Ok(())), None);
    let mut wire = Wire::open(admin.address().expect("bound")).await;
    for (query, status, text) in [
        ("?path=bbb/00000000000000ff/v720/1.m4s", 200, r#"{"bytes":5}"#),
        ("?path=bbb%2F00000000000000ff%2Fv720%2F1.m4s", 200, r#"{"bytes":5}"#),
        ("?path=absent", 404, r#"{"error":"no such segment"}"#),
        ("?path=starting", 503, r#"{"error":"not open yet"}"#),
        ("?path=%22", 400, r#"{"error":"\"\\\"\" names nothing"}"#),
        ("", 400, r#"{"error":"write /explain?path=TITLE/PACKAGE/..."}"#),
        ("?path=a&path=b", 400, r#"{"error":"write /explain?path=TITLE/PACKAGE/..."}"#),
    ] {
        let reply = wire.get(&format!("/explain{query}"), "").await;
        assert_eq!((reply.status, reply.text()), (status, text), "{query}");
        assert_eq!(reply.field("content-type"), "application/json");
    }
    wire.send("HEAD /explain?path=x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let refused = wire.reply(false).await;
    assert_eq!((refused.status, refused.field("allow")), (405, "GET"));
}

fn start(config: &AdminConfig, registry: Registry, ready: Readiness, key: Option<&str>) -> Admin {
    start_with(config, registry, ready, key, &Arc::default())
}

fn start_with(
    config: &AdminConfig,
    registry: Registry,
    ready: Readiness,
    key: Option<&str>,
    noted: &Arc<Noted>,
) -> Admin {
    let purge = Arc::clone(noted);
    let explain = Arc::new(Oracle);
    let parts = AdminParts { registry, ready, purge, explain, key: key.map(str::to_owned) };
    Admin::start(config, parts, &mut Inheritance::default()).expect("starts")
}

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
    let admin = start(&config, registry, Arc::new(readiness), None);
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
    let head = wire.reply(false).await;
    assert_eq!((head.status, head.field("content-length")), (200, metrics.field("content-length")));
    wire.send("DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let refused = wire.reply(true).await;
    assert_eq!((refused.status, refused.field("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn it_is_bounded() {
    let config =
        AdminConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), max_connections: 1, key_file: None };
    let admin = start(&config, Registry::new(), Arc::new(|| Ok(())), None);
    let address = admin.address().expect("bound");
    let mut first = Wire::open(address).await;
    assert_eq!(first.get("/healthz", "").await.status, 200);
    let mut second = Wire::open(address).await;
    assert_eq!(second.get("/healthz", "").await.status, 200);
    assert_eq!(first.more().await, 0, "idle, it made room");
    drop(admin);
    assert_eq!(second.more().await, 0, "dropped with its owner");
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /purge HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

#[tokio::test]
async fn a_purge_is_carried_out_and_answered() {
    let config = AdminConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..AdminConfig::default() };
    let (registry, noted) = (Registry::new(), Arc::new(Noted::default()));
    let admin = start_with(&config, registry, Arc::new(|| Ok(())), Some("secret"), &noted);
    let mut wire = Wire::open(admin.address().expect("bound")).await;
    let key = "Authorization: Bearer secret\r\n";
    wire.send(post(key, r#"{"title": "bbb", "soft": true}"#)).await;
    let done = wire.reply(true).await;
    assert_eq!((done.status, done.field("content-type")), (200, "application/json"));
    let answer: serde_json::Value = serde_json::from_slice(&done.body).expect("JSON");
    assert_eq!(
        (&answer["epoch"], &answer["objects"], &answer["disks_behind"]),
        (&1.into(), &3.into(), &1.into())
    );
    assert!(answer["milliseconds"].is_u64(), "{answer}");
    wire.send(post(key, r#"{"titel": "bbb"}"#)).await;
    let bad = wire.reply(true).await;
    assert!(bad.status == 400 && bad.text().contains("unknown field `titel`"), "{}", bad.text());
    for denied in ["", "Authorization: Bearer secre\r\n"] {
        wire.send(post(denied, r#"{"title": "bbb"}"#)).await;
        let refused = wire.reply(true).await;
        assert_eq!((refused.status, refused.field("www-authenticate")), (401, "Bearer"));
    }
    assert_eq!(wire.get("/purge", "").await.status, 405);
    assert_eq!(noted.0.lock().expect("whole").as_slice(), ["soft title bbb"]);
    let metrics = wire.get("/metrics", "").await;
    for series in
        ["{result=\"soft\"} 1", "{result=\"bad\"} 1", "{result=\"denied\"} 2", "{result=\"hard\"} 0"]
    {
        assert!(metrics.text().contains(&format!("weir_front_purges_total{series}")), "{series}");
    }
}

#[tokio::test]
async fn what_is_posted_is_small_plain_and_from_no_browser() {
    let config = AdminConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..AdminConfig::default() };
    let noted = Arc::new(Noted::default());
    let admin = start_with(&config, Registry::new(), Arc::new(|| Ok(())), None, &noted);
    let title = r#"{"title": "bbb"}"#;
    let long = format!(r#"{{"title": "bbb", "x": "{}"}}"#, "x".repeat(5000));
    for (request, status) in [
        (post("Origin: https://evil.example\r\n", title), 405),
        (post("Transfer-Encoding: chunked\r\n", title), 400),
        (post("Upgrade: h2c\r\n", title), 400),
        (post("Host: b\r\n", title), 400),
        (post("Content-Length: 16\r\n", title).replacen("Content-Length: 16", "Content-Length: 7", 1), 400),
        (post("", title).replace("Content-Length: 16", "Content-Length: +16"), 400),
        (post("", title).replace("Content-Length: 16\r\n", ""), 413),
        (post("", title).replace("/purge", "/metrics"), 405),
        (post("", title).replace("/purge", "/p"), 404),
        (post("", title).replace("/purge", "/%70urge"), 400),
        (post("", &long), 413),
    ] {
        let mut wire = Wire::open(admin.address().expect("bound")).await;
        wire.send(&request).await;
        assert_eq!(wire.reply(true).await.status, status, "{request}");
    }
    assert!(noted.0.lock().expect("whole").is_empty());
}
