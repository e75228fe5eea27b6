//! What viewers get: bytes, ranges, conditions, refusals, and the access lines about them.

use std::sync::atomic::Ordering::Relaxed;

use media::Digest;
use media::validator::ETag;

use crate::client::Wire;
use crate::world::{Choice, NOW, World};

#[tokio::test]
async fn a_segment_comes_whole_from_the_source_and_then_from_memory() {
    let mut world = World::new().await;
    let (path, bytes) = (world.path("v720/1.m4s"), world.bytes("v720/1.m4s").clone());
    let mut wire = Wire::open(world.address()).await;
    let first = wire.get(&path, "User-Agent: Roku/DVP-12.0\r\n").await;
    assert_eq!((first.status, first.body.len()), (200, bytes.len()));
    assert!(first.body == bytes, "other bytes");
    assert_eq!(first.field("content-type"), "video/mp4");
    assert_eq!(first.field("accept-ranges"), "bytes");
    assert_eq!(first.field("etag"), ETag::of(&Digest::of(&bytes)).to_string());
    assert_eq!(first.field("cache-control"), "private, max-age=315360000, immutable");
    assert_eq!(first.field("access-control-allow-origin"), "*");
    assert!(first.field("cache-status").starts_with("test-1; fwd=uri-miss"), "{:?}", first.fields);
    assert!(first.fields.contains_key("date") && !first.fields.contains_key("server"));
    assert!(!first.fields.contains_key("transfer-encoding"));

    let line = world.line().await;
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes"], bytes.len());
    assert_eq!(
        (&line["title"], &line["rendition"], &line["part"]),
        (&"bbb".into(), &"v720".into(), &"1".into())
    );
    assert_eq!((&line["outcome"], &line["source"]), (&"filled".into(), &"packages".into()));
    assert_eq!((&line["end"], &line["http"]), (&"complete".into(), &"1.1".into()));
    assert_eq!((&line["session"], &line["time"]), (&"session-1".into(), &NOW.into()));
    assert_eq!(line["user_agent"], "Roku/DVP-12.0");
    assert!(!line.to_string().contains(&world.token_for("bbb")[..40]), "the token is in the log: {line}");

    assert_eq!(first.field("age"), "0");
    world.clock.fetch_add(100, Relaxed);
    let again = wire.get(&format!("{path}?CMCD=junk&x=%zz"), "").await;
    assert!(again.status == 200 && again.body == bytes);
    assert_eq!((again.field("cache-status"), again.field("age")), ("test-1; hit; detail=memory", "100"));
    assert_eq!(world.line().await["outcome"], "memory");
    assert_eq!(world.source.opened.load(Relaxed), 1, "the query is no part of the key");
    assert!(world.metric("weir_front_body_bytes_total{outcome=\"memory\"}") > 1.0);
}

#[tokio::test]
async fn every_part_has_its_media_type_and_one_spelling() {
    let world = World::new().await;
    let mut wire = Wire::open(world.address()).await;
    for (part, media_type) in [
        ("main.m3u8", "application/vnd.apple.mpegurl"),
        ("v720/index.m3u8", "application/vnd.apple.mpegurl"),
        ("v720/iframes.m3u8", "application/vnd.apple.mpegurl"),
        ("v720/init.mp4", "video/mp4"),
        ("v720/0.m4s", "video/mp4"),
        ("s-en/0.vtt", "text/vtt; charset=utf-8"),
    ] {
        let reply = wire.get(&world.path(part), "").await;
        assert_eq!((reply.status, reply.field("content-type")), (200, media_type), "{part}");
        assert!(reply.body == *world.bytes(part), "{part}");
    }
    for part in [
        "v720/0.ts",
        "v720/0.vtt",
        "s-en/0.m4s",
        "v720/2.m4s",
        "v404/0.m4s",
        "s-en/init.mp4",
        "index.weir",
        "v720.mp4",
        "v720/00.m4s",
        "main/index.m3u8",
        "",
        "../bbb",
    ] {
        let reply = wire.get(&world.path(part), "").await;
        assert_eq!((reply.status, reply.field("cache-control")), (404, "no-store"), "{part}");
    }
}

