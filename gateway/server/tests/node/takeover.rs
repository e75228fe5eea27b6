//! One process takes over from another while viewers watch: real processes, real sockets, every byte checked.

use std::fs;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use crate::package::Package;
use crate::process::{self, Node, ask_securely, send, signal, until};

fn config(more: &str) -> String {
    format!(
        r#"
        ready_file = "ready.json"
        pid_file = "weir.pid"
        drain_timeout = "20s"
        takeover_timeout = "10s"
        [log]
        filter = "info"
        [access_log]
        to = "off"
        [trust]
        token_keys = ["keys/token.pub"]
        index_keys = ["keys/index.pub"]
        [admin]
        listen = "127.0.0.1:0"
        [store]
        memory_bytes = "64MiB"
        [[store.disk]]
        capacity_bytes = "64MiB"
        [shelf]
        [[source]]
        kind = "directory"
        id = "packages"
        path = "packages"
        {more}
        "#
    )
}

/// What the owner of the disk holds locked.
const LOCK: &str = "data/cache/lock";

const PLAIN: &str = "[front]\nplain = [\"127.0.0.1:0\"]";

fn world(package: &Package, more: &str) -> TempDir {
    package.world(&config(more))
}

fn serving_process(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join("data/weir.pid")).ok()?.trim().parse().ok()
}

/// Stops a process that no test is the parent of, when the test is over.
struct Orphan(u32);

impl Drop for Orphan {
    fn drop(&mut self) {
        if Path::new(&format!("/proc/{}", self.0)).exists() {
            signal(self.0, "KILL");
        }
    }
}

/// Sets flags when it goes, so that a failure elsewhere does not leave threads waiting.
struct Ends<'a>(&'a [&'a AtomicBool]);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Relaxed));
    }
}

/// What viewers met while a process took over.
#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    downloads: AtomicU64,
    last_responses: AtomicU64,
}

/// One request on a connection that goes on; whether it is the last.
fn next(stream: &mut BufReader<TcpStream>, path: &str, bytes: &[u8]) -> bool {
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: e\r\n\r\n").expect("sent");
    let (mut line, mut last, mut len) = (String::new(), false, 0);
    stream.read_line(&mut line).expect("a response");
    assert!(line.starts_with("HTTP/1.1 200 "), "{line:?}");
    loop {
        line.clear();
        stream.read_line(&mut line).expect("a field");
        let field = line.trim_end().to_ascii_lowercase();
        last |= field == "connection: close";
        if let Some(value) = field.strip_prefix("content-length: ") {
            len = value.parse().expect("a length");
        }
        if field.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).expect("the body");
    assert!(body == bytes, "other bytes");
    last
}

/// Asks on one connection until it is told that this was the last response, then on a new one.
fn keep_asking(address: &str, path: &str, bytes: &[u8], over: &AtomicBool, tally: &Tally) {
    while !over.load(Relaxed) {
        let stream = TcpStream::connect(address).expect("not refused");
        let mut stream = BufReader::new(stream);
        while !over.load(Relaxed) {
            tally.requests.fetch_add(1, Relaxed);
            if next(&mut stream, path, bytes) {
                tally.last_responses.fetch_add(1, Relaxed);
                break;
            }
        }
    }
}

/// Takes a large segment slowly enough that the takeover comes in its middle.
fn download(mut stream: TcpStream, bytes: &[u8], taken_over: &AtomicBool, tally: &Tally) {
    let (mut got, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let read = stream.read(&mut piece).expect("no reset");
        if read == 0 {
            break;
        }
        got.extend_from_slice(&piece[..read]);
        // A third before, the rest after: the pause is for the state, with a bound.
        if got.len() > bytes.len() / 3 && !taken_over.load(Relaxed) {
            until("another process serves", || taken_over.load(Relaxed).then_some(()));
        }
    }
    let head = got.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(got[..head].starts_with(b"HTTP/1.1 200 ") && got[head..] == *bytes, "{} bytes", got.len() - head);
    tally.downloads.fetch_add(1, Relaxed);
}

