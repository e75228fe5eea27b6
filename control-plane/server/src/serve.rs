//! Puts the program together, runs it, and takes it down in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use control::ingest::RetryPolicy;
use control::rights::RentalRules;
use control::session::{GatewayUrlError, SessionRules};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::adapters::directory::DirectoryStore;
use crate::adapters::redb::RedbState;
use crate::adapters::s3::{S3Options, S3Store};
use crate::adapters::tools::Tools;
use crate::clock::SystemClock;
use crate::config::{self, Config, StoreKind};
use crate::entropy::SystemEntropy;
use crate::http::listener::{self, Bounds};
use crate::http::{Platform, read_player, router};
use crate::ingest::{Ingests, Options, World};
use crate::keys::{KeyFileError, Secrets, read_line};
use crate::seams::{Entropy, ObjectError, ObjectStore, StateError, Transcoder, WallClock};
use crate::telemetry::Metrics;

/// The program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The records.
    #[error(transparent)]
    State(#[from] StateError),
    /// An object store.
    #[error("{section}: {error}")]
    Store {
        /// Which.
        section: &'static str,
        /// Why.
        error: ObjectError,
    },
    /// A file that the configuration names.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The address.
    #[error("api.listen {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The gateway's address.
    #[error("playback.base_url: {0}")]
    Gateway(#[from] GatewayUrlError),
    /// The metrics.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The parts of the world that a test replaces.
pub struct Outside {
    /// The time.
    pub clock: Arc<dyn WallClock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The tools.
    pub transcoder: Arc<dyn Transcoder>,
}

impl Outside {
    /// The machine's clock and randomness, the configured tools.
    #[must_use]
    pub fn real(config: &Config) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            transcoder: Arc::new(tools(config)),
        }
    }
}

/// The configured tools.
#[must_use]
pub fn tools(config: &Config) -> Tools {
    let setpriv = Some(config.tools.setpriv.clone()).filter(|path| path.is_file());
    if setpriv.is_none() {
        tracing::warn!(path = %config.tools.setpriv.display(),
            "no setpriv: should this process be killed, a running tool goes on until it is done");
    }
    Tools {
        ffmpeg: config.tools.ffmpeg.clone(),
        ffprobe: config.tools.ffprobe.clone(),
        packager: config.tools.packager.clone(),
        setpriv,
        preset: config.transcode.preset.clone(),
        threads: config.transcode.threads,
        probe_timeout: config.transcode.probe_timeout.get(),
        run_timeout: config.transcode.timeout.get(),
    }
}

/// A program that answers.
pub struct Running {
    /// Where.
    pub address: SocketAddr,
    /// Its ingests.
    pub ingests: Ingests,
    platform: Arc<Platform>,
    listener: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    /// Takes it down: refuses new work, stops ingests where they stand, lets running requests end.
    pub async fn stop(self) {
        self.platform.ready.store(false, Ordering::Release);
        self.stop.cancel();
        self.ingests.stop().await;
        if let Err(error) = self.listener.await {
            tracing::error!(%error, "the listener ended badly");
        }
    }
}

/// Starts everything; returns when the API answers and unfinished ingests are under way.
///
/// # Errors
/// [`StartError`] says what the configuration names and cannot be had.
pub async fn start(config: &Config, outside: Outside) -> Result<Running, StartError> {
    let secrets = Secrets::load(&config.keys)?;
    let state = Arc::new(RedbState::open(&config.state.path)?);
    let mezzanine = open_store("mezzanine", &config.mezzanine).await?;
    let packages = open_store("packages", &config.packages).await?;
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry)?);
    let player = config.player.hls_js.as_deref();
    let file = |error| StartError::File { path: player.unwrap_or(Path::new("")).to_owned(), error };
    let hls_js = read_player(player).map_err(file)?;
    let world = World {
        catalog: state.clone(),
        journal: state.clone(),
        mezzanine: Arc::clone(&mezzanine),
        packages,
        transcoder: outside.transcoder,
        clock: Arc::clone(&outside.clock),
        entropy: Arc::clone(&outside.entropy),
        index_key: Arc::new(secrets.index),
        metrics: Arc::clone(&metrics),
    };
    let ingests = Ingests::new(world, options(config));
    let platform = Arc::new(Platform {
        catalog: state.clone(),
        entitlements: state,
        mezzanine,
        ingests: ingests.clone(),
        clock: outside.clock,
        entropy: outside.entropy,
        signer: secrets.token,
        operator: secrets.operator,
        rentals: RentalRules {
            start_window: config.rentals.start_window.get(),
            finish_window: config.rentals.finish_window.get(),
            grace: config.rentals.grace.get(),
        },
        sessions: SessionRules { pause_allowance: config.playback.pause_allowance.get() },
        gateway: config.playback.base_url.parse()?,
        issuer: config.playback.issuer.clone(),
        body_limit: usize::try_from(config.api.body_limit.bytes()).unwrap_or(usize::MAX),
        request_timeout: config.api.request_timeout.get(),
        hls_js,
        registry,
        metrics,
        ready: AtomicBool::new(false),
    });
    listen(config, platform, ingests).await
}