#[tokio::test]
async fn ranges_conditions_and_heads_are_exact() {
    let world = World::new().await;
    let (path, bytes) = (world.path("v720/0.m4s"), world.bytes("v720/0.m4s").clone());
    let etag = ETag::of(&Digest::of(&bytes)).to_string();
    let mut wire = Wire::open(world.address()).await;
    // Twice: from the source, and from memory.
    for _ in 0..2 {
        for (range, from, to) in [
            ("bytes=0-0", 0, 1),
            ("bytes=16383-16384", 16_383, 16_385),
            ("bytes=99999-", 99_999, 100_000),
            ("bytes=-5", 99_995, 100_000),
            ("bytes=50000-999999999", 50_000, 100_000),
            ("bytes=0-", 0, 100_000),
        ] {
            let reply = wire.get(&path, &format!("Range: {range}\r\n")).await;
            assert_eq!((reply.status, reply.body.len()), (206, to - from), "{range}");
            assert!(reply.body == bytes[from..to], "{range}");
            assert_eq!(reply.field("content-range"), format!("bytes {from}-{}/100000", to - 1));
            assert_eq!(reply.field("etag"), etag);
        }
        assert_eq!(wire.get(&path, "").await.body, bytes);
    }
    let past = wire.get(&path, "Range: bytes=100000-\r\n").await;
    assert_eq!((past.status, past.field("content-range")), (416, "bytes */100000"));
    let kept = wire.get(&path, &format!("If-Range: {etag}\r\nRange: bytes=1-2\r\n")).await;
    assert_eq!((kept.status, &kept.body[..]), (206, &bytes[1..3]));
    let changed = wire.get(&path, "If-Range: \"other\"\r\nRange: bytes=1-2\r\n").await;
    assert_eq!((changed.status, changed.body.len()), (200, bytes.len()));
    let failed = wire.get(&path, "If-Match: \"other\"\r\n").await;
    assert_eq!((failed.status, failed.text()), (412, "precondition: this is another version\n"));

    wire.send(format!("GET {path} HTTP/1.1\r\nHost: e\r\nIf-None-Match: {etag}\r\n\r\n")).await;
    let unchanged = wire.reply(false).await;
    assert_eq!((unchanged.status, unchanged.field("etag")), (304, etag.as_str()));
    wire.send(format!("HEAD {path} HTTP/1.1\r\nHost: e\r\nRange: bytes=0-1\r\n\r\n")).await;
    let head = wire.reply(false).await;
    assert_eq!((head.status, head.field("content-length")), (200, "100000"));
    assert!(!head.fields.contains_key("content-range"));
    wire.send(format!("HEAD {path}x HTTP/1.1\r\nHost: e\r\n\r\n")).await;
    assert_eq!(wire.reply(false).await.status, 404);
    assert_eq!(
        wire.get(&path, "Range: bytes=7-7\r\n").await.body,
        bytes[7..8],
        "the connection still stands"
    );
}

