//! The one TOML file that describes a node.
//!
//! Each room owns its own table and its defaults; this module nests them and adds what belongs to the program:
//! names, files, sources, prices. Unknown keys are errors, secrets are paths, and everything that makes no
//! sense is reported together, each with its key.

mod cost;
mod peer;
mod price;
mod source;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::EngineConfig;
use front::{AdminConfig, FrontConfig};
use serde::{Deserialize, Serialize};
use sourcing::{SourceId, SourcingConfig};
use store::{ByteSize, StoreConfig};

pub(crate) use self::cost::CostConfig;
pub(crate) use self::peer::{NeighbourConfig, PeerConfig};
pub(crate) use self::price::{UsdPerGb, UsdPerRequest};
pub(crate) use self::source::{
    CloudFrontConfig, DirectoryConfig, HttpConfig, S3Config, SigningPolicy, SourceConfig,
};

/// A node's whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// What this node calls itself in logs and `Cache-Status`; default `weir`.
    pub(crate) node: String,
    /// The directory that relative paths start from; itself relative to this file. Default `data`.
    pub(crate) data_dir: PathBuf,
    /// Written as JSON with the bound addresses once the node is ready; default none.
    pub(crate) ready_file: Option<PathBuf>,
    /// The number of the process that serves, for supervisors that follow it by a file; default none.
    pub(crate) pid_file: Option<PathBuf>,
    /// The Unix socket by which a new process takes over from this one; default `takeover.sock`.
    pub(crate) takeover_socket: PathBuf,
    /// How long a new process may take from asking for the disks to serving; default 30 s. Then the old one takes
    /// everything back.
    #[serde(with = "media::human_duration")]
    pub(crate) takeover_timeout: Duration,
    /// How long a stopping node says that it is not ready before it stops taking viewers; default 0. Behind a
    /// load balancer: a little more than the interval of its checks.
    #[serde(with = "media::human_duration")]
    pub(crate) drain_notice: Duration,
    /// How long a stopping node then lets viewers finish what they are receiving; default 30 s.
    #[serde(with = "media::human_duration")]
    pub(crate) drain_timeout: Duration,
    /// Open files to ask the kernel for, up to the hard limit; default 65,536. Each viewer, each upstream
    /// connection and each disk read takes one.
    pub(crate) open_files: u64,
    /// The log.
    pub(crate) log: LogConfig,
    /// The access log.
    pub(crate) access_log: AccessLogConfig,
    /// Whose signatures count.
    pub(crate) trust: TrustConfig,
    /// The viewer's edge.
    pub(crate) front: FrontConfig,
    /// Certificate and key of the TLS listeners.
    pub(crate) tls: Option<TlsConfig>,
    /// Metrics and health.
    pub(crate) admin: AdminConfig,
    /// Memory and disk.
    pub(crate) store: StoreConfig,
    /// Signed indexes kept across restarts; absent means they are fetched again.
    pub(crate) shelf: Option<ShelfConfig>,
    /// The read-through cache.
    pub(crate) engine: EngineConfig,
    /// Health, retries and permits of the sources.
    pub(crate) sourcing: SourcingConfig,
    /// Where bytes are bought.
    pub(crate) source: Vec<SourceConfig>,
    /// The QUIC link to neighbours; absent means this node neither asks nor serves any.
    pub(crate) peer: Option<PeerConfig>,
    /// Prices from a sheet and the cost meter; absent means fixed prices and no bill.
    pub(crate) cost: Option<CostConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: "weir".to_owned(),
            data_dir: PathBuf::from("data"),
            ready_file: None,
            pid_file: None,
            takeover_socket: PathBuf::from("takeover.sock"),
            takeover_timeout: Duration::from_secs(30),
            drain_notice: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            open_files: 65_536,
            log: LogConfig::default(),
            access_log: AccessLogConfig::default(),
            trust: TrustConfig::default(),
            front: FrontConfig::default(),
            tls: None,
            admin: AdminConfig::default(),
            store: StoreConfig::default(),
            shelf: None,
            engine: EngineConfig::default(),
            sourcing: SourcingConfig::default(),
            source: Vec::new(),
            peer: None,
            cost: None,
        }
    }
}

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// `json` (the default) or `text`, always on stderr.
    pub(crate) format: LogFormat,
    /// What is logged: `error`, `warn`, `info` (the default), `debug`, `trace`, or a list by room such as
    /// `info,sourcing=debug`.
    pub(crate) filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Json, filter: "info".to_owned() }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The `[access_log]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AccessLogConfig {
    /// Where the JSON line of each response goes: `stderr` (the default), `file` or `off`.
    pub(crate) to: AccessLogTarget,
    /// The file, appended to; required when `to = "file"`. Rotate it by copying and truncating.
    pub(crate) path: Option<PathBuf>,
    /// Lines that may wait for the disk; default 8192. More are dropped and counted.
    pub(crate) queue_lines: usize,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { to: AccessLogTarget::Stderr, path: None, queue_lines: 8_192 }
    }
}

/// The `[shelf]` table: without it a restarted node finds its segments only after a source gave it the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ShelfConfig {
    /// The directory, its own; default `indexes`.
    pub(crate) path: PathBuf,
    /// Bytes of indexes kept; default 256 MiB. The oldest make room. An index of a film takes about 1 MiB.
    pub(crate) capacity: ByteSize,
}

impl ShelfConfig {
    /// What the shelf is called as a source.
    pub(crate) const ID: &str = "shelf";
}

impl Default for ShelfConfig {
    fn default() -> Self {
        Self { path: PathBuf::from("indexes"), capacity: ByteSize::mib(256) }
    }
}

/// Where access lines go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AccessLogTarget {
    /// Among the log lines.
    #[default]
    Stderr,
    /// To a file of its own.
    File,
    /// Nowhere.
    Off,
}

/// The `[trust]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrustConfig {
    /// Files with the public keys that playback tokens may be signed by. At least one.
    pub(crate) token_keys: Vec<PathBuf>,
    /// Files with the public keys that package indexes may be signed by. At least one.
    pub(crate) index_keys: Vec<PathBuf>,
}

