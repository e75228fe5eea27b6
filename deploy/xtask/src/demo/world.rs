//! The programs of one demonstration: configured, started, and stopped when the value is dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::origin::Origin;
use crate::clock::wait_for;
use crate::failure::{Context, Failure, Outcome};
use crate::http;
use crate::setup;
use crate::shell::{Call, Running, built, root};

/// How long a program may take to come up on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The bucket of the S3-compatible server.
const BUCKET: &str = "weir-packages";
/// What every S3 GET costs by list price; bytes to a gateway in the same region are free.
const S3_USD_PER_REQUEST: &str = "0.0000004";

/// Where the gateway buys its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SourceKind {
    /// The control plane's package directory
    Directory,
    /// A bucket of an S3-compatible server
    S3,
    /// A plain HTTP origin
    Http,
}

/// Which ports to use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) viewer: u16,
    pub(crate) admin: u16,
}

impl Ports {
    /// Three ports near `base`; 0 leaves each to the system.
    pub(crate) fn from_base(base: u16) -> Self {
        match base {
            0 => Self { api: 0, viewer: 0, admin: 0 },
            _ => Self { api: base, viewer: base.saturating_add(10), admin: base.saturating_add(11) },
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) home: PathBuf,
    /// Addresses as `host:port`.
    pub(crate) api: String,
    pub(crate) viewer: String,
    pub(crate) admin: String,
    upstream: Upstream,
    gateway: Running,
    control_plane: Running,
}

impl World {
    /// Writes the configurations below `home` and starts everything.
    ///
    /// # Errors
    /// A port is taken, or a program does not come up; the text carries the end of its log.
    pub(crate) fn start(home: &Path, source: SourceKind, ports: Ports) -> Outcome<Self> {
        let upstream = Upstream::start(home, source)?;
        // Keys first: the gateway wants the public halves, the control plane the gateway's address.
        write_config(
            home,
            "control-plane",
            &control_plane(home, ports.api, "http://127.0.0.1:1", &upstream)?,
        )?;
        program("weir-control-plane", home, "control-plane")?.arg("init").quiet()?;
        let (gateway, viewer, admin) = start_gateway(home, ports, &upstream)?;
        let base_url = format!("http://{viewer}");
        write_config(home, "control-plane", &control_plane(home, ports.api, &base_url, &upstream)?)?;
        let call = program("weir-control-plane", home, "control-plane")?;
        let mut control_plane = call.start(&log(home, "control-plane"))?;
        let api = ready(&mut control_plane, &ready_file(home, "control-plane"), "api")?;
        Ok(Self { home: home.to_owned(), api, viewer, admin, upstream, gateway, control_plane })
    }

    /// `weir --json ...` against this control plane, its answer parsed.
    pub(crate) fn weir(&self, arguments: &[&str]) -> Outcome<serde_json::Value> {
        let call = self.weir_call()?.arg("--json").args(arguments);
        serde_json::from_str(&call.quiet()?).doing("the answer of weir")
    }

    pub(crate) fn weir_call(&self) -> Outcome<Call> {
        let call =
            Call::new(built()?.join("weir")).args(["--api", &format!("http://{}", self.api), "--key-file"]);
        Ok(call.arg(self.data().join("keys/operator.key")))
    }

    /// The folder with keys, packages and cache.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// One object of a package as it was published, read past the gateway.
    pub(crate) fn published(&self, object: &str) -> Outcome<Vec<u8>> {
        match &self.upstream {
            Upstream::S3(_, address) => http::fetch(&format!("http://{address}/{BUCKET}/{object}")),
            Upstream::Directory | Upstream::Http(_) => {
                let path = self.data().join("packages").join(object);
                std::fs::read(&path).doing(path.display())
            }
        }
    }

    /// The plain HTTP origin, where there is one.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        match &self.upstream {
            Upstream::Http(origin) => Some(origin),
            Upstream::Directory | Upstream::S3(..) => None,
        }
    }

    pub(crate) fn still_there(&mut self) -> Outcome {
        self.control_plane.still_there()?;
        self.upstream.still_there()?;
        self.gateway.still_there()
    }

    /// Stops both programs as an operator would, so that a proof also sees them drain.
    pub(crate) fn stop(self) -> Outcome {
        self.gateway.stop()?;
        self.control_plane.stop()
    }
}