#[tokio::test]
async fn several_ranges_come_in_parts() {
    let mut world = World::new().await;
    let (path, bytes) = (world.path("v720/0.m4s"), world.bytes("v720/0.m4s").clone());
    let mut wire = Wire::open(world.address()).await;
    for _ in 0..2 {
        let reply = wire.get(&path, "Range: bytes=0-9,40000-60000,-3\r\n").await;
        assert_eq!(reply.status, 206);
        let media_type = reply.field("content-type");
        let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
        let mut expected = Vec::new();
        for (from, to) in [(0, 10), (40_000, 60_001), (99_997, 100_000)] {
            let line = if from == 0 { "" } else { "\r\n" };
            let head = format!(
                "{line}--{boundary}\r\nContent-Type: video/mp4\r\nContent-Range: bytes {from}-{}/100000\r\n\r\n",
                to - 1
            );
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(&bytes[from..to]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(reply.body == expected);
        assert_eq!(world.line().await["range"], "0-9,40000-60000,99997-99999");
        wire.get(&path, "").await;
        world.line().await;
    }
}

#[tokio::test]
async fn the_token_is_judged_before_anything_else() {
    let mut world = World::new().await;
    let good = world.token_for("bbb");
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { 'B' } else { 'A' });
    let mut wire = Wire::open(world.address()).await;
    let path = |token: &str, title: &str| format!("/p/{token}/{title}/00000000000000ff/v720/0.m4s");
    for (token, title, code) in [
        ("x", "bbb", "malformed"),
        (flipped.as_str(), "bbb", ""),
        (&good[..good.len() - 4], "bbb", ""),
        (&"A".repeat(600), "bbb", "too-long"),
        (&good, "other", "wrong-title"),
    ] {
        let reply = wire.get(&path(token, title), "").await;
        assert_eq!(reply.status, 403, "{}", reply.text());
        assert!(reply.text().starts_with(code), "{}", reply.text());
        assert_eq!(reply.field("cache-control"), "no-store");
        assert_eq!(reply.field("access-control-allow-origin"), "*");
        assert!(reply.field("proxy-status").starts_with("test-1; error=http_request_denied; details="));
        let line = world.line().await;
        assert_eq!((&line["status"], &line["session"]), (&403.into(), &serde_json::Value::Null));
        assert!(line["refused"].is_string(), "{line}");
    }
    assert_eq!(wire.get("/p//bbb/00000000000000ff/v720/0.m4s", "").await.status, 403);
    assert_eq!(world.source.opened.load(Relaxed), 0, "a stranger costs no upstream byte");
    assert_eq!(wire.get(&path(&good, "bbb"), "").await.status, 200);
    world.clock.store(NOW + 3600 + 31, Relaxed);
    let late = wire.get(&path(&good, "bbb"), "").await;
    assert_eq!((late.status, late.text()), (403, "expired: this session is over; ask for a new one\n"));
    world.clock.store(NOW - 100, Relaxed);
    assert_eq!(wire.get(&path(&good, "bbb"), "").await.status, 403);
}

#[tokio::test]
async fn what_is_no_film_is_not_here() {
    let world = World::new().await;
    let mut wire = Wire::open(world.address()).await;
    for path in ["/", "/metrics", "/readyz", "/p/", "/healthz/x", "/favicon.ico"] {
        assert_eq!(wire.get(path, "").await.status, 404, "{path}");
    }
    let health = wire.get("/healthz", "").await;
    assert_eq!((health.status, health.text()), (200, "ok\n"));
    let other = format!("/p/{}/unknown/00000000000000ff/main.m3u8", world.token_for("unknown"));
    let reply = wire.get(&other, "").await;
    assert_eq!(reply.status, 404, "{}", reply.text());
}

#[tokio::test]
async fn browsers_may_ask_first() {
    let mut world = World::new().await;
    let mut wire = Wire::open(world.address()).await;
    let ask = "Origin: https://watch.example\r\nAccess-Control-Request-Method: GET\r\n\
               Access-Control-Request-Headers: range\r\n";
    for target in [world.path("main.m3u8").as_str(), "*", "/anything"] {
        wire.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: e\r\n{ask}\r\n")).await;
        let reply = wire.reply(false).await;
        assert_eq!((reply.status, reply.field("allow")), (204, "GET, HEAD, OPTIONS"), "{target}");
        assert_eq!(reply.field("access-control-allow-origin"), "*");
        assert!(reply.field("access-control-allow-headers").contains("Range"));
        assert_eq!(reply.field("access-control-max-age"), "86400");
        assert_eq!(world.line().await["kind"], "preflight");
    }
}

#[tokio::test]
async fn an_access_log_that_is_behind_loses_lines_and_says_so() {
    let world = World::with(Choice { lines: 1, ..Choice::default() }).await;
    let mut wire = Wire::open(world.address()).await;
    for _ in 0..3 {
        wire.get("/healthz", "").await;
    }
    world.until("weir_front_access_lines_dropped_total", 2.0).await;
    world.until("weir_front_requests_total{class=\"2xx\",kind=\"health\"}", 3.0).await;
    world.until("weir_front_requests_in_flight", 0.0).await;
}
