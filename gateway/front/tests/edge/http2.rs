//! TLS and HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use front::tls::server_config;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::Wire;
use crate::world::{Choice, SOON, World};

struct Trust {
    server: Arc<rustls::ServerConfig>,
    root: CertificateDer<'static>,
}

fn trust() -> Trust {
    let made = rcgen::generate_simple_self_signed(vec!["edge.example".to_owned()]).expect("generated");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = server_config(cert.as_bytes(), key.as_bytes()).expect("a configuration");
    Trust { server, root: made.cert.der().clone() }
}

async fn secure_world() -> (World, CertificateDer<'static>) {
    let trust = trust();
    let mut choice = Choice { tls: Some(trust.server), ..Choice::default() };
    choice.config.tls = vec![([127, 0, 0, 1], 0).into()];
    (World::with(choice).await, trust.root)
}

fn connector(
    root: &CertificateDer<'static>,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config).into()
}

async fn shake(connector: &TlsConnector, address: SocketAddr) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(address).await.expect("connects");
    connector
        .connect(ServerName::try_from("edge.example").expect("a name"), socket)
        .await
        .expect("a handshake")
}

pub(crate) async fn speak<S>(socket: S, window: Option<u32>) -> SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    speak_so(&builder, socket).await
}

async fn speak_so<S>(builder: &Builder<TokioExecutor>, socket: S) -> SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

pub(crate) fn ask(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://edge.example{path}")).body(Full::default()).expect("a request")
}

pub(crate) async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Response<Incoming> {
    sender.ready().await.expect("ready");
    timeout(SOON, sender.send_request(request)).await.expect("in time").expect("a response")
}

async fn body(response: Response<Incoming>) -> Bytes {
    timeout(SOON, response.into_body().collect()).await.expect("in time").expect("a body").to_bytes()
}