/// The other side of the gateway, running.
#[derive(Debug)]
enum Upstream {
    Directory,
    /// The server and its address.
    S3(Running, String),
    Http(Origin),
}

impl Upstream {
    fn start(home: &Path, source: SourceKind) -> Outcome<Self> {
        match source {
            SourceKind::Directory => Ok(Self::Directory),
            SourceKind::S3 => start_s3(home).map(|(running, address)| Self::S3(running, address)),
            SourceKind::Http => Origin::start(&home.join("data/packages")).map(Self::Http),
        }
    }

    fn still_there(&mut self) -> Outcome {
        match self {
            Self::S3(running, _) => running.still_there(),
            Self::Directory | Self::Http(_) => Ok(()),
        }
    }
}

fn start_gateway(home: &Path, ports: Ports, upstream: &Upstream) -> Outcome<(Running, String, String)> {
    write_config(home, "gateway", &gateway(home, ports, upstream)?)?;
    let mut running = program("weir-gateway", home, "gateway")?.start(&log(home, "gateway"))?;
    let file = ready_file(home, "gateway");
    let viewer = ready(&mut running, &file, "viewer")?;
    let admin = ready(&mut running, &file, "admin")?;
    Ok((running, viewer, admin))
}

fn program(name: &str, home: &Path, config: &str) -> Outcome<Call> {
    let path = built()?.join(name);
    Ok(Call::new(path).arg("--config").arg(home.join(config).with_extension("toml")).folder(home))
}

/// Waits for the ready file and takes one address out of it.
fn ready(running: &mut Running, file: &Path, listener: &str) -> Outcome<String> {
    let look = || match running.still_there() {
        Err(failure) => Some(Err(failure)),
        Ok(()) => {
            let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
            Some(Ok(addresses.get(listener)?.as_str()?.to_owned()))
        }
    };
    match wait_for(START_LIMIT, LOOK_EVERY, look) {
        Some(found) => found,
        None => {
            Err(Failure::new(format!("not ready after {} s:\n{}", START_LIMIT.as_secs(), running.log_tail())))
        }
    }
}

fn ready_file(home: &Path, name: &str) -> PathBuf {
    home.join(name).with_extension("ready")
}

fn log(home: &Path, name: &str) -> PathBuf {
    home.join(name).with_extension("log")
}

/// The embedded example with only what a demonstration must change, so that the example itself is what runs.
fn example(name: &str) -> Outcome<Table> {
    let path = root().join("deploy/embedded").join(name).with_extension("toml");
    let text = std::fs::read_to_string(&path).doing(path.display())?;
    text.parse().doing(path.display())
}

fn write_config(home: &Path, name: &str, config: &Table) -> Outcome {
    let ready = ready_file(home, name);
    if ready.exists() {
        std::fs::remove_file(&ready).doing(ready.display())?;
    }
    let text = toml::to_string(config).doing(name)?;
    std::fs::write(home.join(name).with_extension("toml"), text).doing(name)
}

