//! The real program against a small control plane on a socket: what it sends, what it prints, how it ends.
//!
//! Golden outputs lie in `tests/golden`; to write them anew after a wanted change, delete the file and run
//! the test twice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use control_api::keys::OperatorKey;

/// What the control plane received: the request line, then the headers and the body that matter.
type Seen = Vec<String>;

/// Answers one connection per script entry, in order, then stops listening.
struct Fake {
    url: String,
    seen: JoinHandle<Seen>,
}

impl Fake {
    fn start(script: Vec<(u16, &'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = std::thread::spawn(move || {
            let answers = script.into_iter();
            answers.map(|(status, kind, body)| answer(&listener, status, kind, &body)).collect()
        });
        Self { url, seen }
    }
}

fn answer(listener: &TcpListener, status: u16, kind: &str, body: &str) -> String {
    let (mut socket, _) = listener.accept().expect("a client");
    let mut reader = BufReader::new(socket.try_clone().expect("a socket"));
    let (mut shown, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        let interesting = ["get ", "post ", "idempotency-key: "].iter().any(|start| lower.starts_with(start));
        let opens = |value: &str| OperatorKey::from_bytes([7; 32]).opens(value);
        if line
            .split_once(": ")
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("authorization") && opens(value))
        {
            shown.push_str("authorised\n");
        }
        if interesting {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).expect("a body");
    shown.push_str(&String::from_utf8(sent).expect("text"));
    shown.push('\n');
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    write!(socket, "{head}Connection: close\r\n\r\n{body}").expect("answered");
    shown
}

struct Ran {
    output: Output,
    seen: Seen,
}

impl Ran {
    fn out(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).expect("text")
    }

    fn err(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).expect("text")
    }
}

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

fn weir(arguments: &[&str], script: Vec<(u16, &'static str, String)>) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("operator.key");
    std::fs::write(&key, OperatorKey::from_bytes([7; 32]).to_line()).expect("written");
    let fake = Fake::start(script);
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["--api", &fake.url, "--key-file"])
        .arg(&key)
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .expect("the program runs");
    Ran { output, seen: fake.seen.join().expect("the control plane saw everything") }
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let known = path.exists();
    if !known {
        std::fs::write(&path, found).expect("written");
    }
    assert!(known, "{name} was not there; it is now: read it, then run the test again");
    let expected = std::fs::read_to_string(&path).expect("readable");
    assert_eq!(found, expected, "{name} differs");
}

fn view(stage: &str, percent: u8) -> String {
    let published = stage == "published";
    let renditions = serde_json::json!([
        { "id": "v720", "kind": "video", "bandwidth": 2_912_345, "segments": 100, "bytes": 34_567_890 },
        { "id": "a-en", "kind": "audio", "bandwidth": 130_000, "segments": 100, "bytes": 9_876_543 },
        { "id": "s-en", "kind": "subtitles", "bandwidth": 0, "segments": 1, "bytes": 1234 },
    ]);
    serde_json::json!({
        "title": "big-buck-bunny", "name": "Big Buck Bunny", "stage": stage, "progress_percent": percent,
        "package": published.then_some("00000000000000ff"),
        "reason": (stage == "failed").then_some("probe: the file holds no video"),
        "attribution": "(c) Blender Foundation, CC BY 3.0",
        "tags": if published { serde_json::json!(["licence-2026", "vendor-acme"]) } else { serde_json::json!([]) },
        "renditions": if published { renditions } else { serde_json::json!([]) },
        "lint": if published { serde_json::json!(["v720: peak is 1.7 times the average"]) } else { serde_json::json!([]) },
        "duration_ms": 596_474, "a-field-of-tomorrow": true,
    })
    .to_string()
}

fn right() -> serde_json::Value {
    serde_json::json!({
        "id": "e-1", "viewer": "alice", "title": "big-buck-bunny", "kind": "rental", "bought_at": 1_700_000_000,
        "start_by": 1_702_592_000, "first_played_at": null, "finish_by": null,
    })
}