#[test]
fn a_takeover_refuses_nobody_and_cuts_nothing() {
    let package = Package::new();
    let dir = world(&package, PLAIN);
    let mut old = Node::start(dir.path());
    assert_eq!(serving_process(dir.path()), Some(old.id()));
    let film = package.everything();
    let token = package.token("bbb", 600);
    let part = |name: &str| {
        let (path, bytes) = film.iter().find(|(path, _)| path.ends_with(name)).expect("a part");
        (format!("/p/{token}/{path}"), bytes)
    };
    let ((large, large_bytes), (small, small_bytes)) = (part("/2.m4s"), part("/init.mp4"));
    let (kept, kept_bytes) = part("/0.m4s");
    until("the old one holds it", || {
        let answer = old.get(&kept);
        answer.field("cache-status").unwrap_or_default().contains("hit").then_some(())
    });
    let (tally, taken_over, over) = (Tally::default(), AtomicBool::new(false), AtomicBool::new(false));
    let streams: Vec<_> = (0..20).map(|_| send(&old.viewer, "GET", &large, &[])).collect();
    let address = old.viewer.clone();
    let new = thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| download(stream, large_bytes, &taken_over, &tally));
        }
        for _ in 0..4 {
            scope.spawn(|| keep_asking(&address, &small, small_bytes, &over, &tally));
        }
        scope.spawn(|| {
            while !over.load(Relaxed) {
                let answer = process::ask(&address, "GET", &small, &[]);
                assert!(answer.status == 200 && answer.body == *small_bytes);
                tally.requests.fetch_add(1, Relaxed);
            }
        });
        let _ends = Ends(&[&taken_over, &over]);
        until("viewers are served", || (tally.requests.load(Relaxed) > 100).then_some(()));
        let new = Node::start_with(dir.path(), &["--takeover"]);
        taken_over.store(true, Relaxed);
        let before = tally.requests.load(Relaxed);
        assert!(old.wait().success(), "{}", old.log());
        until("viewers are served by the new one", || {
            (tally.requests.load(Relaxed) > before + 100).then_some(())
        });
        over.store(true, Relaxed);
        new
    });
    assert_eq!(tally.downloads.load(Relaxed), 20);
    assert!(tally.last_responses.load(Relaxed) >= 4, "each kept connection heard that it was the last");
    assert_eq!((&new.viewer, &new.admin), (&old.viewer, &old.admin), "the very same listeners");
    assert_eq!(serving_process(dir.path()), Some(new.id()));
    let log = new.log();
    assert!(log.contains(r#""responses_cut":0"#), "{log}");
    // What the old one held on disk is the new one's.
    let answer = new.get(&kept);
    let status = answer.field("cache-status").unwrap_or_default();
    assert!(answer.body == *kept_bytes && status.contains("hit; detail=disk"), "{status}");
}

/// One message of the takeover's language, whole.
fn hear(stream: &mut UnixStream) -> Vec<u8> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("a message");
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).expect("a whole message");
    message
}

#[test]
fn whoever_breaks_off_leaves_the_old_one_serving_with_its_disks() {
    let package = Package::new();
    let dir = world(&package, PLAIN);
    let old = Node::start(dir.path());
    let token = package.token("bbb", 600);
    let film = package.everything();
    let play = |node: &Node| {
        for (path, bytes) in &film {
            assert!(node.get(&format!("/p/{token}/{path}")).body == *bytes, "{path}");
        }
    };
    play(&old);
    let failed = r#"weir_gateway_takeovers_total{result="failed"}"#;
    for attempt in 1..=2 {
        // A new process that dies between its release and its readiness.
        let mut stream =
            UnixStream::connect(dir.path().join("data/takeover.sock")).expect("somebody is there");
        stream.write_all(b"\0\x02\x01\x01").expect("hello");
        assert_eq!(hear(&mut stream), [2], "welcome");
        stream.write_all(b"\0\x01\x04").expect("release");
        assert_eq!(hear(&mut stream)[..2], [5, 2], "two sockets: viewers' and the operator's");
        play(&old);
        stream.shutdown(Shutdown::Both).expect("gone");
        drop(stream);
        until("the old one goes on", || (old.metric(failed) == attempt).then_some(()));
        play(&old);
    }
    // It took its disks back: a real successor gets them after all.
    let new = Node::start_with(dir.path(), &["--takeover"]);
    play(&new);
    assert_eq!(new.viewer, old.viewer);
}

