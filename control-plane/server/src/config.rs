//! The one configuration file: TOML, every key optional, units parsed by types, all mistakes reported at once.
//!
//! Relative paths are relative to `data_dir`, which itself is relative to the file's own directory. Secrets are
//! paths to files, never values, so the configuration can be printed.

mod load;
mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::session::GatewayUrl;
use serde::{Deserialize, Serialize};

pub use self::load::{ConfigError, load, parse};
pub use self::units::{Size, Span};

/// Everything the program can be told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Config {
    /// Where state, keys, work files and the embedded stores live.
    pub data_dir: PathBuf,
    /// Written once the listener answers: `{"api":"127.0.0.1:8470"}`. None is written if absent.
    pub ready_file: Option<PathBuf>,
    /// The HTTP listener.
    pub api: Api,
    /// What the program says and how.
    pub log: Log,
    /// Key files.
    pub keys: Keys,
    /// The records.
    pub state: State,
    /// Where mezzanine files and captions are read from.
    pub mezzanine: Store,
    /// Where packages are published to.
    pub packages: Store,
    /// The programs ingest runs.
    pub tools: ToolPaths,
    /// How films are encoded.
    pub transcode: Transcode,
    /// How ingests are run.
    pub ingest: Ingest,
    /// Where viewers are sent.
    pub playback: Playback,
    /// What a rental is.
    pub rentals: Rentals,
    /// Who takes the money.
    pub payments: Payments,
    /// The page that plays a film.
    pub player: Player,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// The HTTP listener.
    Api {
        /// Address and port; port 0 takes a free one.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8470)),
        /// The longest request body that is read.
        body_limit: Size = Size::kib(64),
        /// The longest a request may take.
        request_timeout: Span = Span::seconds(30),
        /// The longest a client may take to send a request's head.
        head_timeout: Span = Span::seconds(10),
        /// Connections at once; more wait to be accepted.
        max_connections: u32 = 256,
        /// How long running requests may go on after a stop was asked for.
        drain_timeout: Span = Span::seconds(20),
    }
}

section! {
    /// What the program says and how.
    Log {
        /// `json`: one object per line; `text`: for eyes.
        format: LogFormat = LogFormat::Json,
        /// A level, or a filter such as `info,control_plane=debug`.
        filter: String = "info".to_owned(),
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For eyes.
    Text,
}

section! {
    /// Key files; `init` creates those that are absent.
    Keys {
        /// Signs playback tokens; secret.
        token: PathBuf = "keys/token.key".into(),
        /// Its public half, for the gateways.
        token_public: PathBuf = "keys/token.pub".into(),
        /// Signs segment indexes; secret.
        index: PathBuf = "keys/index.key".into(),
        /// Its public half, for the gateways.
        index_public: PathBuf = "keys/index.pub".into(),
        /// Opens the API; secret.
        operator: PathBuf = "keys/operator.key".into(),
    }
}

section! {
    /// The records: titles, ingests, orders, rights.
    State {
        /// Which sort of store.
        kind: StateKind = StateKind::Redb,
        /// `redb`: the file.
        path: PathBuf = "state.redb".into(),
        /// `dynamodb`: the table; `init` makes it.
        table: String = "weir".to_owned(),
        /// `dynamodb`: the region; absent leaves it to the SDK's default chain.
        region: Option<String> = None,
        /// `dynamodb`: the endpoint of a server that is not AWS.
        endpoint_url: Option<String> = None,
        /// `dynamodb`: a file with the access key id; absent leaves credentials to the SDK's default chain.
        access_key_file: Option<PathBuf> = None,
        /// `dynamodb`: a file with the secret access key.
        secret_key_file: Option<PathBuf> = None,
        /// `dynamodb`: how often a request is sent at most.
        attempts: u32 = 4,
        /// `dynamodb`: the longest one sending may take.
        attempt_timeout: Span = Span::seconds(3),
    }
}

/// The sorts of record store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateKind {
    /// A file of this machine, for one process.
    Redb,
    /// A table of AWS or of a server that speaks its protocol, for any number of processes.
    Dynamodb,
}

section! {
    /// Who takes the viewers' money.
    Payments {
        /// Which sort of service.
        kind: PaymentKind = PaymentKind::Operator,
        /// `roku`: the web service, up to and with `transaction-service.svc`.
        roku_url: String = "https://apipub.roku.com/listen/transaction-service.svc".to_owned(),
        /// `roku`: our channel's number.
        roku_channel: u64 = 0,
        /// `roku`: a file with the API key; secret.
        roku_key_file: PathBuf = "keys/roku.key".into(),
        /// The longest an answer may take.
        timeout: Span = Span::seconds(10),
        /// How often orders that wait are looked for, at the start and from then on.
        recover_every: Span = Span::seconds(15),
        /// For how long an order must have waited before somebody else than its buyer goes on with it.
        recover_after: Span = Span::seconds(30),
    }
}

