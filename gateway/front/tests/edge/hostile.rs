//! Requests that no player sends. Each is refused as the RFCs say, and nothing that was hidden behind it is
//! ever answered.

use crate::client::Wire;
use crate::world::World;

const SMUGGLED: &str = "GET /healthz HTTP/1.1\r\nHost: e\r\n\r\n";

/// Sends a row, and behind it a request that must stay unanswered; then the connection must be closed.
async fn check(world: &World, row: &[u8], status: u16) {
    let shown = String::from_utf8_lossy(&row[..row.len().min(1000)]).into_owned();
    let mut wire = Wire::open(world.address()).await;
    wire.send(row).await;
    wire.send(SMUGGLED).await;
    let rest = wire.rest().await;
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} got {rest:?}");
    assert_eq!(rest.matches("HTTP/1.").count(), 1, "{shown:?} was answered twice: {rest:?}");
}

fn media(world: &World, fields: &str) -> String {
    format!("GET {} HTTP/1.1\r\n{fields}\r\n", world.path("v720/0.m4s"))
}

#[tokio::test]
async fn framing() {
    let world = World::new().await;
    for (fields, status) in [
        ("Host: e\r\nContent-Length: 5\r\n", 413),
        ("Host: e\r\nContent-Length: 36\r\n", 413),
        ("Host: e\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n", 413),
        ("Host: e\r\nContent-Length: -1\r\n", 400),
        ("Host: e\r\nContent-Length: +0\r\n", 400),
        ("Host: e\r\nContent-Length: 0x5\r\n", 400),
        ("Host: e\r\nContent-Length: 5, 5\r\n", 400),
        ("Host: e\r\nContent-Length: 5 5\r\n", 400),
        ("Host: e\r\nContent-Length: 0\r\nContent-Length: 5\r\n", 400),
        ("Host: e\r\nContent-Length: 18446744073709551616\r\n", 400),
        ("Host: e\r\nContent-Length:\r\n", 400),
        ("Host: e\r\nContent-Length: 1e1\r\n", 400),
        ("Host: e\r\nContent-Length: \"5\"\r\n", 400),
        // A bare line feed ends a line for the library, as RFC 9112 section 2.2 allows; nothing hides behind it.
        ("Host: e\r\nX: a\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: e\nContent-Length: 5\r\n", 413),
        ("Host: e\r\nTransfer-Encoding: gzip, chunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding:\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: Chunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: identity\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: identity, chunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: chunked, chunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: chunked, identity\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: xchunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding:\x0bchunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Host: e\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
        ("Host: e\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: e\r\nTransfer-Encoding : chunked\r\n", 400),
        ("Host: e\r\nTransfer_Encoding: x\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: e\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", 400),
        (
            "Host: e\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
            400,
        ),
        ("Host: e\r\n folded: x\r\n", 400),
        ("Host: e\r\nX: a\r\n b\r\n", 400),
        ("Host: e\r\nX y: z\r\n", 400),
        ("Host: e\r\nX\r\n", 400),
        ("Host: e\r\n: x\r\n", 400),
        ("Host: e\r\nX: a\x00b\r\n", 400),
        ("Host: e\r\nX: \x01\r\n", 400),
        ("Host: e\r\n\x00X: a\r\n", 400),
        ("Host: e\r\nX: a\rb\r\n", 400),
    ] {
        check(&world, media(&world, fields).as_bytes(), status).await;
    }
}

#[tokio::test]
async fn hosts() {
    let world = World::new().await;
    for fields in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "host: a\r\nHOST: a\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a:x\r\n",
        "Host: a:99999\r\n",
        "Host: [::1\r\n",
        "Host: [::1]x\r\n",
        "Host: a:\r\n",
        "Host: a#b\r\n",
        "Host: a?b\r\n",
        "Host: %61\r\n",
        "Host: \u{e4}\r\n",
        "Host : a\r\n",
    ] {
        check(&world, media(&world, fields).as_bytes(), 400).await;
    }
    let path = world.path("v720/0.m4s");
    for line in [
        format!("GET http://other{path} HTTP/1.1\r\nHost: e\r\n\r\n"),
        format!("GET http://u@e{path} HTTP/1.1\r\nHost: e\r\n\r\n"),
        format!("GET http://e:81{path} HTTP/1.1\r\nHost: e\r\n\r\n"),
        format!("GET http://{path} HTTP/1.1\r\nHost: e\r\n\r\n"),
        format!("GET http://e{path} HTTP/1.1\r\n\r\n"),
    ] {
        check(&world, line.as_bytes(), 400).await;
    }
}