#[tokio::test]
async fn tls_1_2_and_1_3_with_both_protocols() {
    let (mut world, root) = secure_world().await;
    let (address, path) = (world.front().tls_addresses()[0], world.path("v720/1.m4s"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        // A player without ALPN gets HTTP/1.1, like one that asks for it.
        for alpn in [&[][..], &["http/1.1"]] {
            let mut wire = Wire::over(shake(&connector(&root, alpn, &[version]), address).await);
            let reply = wire.get(&path, "Range: bytes=100000-\r\n").await;
            assert!(reply.status == 206 && reply.body == world.bytes("v720/1.m4s")[100_000..]);
            assert_eq!(world.line().await["http"], "1.1");
        }
        let socket = shake(&connector(&root, &["h2", "http/1.1"], &[version]), address).await;
        assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut sender = speak(socket, None).await;
        let response = send(&mut sender, ask(&path)).await;
        assert_eq!(response.headers()["content-length"], "300000");
        assert!(body(response).await == world.bytes("v720/1.m4s"));
        assert_eq!(world.line().await["http"], "2");
    }
    assert!(world.metric("weir_front_tls_handshakes_total{result=\"full\"}") > 5.5);
}

#[tokio::test]
async fn a_player_that_comes_back_skips_the_certificate() {
    let (world, root) = secure_world().await;
    let connector = connector(&root, &["http/1.1"], &[&rustls::version::TLS13]);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut wire = Wire::over(shake(&connector, world.front().tls_addresses()[0]).await);
        assert_eq!(wire.get("/healthz", "").await.status, 200);
        let kind = wire.socket.get_ref().1.handshake_kind().expect("done");
        assert!(kind == expected || kind == HandshakeKind::FullWithHelloRetryRequest, "{kind:?}");
    }
    world.until("weir_front_tls_handshakes_total{result=\"resumed\"}", 1.0).await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_dropped() {
    let (mut world, _) = secure_world().await;
    let address = world.front().tls_addresses()[0];
    let mut wire = Wire::open(address).await;
    wire.send("GET /healthz HTTP/1.1\r\nHost: e\r\n\r\n").await;
    let rest = wire.rest().await;
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    world.until("weir_front_tls_handshakes_total{result=\"failed\"}", 1.0).await;
    drop(world.front.take());

    let mut choice = Choice { tls: Some(trust().server), ..Choice::default() };
    choice.config.tls = vec![([127, 0, 0, 1], 0).into()];
    choice.config.handshake_timeout = Duration::from_millis(100);
    let world = World::with(choice).await;
    assert_eq!(Wire::open(world.front().tls_addresses()[0]).await.more().await, 0);
    world.until("weir_front_tls_handshakes_total{result=\"timed-out\"}", 1.0).await;
}

#[tokio::test]
async fn many_streams_share_a_plain_connection() {
    let world = World::new().await;
    let (path, bytes) = (world.path("v720/1.m4s"), world.bytes("v720/1.m4s").clone());
    let sender = speak(TcpStream::connect(world.address()).await.expect("connects"), None).await;
    let viewers = (0..40).map(|_| {
        let (mut sender, path, bytes) = (sender.clone(), path.clone(), bytes.clone());
        tokio::spawn(async move { body(send(&mut sender, ask(&path)).await).await == bytes })
    });
    for viewer in viewers.collect::<Vec<_>>() {
        assert!(viewer.await.expect("no panic"));
    }
    world.until("weir_front_connections", 1.0).await;
}

#[tokio::test]
async fn http2_requests_are_held_to_the_same_rules() {
    let world = World::new().await;
    let path = world.path("v720/0.m4s");
    let mut sender = speak(TcpStream::connect(world.address()).await.expect("connects"), None).await;
    let get = |fields: &[(&str, &str)]| {
        let mut request = ask(&path);
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().expect("a name");
            request.headers_mut().append(name, value.parse().expect("a value"));
        }
        request
    };
    let mut post = get(&[]);
    *post.method_mut() = http::Method::POST;
    let mut with_body = get(&[]);
    *with_body.body_mut() = Full::from("body");
    let mut escaped = get(&[]);
    *escaped.uri_mut() = "https://edge.example/p/%2e%2e/x".parse().expect("valid");
    let mut userinfo = get(&[]);
    *userinfo.uri_mut() = format!("https://u@edge.example{path}").parse().expect("valid");
    for (name, request, status) in [
        ("plain", get(&[]), 200),
        ("agreeing host", get(&[("host", "edge.example")]), 200),
        ("post", post, 405),
        ("body", with_body, 413),
        ("two hosts", get(&[("host", "other.example")]), 400),
        ("escaped path", escaped, 400),
        ("user in authority", userinfo, 400),
        ("no path of ours", ask("/metrics"), 404),
        ("range past the end", get(&[("range", "bytes=100000-")]), 416),
        ("still alive", get(&[]), 200),
    ] {
        let response = send(&mut sender, request).await;
        assert_eq!(response.status(), status, "{name}");
        assert!(!response.headers().contains_key("connection"), "{name}");
    }
    let huge = "x".repeat(20_000);
    let refused = timeout(SOON, sender.send_request(get(&[("x", &huge)]))).await.expect("in time");
    assert!(refused.is_err() || refused.is_ok_and(|response| response.status() == 431));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_reset() {
    let mut world = World::new().await;
    world.source.cut_at(150_000);
    let path = world.path("v720/1.m4s");
    let mut sender = speak(TcpStream::connect(world.address()).await.expect("connects"), None).await;
    let response = send(&mut sender, ask(&path)).await;
    assert_eq!(response.status(), 200);
    let error = timeout(SOON, response.into_body().collect()).await.expect("in time").expect_err("a reset");
    assert!(format!("{error:?}").contains("Reset"), "{error:?}");
    assert_eq!(world.line().await["end"], "upstream-error");
    assert_eq!(send(&mut sender, ask("/healthz")).await.status(), 200, "only the stream is gone");
}

#[tokio::test]
async fn a_window_that_never_opens_is_not_waited_for() {
    let mut choice = Choice::default();
    choice.config.write_timeout = Duration::from_millis(400);
    choice.config.header_timeout = Duration::from_millis(300);
    let mut world = World::with(choice).await;
    let path = world.path("v720/1.m4s");
    let socket = TcpStream::connect(world.address()).await.expect("connects");
    let mut sender = speak(socket, Some(0)).await;
    let response = send(&mut sender, ask(&path)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(world.line().await["end"], "viewer-stalled");
    assert!(timeout(SOON, response.into_body().collect()).await.expect("in time").is_err());
    world.until("weir_front_connections_ended_total{cause=\"stalled\"}", 1.0).await;
}

#[tokio::test]
async fn pings_are_no_reading() {
    let mut choice = Choice::default();
    choice.config.write_timeout = Duration::from_millis(400);
    choice.config.header_timeout = Duration::from_millis(300);
    let mut world = World::with(choice).await;
    let path = world.path("v720/1.m4s");
    let mut builder = Builder::new(TokioExecutor::new());
    // Some hundred pings in each write timeout, and a window that never opens.
    builder.timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_millis(1)));
    builder.initial_stream_window_size(Some(0));
    let socket = TcpStream::connect(world.address()).await.expect("connects");
    let mut sender = speak_so(&builder, socket).await;
    let response = send(&mut sender, ask(&path)).await;
    assert_eq!(world.line().await["end"], "viewer-stalled");
    drop(response);
    world.until("weir_front_connections_ended_total{cause=\"stalled\"}", 1.0).await;
}