/// The `[tls]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// The certificate chain in PEM, leaf first.
    pub(crate) cert: PathBuf,
    /// Its private key in PEM.
    pub(crate) key: PathBuf,
}

/// Why a file is no configuration at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("{0} is not a configuration of this program:\n{1}")]
    Parse(PathBuf, toml::de::Error),
}

impl Config {
    /// Reads a file and makes every path in it absolute.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.into(), error))?;
        let mut config: Self =
            toml::from_str(&text).map_err(|error| ConfigError::Parse(path.into(), error))?;
        let path = std::path::absolute(path).map_err(|error| ConfigError::Read(path.into(), error))?;
        config.resolve(path.parent().unwrap_or(Path::new("/")));
        Ok(config)
    }

    fn resolve(&mut self, file_dir: &Path) {
        self.data_dir = file_dir.join(&self.data_dir);
        let data_dir = self.data_dir.clone();
        let own = [
            self.ready_file.as_mut(),
            self.pid_file.as_mut(),
            Some(&mut self.takeover_socket),
            self.access_log.path.as_mut(),
            self.admin.key_file.as_mut(),
            self.front.debug_key_file.as_mut(),
        ];
        let disk = self.store.disk.iter_mut().map(|disk| &mut disk.path);
        let shelf = self.shelf.as_mut().map(|shelf| &mut shelf.path);
        let tls = self.tls.iter_mut().flat_map(|tls| [&mut tls.cert, &mut tls.key]);
        let peer = self.peer.iter_mut().flat_map(|peer| [&mut peer.cert, &mut peer.key]);
        let trust = self.trust.token_keys.iter_mut().chain(&mut self.trust.index_keys);
        let sources = self.source.iter_mut().flat_map(SourceConfig::paths_mut);
        let cost = self.cost.iter_mut().flat_map(|cost| [&mut cost.sheet, &mut cost.ledger]);
        let paths = own
            .into_iter()
            .flatten()
            .chain(disk)
            .chain(shelf)
            .chain(tls)
            .chain(peer)
            .chain(trust)
            .chain(sources)
            .chain(cost);
        paths.for_each(|path| *path = data_dir.join(&*path));
    }

    /// Everything that makes no sense, each with its key; empty when the values can work together. Files are
    /// not looked at: that is the loading of materials.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.own_problems());
        problems.extend(self.front.problems());
        problems.extend(self.admin.problems());
        problems.extend(self.store.problems());
        problems.extend(self.engine.problems());
        problems.extend(self.sourcing.problems());
        problems.extend(self.source.iter().flat_map(SourceConfig::problems));
        problems.extend(self.peer.iter().flat_map(PeerConfig::problems));
        problems.extend(self.cost.iter().flat_map(CostConfig::problems));
        problems.extend(self.name_clashes());
        problems
    }

    fn own_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(text.to_owned());
            }
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let named = (1..=64).contains(&self.node.len()) && self.node.bytes().all(name);
        require(named, "node: 1 to 64 letters, digits, dots, dashes or underscores");
        require(self.drain_timeout <= Duration::from_secs(3_600), "drain_timeout: at most 1h");
        require(self.drain_notice <= Duration::from_secs(600), "drain_notice: at most 10min");
        let takeover = (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.takeover_timeout);
        require(takeover, "takeover_timeout: 1s to 10min");
        require(self.open_files >= 256, "open_files: at least 256");
        let filter: Result<tracing_subscriber::EnvFilter, _> = self.log.filter.parse();
        require(filter.is_ok(), "log.filter: not a level or list of levels");
        let file = self.access_log.to == AccessLogTarget::File;
        require(
            file == self.access_log.path.is_some(),
            "access_log.path: belongs to `to = \"file\"` and only there",
        );
        let queue = (1..=1_048_576).contains(&self.access_log.queue_lines);
        require(queue, "access_log.queue_lines: 1 to 1048576");
        require(!self.trust.token_keys.is_empty(), "trust.token_keys: at least one file");
        require(!self.trust.index_keys.is_empty(), "trust.index_keys: at least one file");
        let tls = self.tls.is_some() || self.front.tls.is_empty();
        require(tls, "tls: front.tls has listeners, so tls.cert and tls.key are needed");
        require(!self.source.is_empty(), "source: at least one [[source]]");
        let priced = self.source.iter().any(|source| source.deal().is_some());
        require(
            self.cost.is_some() || !priced,
            "cost: a [source.tariff] needs this table and its price sheet",
        );
        problems
    }

    /// Sources are told apart by their ids, in metrics and in money.
    fn name_clashes(&self) -> Vec<String> {
        let neighbours = self.peer.iter().flat_map(|peer| &peer.neighbour).map(|neighbour| &neighbour.id);
        let ids = self.source.iter().map(SourceConfig::id).chain(neighbours).map(SourceId::as_str);
        let shelf = self.shelf.iter().map(|_| ShelfConfig::ID);
        let mut seen = HashSet::new();
        let clashes = shelf.chain(ids).filter(|id| !seen.insert(*id));
        clashes.map(|id| format!("source, peer.neighbour: the id {id:?} is used twice")).collect()
    }
}

#[cfg(test)]
mod tests;