#[test]
fn what_a_hanging_process_holds_is_taken_back_when_it_lets_go() {
    let package = Package::new();
    let dir = world(&package, PLAIN);
    let old = Node::start(dir.path());
    let token = package.token("bbb", 600);
    let play = |node: &Node| {
        for (path, bytes) in package.everything() {
            assert!(node.get(&format!("/p/{token}/{path}")).body == bytes, "{path}");
        }
    };
    // A new process that has the disk open and then hangs longer than the old one waits at first.
    let mut stream = UnixStream::connect(dir.path().join("data/takeover.sock")).expect("somebody is there");
    stream.write_all(b"\0\x02\x01\x01\0\x01\x04").expect("hello and release");
    assert_eq!((hear(&mut stream)[0], hear(&mut stream)[0]), (2, 5));
    let held = fs::File::options().write(true).open(dir.path().join(LOCK)).expect("the disk");
    held.try_lock().expect("let go of");
    drop(stream);
    until("it gave up for now", || old.log().contains("goes on trying").then_some(()));
    play(&old);
    drop(held);
    let back = r#""what":"the disks""#;
    until("it has them back", || {
        old.log().lines().any(|line| line.contains("\"taken back\"") && line.contains(back)).then_some(())
    });
    play(&old);
    let new = Node::start_with(dir.path(), &["--takeover"]);
    play(&new);
}

/// Sends a listening socket as the old process does, whose configuration calls it so.
fn give(stream: &UnixStream, listener: &TcpListener, asked: &str) {
    let bound = listener.local_addr().expect("an address").to_string();
    let mut message = vec![5, 1];
    for address in [asked, &bound] {
        message.push(u8::try_from(address.len()).expect("short"));
        message.extend(address.bytes());
    }
    let whole = [&[0, u8::try_from(message.len()).expect("short")][..], &message].concat();
    let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut room);
    let socket = [listener.as_fd()];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&socket)));
    let sent = sendmsg(stream, &[IoSlice::new(&whole)], &mut beside, SendFlags::empty()).expect("sent");
    assert_eq!(sent, whole.len());
}

#[test]
fn a_new_process_that_is_not_wanted_any_more_gives_the_disk_back_at_once() {
    let package = Package::new();
    let dir = world(&package, PLAIN);
    let text = fs::read_to_string(dir.path().join("gateway.toml")).expect("read");
    // Longer than this test waits for anything.
    let text = text.replace(r#"drain_timeout = "20s""#, "drain_timeout = \"120s\"\ndrain_notice = \"120s\"");
    fs::write(dir.path().join("gateway.toml"), text).expect("written");
    let door = UnixListener::bind(dir.path().join("data/takeover.sock")).expect("the old process's door");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut new = process::spawn(Path::new(process::PROGRAM), dir.path(), &["--takeover"]);
    let _orphan = Orphan(new.id());
    let (mut stream, _) = door.accept().expect("it comes");
    assert_eq!(hear(&mut stream), [1, 1], "hello");
    stream.write_all(b"\0\x01\x02").expect("welcome");
    assert_eq!(hear(&mut stream), [4], "release");
    give(&stream, &listener, "127.0.0.1:0");
    assert_eq!(hear(&mut stream), [6], "ready");
    // It accepts already; a viewer is in the middle of a segment when the old process breaks off.
    let film = package.everything();
    let (path, bytes) = film.iter().max_by_key(|(_, bytes)| bytes.len()).expect("a segment");
    let address = listener.local_addr().expect("an address").to_string();
    let mut viewer = send(&address, "GET", &format!("/p/{}/{path}", package.token("bbb", 600)), &[]);
    let mut first = [0; 12];
    viewer.read_exact(&mut first).expect("a response");
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(stream);
    until("the disk is free", || {
        let lock = fs::File::options().write(true).open(dir.path().join(LOCK)).expect("the disk");
        lock.try_lock().ok()
    });
    assert!(new.try_wait().expect("a child").is_none(), "it serves whom it accepted");
    let mut rest = Vec::new();
    viewer.read_to_end(&mut rest).expect("no reset");
    assert!(rest.ends_with(bytes), "{} bytes", rest.len());
    let ended = until("it ends", || new.try_wait().expect("a child"));
    assert_eq!(ended.code(), Some(1));
}

#[test]
fn a_node_that_checks_a_configuration_can_be_stopped() {
    let package = Package::new();
    let dir = world(&package, PLAIN);
    let program = dir.path().join("weir-gateway");
    std::os::unix::fs::symlink(process::PROGRAM, &program).expect("linked");
    let mut node = Node::start_as(&program, dir.path(), &[]);
    // By now another program has the name, and it does not come to an end.
    fs::remove_file(&program).expect("removed");
    let checking = dir.path().join("checking");
    let script = format!("#!/bin/sh\ntouch {}\nexec sleep 60\n", checking.display());
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
    signal(node.id(), "HUP");
    until("it checks", || checking.exists().then_some(()));
    node.terminate();
    assert!(node.wait().success());
}

#[test]
fn without_anybody_to_take_over_from_a_node_just_starts() {
    let package = Package::new();
    let dir = world(&package, PLAIN);
    let node = Node::start_with(dir.path(), &["--takeover"]);
    assert!(node.log().contains("nobody to take over from"), "{}", node.log());
}

fn certificate(dir: &Path) -> rustls::pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["edge".to_owned()]).expect("made");
    let keys = dir.join("data/keys");
    fs::write(keys.join("viewer.crt"), made.cert.pem()).expect("written");
    fs::write(keys.join("viewer.key"), made.signing_key.serialize_pem()).expect("written");
    rustls::pki_types::CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("a certificate")
}