#[test]
fn add_sends_everything_and_shows_the_title() {
    let add = [
        "titles",
        "add",
        "big-buck-bunny",
        "--name",
        "Big Buck Bunny",
        "--source",
        "bbb.mp4",
        "--captions",
        "en=bbb.en.vtt",
        "--attribution",
        "(c) Blender Foundation, CC BY 3.0",
        "--tag",
        "vendor-acme",
        "--tag",
        "licence-2026",
    ];
    let ran = weir(&add, vec![(202, JSON, view("received", 0))]);
    assert!(ran.output.status.success(), "{}", ran.err());
    golden("titles-add.request.txt", &ran.seen.join("\n"));
    golden("titles-add.txt", &ran.out());
}

#[test]
fn list_and_show() {
    let list = format!("{{\"titles\":[{},{}]}}", view("published", 100), view("transcoding", 42));
    golden("titles-list.txt", &weir(&["titles", "list"], vec![(200, JSON, list)]).out());
    let ran = weir(&["titles", "show", "big-buck-bunny"], vec![(200, JSON, view("published", 100))]);
    golden("titles-show.txt", &ran.out());
    let ran =
        weir(&["--json", "titles", "show", "big-buck-bunny"], vec![(200, JSON, view("published", 100))]);
    golden("titles-show.json", &ran.out());
}

#[test]
fn watch_prints_changes_and_ends_with_the_ingest() {
    let stages = [("received", 0), ("transcoding", 40), ("transcoding", 40), ("published", 100)];
    let script = || stages.map(|(stage, percent)| (200, JSON, view(stage, percent))).to_vec();
    let ran = weir(&["titles", "watch", "big-buck-bunny"], script());
    assert!(ran.output.status.success(), "{}", ran.err());
    golden("titles-watch.txt", &ran.out());

    let ran = weir(&["titles", "watch", "big-buck-bunny"], vec![(200, JSON, view("failed", 5))]);
    assert_eq!(ran.output.status.code(), Some(1));
    golden("titles-watch-failed.err.txt", &ran.err());

    let watch = ["titles", "watch", "big-buck-bunny", "--timeout", "0s"];
    let ran = weir(&watch, vec![(200, JSON, view("packaging", 80))]);
    assert_eq!(ran.output.status.code(), Some(1));
    assert!(ran.err().contains("still packaging"), "{}", ran.err());
}

#[test]
fn buy_is_safe_to_repeat() {
    let buy = ["buy", "big-buck-bunny", "--viewer", "alice", "--idempotency-key", "order-17"];
    let ran = weir(&buy, vec![(201, JSON, right().to_string())]);
    golden("buy.request.txt", &ran.seen.join("\n"));
    golden("buy.txt", &ran.out());
    let key =
        |ran: &Ran| ran.seen[0].lines().find(|line| line.starts_with("idempotency-key")).map(str::to_owned);
    let fresh = || weir(&buy[..4], vec![(201, JSON, right().to_string())]);
    let (one, two) = (key(&fresh()), key(&fresh()));
    assert!(one.is_some() && one != two, "every purchase has its own key: {one:?} {two:?}");
}

#[test]
fn entitlements_and_session() {
    let list = serde_json::json!({ "entitlements": [right()] }).to_string();
    let ran = weir(&["entitlements", "alice"], vec![(200, JSON, list)]);
    golden("entitlements.txt", &ran.out());
    let session = serde_json::json!({
        "session": "s-1", "url": "http://127.0.0.1:8480/p/TOKEN/big-buck-bunny/00000000000000ff/main.m3u8",
        "expires_at": 1_700_003_600, "title": "big-buck-bunny", "package": "00000000000000ff",
    });
    let ran =
        weir(&["session", "big-buck-bunny", "--viewer", "alice"], vec![(201, JSON, session.to_string())]);
    golden("session.request.txt", &ran.seen.join("\n"));
    golden("session.txt", &ran.out());
}