async fn listen(config: &Config, platform: Arc<Platform>, ingests: Ingests) -> Result<Running, StartError> {
    let address = config.api.listen;
    let bound = TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })?;
    let address = bound.local_addr().map_err(|error| StartError::Listen { address, error })?;
    let resumed = ingests.resume().await?;
    if resumed > 0 {
        tracing::info!(resumed, "unfinished ingests go on");
    }
    let stop = CancellationToken::new();
    let bounds = Bounds {
        connections: config.api.max_connections as usize,
        head_timeout: config.api.head_timeout.get(),
        drain_timeout: config.api.drain_timeout.get(),
    };
    let serving = listener::serve(bound, router(Arc::clone(&platform)), bounds, stop.clone());
    let listener = tokio::spawn(serving);
    platform.ready.store(true, Ordering::Release);
    tracing::info!(listener = "api", %address, "listening");
    if let Some(path) = &config.ready_file {
        let text = serde_json::json!({ "api": address.to_string() }).to_string();
        write_ready(path, &text).map_err(|error| StartError::File { path: path.clone(), error })?;
    }
    Ok(Running { address, ingests, platform, listener, stop })
}

/// Whoever waits for the file must not read half of it.
fn write_ready(path: &Path, text: &str) -> io::Result<()> {
    let staged = path.with_extension("new");
    std::fs::write(&staged, text)?;
    std::fs::rename(staged, path)
}

/// Runs until `until` ends, then takes everything down.
///
/// # Errors
/// [`StartError`].
pub async fn run(config: &Config, until: impl Future<Output = ()>) -> Result<(), StartError> {
    let running = start(config, Outside::real(config)).await?;
    until.await;
    tracing::info!("stopping");
    running.stop().await;
    if let Some(path) = &config.ready_file
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::debug!(%error, "the ready file is gone already");
    }
    tracing::info!("stopped");
    Ok(())
}

fn options(config: &Config) -> Options {
    let milliseconds = |span: config::Span| u64::try_from(span.get().as_millis()).unwrap_or(u64::MAX);
    Options {
        work_dir: config.ingest.work_dir.clone(),
        parallel: config.ingest.parallel as usize,
        max_waiting: config.ingest.max_waiting as usize,
        retry: RetryPolicy {
            max_attempts: config.ingest.attempts,
            first_delay_ms: milliseconds(config.ingest.retry_delay),
            max_delay_ms: milliseconds(config.ingest.retry_delay_max),
        },
        caption_limit: config.ingest.caption_limit.bytes(),
        thumbnail_every_s: u32::try_from(config.ingest.thumbnail_every.get().as_secs()).unwrap_or(u32::MAX),
        state_attempts: config.ingest.attempts,
        state_delay: config.ingest.retry_delay.get(),
        keep_work: config.ingest.keep_work,
    }
}

async fn open_store(
    section: &'static str,
    store: &config::Store,
) -> Result<Arc<dyn ObjectStore>, StartError> {
    match store.kind {
        StoreKind::Directory => {
            let opened = DirectoryStore::open(&store.path).await;
            Ok(Arc::new(opened.map_err(|error| StartError::Store { section, error })?))
        }
        StoreKind::S3 => Ok(Arc::new(S3Store::new(s3_options(store)?).await)),
    }
}

fn s3_options(store: &config::Store) -> Result<S3Options, StartError> {
    let secret =
        |path: &PathBuf| read_line(path).map_err(|error| StartError::File { path: path.clone(), error });
    let credentials = match (&store.access_key_file, &store.secret_key_file) {
        (Some(id), Some(key)) => Some((secret(id)?, secret(key)?)),
        _ => None,
    };
    Ok(S3Options {
        bucket: store.bucket.clone(),
        prefix: store.prefix.clone(),
        region: store.region.clone(),
        endpoint_url: store.endpoint_url.clone(),
        path_style: store.path_style,
        credentials,
        multipart_threshold: store.multipart_threshold.bytes(),
        part_len: store.part_size.bytes(),
        parallel_parts: store.parallel_parts as usize,
    })
}