#[tokio::test]
async fn a_drain_says_goodbye_and_lets_streams_finish() {
    let mut world = World::new().await;
    world.source.hold_at(150_000);
    let path = world.path("v720/1.m4s");
    let mut sender = speak(TcpStream::connect(world.address()).await.expect("connects"), None).await;
    let response = send(&mut sender, ask(&path)).await;
    let front = world.front.take().expect("there");
    let drain = tokio::spawn(async move { front.drain(tokio::time::Instant::now() + SOON).await });
    // GOAWAY: the client learns that no further request fits here.
    let closing = async {
        while sender.ready().await.is_ok() && sender.send_request(ask("/healthz")).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, closing).await.expect("a goodbye");
    world.source.release();
    assert!(body(response).await == world.bytes("v720/1.m4s"));
    let drained = timeout(SOON, drain).await.expect("in time").expect("no panic");
    assert_eq!((drained.connections_cut, drained.responses_cut), (0, 0));
}

#[tokio::test]
async fn whoever_asks_first_after_a_takeover_hears_goodbye_too() {
    let mut world = World::new().await;
    let socket = TcpStream::connect(world.address()).await.expect("connects");
    world.until("weir_front_connections", 1.0).await;
    let front = world.front.take().expect("there");
    let (address, until) = (front.plain_addresses()[0], tokio::time::Instant::now() + SOON * 2);
    let leaving = tokio::spawn(async move { front.leave(until, until).await });
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut sender = speak(socket, None).await;
    assert_eq!(send(&mut sender, ask("/healthz")).await.status(), 200);
    let closing = async {
        while sender.ready().await.is_ok() && sender.send_request(ask("/healthz")).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, closing).await.expect("a goodbye");
    let left = timeout(SOON, leaving).await.expect("in time").expect("no panic");
    assert_eq!(left.connections_cut, 0);
}

