//! Stories of a whole node: the real program, a real directory of packages, real sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use tempfile::TempDir;

use crate::package::Package;
use crate::process::{Node, ask, ask_securely, run, send, until};

/// What every node of these stories has; more tables may follow.
fn config(more: &str) -> String {
    format!(
        r#"
        ready_file = "ready.json"
        drain_timeout = "10s"
        [access_log]
        to = "file"
        path = "access.log"
        [trust]
        token_keys = ["keys/token.pub"]
        index_keys = ["keys/index.pub"]
        [front]
        plain = ["127.0.0.1:0"]
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
        usd_per_gb = "0.085"
        {more}
        "#
    )
}

fn world(package: &Package, more: &str) -> TempDir {
    package.world(&config(more))
}

fn access_lines(dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join("data/access.log")).expect("an access log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_film_plays_first_from_the_source_then_from_memory() {
    let package = Package::new();
    let dir = world(&package, "");
    let node = Node::start(dir.path());
    let token = package.token("bbb", 600);
    for outcome in ["miss", "hit"] {
        for (path, bytes) in package.everything() {
            let answer = node.get(&format!("/p/{token}/{path}"));
            assert_eq!((answer.status, answer.body.len()), (200, bytes.len()), "{path}");
            assert!(answer.body == bytes, "{path}: other bytes");
            let status = answer.field("cache-status").unwrap_or_default();
            assert!(status.contains("weir"), "{path}: {status}");
            assert_eq!(status.contains("hit"), outcome == "hit", "{path}: {status}");
        }
    }
    let film: u64 = package.everything().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(node.metric(r#"weir_engine_requests_total{outcome="memory"}"#), 6);
    assert_eq!(node.metric(r#"weir_gateway_build_info{version="0.1.0"}"#), 1);
    let bought = node.metric(r#"weir_sourcing_bytes_total{source="packages"}"#);
    assert_eq!(bought, film + package.overhead(), "each byte once, with index and digest lists");
    assert_eq!(node.metric(r#"weir_sourcing_spend_picodollars_total{source="packages"}"#), bought * 85);
    let lines =
        until("every response is logged", || Some(access_lines(dir.path())).filter(|l| l.len() == 12));
    assert_eq!(lines.iter().filter(|line| line["outcome"] == "memory").count(), 6, "{lines:?}");
    assert!(lines.iter().all(|line| line["status"] == 200 && line["session"] == "test-session"));
    let log = node.log();
    let first = log.lines().next().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    assert_eq!(first.expect("a line")["message"], "starting");
    let listening = log.lines().filter(|line| line.contains(r#""message":"listening""#)).count();
    assert_eq!(listening, 2, "viewer and admin: {log}");
    assert!(!log.contains(&token), "tokens are not logged");
}

#[test]
fn ranges_validators_and_refusals() {
    let package = Package::new();
    let dir = world(&package, "");
    let node = Node::start(dir.path());
    let token = package.token("bbb", 600);
    let film = package.everything();
    let (path, bytes) = film.iter().find(|(path, _)| path.ends_with("/0.m4s")).expect("a segment");
    let url = format!("/p/{token}/{path}");
    let asked = |method: &str, fields: &[(&str, &str)]| ask(&node.viewer, method, &url, fields);

    let head = asked("HEAD", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("content-length"), Some("500001"));
    let etag = head.field("etag").expect("an etag").to_owned();
    assert_eq!(asked("GET", &[("If-None-Match", &etag)]).status, 304);
    assert_eq!(asked("GET", &[("If-Match", "\"other\"")]).status, 412);

    let part = asked("GET", &[("Range", "bytes=16380-16390")]);
    assert_eq!((part.status, part.field("content-range")), (206, Some("bytes 16380-16390/500001")));
    assert_eq!(part.body, bytes[16_380..=16_390]);
    let tail = asked("GET", &[("Range", "bytes=-5")]);
    assert_eq!((tail.status, &tail.body[..]), (206, &bytes[499_996..]));
    let past = asked("GET", &[("Range", "bytes=500001-")]);
    assert_eq!((past.status, past.field("content-range")), (416, Some("bytes */500001")));

    let status = |path: String| node.get(&path).status;
    assert_eq!(status(format!("/p/{token}/bbb/00000000000000ff/v720/9.m4s")), 404);
    assert_eq!(status("/nothing/here".to_owned()), 404);
    let expired = package.token("bbb", -600);
    let others = package.token("sintel", 600);
    let mut tampered = token.clone().into_bytes();
    let middle = tampered.len() / 2;
    tampered[middle] = if tampered[middle] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).expect("ascii");
    for bad in [expired, others, tampered, "x".to_owned()] {
        assert_eq!(status(format!("/p/{bad}/{path}")), 403, "{bad}");
    }
    let admin = |path: &str| ask(&node.admin, "GET", path, &[]).status;
    assert_eq!((admin("/readyz"), admin("/healthz"), admin("/p/x")), (200, 200, 404));
    assert_eq!(status("/metrics".to_owned()), 404, "not for viewers");
}

#[test]
fn viewers_come_over_tls() {
    let package = Package::new();
    let dir = world(&package, "[tls]\ncert = \"keys/viewer.crt\"\nkey = \"keys/viewer.key\"\n");
    let made = rcgen::generate_simple_self_signed(vec!["edge".to_owned()]).expect("a certificate");
    let keys = dir.path().join("data/keys");
    fs::write(keys.join("viewer.crt"), made.cert.pem()).expect("written");
    fs::write(keys.join("viewer.key"), made.signing_key.serialize_pem()).expect("written");
    let file = dir.path().join("gateway.toml");
    let both =
        fs::read_to_string(&file).expect("read").replace("plain = [", "tls = [\"127.0.0.1:0\"]\nplain = [");
    fs::write(&file, both).expect("written");
    let node = Node::start(dir.path());
    let token = package.token("bbb", 600);
    let film = package.everything();
    let (path, bytes) = &film[0];
    let address = node.tls.as_deref().expect("a TLS listener");
    let answer = ask_securely(address, made.cert.der().clone(), &format!("/p/{token}/{path}"));
    assert_eq!((answer.status, &answer.body), (200, bytes));
}

#[test]
fn told_to_stop_a_node_lets_viewers_finish() {
    let package = Package::new();
    let dir = world(&package, "");
    let mut node = Node::start(dir.path());
    let token = package.token("bbb", 600);
    let film = package.everything();
    let (path, bytes) = film.iter().find(|(path, _)| path.ends_with("/2.m4s")).expect("a segment");
    // A viewer that has read only the beginning of sixteen megabytes.
    let mut slow = send(&node.viewer, "GET", &format!("/p/{token}/{path}"), &[]);
    let mut got = vec![0; 1_000];
    slow.read_exact(&mut got).expect("the beginning");
    node.terminate();
    until("the node says that it drains", || {
        (ask(&node.admin, "GET", "/readyz", &[]).status == 503).then_some(())
    });
    until("no new viewer is taken", || TcpStream::connect(&node.viewer).err());
    slow.read_to_end(&mut got).expect("the rest");
    assert!(got.ends_with(bytes), "the viewer got every byte");
    assert_eq!(node.wait().code(), Some(0));
    let log = node.log();
    assert!(log.contains(r#""message":"stopped""#) && log.contains(r#""responses_cut":0"#), "{log}");
    assert_eq!(access_lines(dir.path()).len(), 1, "the last line was written");
}

#[test]
fn killed_outright_a_node_still_has_its_cache_and_needs_no_source() {
    let package = Package::new();
    let dir = world(&package, "");
    let token = package.token("bbb", 600);
    let film = package.everything();
    // First in the middle of a fill: what was half written must not come back as a segment.
    let node = Node::start(dir.path());
    let mut cut_off = send(&node.viewer, "GET", &format!("/p/{token}/{}", film[film.len() - 1].0), &[]);
    cut_off.read_exact(&mut [0; 1_000]).expect("the beginning");
    node.kill_hard();
    let node = Node::start(dir.path());
    for (path, bytes) in &film {
        assert!(node.get(&format!("/p/{token}/{path}")).body == *bytes, "{path}: other bytes");
    }
    let on_disk = r#"weir_store_objects{tier="disk"}"#;
    until("all of it is on disk", || (node.metric(on_disk) == film.len() as u64).then_some(()));
    let copies = || fs::read_dir(dir.path().join("data/indexes")).expect("a shelf").count();
    until("the index is on the shelf", || (copies() == 1).then_some(()));
    node.kill_hard();

    let data = dir.path().join("data");
    fs::rename(data.join("packages"), data.join("elsewhere")).expect("renamed");
    let node = Node::start(dir.path());
    for (path, bytes) in &film {
        let answer = node.get(&format!("/p/{token}/{path}"));
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == *bytes, "{path}: other bytes");
    }
    assert_eq!(node.metric(r#"weir_sourcing_bytes_total{source="packages"}"#), 0);
    assert_eq!(node.metric(r#"weir_engine_requests_total{outcome="disk"}"#), film.len() as u64);
}

#[test]
fn a_neighbour_is_cheaper_than_the_source() {
    let package = Package::new();
    let peer = "[peer]\nlisten = \"127.0.0.1:0\"\ncert = \"keys/peer.crt\"\nkey = \"keys/peer.key\"\n";
    let (first_dir, second_dir) = (world(&package, ""), world(&package, ""));
    let identity = |dir: &TempDir| {
        let made = rcgen::generate_simple_self_signed(vec!["edge".to_owned()]).expect("a certificate");
        let keys = dir.path().join("data/keys");
        fs::write(keys.join("peer.crt"), made.cert.pem()).expect("written");
        fs::write(keys.join("peer.key"), made.signing_key.serialize_pem()).expect("written");
        fs::write(dir.path().join("gateway.toml"), config(peer)).expect("written");
        let print = run(&dir.path().join("gateway.toml"), "--peer-id");
        assert!(print.status.success());
        String::from_utf8(print.stdout).expect("text").trim().to_owned()
    };
    let prints = [identity(&first_dir), identity(&second_dir)];
    let neighbour = |dir: &TempDir, address: &str, print: &str| {
        let table = format!(
            "[[peer.neighbour]]\nid = \"next\"\naddress = \"{address}\"\nfingerprint = \"{print}\"\n"
        );
        fs::write(dir.path().join("gateway.toml"), config(&format!("{peer}{table}"))).expect("written");
    };
    // The first node only serves: where the second one is does not matter to it.
    neighbour(&first_dir, "127.0.0.1:1", &prints[1]);
    let first = Node::start(first_dir.path());
    let token = package.token("bbb", 600);
    let film = package.everything();
    let play = |node: &Node| {
        for (path, bytes) in &film {
            let answer = node.get(&format!("/p/{token}/{path}"));
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.body == *bytes, "{path}: other bytes");
        }
    };
    play(&first);
    neighbour(&second_dir, first.peer.as_deref().expect("a link"), &prints[0]);
    let second = Node::start(second_dir.path());
    let connections = r#"weir_peer_connections{direction="out"}"#;
    until("the neighbour is reached", || (second.metric(connections) == 2).then_some(()));
    play(&second);
    let bytes: u64 = film.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(second.metric(r#"weir_peer_bytes_total{direction="in"}"#), bytes);
    assert_eq!(second.metric(r#"weir_peer_fetches_total{outcome="whole"}"#), film.len() as u64);
    let bought = second.metric(r#"weir_sourcing_bytes_total{source="packages"}"#);
    assert_eq!(bought, package.overhead(), "only index and digest lists");
}

/// A value of `/metrics` that is no whole number.
fn figure(node: &Node, series: &str) -> f64 {
    let text = String::from_utf8(ask(&node.admin, "GET", "/metrics", &[]).body).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = value.ok_or_else(|| format!("{series} in\n{text}")).expect("the series");
    value.parse().expect("a number")
}

#[test]
fn the_month_is_metered_across_restarts_and_crashes() {
    let package = Package::new();
    let cost = "[source.tariff]\nbytes = \"bunny.volume\"\n[cost]\nsite = \"ams1\"\nsave_every = \"1s\"\n";
    let dir = world(&package, cost);
    let file = dir.path().join("gateway.toml");
    let priced = fs::read_to_string(&file).expect("read").replace("usd_per_gb = \"0.085\"", "");
    fs::write(&file, priced).expect("written");
    let sheet = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prices.toml");
    fs::copy(sheet, dir.path().join("data/prices.toml")).expect("copied");
    let (token, film) = (package.token("bbb", 600), package.everything());
    let play = |node: &Node| {
        for (path, bytes) in &film {
            assert!(node.get(&format!("/p/{token}/{path}")).body == *bytes, "{path}: other bytes");
        }
    };
    let bytes: u64 = film.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let (bought, delivered) = (
        r#"weir_cost_bytes_mtd{price_region="us",site="ams1",source="packages"}"#,
        r#"weir_cost_delivered_bytes_mtd{price_region="us",site="ams1"}"#,
    );
    let mut node = Node::start(dir.path());
    play(&node);
    let once = bytes + package.overhead();
    assert_eq!((node.metric(bought), node.metric(delivered)), (once, bytes));
    // 0.005 dollars for a GB.
    let spent = figure(&node, r#"weir_cost_usd_mtd{line="bunny.volume"}"#);
    assert!((spent - once as f64 * 5e-12).abs() < 1e-12, "{spent}");
    let saved = figure(&node, r#"weir_cost_saved_usd_mtd{baseline="volume"}"#);
    assert!((saved - (bytes as f64 - once as f64) * 5e-12).abs() < 1e-12, "overhead is a loss: {saved}");
    let marginal = figure(&node, r#"weir_cost_marginal_usd_per_gb{source="packages"}"#);
    assert!((marginal - 0.005).abs() < 1e-9, "{marginal}");
    node.terminate();
    assert_eq!(node.wait().code(), Some(0));
    let lines = access_lines(dir.path());
    let logged: u64 = lines.iter().filter_map(|line| line["bytes"].as_u64()).sum();
    assert_eq!(logged, bytes, "the access log says the same");
    let told: u64 = lines.iter().filter_map(|line| line["bought"]["packages"]["bytes"].as_u64()).sum();
    assert_eq!(told, once, "also of what was bought");

    // From memory nothing is bought; from disk neither. Then the process is killed, once it has written.
    let node = Node::start(dir.path());
    play(&node);
    assert_eq!((node.metric(bought), node.metric(delivered)), (once, bytes * 2));
    let ledger = dir.path().join("data/cost.json");
    let written = |want: u64| {
        let ledger: serde_json::Value = serde_json::from_slice(&fs::read(&ledger).ok()?).ok()?;
        (ledger["delivered"]["bytes"] == want).then_some(())
    };
    until("the ledger is written", || written(bytes * 2));
    node.kill_hard();
    fs::write(dir.path().join("data/cost.json.part"), "half").expect("written");
    let node = Node::start(dir.path());
    assert_eq!((node.metric(bought), node.metric(delivered)), (once, bytes * 2));
    node.kill_hard();

    fs::write(&ledger, "{").expect("written");
    let node = Node::start(dir.path());
    assert_eq!(node.metric(delivered), 0, "a ledger that makes no sense is put aside");
    assert!(node.log().contains("the cost ledger makes no sense"), "{}", node.log());
}

#[test]
fn a_changed_price_sheet_is_in_force_and_a_bad_one_is_not() {
    let package = Package::new();
    let cost = "[source.tariff]\nbytes = \"bunny.volume\"\n[cost]\nlook_every = \"1s\"\n";
    let dir = world(&package, cost);
    let file = dir.path().join("gateway.toml");
    let priced = fs::read_to_string(&file).expect("read").replace("usd_per_gb = \"0.085\"", "");
    fs::write(&file, priced).expect("written");
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prices.toml");
    let text = fs::read_to_string(good).expect("the project's sheet");
    let sheet = dir.path().join("data/prices.toml");
    fs::write(&sheet, &text).expect("written");
    let node = Node::start(dir.path());
    let (token, film) = (package.token("bbb", 600), package.everything());
    for (path, bytes) in &film {
        assert!(node.get(&format!("/p/{token}/{path}")).body == *bytes, "{path}: other bytes");
    }
    let spent = || figure(&node, r#"weir_cost_usd_mtd{line="bunny.volume"}"#);
    let marginal = || figure(&node, r#"weir_cost_marginal_usd_per_gb{source="packages"}"#);
    let (before, price) = (spent(), marginal());
    assert!(before > 0.0 && price > 0.0);

    let reloads = |result| node.metric(&format!("weir_cost_sheet_reloads_total{{result=\"{result}\"}}"));
    fs::write(&sheet, text.replacen("upto = \"51200 GiB\"", "upto = \"512 GiB\"", 1)).expect("written");
    until("the bad sheet is refused", || (reloads("refused") == 1).then_some(()));
    assert!(node.log().contains("overlaps the tier before it"), "{}", node.log());
    assert_eq!((spent(), marginal()), (before, price), "the last good one stays");

    let (at, tenfold) = (text.find("\"bunny.volume\"").expect("the entry"), text.clone());
    let dearer = tenfold[at..].replacen("usd = \"0.005\"", "usd = \"0.05\"", 1);
    fs::write(&sheet, format!("{}{dearer}", &tenfold[..at])).expect("written");
    until("the new sheet is in force", || (reloads("in-force") == 1).then_some(()));
    until("its price is posted", || (marginal() > price * 9.0).then_some(()));
    assert!((spent() - before).abs() < 1e-12, "what was bought stays at its price");
    assert_eq!(reloads("refused"), 1, "a bad text is told once");
}

#[test]
fn a_bad_price_sheet_is_told_with_its_line() {
    let package = Package::new();
    let dir = world(&package, "[cost]\n[cost.baseline]\nvolume = \"nobody\"\n");
    let (file, sheet) = (dir.path().join("gateway.toml"), dir.path().join("data/prices.toml"));
    let told = || String::from_utf8(run(&file, "--check-config").stderr).expect("text");
    assert!(told().contains("prices.toml: No such file"), "{}", told());
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prices.toml");
    let text = fs::read_to_string(good).expect("the project's sheet");
    fs::write(&sheet, &text).expect("written");
    assert!(told().contains("baseline.volume: the price sheet has no price \"nobody\""), "{}", told());
    fs::write(&sheet, text.replacen("upto = \"51200 GiB\"", "upto = \"512 GiB\"", 1)).expect("written");
    let line = text.lines().position(|line| line.contains("51200 GiB")).expect("a tier") + 1;
    let overlap = format!("line {line}: aws.cloudfront.dto.us.tiers[1]: overlaps the tier before it");
    assert!(told().contains(&overlap), "{}", told());
}

#[test]
fn problems_are_told_before_anything_starts() {
    let package = Package::new();
    let dir = world(&package, "");
    let file = dir.path().join("gateway.toml");
    let check = run(&file, "--check-config");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let printed = run(&file, "--print-config");
    let text = String::from_utf8(printed.stdout).expect("text");
    assert!(text.contains("fill_deadline = \"30s\""), "{text}");
    fs::write(&file, &text).expect("written");
    assert_eq!(run(&file, "--print-config").stdout, text.as_bytes(), "printing is reading");

    fs::remove_file(dir.path().join("data/keys/index.pub")).expect("removed");
    fs::write(dir.path().join("data/keys/token.pub"), "weir-token-private es256 k AAAA").expect("written");
    fs::write(&file, text.replace("max_connections = 10000", "max_connections = 0")).expect("written");
    let check = run(&file, "--check-config");
    assert_eq!(check.status.code(), Some(1));
    let told = String::from_utf8(check.stderr).expect("text");
    for key in ["front.max_connections", "trust.token_keys", "trust.index_keys"] {
        assert!(told.contains(key), "{key} in {told}");
    }
    assert!(!told.contains("AAAA"), "what may be a secret is not quoted");
    fs::write(&file, "nonsense = 1").expect("written");
    let told = String::from_utf8(run(&file, "--check-config").stderr).expect("text");
    assert!(told.contains("unknown field `nonsense`"), "{told}");
}

#[test]
fn a_node_explains_where_bytes_are_and_would_come_from() {
    let package = Package::new();
    let dir = world(&package, "");
    let file = dir.path().join("gateway.toml");
    let keyed = fs::read_to_string(&file)
        .expect("read")
        .replace("[front]", "[front]\ndebug_key_file = \"keys/debug.key\"");
    fs::write(&file, keyed).expect("written");
    fs::write(dir.path().join("data/keys/debug.key"), "a-long-enough-key\n").expect("written");
    let node = Node::start(dir.path());
    let film = package.everything();
    let (path, bytes) = film.iter().find(|(path, _)| path.ends_with("/0.m4s")).expect("a segment");
    let explain = |path: &str| {
        let answer = ask(&node.admin, "GET", &format!("/explain?path={path}"), &[]);
        (answer.status, serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON"))
    };
    let (status, cold) = explain(path);
    assert_eq!(
        (status, &cold["bytes"], &cold["tiers"]["lacking_bytes"]),
        (200, &500_001.into(), &500_001.into())
    );
    let order: Vec<_> =
        cold["sources"].as_array().expect("a list").iter().map(|source| &source["source"]).collect();
    assert_eq!(order, ["shelf", "packages"], "{cold}");
    assert_eq!(
        (&cold["sources"][1]["usd_per_gb"], &cold["sources"][1]["standing"]),
        (&"0.085".into(), &"closed".into())
    );
    let token = package.token("bbb", 600);
    let url = format!("/p/{token}/{path}");
    let shown = ask(&node.viewer, "GET", &url, &[("Weir-Debug", "a-long-enough-key")]);
    assert!(shown.body == *bytes);
    let sources = shown.field("weir-sources").expect("the sources");
    assert!(
        sources.contains("packages;price=0.085;state=closed") && shown.field("weir-tier").is_some(),
        "{sources}"
    );
    assert_eq!(
        ask(&node.viewer, "GET", &url, &[("Weir-Debug", "another-long-key")]).field("weir-sources"),
        None
    );
    let warm =
        until("it is in memory", || Some(explain(path).1).filter(|warm| warm["tiers"]["lacking_bytes"] == 0));
    assert_eq!((&warm["tiers"]["memory"], &warm["tiers"]["groups"]), (&31.into(), &31.into()), "{warm}");
    assert_eq!(explain("bbb/00000000000000ff/v720/99.m4s").0, 404);
    assert_eq!(explain("nonsense").0, 400);
    assert_eq!(explain("bbb/00000000000000ff/index.weir").0, 200);
    assert_eq!(node.metric(r#"weir_gateway_source_refusals_total{cause="clock",source="packages"}"#), 0);
    assert!(!node.log().contains("a-long-enough-key"));
}

/// What `curl -d body` does, and the JSON that comes back.
fn purge(node: &Node, body: &str) -> serde_json::Value {
    let mut stream = send(&node.admin, "POST", "/purge", &[("Content-Length", &body.len().to_string())]);
    stream.write_all(body.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, json) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    serde_json::from_str(json).expect("JSON")
}

#[test]
fn a_purged_title_is_bought_again_and_stays_purged_after_a_restart() {
    let package = Package::new();
    let dir = world(&package, "");
    let node = Node::start(dir.path());
    let token = package.token("bbb", 600);
    let film = package.everything();
    let play = |node: &Node| {
        let hit = |(path, bytes): &(String, Vec<u8>)| {
            let answer = node.get(&format!("/p/{token}/{path}"));
            assert!(answer.body == *bytes, "{path}");
            answer.field("cache-status").unwrap_or_default().contains("hit")
        };
        film.iter().filter(|part| hit(part)).count()
    };
    until("everything is stored", || (play(&node) == film.len()).then_some(()));
    let kept = || fs::read_dir(dir.path().join("data/indexes")).expect("listed").count();
    assert_eq!(kept(), 1);
    let done = purge(&node, r#"{"title": "bbb"}"#);
    assert!(done["objects"].as_u64() >= Some(film.len() as u64) && done["disks_behind"] == 0, "{done}");
    assert_eq!((play(&node), node.metric(r#"weir_front_purges_total{result="hard"}"#)), (0, 1));
    let again = purge(&node, r#"{"prefix": "bbb/"}"#);
    assert!(again["epoch"].as_u64() > done["epoch"].as_u64(), "{again}");
    assert_eq!(kept(), 0, "the index went with it");
    node.kill_hard();
    let node = Node::start(dir.path());
    assert_eq!(play(&node), 0, "what was purged does not come back from the disk");
    assert!(node.log().contains(r#""what":"title bbb""#));
}