#[test]
fn a_reload_brings_new_settings_and_certificates_and_a_bad_file_nothing() {
    let package = Package::new();
    let front = "[front]\nplain = [\"127.0.0.1:0\"]\ntls = [\"127.0.0.1:0\"]";
    let tls = "[tls]\ncert = \"keys/viewer.crt\"\nkey = \"keys/viewer.key\"";
    let dir = world(&package, &format!("{front}\n{tls}"));
    let first = certificate(dir.path());
    let mut old = Node::start(dir.path());
    let (secure, token) = (old.tls.clone().expect("TLS"), package.token("bbb", 600));
    assert_eq!(ask_securely(&secure, first, "/healthz").status, 200);

    let good = fs::read_to_string(dir.path().join("gateway.toml")).expect("read");
    for (bad, told) in [
        (good.replace("[front]", "[front]\nmax_connections = 0"), "front.max_connections"),
        (good.replace("[front]", "[frond]"), "unknown field `frond`"),
        (good.replace("keys/index.pub", "keys/none.pub"), "trust.index_keys"),
    ] {
        fs::write(dir.path().join("gateway.toml"), bad).expect("written");
        signal(old.id(), "HUP");
        until(told, || old.log().contains(told).then_some(()));
        let nothing = "reload: nothing has changed";
        until(nothing, || old.log().contains(nothing).then_some(()));
        assert_eq!(old.get("/healthz").status, 200);
        fs::write(dir.path().join("log"), "").expect("emptied");
    }

    let more = "[front.overload]\nmax_active_responses = 7";
    fs::write(dir.path().join("gateway.toml"), format!("{good}\n{more}")).expect("written");
    let second = certificate(dir.path());
    signal(old.id(), "HUP");
    let new = until("another process serves", || serving_process(dir.path()).filter(|id| *id != old.id()));
    let _new = Orphan(new);
    assert!(old.wait().success(), "{}", old.log());
    assert_eq!(
        ask_securely(&secure, second, "/healthz").status,
        200,
        "the new certificate, the same address"
    );
    for (path, bytes) in package.everything() {
        assert!(old.get(&format!("/p/{token}/{path}")).body == bytes, "{path}");
    }
    signal(new, "TERM");
    until("the new one stopped", || serving_process(dir.path()).is_none().then_some(()));
    until("and its process ended", || (!Path::new(&format!("/proc/{new}")).exists()).then_some(()));
}

#[test]
fn a_configuration_that_drops_and_adds_addresses_moves_only_those() {
    let package = Package::new();
    let dir = world(&package, "[front]\nplain = [\"127.0.0.1:0\", \"127.0.0.2:0\"]");
    let mut old = Node::start(dir.path());
    let text = fs::read_to_string(dir.path().join("gateway.toml")).expect("read");
    let dropped = until("both listen", || {
        let lines: Vec<String> =
            old.log().lines().filter(|line| line.contains("127.0.0.2:")).map(str::to_owned).collect();
        let line: serde_json::Value = serde_json::from_str(lines.first()?).ok()?;
        line["address"].as_str().map(str::to_owned)
    });
    assert!(TcpStream::connect(&dropped).is_ok());
    fs::write(dir.path().join("gateway.toml"), text.replace("127.0.0.2:0", "127.0.0.3:0")).expect("written");
    let new = Node::start_with(dir.path(), &["--takeover"]);
    assert!(old.wait().success());
    assert_eq!(new.viewer, old.viewer);
    assert!(TcpStream::connect(&dropped).is_err(), "closed with the old process");
    assert!(new.log().contains("no longer configured: closed"));
    assert!(new.log().contains("127.0.0.3:"), "bound anew");
}