/// Sets `section.key`; an empty section is the top of the file.
fn set(config: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    let table = match section {
        "" => config,
        _ => match config.entry(section).or_insert_with(|| Table::new().into()) {
            Value::Table(table) => table,
            // The example has something else there; the program will say so better than we can.
            _ => return,
        },
    };
    table.insert(key.to_owned(), value.into());
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn control_plane(home: &Path, port: u16, base_url: &str, upstream: &Upstream) -> Outcome<Table> {
    let mut config = example("control-plane")?;
    set(&mut config, "", "data_dir", text(&home.join("data")));
    set(&mut config, "", "ready_file", text(&ready_file(home, "control-plane")));
    set(&mut config, "api", "listen", local(port));
    set(&mut config, "playback", "base_url", base_url);
    set(&mut config, "tools", "ffmpeg", text(&setup::ffmpeg()));
    set(&mut config, "tools", "ffprobe", text(&setup::ffprobe()));
    set(&mut config, "tools", "packager", text(&setup::packager()));
    if setup::hls_js().exists() {
        set(&mut config, "player", "hls_js", text(&setup::hls_js()));
    }
    if let Upstream::S3(_, address) = upstream {
        for (key, value) in s3_access(home, address) {
            set(&mut config, "packages", key, value);
        }
    }
    Ok(config)
}

fn gateway(home: &Path, ports: Ports, upstream: &Upstream) -> Outcome<Table> {
    let mut config = example("gateway")?;
    set(&mut config, "", "data_dir", text(&home.join("data")));
    set(&mut config, "", "ready_file", text(&ready_file(home, "gateway")));
    set(&mut config, "front", "plain", vec![local(ports.viewer)]);
    set(&mut config, "admin", "listen", local(ports.admin));
    let mut source: Vec<(&str, Value)> = match upstream {
        // The example's own.
        Upstream::Directory => return Ok(config),
        Upstream::Http(origin) => vec![
            ("kind", "http".into()),
            ("id", "origin".into()),
            ("url", format!("http://{}", origin.address).into()),
        ],
        Upstream::S3(_, address) => s3_access(home, address),
    };
    if matches!(upstream, Upstream::S3(..)) {
        source.extend([("id", "s3".into()), ("usd_per_request", S3_USD_PER_REQUEST.into())]);
    }
    let source: Table = source.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    set(&mut config, "", "source", vec![Value::Table(source)]);
    Ok(config)
}

/// The keys both programs use for a bucket of a server that is not AWS.
fn s3_access(home: &Path, address: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("kind", "s3".into()),
        ("bucket", BUCKET.into()),
        ("region", "us-east-1".into()),
        ("endpoint_url", format!("http://{address}").into()),
        ("path_style", true.into()),
        ("access_key_file", text(&home.join("s3.id")).into()),
        ("secret_key_file", text(&home.join("s3.secret")).into()),
    ]
}

/// Starts the S3-compatible server on a free port and makes the bucket.
fn start_s3(home: &Path) -> Outcome<(Running, String)> {
    for name in ["s3.id", "s3.secret"] {
        // The server's own well-known pair; it guards nothing.
        std::fs::write(home.join(name), "test\n").doing(name)?;
    }
    let free = TcpListener::bind("127.0.0.1:0").doing("a free port")?.local_addr().doing("a free port")?;
    let address = free.to_string();
    let call = Call::new(setup::ministack()).folder(home);
    let call = call.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", free.port().to_string());
    let mut running = call.start(&log(home, "s3"))?;
    let make = || match running.still_there() {
        Err(failure) => Some(Err(failure)),
        Ok(()) => http::send("PUT", &format!("http://{address}/{BUCKET}"), &[]).ok().map(Ok),
    };
    match wait_for(START_LIMIT, LOOK_EVERY, make) {
        Some(Ok(answer)) if answer.status == 200 => Ok((running, address)),
        Some(Ok(answer)) => Err(Failure::new(format!("the S3 server refused a bucket: {}", answer.status))),
        Some(Err(failure)) => Err(failure),
        None => Err(Failure::new(format!("the S3 server does not answer:\n{}", running.log_tail()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples are what an operator copies: every key that is set here must exist there or be documented.
    #[test]
    fn the_examples_are_toml() {
        let home = Path::new("somewhere");
        let ports = Ports::from_base(8470);
        control_plane(home, ports.api, "http://127.0.0.1:8480", &Upstream::Directory).expect("a table");
        let folder = tempfile::tempdir().expect("a folder");
        let origin = Upstream::Http(Origin::start(folder.path()).expect("a port"));
        let config = gateway(home, ports, &origin).expect("a table");
        assert_eq!(config["front"]["plain"][0].as_str(), Some("127.0.0.1:8480"));
        assert_eq!(config["source"][0]["kind"].as_str(), Some("http"));
        assert_eq!(config["source"].as_array().map(Vec::len), Some(1));
    }
}
