//! The API over a real socket: who may, what is refused, what a rental is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use control_api::keys::OperatorKey;
use control_api::{TokenKey, TokenVerifier};
use control_plane::adapters::redb::RedbRecords;
use control_plane::entropy::SystemEntropy;
use control_plane::init::init;
use control_plane::seams::{
    BoxFuture, Catalog, PackageJob, Progress, ThumbnailJob, ToolError, TranscodeJob, Transcoder,
};
use control_plane::serve::{Outside, Running, start};
use control_plane::state::State;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::records;
use crate::support::{Api, StandingClock, config, until};

pub(crate) const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// Tools that refuse every film, or never come to an end: these tests are about the API.
struct Refusing {
    /// Films of this name are never looked into to the end.
    stuck_at: &'static str,
}

impl Transcoder for Refusing {
    fn probe<'a>(&'a self, film: &'a Path) -> BoxFuture<'a, Result<control::ladder::SourceFacts, ToolError>> {
        Box::pin(async {
            if film.ends_with(self.stuck_at) {
                std::future::pending::<()>().await;
            }
            Err(ToolError { tool: "ffprobe", detail: "this is no film".to_owned(), permanent: true })
        })
    }

    fn transcode<'a>(&'a self, _: &'a TranscodeJob, _: Progress<'a>) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(async { Ok(()) })
    }

    fn package<'a>(&'a self, _: &'a PackageJob) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(async { Ok(()) })
    }

    fn thumbnails<'a>(&'a self, _: &'a ThumbnailJob) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(async { Ok(()) })
    }
}

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) clock: Arc<StandingClock>,
    pub(crate) running: Running,
    pub(crate) api: Api,
}

/// A control plane with one published title, `bbb`.
pub(crate) async fn world(more: &str) -> World {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path(), more);
    init(&config, &SystemEntropy::new()).expect("keys and directories");
    let state = State::new(Arc::new(RedbRecords::open(&config.state.path).expect("a state file")));
    state.put(&records::published("bbb")).await.expect("a title");
    drop(state);
    for film in ["film.mp4", "endless.mp4"] {
        std::fs::write(config.mezzanine.path.join(film), "not really").expect("written");
    }
    let clock = StandingClock::at(NOW);
    let outside = Outside {
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy::new()),
        transcoder: Arc::new(Refusing { stuck_at: "endless.mp4" }),
        payments: None,
    };
    let key = std::fs::read_to_string(&config.keys.operator).expect("a key file");
    let key = OperatorKey::parse(&key).expect("a key").bearer();
    let running = start(&config, outside).await.expect("started");
    let api = Api::new(&running.address.to_string(), Some(key));
    World { directory, clock, running, api }
}

fn order(title: &str) -> Value {
    json!({ "title": title, "name": "A film", "source": "film.mp4" })
}

fn tagged(title: &str, tags: &[&str]) -> Value {
    let mut order = order(title);
    order["tags"] = json!(tags);
    order
}

fn purchase(viewer: &str, kind: &str) -> Value {
    json!({ "viewer": viewer, "title": "bbb", "kind": kind })
}

fn session(viewer: &str) -> Value {
    json!({ "viewer": viewer, "title": "bbb" })
}

