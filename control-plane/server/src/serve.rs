//! Puts the program together, runs it, and takes it down in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use control::ingest::RetryPolicy;
use control::lease::LeaseRules;
use control::rights::RentalRules;
use control::session::{GatewayUrlError, SessionRules};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::adapters::directory::DirectoryStore;
use crate::adapters::dynamodb::{DynamoOptions, DynamoRecords};
use crate::adapters::payments::roku::{RokuError, RokuOptions, RokuPay};
use crate::adapters::payments::vouched::Vouched;
use crate::adapters::redb::RedbRecords;
use crate::adapters::s3::{S3Options, S3Store};
use crate::adapters::tools::Tools;
use crate::clock::SystemClock;
use crate::config::{self, Config, PaymentKind, StateKind, StoreKind};
use crate::entropy::SystemEntropy;
use crate::http::listener::{self, Bounds};
use crate::http::{Platform, read_player, router};
use crate::ingest::{Ingests, Options, World};
use crate::keys::{KeyFileError, Secrets, read_line};
use crate::purchases::Purchases;
use crate::records::Records;
use crate::seams::{Entropy, ObjectError, ObjectStore, Payments, StateError, Transcoder, WallClock};
use crate::state::State;
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
    /// The payment service.
    #[error("payments: {0}")]
    Payments(#[from] RokuError),
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
    /// Who takes the money; `None` is whom the configuration names.
    pub payments: Option<Arc<dyn Payments>>,
}

impl Outside {
    /// The machine's clock and randomness, the configured tools.
    #[must_use]
    pub fn real(config: &Config) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
            transcoder: Arc::new(tools(config)),
            payments: None,
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
    recovery: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    /// Takes it down: refuses new work, stops ingests where they stand, lets running requests end.
    pub async fn stop(self) {
        self.platform.ready.store(false, Ordering::Release);
        self.stop.cancel();
        self.ingests.stop().await;
        for (what, task) in [("the listener", self.listener), ("the recovery of orders", self.recovery)] {
            if let Err(error) = task.await {
                tracing::error!(%error, "{what} ended badly");
            }
        }
    }
}