/// Asks a node, without a key and without a token in what is asked.
fn explain(arguments: &[&str], script: Vec<(u16, &'static str, String)>) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(script);
    std::fs::write(folder.path().join("weir.toml"), format!("node = {:?}\n", fake.url)).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.args(arguments).current_dir(folder.path()).output().expect("the program runs");
    Ran { output, seen: fake.seen.join().expect("the node saw everything") }
}

#[test]
fn a_node_explains_a_path() {
    let source = |name: &str, kind: &str, gb: &str, usd: &str| {
        serde_json::json!({
            "source": name, "kind": kind, "usd_per_gb": gb, "usd_per_request": "0.0000004", "usd": usd,
            "standing": "closed", "first_byte_ms": 12, "first_byte_p50_ms": 10, "first_byte_p95_ms": 20,
            "first_byte_p99_ms": 44, "failed_percent": 3, "permits": 64, "reason": "cheapest",
        })
    };
    let mut resting = source("replica", "s3", "0", "0.0000004");
    resting["standing"] = "open".into();
    resting["rest_ends_in_ms"] = 1500.into();
    resting["reason"] = serde_json::Value::Null;
    let mut fresh = source("cloudfront", "http", "0.085", "0.0000429");
    (fresh["first_byte_ms"], fresh["reason"]) = (serde_json::Value::Null, "dearer".into());
    let answer = serde_json::json!({
        "node": "ams-1", "path": "bbb/00000000000000ff/v720/7", "object": "bbb/00000000000000ff/v720.mp4",
        "bytes": 500_001, "priced_bytes": 500_001, "a-field-of-tomorrow": true,
        "tiers": { "groups": 31, "memory": 0, "disk": 0, "lacking_bytes": 500_001, "filling": true },
        "sources": [source("s3", "s3", "0.02", "0.0000104"), fresh, resting],
    });
    let url = "https://edge.example/p/to-ken/bbb/00000000000000ff/v720/7.m4s?CMCD=su";
    let ran = explain(&["explain", url], vec![(200, JSON, answer.to_string())]);
    golden("explain.request.txt", &ran.seen.join("\n"));
    golden("explain.txt", &ran.out());
    let ran = explain(&["--json", "explain", url], vec![(200, JSON, answer.to_string())]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.out()).expect("JSON"), answer);

    let gone = r#"{"error":"no-such-segment: it is not in the index"}"#.to_owned();
    let ran = explain(&["explain", "bbb/00000000000000ff/v720/9.m4s"], vec![(404, JSON, gone)]);
    assert_eq!(ran.output.status.code(), Some(1));
    assert_eq!(ran.err(), "weir: the node says: no-such-segment: it is not in the index\n");
}

#[test]
fn refusals_say_what_to_do() {
    let problem =
        control_api::Problem::new(control_api::ProblemCode::NoEntitlement, "viewer alice, title bbb");
    let body = serde_json::to_string(&problem).expect("json");
    let ran = weir(&["session", "bbb", "--viewer", "alice"], vec![(403, PROBLEM, body)]);
    assert_eq!(ran.output.status.code(), Some(1));
    golden("refused.err.txt", &ran.err());

    let page = "<html>502 from some proxy</html>".to_owned();
    let ran = weir(&["titles", "list"], vec![(502, "text/html", page)]);
    assert!(ran.err().contains("answered 502") && ran.err().contains("some proxy"), "{}", ran.err());

    let ran = weir(&["titles", "list"], vec![(200, JSON, "{}".into())]);
    assert!(ran.err().contains("not the control plane's"), "{}", ran.err());
}

#[test]
fn nobody_there_and_wrong_usage() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let api = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let ran = weir(&["--api", &api, "titles", "list"], vec![]);
    assert_eq!(ran.output.status.code(), Some(2), "--api twice is wrong usage");

    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("operator.key");
    std::fs::write(&key, OperatorKey::from_bytes([7; 32]).to_line()).expect("written");
    std::fs::write(folder.path().join("weir.toml"), format!("api = {api:?}\nkey_file = \"operator.key\"\n"))
        .expect("written");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).current_dir(folder.path()).output().expect("the program runs")
    };
    let output = run(&["titles", "list"]);
    let err = String::from_utf8(output.stderr).expect("text");
    assert!(err.contains("cannot reach") && err.contains("does the control plane run there"), "{err}");
    assert_eq!(run(&["titles", "show", "Not A Title"]).status.code(), Some(2));
    assert_eq!(run(&["buy", "bbb"]).status.code(), Some(2));
    let add = ["titles", "add", "bbb", "--name", "BBB", "--source", "bbb.mp4", "--tag", "Vendor Acme"];
    let refused = run(&add);
    let err = String::from_utf8(refused.stderr).expect("text");
    assert!(refused.status.code() == Some(2) && err.contains("tag holds a character"), "{err}");
}