#[tokio::test]
async fn who_may() {
    let world = world("").await;
    let wrong = OperatorKey::from_bytes([7; 32]).bearer();
    let right = &world.api;
    // Route, and its answer without a key, with a wrong one, with the right one.
    for (method, path, none, wrong_key, with_key) in [
        ("GET", "/v1/titles", 401, 401, 200),
        ("POST", "/v1/titles", 401, 401, 415),
        ("DELETE", "/v1/titles", 401, 401, 405),
        ("GET", "/v1/titles/bbb", 401, 401, 200),
        ("GET", "/v1/titles/nope", 401, 401, 404),
        ("GET", "/v1/titles/NOT%20A%20NAME", 401, 401, 404),
        ("POST", "/v1/purchases", 401, 401, 415),
        ("GET", "/v1/purchases", 401, 401, 405),
        ("GET", "/v1/viewers/ann/entitlements", 401, 401, 200),
        ("GET", "/v1/viewers/a%2fb/entitlements", 401, 401, 400),
        ("POST", "/v1/sessions", 401, 401, 415),
        ("POST", "/v1/sessions/s1/beacons", 401, 401, 415),
        ("GET", "/v1/viewers/ann/bookmarks", 401, 401, 200),
        ("GET", "/v1/viewers/ann/audit", 401, 401, 200),
        ("POST", "/v1/viewers/ann/entitlements/e1/refund", 401, 401, 415),
        ("POST", "/v1/viewers/ann/entitlements/e1/events", 401, 401, 415),
        ("PUT", "/v1/titles/bbb/prices/rental", 401, 401, 415),
        ("GET", "/v1/titles/bbb/prices/rental", 401, 401, 409),
        ("GET", "/v1", 401, 401, 404),
        ("GET", "/v1/", 401, 401, 404),
        ("GET", "/v1/no/such/path", 401, 401, 404),
        ("GET", "/healthz", 200, 200, 200),
        ("GET", "/readyz", 200, 200, 200),
        ("GET", "/metrics", 200, 200, 200),
        ("GET", "/watch", 200, 200, 200),
        ("GET", "/watch/hls.js", 404, 404, 404),
        ("GET", "/", 404, 404, 404),
        ("GET", "/v2/titles", 404, 404, 404),
    ] {
        for (api, expected) in [
            (right.with_key(None), none),
            (right.with_key(Some(&wrong)), wrong_key),
            (right.clone(), with_key),
        ] {
            let answer = api.send(method, path, &[], "").await;
            assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
            assert!(answer.headers.contains_key("x-request-id"), "{method} {path}");
            if answer.status >= 400 {
                assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
                assert_eq!(answer.json()["status"], answer.status, "{method} {path}");
            }
        }
    }
    for header in ["", "Bearer", "Bearer ", "Basic YTpi", "bearer wrong"] {
        let answer = right.with_key(None).send("GET", "/v1/titles", &[("Authorization", header)], "").await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized".to_owned()), "{header:?}");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    world.running.stop().await;
}

#[tokio::test]
async fn what_is_refused_names_its_field() {
    let world = world("").await;
    let api = &world.api;
    let long = "x".repeat(70_000);
    for (path, body, status, code, field) in [
        ("/v1/titles", json!({ "title": "a" }).to_string(), 400, "invalid-request", "name"),
        ("/v1/titles", json!({ "title": "A", "name": "n", "source": "s" }).to_string(), 400, "invalid-request", "title"),
        ("/v1/titles", json!({ "title": "a", "name": "", "source": "s" }).to_string(), 400, "invalid-request", "name"),
        ("/v1/titles", json!({ "title": "a", "name": "n\n", "source": "s" }).to_string(), 400, "invalid-request", "name"),
        ("/v1/titles", json!({ "title": "a", "name": "n", "source": "../s" }).to_string(), 400, "invalid-request", "source"),
        ("/v1/titles", json!({ "title": "a", "name": "n", "source": "s", "extra": 1 }).to_string(), 400, "invalid-request", "extra"),
        ("/v1/titles", json!({ "title": "a", "name": "n", "source": "absent.mp4" }).to_string(), 422, "source-not-found", "absent.mp4"),
        ("/v1/titles", json!({ "title": "a", "name": "n", "source": "film.mp4", "captions": [{ "language": "en", "source": "absent.vtt" }] }).to_string(), 422, "source-not-found", "absent.vtt"),
        ("/v1/titles", json!({ "title": "a", "name": "n", "source": "film.mp4", "captions": [{ "language": "en", "source": "x" }, { "language": "en", "source": "y" }] }).to_string(), 400, "invalid-request", "captions[1].language"),
        ("/v1/titles", tagged("a", &["Vendor Acme"]).to_string(), 400, "invalid-request", "tag holds"),
        ("/v1/titles", tagged("a", &["vendor-acme", "new", "vendor-acme"]).to_string(), 400, "invalid-request", "tags: vendor-acme stands twice"),
        ("/v1/titles", tagged("a", &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"]).to_string(), 400, "invalid-request", "tags: at most 16"),
        ("/v1/titles", tagged("bbb", &["vendor-acme"]).to_string(), 409, "title-exists", "bbb"),
        ("/v1/titles", order("bbb").to_string().replace("A film", "Other"), 409, "title-exists", "bbb"),
        ("/v1/titles", "{".to_owned(), 400, "invalid-request", "body"),
        ("/v1/titles", String::new(), 400, "invalid-request", "body"),
        ("/v1/titles", json!({ "title": "a", "name": long, "source": "s" }).to_string(), 413, "body-too-large", "longer"),
        ("/v1/sessions", json!({ "viewer": "a b", "title": "bbb" }).to_string(), 400, "invalid-request", "viewer"),
        ("/v1/sessions", json!({ "viewer": "ann", "title": "nope" }).to_string(), 404, "no-such-title", "nope"),
        ("/v1/sessions", session("ann").to_string(), 403, "no-entitlement", "ann"),
    ] {
        let json = [("Content-Type", "application/json")];
        let answer = api.send("POST", path, &json, &body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body:.200}: {answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(field), "{body:.200}: {detail:?} does not name {field}");
    }
    let page = api.get("/v1/titles?limit=many").await;
    assert_eq!((page.status, page.code()), (400, "invalid-request".to_owned()));
    world.running.stop().await;
}

#[tokio::test]
async fn a_purchase_is_made_once() {
    let world = world("").await;
    let api = &world.api;
    let missing = api.post("/v1/purchases", &purchase("ann", "rental")).await;
    assert_eq!((missing.status, missing.code()), (400, "idempotency-key-missing".to_owned()));
    for bad in ["", "two words", &"k".repeat(129)] {
        let answer = api.buy(bad, &purchase("ann", "rental")).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid-request".to_owned()), "{bad:?}");
    }
    let first = api.buy("order-1", &purchase("ann", "rental")).await;
    assert_eq!(first.status, 201);
    world.clock.set(NOW + 5);
    let again = api.buy("order-1", &purchase("ann", "rental")).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "the same right, byte for byte");
    let quoted = api.buy("\"order-1\"", &purchase("ann", "rental")).await;
    assert_eq!(quoted.body, first.body);
    let other = api.buy("order-1", &purchase("ann", "purchase")).await;
    assert_eq!((other.status, other.code()), (422, "idempotency-key-reused".to_owned()));
    let unknown = json!({ "viewer": "ann", "title": "nope", "kind": "rental" });
    assert_eq!(api.buy("order-2", &unknown).await.code(), "no-such-title");

    world.clock.set(NOW + 10);
    let second = api.buy("order-3", &purchase("ann", "purchase")).await;
    let list = api.get("/v1/viewers/ann/entitlements").await.json();
    assert_eq!(list, json!({ "entitlements": [second.json(), first.json()] }), "newest first");
    assert_eq!(first.json()["start_by"], NOW + 30 * DAY);
    assert_eq!(second.json()["start_by"], Value::Null);
    world.running.stop().await;
}

#[tokio::test]
async fn a_rental_opens_sessions_within_its_windows() {
    let world = world("[playback]\nbase_url = \"https://edge.example\"").await;
    let api = &world.api;
    api.buy("k1", &purchase("ann", "rental")).await;
    api.buy("k2", &purchase("bob", "rental")).await;
    api.buy("k3", &purchase("cat", "purchase")).await;

    world.clock.set(NOW + 30 * DAY - 1);
    let opened = api.post("/v1/sessions", &session("ann")).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    check_session(&world, &opened.json(), NOW + 30 * DAY - 1);
    let held = api.get("/v1/viewers/ann/entitlements").await.json();
    let held = &held["entitlements"][0];
    assert_eq!(held["first_played_at"], NOW + 30 * DAY - 1);
    assert_eq!(held["finish_by"], NOW + 32 * DAY - 1);

    for (now, viewer, status, code) in [
        (NOW + 30 * DAY, "bob", 403, "start-window-over"),
        (NOW + 32 * DAY - 2, "ann", 201, ""),
        (NOW + 32 * DAY - 1, "ann", 403, "finish-window-over"),
        (NOW + 3650 * DAY, "cat", 201, ""),
        (NOW + 3650 * DAY, "dan", 403, "no-entitlement"),
    ] {
        world.clock.set(now);
        let answer = api.post("/v1/sessions", &session(viewer)).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{viewer} at {}", now - NOW);
    }
    world.running.stop().await;
}

/// The token holds offline with the public key alone, for this title, until the time that was said.
fn check_session(world: &World, session: &Value, now: u64) {
    let file = world.directory.path().join("data/keys/token.pub");
    let key: TokenKey = std::fs::read_to_string(file).expect("a key file").trim_end().parse().expect("a key");
    let url = session["url"].as_str().expect("a URL");
    let rest = url.strip_prefix("https://edge.example/p/").expect("below the gateway");
    let (token, path) = rest.split_once('/').expect("a token and a path");
    assert_eq!(path, "bbb/0000000000000007/main.m3u8");
    let claims = TokenVerifier::new(vec![key]).verify(token, now).expect("a token that holds");
    assert_eq!((claims.title.as_str(), claims.issuer.as_str(), claims.issued), ("bbb", "weir", now));
    assert_eq!(session["session"], claims.session.as_str());
    // Twice the film's hour and two hours for pauses.
    assert_eq!((session["expires_at"].as_u64(), claims.expires), (Some(now + 4 * 3600), now + 4 * 3600));
}

/// Of many first sessions at once all agree on when the rental ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_play_happens_once() {
    let world = world("[playback]\nstreams = 20").await;
    world.api.buy("k1", &purchase("ann", "rental")).await;
    let players = (0..20).map(|n| {
        let (api, clock) = (world.api.clone(), Arc::clone(&world.clock));
        tokio::spawn(async move {
            clock.set(NOW + n);
            api.post("/v1/sessions", &session("ann")).await.status
        })
    });
    for player in players.collect::<Vec<_>>() {
        assert_eq!(player.await.expect("no panic"), 201);
    }
    let held = world.api.get("/v1/viewers/ann/entitlements").await.json();
    let held = &held["entitlements"][0];
    let first = held["first_played_at"].as_u64().expect("played");
    assert_eq!(held["finish_by"], first + 2 * DAY);
    world.running.stop().await;
}

/// Screens have places, players say where they are, and the next session begins there.
#[tokio::test]
async fn screens_and_beacons() {
    let world = world("[playback]\nstreams = 1").await;
    let api = &world.api;
    api.buy("k1", &purchase("ann", "rental")).await;
    let on = |device: &str, take_over: bool| json!({ "viewer": "ann", "title": "bbb", "device": device, "take_over": take_over });
    let first = api.post("/v1/sessions", &on("tv", false)).await.json();
    assert_eq!((&first["resume_at_ms"], &first["beacon_every_s"]), (&json!(0), &json!(30)));
    api.buy("k2", &purchase("ann", "purchase")).await;
    let full = api.post("/v1/sessions", &on("pad", false)).await;
    assert_eq!((full.status, full.code()), (409, "too-many-streams".to_owned()));
    assert!(full.json()["detail"].as_str().is_some_and(|text| text.contains("bbb")), "{full:?}");
    let held = api.get("/v1/viewers/ann/entitlements").await.json();
    let bought =
        held["entitlements"].as_array().into_iter().flatten().find(|held| held["kind"] == "purchase");
    assert_eq!(bought.expect("bought")["first_played_at"], Value::Null, "who was refused has not played");
    let beacon = async |session: &Value, body: Value| {
        let path = format!("/v1/sessions/{}/beacons", session["session"].as_str().expect("a session"));
        api.post(&path, &body).await
    };
    let heard = beacon(&first, json!({ "viewer": "ann", "position_ms": 61_000 })).await;
    assert_eq!((heard.status, heard.json()), (200, json!({ "lease_until": NOW + 90 })));
    let stranger = beacon(&first, json!({ "viewer": "bob", "position_ms": 1 })).await;
    assert_eq!((stranger.status, stranger.code()), (409, "stream-ended".to_owned()));
    let second = api.post("/v1/sessions", &on("pad", true)).await.json();
    assert_eq!(second["resume_at_ms"], 61_000);
    let lost = beacon(&first, json!({ "viewer": "ann", "position_ms": 62_000 })).await;
    assert_eq!(lost.code(), "stream-ended");
    let ended = beacon(&second, json!({ "viewer": "ann", "position_ms": 70_000, "ended": true })).await;
    assert_eq!(ended.status, 200);
    assert_eq!(api.post("/v1/sessions", &on("tv", false)).await.status, 201, "its place is free");
    let marks = api.get("/v1/viewers/ann/bookmarks").await.json();
    assert_eq!(marks, json!({ "bookmarks": [{ "title": "bbb", "position_ms": 70_000, "at": NOW }] }));
    world.running.stop().await;
}

#[tokio::test]
async fn a_title_that_fails_can_be_tried_again() {
    let world = world("").await;
    let api = &world.api;
    let received = api.post("/v1/titles", &order("new-film")).await;
    assert_eq!((received.status, received.json()["stage"].as_str()), (202, Some("received")));
    let failed = async || {
        let view = api.get("/v1/titles/new-film").await.json();
        (view["stage"] == "failed").then_some(view)
    };
    let view = until("the refusal", failed).await;
    assert_eq!(view["reason"], "probe: ffprobe: this is no film");
    assert_eq!(view["package"], received.json()["package"]);
    let denied = api.post("/v1/sessions", &json!({ "viewer": "ann", "title": "new-film" })).await;
    assert_eq!((denied.status, denied.code()), (409, "title-not-published".to_owned()));

    let again = api.post("/v1/titles", &order("new-film")).await;
    assert_eq!((again.status, again.json()["stage"].as_str()), (202, Some("received")));
    let view = until("the second refusal", failed).await;
    assert_eq!(view["package"], received.json()["package"], "the same order is the same package");
    let other = order("new-film").to_string().replace("A film", "Another film");
    let other = api.send("POST", "/v1/titles", &[("Content-Type", "application/json")], &other).await;
    assert_ne!(other.json()["package"], received.json()["package"], "another order is another package");
    until("the third refusal", failed).await;
    let with_tags = async |tags| api.post("/v1/titles", &tagged("new-film", tags)).await.json();
    let first = with_tags(&["vendor-acme", "licence-2026"]).await;
    let sorted = json!(["licence-2026", "vendor-acme"]);
    assert_eq!(first["tags"], sorted);
    assert_ne!(first["package"], received.json()["package"], "the index names them: another package");
    until("the fourth refusal", failed).await;
    let turned = with_tags(&["licence-2026", "vendor-acme"]).await;
    assert_eq!((&turned["tags"], &turned["package"]), (&sorted, &first["package"]), "tags are a set");
    let titles = api.get("/v1/titles").await.json();
    assert_eq!(titles["titles"][1]["tags"], sorted);
    let names: Vec<_> =
        titles["titles"].as_array().into_iter().flatten().map(|view| &view["title"]).collect();
    assert_eq!(names, ["bbb", "new-film"]);
    assert_eq!(api.get("/v1/titles?after=bbb").await.json()["titles"][0]["title"], "new-film");
    let metrics = api.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("weir_control_plane_ingests_total{outcome=\"failed\"} "), "{metrics}");
    assert!(!metrics.contains("new-film"), "no title is a label");
    world.running.stop().await;
}