/// Frames that the client library would never write.
#[tokio::test]
async fn broken_frames_end_the_connection() {
    let world = World::new().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let long_frame = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    let headers_on_stream_0 = [0, 0, 1, 1, 4, 0, 0, 0, 0, 0x82];
    let data_on_idle_stream = [0, 0, 1, 0, 0, 0, 0, 0, 1, 0x61];
    let bad_hpack = [0, 0, 2, 1, 5, 0, 0, 0, 1, 0xff, 0xff];
    let rows: [(&str, &[u8]); 4] = [
        ("too long", &long_frame),
        ("headers on stream 0", &headers_on_stream_0),
        ("data on an idle stream", &data_on_idle_stream),
        ("bad compression", &bad_hpack),
    ];
    for (name, frame) in rows {
        let mut wire = Wire::open(world.address()).await;
        wire.send([&preface[..], &settings, frame].concat()).await;
        let rest = wire.rest().await;
        assert!(!rest.starts_with(b"HTTP/1"), "{name}");
        assert!(rest.windows(4).any(|at| at[3] == 7) || rest.is_empty(), "{name}: no GOAWAY in {rest:?}");
    }
    // Streams opened and reset without end.
    let mut wire = Wire::open(world.address()).await;
    wire.send([&preface[..], &settings].concat()).await;
    let mut flood = Vec::new();
    for stream in (1..4001_u32).step_by(2) {
        let id = stream.to_be_bytes();
        // ":method GET, :scheme http, :path /", then RST_STREAM(CANCEL).
        flood.extend_from_slice(&[0, 0, 3, 1, 5, id[0], id[1], id[2], id[3], 0x82, 0x86, 0x84]);
        flood.extend_from_slice(&[0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
    }
    let _ = wire.socket.write_all(&flood).await;
    wire.rest().await;
    world.until("weir_front_connections", 0.0).await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let head = [len[1], len[2], len[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that nobody remembers (RFC 7541 section 6.2.2).
fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    list.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// Kinds and payloads of the frames, up to the first that answers stream 1 or ends the connection.
async fn answer(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        while bytes.len() >= 9 {
            let len = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
            if bytes.len() < 9 + len {
                break;
            }
            let frame: Vec<u8> = bytes.drain(..9 + len).collect();
            if matches!(frame[3], 1 | 3 | 7) {
                return Some((frame[3], frame[9..].to_vec()));
            }
        }
        let mut piece = [0; 4096];
        let read = tokio::io::AsyncReadExt::read(&mut wire.socket, &mut piece);
        match timeout(SOON, read).await.expect("something in time") {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/healthz");
const AUTHORITY: (&str, &str) = (":authority", "e");

#[tokio::test]
async fn malformed_requests_are_never_answered_well() {
    let world = World::new().await;
    let good = [METHOD, SCHEME, PATH, AUTHORITY];
    let with = |more: (&'static str, &'static str)| [&good[..], &[more]].concat();
    let rows = [
        ("no method", vec![SCHEME, PATH, AUTHORITY]),
        ("no scheme", vec![METHOD, PATH, AUTHORITY]),
        ("no path", vec![METHOD, SCHEME, AUTHORITY]),
        ("an empty path", vec![METHOD, SCHEME, (":path", ""), AUTHORITY]),
        ("no authority", vec![METHOD, SCHEME, PATH]),
        ("two methods", with(METHOD)),
        ("two paths", with(PATH)),
        ("two authorities", with(AUTHORITY)),
        ("a response's field", with((":status", "200"))),
        ("an unknown pseudo-header", with((":version", "2"))),
        ("a pseudo-header after a field", vec![METHOD, SCHEME, ("x", "y"), PATH, AUTHORITY]),
        ("an upper-case name", with(("X-Name", "y"))),
        ("connection", with(("connection", "close"))),
        ("keep-alive", with(("keep-alive", "1"))),
        ("upgrade", with(("upgrade", "websocket"))),
        ("transfer-encoding", with(("transfer-encoding", "chunked"))),
        ("te other than trailers", with(("te", "gzip"))),
        ("another host", with(("host", "other"))),
        ("a line end in a value", with(("x", "a\r\nb"))),
        ("a NUL in a value", with(("x", "a\0b"))),
        ("a length without a body", with(("content-length", "5"))),
        ("a signed length", with(("content-length", "+0"))),
        ("a fragment of a path", vec![METHOD, SCHEME, (":path", "healthz"), AUTHORITY]),
        ("connect", vec![(":method", "CONNECT"), ("authority", "e:1")]),
        ("extended connect", [&with((":protocol", "websocket"))[1..], &[(":method", "CONNECT")]].concat()),
    ];
    for (name, row) in rows {
        let mut wire = Wire::open(world.address()).await;
        wire.send([PREFACE, &frame(1, 5, 1, &fields(&row))].concat()).await;
        let answered = answer(&mut wire).await;
        let well =
            answered.as_ref().is_some_and(|(kind, payload)| *kind == 1 && payload.first() == Some(&0x88));
        assert!(!well, "{name}: answered with 200");
    }
    let mut wire = Wire::open(world.address()).await;
    wire.send([PREFACE, &frame(1, 5, 1, &fields(&good))].concat()).await;
    let (kind, payload) = answer(&mut wire).await.expect("an answer");
    assert_eq!((kind, payload[0]), (1, 0x88), "the same without the abuse");
}

#[tokio::test]
async fn a_head_in_endless_continuations_ends_the_connection() {
    let world = World::new().await;
    let mut wire = Wire::open(world.address()).await;
    wire.send([PREFACE, &frame(1, 1, 1, &fields(&[METHOD, SCHEME, PATH, AUTHORITY]))].concat()).await;
    let value = "x".repeat(100);
    let more: Vec<u8> = (0..20).flat_map(|_| frame(9, 0, 1, &fields(&[("x", &value)]))).collect();
    let mut sent = 0;
    while wire.socket.write_all(&more).await.is_ok() {
        sent += more.len();
        assert!(sent < 32 << 20, "a head of {sent} bytes is still read");
    }
    world.until("weir_front_connections", 0.0).await;
}
