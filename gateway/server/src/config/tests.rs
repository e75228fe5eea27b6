use super::*;

/// The smallest file that a node can start from.
const LEAST: &str = r#"
[trust]
token_keys = ["keys/token.pub"]
index_keys = ["keys/index.pub"]

[[source]]
kind = "directory"
id = "packages"
path = "packages"
"#;

fn parse(text: &str) -> Config {
    toml::from_str(text).expect("parses")
}

#[test]
fn the_least_file_is_enough_and_survives_the_round_trip() {
    let config = parse(LEAST);
    assert_eq!(config.problems(), Vec::<String>::new());
    let printed = toml::to_string(&config).expect("prints");
    assert_eq!(parse(&printed), config);
}

/// A file in which nothing makes sense.
const NONSENSE: &str = r#"
        node = "a b"
        [log]
        filter = "not=a=level"
        [access_log]
        to = "file"
        [front]
        tls = ["127.0.0.1:8443"]
        max_connections = 0
        [[source]]
        kind = "s3"
        id = "twice"
        bucket = ""
        region = "eu-west-1"
        prefix = "no-slash"
        [[source]]
        kind = "http"
        id = "twice"
        url = "ftp://example.com"
        header_files = { "range" = "x" }
        usd_per_gb = "0.1"
        usd_per_request = "0.1"
        [source.tariff]
        bytes = "x"
        requests = "y"
        [source.cloudfront]
        key_pair_id = "K-1"
        private_key = "k.pem"
        policy = "canned"
        source_ip = "192.0.2.0/24"
        [[source.cloudfront.later_key]]
        key_pair_id = ""
        private_key = "l.pem"
        valid_from = "tomorrow"
        [peer]
        listen = "127.0.0.1:0"
        cert = "c"
        key = "k"
        [peer.link]
        connections = 0
        [cost]
        site = "a b"
        nodes = 0
        save_every = "1ms"
        [[peer.neighbour]]
        id = "n1"
        address = "nowhere"
        fingerprint = "00"
    "#;

#[test]
fn every_problem_is_told_at_once_with_its_key() {
    let problems = parse(NONSENSE).problems();
    for key in [
        "node:",
        "log.filter:",
        "access_log.path:",
        "trust.token_keys:",
        "trust.index_keys:",
        "tls:",
        "front.max_connections:",
        "source.twice.bucket:",
        "source.twice.prefix:",
        "source.twice.url:",
        "source.twice.header_files:",
        "source.twice.cloudfront.key_pair_id:",
        "source.twice.cloudfront.later_key.key_pair_id:",
        "source.twice.cloudfront.later_key.valid_from:",
        "source.twice.cloudfront.source_ip:",
        "source.twice.tariff.bytes:",
        "source.twice.tariff.requests:",
        "cost.site:",
        "cost.nodes:",
        "cost.save_every:",
        "peer.link.connections:",
        "peer.neighbour.n1.address:",
        "peer.neighbour.n1.fingerprint:",
        "source, peer.neighbour:",
    ] {
        let told = problems.iter().filter(|problem| problem.starts_with(key)).count();
        assert_eq!(told, 1, "{key} in {problems:#?}");
    }
    assert_eq!(problems.len(), 24, "{problems:#?}");
}

#[test]
fn a_tariff_needs_a_sheet_and_names_a_price() {
    let empty = format!("{LEAST}[source.tariff]\n");
    let told = parse(&empty).problems();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("cost: a [source.tariff] needs")
            && told[1].starts_with("source.packages.tariff:")
    );
    let good = format!("{LEAST}[source.tariff]\nbytes = 'aws.cloudfront.dto.us'\n[cost]\n");
    assert_eq!(parse(&good).problems(), Vec::<String>::new());
}