/// One ingest runs and none may wait: the same order again is no second one, another title is told to come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_may_wait() {
    let world = world("[ingest]\nparallel = 1\nmax_waiting = 0").await;
    let endless = |title: &str| json!({ "title": title, "name": "A film", "source": "endless.mp4" });
    let clients = (0..10).map(|_| {
        let (api, order) = (world.api.clone(), endless("one"));
        tokio::spawn(async move { api.post("/v1/titles", &order).await })
    });
    let mut packages = std::collections::BTreeSet::new();
    for client in clients.collect::<Vec<_>>() {
        let answer = client.await.expect("no panic");
        match answer.status {
            202 => drop(packages.insert(answer.json()["package"].to_string())),
            // Before the first one's record stood there was no room for a second.
            status => assert_eq!((status, answer.code()), (429, "overloaded".to_owned())),
        }
    }
    assert_eq!(packages.len(), 1, "one title, one package");
    let other = world.api.post("/v1/titles", &endless("two")).await;
    assert_eq!((other.status, other.code()), (429, "overloaded".to_owned()));
    assert!(other.headers.contains_key("retry-after"));
    assert_eq!(world.api.get("/v1/titles/two").await.status, 404, "nothing was recorded");
    world.running.stop().await;
}

#[tokio::test]
async fn the_page_and_its_player() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let world = world(&format!("[player]\nhls_js = \"{script}\"")).await;
    let page = world.api.with_key(None).get("/watch").await;
    assert!(String::from_utf8_lossy(&page.body).contains("/watch/hls.js"));
    assert!(page.headers.contains_key("content-security-policy"));
    let script = world.api.with_key(None).get("/watch/hls.js").await;
    assert_eq!(
        (script.status, script.headers["content-type"].to_str().ok()),
        (200, Some("text/javascript; charset=utf-8"))
    );
    world.running.stop().await;
}