#[tokio::test]
async fn request_lines() {
    let world = World::new().await;
    let path = world.path("v720/0.m4s");
    for (line, status) in [
        (format!("GET {path} HTTP/1.2"), 400),
        (format!("GET {path} HTTP/3.0"), 400),
        (format!("GET {path} HTTP/1.1 x"), 400),
        (format!("GET  {path} HTTP/1.1"), 400),
        (format!("GET {path} http/1.1"), 400),
        (format!("GET\t{path} HTTP/1.1"), 400),
        (format!("GET {path}\u{0} HTTP/1.1"), 400),
        (format!("GET {path} x HTTP/1.1"), 400),
        (format!("G\u{e4}T {path} HTTP/1.1"), 400),
        (format!("GET {} HTTP/1.1", &path[1..]), 400),
        (format!("GET {} HTTP/1.1", path.replace("v720", "v%37%32%30")), 400),
        (format!("GET {} HTTP/1.1", path.replace("v720", "%2e%2e")), 400),
        (format!("GET {} HTTP/1.1", path.replace("v720", "v720\\x")), 400),
        (format!("GET {} HTTP/1.1", path.replace("v720", "\u{fc}")), 400),
        (format!("GET {path};v=1 HTTP/1.1"), 400),
        (format!("GET ftp://e{path} HTTP/1.1"), 400),
        ("GET * HTTP/1.1".to_owned(), 400),
        (format!("GET /p/{} HTTP/1.1", "t".repeat(2000)), 414),
        (format!("GET {path}?{} HTTP/1.1", "q".repeat(17_000)), 431),
        (format!("{} {path} HTTP/1.1", "\u{7f}"), 400),
    ] {
        check(&world, format!("{line}\r\nHost: e\r\n\r\n").as_bytes(), status).await;
    }
    // HTTP/0.9 and other protocols altogether.
    check(&world, format!("GET {path}\r\n\r\n").as_bytes(), 400).await;
    check(&world, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400).await;
    check(&world, b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400).await;
    check(&world, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400).await;
}

#[tokio::test]
async fn sizes() {
    let world = World::new().await;
    let over = "x".repeat(17_000);
    check(&world, media(&world, &format!("Host: e\r\nX: {over}\r\n")).as_bytes(), 431).await;
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    check(&world, media(&world, &format!("Host: e\r\n{many}")).as_bytes(), 431).await;
    let endless = format!("GET / HTTP/1.1\r\nHost: e\r\nX: {}", "x".repeat(200_000));
    check(&world, endless.as_bytes(), 431).await;
    assert!(world.metric("weir_front_refusals_total{reason=\"head-too-large\"}") > 0.5);
}

#[tokio::test]
async fn methods_are_refused_and_the_connection_goes_on() {
    let world = World::new().await;
    let path = world.path("v720/0.m4s");
    let mut wire = Wire::open(world.address()).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "PURGE", "PROPFIND", "FOO"] {
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: e\r\n\r\n")).await;
        let reply = wire.reply(true).await;
        assert_eq!((reply.status, reply.field("allow")), (405, "GET, HEAD, OPTIONS"), "{method}");
    }
    assert_eq!(wire.get(&path, "").await.status, 200);
    wire.send("CONNECT e:443 HTTP/1.1\r\nHost: e:443\r\n\r\n").await;
    assert_eq!(wire.reply(true).await.status, 405);
    let mut posting = Wire::open(world.address()).await;
    posting.send(format!("POST {path} HTTP/1.1\r\nHost: e\r\nContent-Length: 36\r\n\r\n{SMUGGLED}")).await;
    let rest = String::from_utf8_lossy(&posting.rest().await).into_owned();
    assert!(rest.starts_with("HTTP/1.1 413 ") && rest.contains("connection: close"), "{rest}");
    assert_eq!(rest.matches("HTTP/1.1 ").count(), 1);
}

#[tokio::test]
async fn unusual_but_right_requests_are_served() {
    let world = World::new().await;
    let (path, bytes) = (world.path("v720/init.mp4"), world.bytes("v720/init.mp4").clone());
    let mut wire = Wire::open(world.address()).await;
    for row in [
        format!("GET {path} HTTP/1.1\r\nHOST:e\r\n\r\n"),
        format!("\r\n\r\nGET {path} HTTP/1.1\r\nHost: e\r\n\r\n"),
        format!("GET http://e:8480{path} HTTP/1.1\r\nHost: e:8480\r\n\r\n"),
        format!("GET {path}#fragment HTTP/1.1\r\nHost: e\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: [::1]:80\r\nTE: trailers\r\nConnection: TE\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: e\r\nContent-Length: 0\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: e\r\nCookie: a=b\r\nAuthorization: Basic eA==\r\n\r\n"),
    ] {
        wire.send(&row).await;
        let reply = wire.reply(true).await;
        assert!(reply.status == 200 && reply.body == bytes, "{row:?}");
    }
    // Two requests in one packet, answered in order.
    let health = "GET /healthz HTTP/1.1\r\nHost: e\r\n\r\n";
    wire.send(format!("{health}GET {path} HTTP/1.1\r\nHost: e\r\n\r\n{health}")).await;
    assert_eq!(wire.reply(true).await.text(), "ok\n");
    assert_eq!(wire.reply(true).await.body, bytes);
    assert_eq!(wire.reply(true).await.text(), "ok\n");
    // HTTP/1.0 knows no Host and ends with the connection.
    wire.send(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
    assert_eq!(wire.reply(true).await.body, bytes);
    assert_eq!(wire.more().await, 0);
    // Nothing at all, and a goodbye in the middle of a head.
    drop(Wire::open(world.address()).await);
    let mut half = Wire::open(world.address()).await;
    half.send("GET /heal").await;
    drop(half);
}