#[test]
fn what_no_key_is_and_what_no_value_is_are_refused() {
    for (bad, told) in [
        ("nod = 'x'", "unknown field `nod`"),
        ("drain_timeout = 30", "drain_timeout"),
        ("drain_timeout = '30 bananas'", "drain_timeout"),
        ("[[source]]\nkind = 'ftp'\nid = 'x'", "unknown variant `ftp`"),
        ("[[source]]\nkind = 'directory'\nid = 'x'\npath = 'p'\nbucket = 'b'", "unknown field `bucket`"),
        ("[[source]]\nkind = 'directory'\nid = 'A'\npath = 'p'", "source name"),
        ("[[source]]\nkind = 'directory'\nid = 'x'\npath = 'p'\nusd_per_gb = 0.085", "string"),
        ("[[source]]\nkind = 'directory'\nid = 'x'\npath = 'p'\nusd_per_gb = '0.0851'", "finer than"),
        ("[peer]\nlisten = 'localhost'\ncert = 'c'\nkey = 'k'", "listen"),
    ] {
        let error = toml::from_str::<Config>(bad).expect_err(bad).to_string();
        assert!(error.contains(told), "{bad}: {error}");
    }
}

#[test]
fn relative_paths_start_from_the_data_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("gateway.toml");
    let text = format!(
        "data_dir = 'data'\nready_file = '/run/weir/ready.json'\n{LEAST}\n[[store.disk]]\npath = 'cache'\n"
    );
    std::fs::write(&file, text).expect("written");
    let config = Config::load(&file).expect("loads");
    let data = dir.path().join("data");
    assert_eq!(config.trust.token_keys, [data.join("keys/token.pub")]);
    assert_eq!(config.store.disk[0].path, data.join("cache"));
    assert_eq!(config.ready_file, Some(PathBuf::from("/run/weir/ready.json")));
    let SourceConfig::Directory(directory) = &config.source[0] else { panic!("a directory") };
    assert_eq!(directory.path, data.join("packages"));
}

fn example(which: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../deploy/{which}/gateway.toml"))
}

#[test]
fn the_example_files_are_good_configurations() {
    for file in ["embedded", "aws"] {
        let config = Config::load(&example(file)).expect(file);
        assert_eq!(config.problems(), Vec::<String>::new(), "{file}");
    }
}

/// The embedded example without the `# ` before its optional parts is a file that sets everything.
fn example_with_everything() -> String {
    let text = std::fs::read_to_string(example("embedded")).expect("the example");
    let setting = |line: &str| {
        let word = line.split(['=', ' ']).next().unwrap_or_default();
        line.starts_with('[')
            || (line.contains(" = ") && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let uncomment = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if setting(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_embedded_example_names_every_key_with_its_default() {
    let everything = parse(&example_with_everything());
    let bare = parse(&LEAST.replace("[[source]]", "[[store.disk]]\n[shelf]\n[[source]]"));
    // What has no default is there as an example.
    let (mut front, mut admin) = (everything.front.clone(), everything.admin.clone());
    assert!(front.overload.cdn.take().is_some() && front.debug_key_file.take().is_some());
    assert!(admin.key_file.take().is_some());
    assert_eq!((front, admin), (bare.front, bare.admin));
    assert_eq!(
        (&everything.takeover_socket, everything.takeover_timeout),
        (&bare.takeover_socket, bare.takeover_timeout)
    );
    assert_eq!(everything.store, bare.store);
    assert_eq!(everything.shelf, bare.shelf);
    assert_eq!(everything.engine, bare.engine);
    assert_eq!(everything.sourcing, bare.sourcing);
    assert_eq!(everything.log, bare.log);
    assert_eq!(everything.source[0], bare.source[0]);
    assert_eq!(everything.cost, Some(CostConfig::default()));
    assert_eq!(everything.peer.as_ref().map(|peer| &peer.link), Some(&::peer::LinkConfig::default()));
    assert_eq!((everything.drain_notice, everything.drain_timeout), (bare.drain_notice, bare.drain_timeout));
    let (read, printed) = (example_with_everything(), toml::Value::try_from(&everything).expect("a value"));
    let mut missing = Vec::new();
    keys(&printed, &mut |key| {
        let named = |line: &str| line.trim_start_matches(['#', ' ', '[']).starts_with(key);
        if !read.lines().any(named) && !read.contains(&format!(".{key}]")) {
            missing.push(key.to_owned());
        }
    });
    assert_eq!(missing, Vec::<String>::new(), "keys that the example does not explain");
}

fn keys(value: &toml::Value, visit: &mut dyn FnMut(&str)) {
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
            // Header names are the operator's own.
            if key != "x-origin-secret" {
                visit(key);
            }
            keys(value, visit);
        }),
        toml::Value::Array(items) => items.iter().for_each(|item| keys(item, visit)),
        _ => {}
    }
}