/// A client that says nothing does not keep its connection, and does not keep the program from stopping.
#[tokio::test]
async fn silence_is_not_waited_for() {
    let world = world("head_timeout = \"200ms\"\ndrain_timeout = \"2s\"").await;
    let mut stream = TcpStream::connect(world.running.address).await.expect("connected");
    stream.write_all(b"GET /healthz HTT").await.expect("sent");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.expect("closed by the other side");
    assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 4"), "{heard:?}");
    let silent = TcpStream::connect(world.running.address).await.expect("connected");
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(10), world.running.stop());
    stopped.await.expect("stops in time");
    drop(silent);
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(directory.path(), "");
    let outside = || Outside {
        clock: StandingClock::at(NOW),
        entropy: Arc::new(SystemEntropy::new()),
        transcoder: Arc::new(Refusing { stuck_at: "endless.mp4" }),
        payments: None,
    };
    let why = async |config: &control_plane::config::Config| match start(config, outside()).await {
        Ok(_) => "it started".to_owned(),
        Err(error) => error.to_string(),
    };
    let text = why(&config).await;
    assert!(text.contains("token.key") && text.contains("init"), "{text}");
    init(&config, &SystemEntropy::new()).expect("keys");
    config.player.hls_js = Some(PathBuf::from("/no/such/hls.js"));
    assert!(why(&config).await.contains("/no/such/hls.js"));
    config.player.hls_js = None;
    std::fs::write(&config.keys.index, "weir-token-public es256 k1 AAAA\n").expect("written");
    let text = why(&config).await;
    assert!(text.contains("index.key") && text.contains("weir-index-private"), "{text}");
}