/// The sorts of payment service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentKind {
    /// The operator takes the money elsewhere and vouches for it with the request.
    Operator,
    /// Viewers pay on their Roku device.
    Roku,
}

/// Where objects are kept. Of `directory` only the path counts, of `s3` everything but the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Which sort of store.
    pub kind: StoreKind,
    /// `directory`: the directory. The default is named after the section.
    pub path: PathBuf,
    /// `s3`: the bucket.
    pub bucket: String,
    /// `s3`: put before every object name; may be empty.
    pub prefix: String,
    /// `s3`: the region; absent leaves it to the SDK's default chain.
    pub region: Option<String>,
    /// `s3`: the endpoint of a server that is not AWS.
    pub endpoint_url: Option<String>,
    /// `s3`: name the bucket in the path instead of the host name.
    pub path_style: bool,
    /// `s3`: a file with the access key id; absent leaves credentials to the SDK's default chain.
    pub access_key_file: Option<PathBuf>,
    /// `s3`: a file with the secret access key.
    pub secret_key_file: Option<PathBuf>,
    /// `s3`: files longer than this go up in parts.
    pub multipart_threshold: Size,
    /// `s3`: the length of a part.
    pub part_size: Size,
    /// `s3`: parts in flight at once.
    pub parallel_parts: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Directory,
            path: PathBuf::new(),
            bucket: String::new(),
            prefix: String::new(),
            region: None,
            endpoint_url: None,
            path_style: false,
            access_key_file: None,
            secret_key_file: None,
            multipart_threshold: Size::mib(64),
            part_size: Size::mib(16),
            parallel_parts: 4,
        }
    }
}

/// The sorts of object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// A directory of this machine.
    Directory,
    /// A bucket of AWS or of a server that speaks its protocol.
    S3,
}

section! {
    /// The programs ingest runs. A bare name is looked up in the search path.
    ToolPaths {
        /// ffmpeg with libx264.
        ffmpeg: PathBuf = "ffmpeg".into(),
        /// ffprobe.
        ffprobe: PathBuf = "ffprobe".into(),
        /// Shaka Packager.
        packager: PathBuf = "packager".into(),
        /// setpriv of util-linux, which lets tools die with this process; not used if the file is absent.
        setpriv: PathBuf = "/usr/bin/setpriv".into(),
    }
}

section! {
    /// How films are encoded.
    Transcode {
        /// The x264 preset: slower is smaller.
        preset: String = "veryfast".to_owned(),
        /// Threads of each encoder; one encoder runs for each rung. With 1 the same film always becomes the same
        /// bytes; x264's rate control is not reproducible with more, which may be faster where processors idle.
        threads: u32 = 1,
        /// The longest one run of a tool may take.
        timeout: Span = Span::seconds(12 * 3600),
        /// The longest a look into a file may take.
        probe_timeout: Span = Span::seconds(60),
    }
}

section! {
    /// How ingests are run.
    Ingest {
        /// Where work files lie; they may grow to twice the package.
        work_dir: PathBuf = "work".into(),
        /// Ingests at once. Each keeps all processors busy while it encodes.
        parallel: u32 = 1,
        /// Ingests that may wait for their turn; more are refused.
        max_waiting: u32 = 1000,
        /// How often an effect is tried, the first time included.
        attempts: u32 = 4,
        /// The wait before a failed effect is tried again.
        retry_delay: Span = Span::seconds(5),
        /// The longest such wait; it doubles with each attempt.
        retry_delay_max: Span = Span::seconds(300),
        /// The longest caption file that is read.
        caption_limit: Size = Size::mib(8),
        /// Seconds between two thumbnails.
        thumbnail_every: Span = Span::seconds(10),
        /// Keep the work files of settled ingests, to look at them.
        keep_work: bool = false,
    }
}

section! {
    /// Where viewers are sent.
    Playback {
        /// What playback URLs begin with: the gateway's address as viewers see it.
        base_url: String = "http://127.0.0.1:8480".to_owned(),
        /// The token's issuer: this platform's name.
        issuer: String = "weir".to_owned(),
        /// How long a viewer may pause beyond twice the film's length before the token ends.
        pause_allowance: Span = Span::seconds(2 * 3600),
        /// How many of a viewer's screens may play at the same time.
        streams: u32 = 3,
        /// How long a screen keeps its place without a beacon; players are told to send three meanwhile.
        lease: Span = Span::seconds(90),
        /// How far the clocks of the control planes may be apart.
        clock_tolerance: Span = Span::seconds(5),
    }
}

section! {
    /// What a rental is.
    Rentals {
        /// From the purchase until the last moment to start.
        start_window: Span = Span::seconds(30 * 86_400),
        /// From the first play until the end.
        finish_window: Span = Span::seconds(48 * 3600),
        /// Added to the end, so that a film begun in time can be watched to its end.
        grace: Span = Span::seconds(6 * 3600),
    }
}

section! {
    /// The page that plays a film, at `/watch`.
    Player {
        /// hls.js, served to the page. Absent: the page asks the browser's own HLS player.
        hls_js: Option<PathBuf> = None,
    }
}