/// Starts everything; returns when the API answers and unfinished ingests are under way.
///
/// # Errors
/// [`StartError`] says what the configuration names and cannot be had.
pub async fn start(config: &Config, outside: Outside) -> Result<Running, StartError> {
    let secrets = Secrets::load(&config.keys)?;
    let state = State::new(open_records(&config.state, Arc::clone(&outside.entropy)).await?);
    let mezzanine = open_store("mezzanine", &config.mezzanine).await?;
    let packages = open_store("packages", &config.packages).await?;
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry)?);
    let player = config.player.hls_js.as_deref();
    let file = |error| StartError::File { path: player.unwrap_or(Path::new("")).to_owned(), error };
    let hls_js = read_player(player).map_err(file)?;
    let world = World {
        catalog: Arc::new(state.clone()),
        journal: Arc::new(state.clone()),
        mezzanine: Arc::clone(&mezzanine),
        packages,
        transcoder: outside.transcoder,
        clock: Arc::clone(&outside.clock),
        entropy: Arc::clone(&outside.entropy),
        index_key: Arc::new(secrets.index),
        metrics: Arc::clone(&metrics),
    };
    let ingests = Ingests::new(world, options(config));
    let rentals = RentalRules {
        start_window: config.rentals.start_window.get(),
        finish_window: config.rentals.finish_window.get(),
        grace: config.rentals.grace.get(),
    };
    let payments = match &outside.payments {
        Some(payments) => Arc::clone(payments),
        None => open_payments(&config.payments)?,
    };
    let purchases = Arc::new(Purchases {
        state: state.clone(),
        payments,
        clock: Arc::clone(&outside.clock),
        entropy: Arc::clone(&outside.entropy),
        rentals,
        metrics: Arc::clone(&metrics),
    });
    let platform = Arc::new(Platform {
        catalog: Arc::new(state.clone()),
        state,
        purchases,
        mezzanine,
        ingests: ingests.clone(),
        clock: outside.clock,
        entropy: outside.entropy,
        signer: secrets.token,
        operator: secrets.operator,
        rentals,
        leases: LeaseRules {
            streams: config.playback.streams as usize,
            lasts: config.playback.lease.get(),
            tolerance: config.playback.clock_tolerance.get(),
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
    let recovery = tokio::spawn(recover(Arc::clone(&platform), config.payments.clone(), stop.clone()));
    platform.ready.store(true, Ordering::Release);
    tracing::info!(listener = "api", %address, "listening");
    if let Some(path) = &config.ready_file {
        let text = serde_json::json!({ "api": address.to_string() }).to_string();
        write_ready(path, &text).map_err(|error| StartError::File { path: path.clone(), error })?;
    }
    Ok(Running { address, ingests, platform, listener, recovery, stop })
}

/// Goes on with orders whose buyer is gone: a process died, or the payment service was away for long.
async fn recover(platform: Arc<Platform>, options: config::Payments, stop: CancellationToken) {
    loop {
        match platform.purchases.recover(options.recover_after.get().as_secs()).await {
            Ok((settled, waiting)) => {
                platform.metrics.orders_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
                if settled > 0 {
                    tracing::info!(settled, waiting, "open orders went on");
                }
            }
            Err(error) => tracing::warn!(%error, "open orders cannot be looked for"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(options.recover_every.get()) => {}
        }
    }
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

/// The configured store of records.
///
/// # Errors
/// [`StartError`] says what of it cannot be had.
pub async fn open_records(
    state: &config::State,
    entropy: Arc<dyn Entropy>,
) -> Result<Arc<dyn Records>, StartError> {
    match state.kind {
        StateKind::Redb => Ok(Arc::new(RedbRecords::open(&state.path)?)),
        StateKind::Dynamodb => Ok(Arc::new(DynamoRecords::new(dynamo_options(state)?, entropy).await)),
    }
}

/// How to reach the configured table.
///
/// # Errors
/// [`StartError::File`] if a key file cannot be read.
pub fn dynamo_options(state: &config::State) -> Result<DynamoOptions, StartError> {
    Ok(DynamoOptions {
        table: state.table.clone(),
        region: state.region.clone(),
        endpoint_url: state.endpoint_url.clone(),
        credentials: credentials(&state.access_key_file, &state.secret_key_file)?,
        attempts: state.attempts,
        attempt_timeout: state.attempt_timeout.get(),
    })
}

fn open_payments(payments: &config::Payments) -> Result<Arc<dyn Payments>, StartError> {
    match payments.kind {
        PaymentKind::Operator => Ok(Arc::new(Vouched)),
        PaymentKind::Roku => {
            let options = RokuOptions {
                url: payments.roku_url.clone(),
                channel: payments.roku_channel,
                timeout: payments.timeout.get(),
            };
            Ok(Arc::new(RokuPay::new(options, secret(&payments.roku_key_file)?)?))
        }
    }
}

fn secret(path: &Path) -> Result<String, StartError> {
    read_line(path).map_err(|error| StartError::File { path: path.to_owned(), error })
}

/// Both files or neither: the configuration was checked.
fn credentials(id: &Option<PathBuf>, key: &Option<PathBuf>) -> Result<Option<(String, String)>, StartError> {
    match (id, key) {
        (Some(id), Some(key)) => Ok(Some((secret(id)?, secret(key)?))),
        _ => Ok(None),
    }
}

fn s3_options(store: &config::Store) -> Result<S3Options, StartError> {
    Ok(S3Options {
        bucket: store.bucket.clone(),
        prefix: store.prefix.clone(),
        region: store.region.clone(),
        endpoint_url: store.endpoint_url.clone(),
        path_style: store.path_style,
        credentials: credentials(&store.access_key_file, &store.secret_key_file)?,
        multipart_threshold: store.multipart_threshold.bytes(),
        part_len: store.part_size.bytes(),
        parallel_parts: store.parallel_parts as usize,
    })
}