impl Config {
    /// Makes every path absolute: see the module's words on paths.
    pub fn resolve(&mut self, base: &Path) {
        let default_data = self.data_dir.as_os_str().is_empty();
        let data = base.join(if default_data { Path::new("data") } else { &self.data_dir });
        for (store, name) in [(&mut self.mezzanine, "mezzanine"), (&mut self.packages, "packages")] {
            if store.path.as_os_str().is_empty() {
                store.path = name.into();
            }
            for path in
                [Some(&mut store.path), store.access_key_file.as_mut(), store.secret_key_file.as_mut()]
            {
                join(&data, path);
            }
        }
        let Keys { token, token_public, index, index_public, operator } = &mut self.keys;
        for path in [token, token_public, index, index_public, operator] {
            join(&data, Some(path));
        }
        for path in [&mut self.state.path, &mut self.ingest.work_dir, &mut self.payments.roku_key_file] {
            join(&data, Some(path));
        }
        let State { access_key_file, secret_key_file, .. } = &mut self.state;
        for path in [&mut self.ready_file, access_key_file, secret_key_file] {
            join(&data, path.as_mut());
        }
        // Where tools lie is a matter of the installation, not of the data.
        join(base, self.player.hls_js.as_mut());
        let ToolPaths { ffmpeg, ffprobe, packager, setpriv } = &mut self.tools;
        for path in [ffmpeg, ffprobe, packager, setpriv] {
            if path.components().count() > 1 {
                join(base, Some(path));
            }
        }
        self.data_dir = data;
    }

    /// All impossible values, each with its key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |fine: bool, key: &str, why: &str| {
            if !fine {
                found.push(format!("{key}: {why}"));
            }
        };
        for (name, store) in [("mezzanine", &self.mezzanine), ("packages", &self.packages)] {
            let s3 = store.kind == StoreKind::S3;
            check(!s3 || !store.bucket.is_empty(), &format!("{name}.bucket"), "an s3 store needs a bucket");
            let paired = store.access_key_file.is_some() == store.secret_key_file.is_some();
            check(
                paired,
                &format!("{name}.secret_key_file"),
                "access_key_file and secret_key_file go together",
            );
            let slashes = store.prefix.starts_with('/') || store.prefix.ends_with('/');
            check(!slashes, &format!("{name}.prefix"), "must not begin or end with a slash");
            let part = store.part_size.bytes() >= 5 << 20;
            check(part, &format!("{name}.part_size"), "S3 takes no part below 5 MiB");
            check(store.parallel_parts >= 1, &format!("{name}.parallel_parts"), "must be at least 1");
        }
        let State { kind, table, access_key_file, secret_key_file, attempts, .. } = &self.state;
        let named = (3..=255).contains(&table.len())
            && table.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        check(*kind == StateKind::Redb || named, "state.table", "is no name of a table");
        let paired = access_key_file.is_some() == secret_key_file.is_some();
        check(paired, "state.secret_key_file", "access_key_file and secret_key_file go together");
        check((1..=20).contains(attempts), "state.attempts", "must be 1 to 20");
        let roku = self.payments.kind == PaymentKind::Roku;
        check(
            !roku || self.payments.roku_channel > 0,
            "payments.roku_channel",
            "is needed to know our own sales",
        );
        let url = self.playback.base_url.parse::<GatewayUrl>();
        check(
            url.is_ok(),
            "playback.base_url",
            "must be http:// or https://, a host, perhaps a port, no more",
        );
        let issuer = 1..=control_api::Claims::MAX_ISSUER_LEN;
        check(issuer.contains(&self.playback.issuer.len()), "playback.issuer", "must have 1 to 32 bytes");
        check(self.playback.streams >= 1, "playback.streams", "must be at least 1");
        let lease = self.playback.lease.get();
        check(lease >= Duration::from_secs(3), "playback.lease", "must be at least 3s");
        check(self.api.max_connections >= 1, "api.max_connections", "must be at least 1");
        check(self.api.body_limit.bytes() >= 1024, "api.body_limit", "must be at least 1KiB");
        check(self.ingest.parallel >= 1, "ingest.parallel", "must be at least 1");
        check((1..=100).contains(&self.ingest.attempts), "ingest.attempts", "must be 1 to 100");
        let every = self.ingest.thumbnail_every.get();
        let whole = every >= Duration::from_secs(1) && every.subsec_nanos() == 0;
        check(whole, "ingest.thumbnail_every", "must be whole seconds, at least one");
        check((1..=64).contains(&self.transcode.threads), "transcode.threads", "must be 1 to 64");
        const PRESETS: [&str; 9] =
            ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"];
        let preset = self.transcode.preset.as_str();
        check(PRESETS.contains(&preset), "transcode.preset", "is no x264 preset");
        found
    }
}

fn join(base: &Path, path: Option<&mut PathBuf>) {
    if let Some(path) = path {
        *path = base.join(&*path);
    }
}
