//! A node's life: put the rooms together, serve until told to stop, leave politely.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control_api::TokenVerifier;
use engine::{Engine, Load};
use front::{Admin, AdminParts, Debugging, Drained, Front, FrontParts, Inheritance, Listening, Readiness};
use media::index::PublicKey;
use peer::{Identity, Link, Neighbour};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use serde::Serialize;
use sourcing::{Offer, SourceId, Sources, SourcingConfig};
use store::SegmentStore;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, PeerConfig, ShelfConfig};
use crate::cost::{BoughtLines, Cost};
use crate::explainer::Explainer;
use crate::materials::Materials;
use crate::purger::Purger;
use crate::sources::Shelf;
use crate::supervisor::write_whole;
use crate::takeover::Estate;
use crate::telemetry::AccessLog;
use crate::{clock, entropy};

/// Why a node did not start; says which room and what to change.
#[derive(Debug, thiserror::Error)]
#[error("{room}: {problem}")]
pub(crate) struct StartError {
    room: &'static str,
    problem: String,
}

fn in_room<E: Display>(room: &'static str) -> impl FnOnce(E) -> StartError {
    move |problem| StartError { room, problem: problem.to_string() }
}

/// Where a node can be reached: the first address of each listener, as the ready file says it.
#[derive(Debug, Serialize)]
struct Addresses {
    viewer: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

/// A running node.
pub(crate) struct Node {
    front: Front,
    engine: Engine,
    store: Arc<SegmentStore>,
    link: Option<Arc<Link>>,
    admin: Admin,
    purger: Arc<Purger>,
    cost: Option<Cost>,
    access_log: AccessLog,
    readiness: Arc<Stage>,
    takeovers: IntCounterVec,
    /// Sources are probed for as long as the node serves.
    _probes: AbortOnDropHandle<()>,
    /// What takes back what was let go, after a takeover that failed.
    coming_back: tokio::sync::Mutex<JoinSet<()>>,
}

/// Why viewers should not be sent here now; nothing when they should.
struct Stage(Mutex<Option<&'static str>>);

impl Stage {
    fn set(&self, reason: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn check(&self) -> Result<(), String> {
        let reason = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.map_or(Ok(()), |reason| Err(reason.to_owned()))
    }
}

/// The rooms between the disks and the viewers.
struct Cache {
    store: Arc<SegmentStore>,
    link: Option<Arc<Link>>,
    shelf: Option<Arc<Shelf>>,
    sources: Arc<Sources>,
    engine: Engine,
}

impl Cache {
    async fn open(
        config: &Config,
        (identity, mut offers, index_keys): (Option<Identity>, Vec<Offer>, Vec<PublicKey>),
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let store =
            SegmentStore::open(&config.store, Vec::new(), registry).await.map_err(in_room("store"))?;
        let load = Arc::<Load>::default();
        let link = match (&config.peer, &identity) {
            (Some(peer), Some(identity)) => {
                Some(Arc::new(link(peer, identity, (&store, &load), registry).await?))
            }
            _ => None,
        };
        offers.extend(config.peer.iter().zip(&link).flat_map(|(peer, link)| peer_offers(peer, link)));
        let shelf = config.shelf.as_ref().map(open_shelf).transpose()?;
        if let Some(shelf) = &shelf {
            offers = with_shelf(shelf, offers);
        }
        let sources =
            Sources::new(seeded(&config.sourcing), offers, registry).map_err(in_room("sourcing"))?;
        let (kept, bought) = (Arc::clone(&store), Arc::clone(&sources));
        let engine = Engine::new(config.engine.clone(), kept, bought, index_keys, load, registry);
        let engine = engine.map_err(in_room("engine"))?;
        Ok(Self { store, link, shelf, sources, engine })
    }
}

impl Node {
    /// Starts every room, the outermost last: no viewer is accepted before the cache is recovered. The admin
    /// listener is the exception, so that a supervisor can watch a long recovery; but not in a takeover, where the
    /// other process answers until this one is ready.
    pub(crate) async fn start(
        config: &Config,
        materials: Materials,
        inheritance: &mut Inheritance,
    ) -> Result<Self, StartError> {
        let Materials {
            token_keys,
            index_keys,
            tls,
            identity,
            offers,
            admin_key,
            debug_key,
            prices,
            refusals,
        } = materials;
        let registry = Registry::new();
        build_info(&registry).map_err(in_room("metrics"))?;
        registry.register(Box::new(refusals)).map_err(in_room("metrics"))?;
        let takeovers = takeovers(&registry).map_err(in_room("metrics"))?;
        let readiness = Arc::new(Stage(Mutex::new(Some("starting"))));
        let purger = Arc::new(Purger::default());
        let explainer = Arc::new(Explainer::new(&config.node));
        let admin = AdminParts {
            registry: registry.clone(),
            ready: watched(&readiness),
            purge: Arc::clone(&purger) as Arc<dyn front::Purge>,
            explain: Arc::clone(&explainer) as Arc<dyn front::Explain>,
            key: admin_key,
        };
        let mut start_admin = Some(|inheritance: &mut Inheritance| {
            Admin::start(&config.admin, admin, inheritance).map_err(in_room("admin"))
        });
        let first = if inheritance.is_empty() { start_admin.take() } else { None };
        let early = first.map(|start| start(inheritance)).transpose()?;
        let cache = Cache::open(config, (identity, offers, index_keys), &registry).await?;
        let Cache { store, link, shelf, sources, engine } = cache;
        purger.begin(&engine, shelf.as_ref());
        let probes = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&sources).probe()));
        explainer.begin(&engine, &sources);
        let (access_log, access) = AccessLog::start(&config.access_log).map_err(in_room("access_log"))?;
        let bought = BoughtLines::new(&config.node, &access);
        let cost = prices.map(|prices| Cost::start(&prices, (&sources, &engine), bought, &registry));
        let cost = cost.transpose().map_err(in_room("cost"))?;
        let parts = FrontParts {
            config: config.front.clone(),
            engine: engine.clone(),
            verifier: TokenVerifier::new(token_keys),
            clock: Arc::new(clock::unix_seconds),
            node: config.node.clone(),
            access,
            tls,
            debug: debug_key.map(|key| Debugging { key, explain: explainer }),
        };
        let front = Front::succeed(parts, &registry, inheritance).map_err(in_room("front"))?;
        let late = start_admin.map(|start| start(inheritance)).transpose()?;
        let admin = early.or(late).ok_or("it was not started").map_err(in_room("admin"))?;
        let coming_back = tokio::sync::Mutex::default();
        Ok(Self {
            front,
            engine,
            store,
            link,
            admin,
            purger,
            cost,
            access_log,
            readiness,
            takeovers,
            _probes: probes,
            coming_back,
        })
    }

    /// Says where the node listens, in the log and in the ready file, and opens the door for load balancers.
    pub(crate) fn announce(&self, config: &Config) -> Result<(), StartError> {
        let listening = |listener: &'static str, address: SocketAddr| {
            tracing::info!(listener, %address, "listening");
        };
        self.front.plain_addresses().iter().for_each(|address| listening("viewer", *address));
        self.front.tls_addresses().iter().for_each(|address| listening("tls", *address));
        let admin = self.admin.address();
        admin.iter().for_each(|address| listening("admin", *address));
        let peer = self.link.as_ref().map(|link| link.address());
        peer.iter().for_each(|address| listening("peer", *address));
        self.readiness.set(None);
        if let Some(path) = &config.ready_file {
            let viewer = self.front.plain_addresses().first().copied();
            let tls = self.front.tls_addresses().first().copied();
            write_ready_file(path, &Addresses { viewer, tls, admin, peer }).map_err(in_room("ready_file"))?;
        }
        tracing::info!(node = config.node, "ready");
        Ok(())
    }

    /// Stops politely: not ready, no new viewers, running responses end, running fills end, neighbours hear
    /// goodbye, the last access lines are written. Nothing in it waits longer than the configuration says.
    pub(crate) async fn stop(self, config: &Config) {
        self.readiness.set(Some("draining"));
        tracing::info!(notice = ?config.drain_notice, timeout = ?config.drain_timeout, "draining");
        tokio::time::sleep(config.drain_notice).await;
        let deadline = Instant::now() + config.drain_timeout;
        let cut = self.front.drain(deadline).await;
        self.finish(deadline, cut).await;
    }

    /// The same after another process has taken over: it has the listeners and all new viewers, so there is no
    /// hurry. Open connections may ask once more in the first half of the time.
    pub(crate) async fn retire(self, config: &Config) {
        self.readiness.set(Some("another process serves"));
        tracing::info!(timeout = ?config.drain_timeout, "retiring");
        let now = Instant::now();
        let (until, deadline) = (now + config.drain_timeout / 2, now + config.drain_timeout);
        let (cut, ()) = tokio::join!(self.front.leave(until, deadline), self.admin.leave(until));
        self.finish(deadline, cut).await;
    }

    async fn finish(self, deadline: Instant, cut: Drained) {
        // Viewers come first; fills and disk writes get what is left of the time, and a little at least.
        let rest = deadline.max(Instant::now() + LEAST_FLUSH);
        let flushed = tokio::time::timeout_at(rest, self.engine.drain()).await.is_ok();
        if let Some(link) = &self.link {
            link.close(LEAST_FLUSH).await;
        }
        drop(self.front);
        if let Some(cost) = self.cost {
            cost.stop(LEAST_FLUSH).await;
        }
        self.access_log.finish(LEAST_FLUSH).await;
        let (connections_cut, responses_cut) = (cut.connections_cut, cut.responses_cut);
        tracing::info!(connections_cut, responses_cut, flushed, "stopped");
    }

    /// Counts an attempt of another process to take over.
    pub(crate) fn count_takeover(&self, result: &'static str) {
        self.takeovers.with_label_values(&[result]).inc();
    }
}

impl Estate for Node {
    async fn release(&self) {
        // What is still being taken back after an attempt before this one.
        self.coming_back.lock().await.shutdown().await;
        self.purger.suspend().await;
        if let Some(cost) = &self.cost {
            cost.hold().await;
        }
        self.store.detach().await;
        if let Some(link) = &self.link
            && let Err(error) = link.step_aside().await
        {
            tracing::error!(%error, "the port for neighbours could not be left");
        }
    }

    fn listening(&self) -> std::io::Result<Vec<Listening>> {
        let mut listening = self.front.listening()?;
        listening.extend(self.admin.listening()?);
        Ok(listening)
    }

    /// The other process may hold on to something, if it hangs, for as long as it lives: that is waited for in the
    /// background, and viewers are served meanwhile.
    async fn take_back(&self) {
        let (store, link) = (Arc::clone(&self.store), self.link.clone());
        let (done, all_back) = oneshot::channel();
        self.coming_back.lock().await.spawn(async move {
            insist("the disks", || store.attach()).await;
            if let Some(link) = &link {
                insist("the port for neighbours", || async { link.come_back() }).await;
            }
            // Nobody may wait any more.
            let _ = done.send(());
        });
        if tokio::time::timeout(LET_GO, all_back).await.is_err() {
            tracing::error!(
                "disks or port could not be taken back yet: this process serves without and goes on trying"
            );
        }
        if let Some(cost) = &self.cost {
            cost.go_on().await;
        }
        self.purger.resume().await;
    }
}

/// The other process may need a moment to let go, even of its life.
const LET_GO: Duration = Duration::from_secs(5);

/// Pause between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Pause between two tries when that has not helped.
const TRY_SELDOM: Duration = Duration::from_secs(2);

/// Tries until it succeeds.
async fn insist<E, F>(what: &'static str, attempt: impl Fn() -> F)
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let until = Instant::now() + LET_GO;
    while let Err(error) = attempt().await {
        let seldom = Instant::now() >= until;
        if seldom {
            tracing::warn!(what, %error, "not taken back yet");
        }
        tokio::time::sleep(if seldom { TRY_SELDOM } else { TRY_AGAIN }).await;
    }
    tracing::info!(what, "taken back");
}

async fn retry<T, E>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + LET_GO;
    loop {
        match attempt().await {
            Err(_) if Instant::now() < until => tokio::time::sleep(TRY_AGAIN).await,
            done => return done,
        }
    }
}

/// What fills, disk writes and neighbours get even when viewers took all the time.
const LEAST_FLUSH: Duration = Duration::from_secs(1);

/// Without a seed of its own in the file, every start of every node draws another.
fn seeded(config: &SourcingConfig) -> SourcingConfig {
    let jitter_seed = if config.jitter_seed == 0 { entropy::seed() } else { config.jitter_seed };
    SourcingConfig { jitter_seed, ..config.clone() }
}

fn watched(stage: &Arc<Stage>) -> Readiness {
    let stage = Arc::clone(stage);
    Arc::new(move || stage.check())
}

fn build_info(registry: &Registry) -> prometheus::Result<()> {
    let opts = Opts::new("weir_gateway_build_info", "1 for the version that runs");
    let info = IntGaugeVec::new(opts, &["version"])?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(info))
}

fn takeovers(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let opts =
        Opts::new("weir_gateway_takeovers_total", "Attempts of another process to take over from this one");
    let takeovers = IntCounterVec::new(opts, &["result"])?;
    for result in ["done", "failed"] {
        takeovers.with_label_values(&[result]);
    }
    registry.register(Box::new(takeovers.clone()))?;
    Ok(takeovers)
}

async fn link(
    config: &PeerConfig,
    identity: &peer::Identity,
    (store, load): (&Arc<SegmentStore>, &Arc<Load>),
    registry: &Registry,
) -> Result<Link, StartError> {
    let neighbour = |neighbour: &crate::config::NeighbourConfig| {
        let fingerprint = neighbour.fingerprint.parse().map_err(in_room("peer.neighbour"))?;
        Ok(Neighbour { id: neighbour.id.clone(), address: neighbour.address.clone(), fingerprint })
    };
    let neighbours = config.neighbour.iter().map(neighbour).collect::<Result<Vec<_>, StartError>>()?;
    // In a takeover the other process has left the port a moment ago.
    let bind = async || {
        let load = Arc::clone(load);
        let served = (Arc::clone(store), Arc::new(move || load.allows_uploads()) as peer::Gate);
        Link::bind(&config.link, config.listen, identity, neighbours.clone(), served, registry)
    };
    retry(bind).await.map_err(in_room("peer"))
}

/// The link's sources come in the order of the configuration.
fn peer_offers(config: &PeerConfig, link: &Link) -> Vec<Offer> {
    let priced = link.sources().iter().zip(&config.neighbour);
    priced.map(|(source, neighbour)| Offer { source: source.clone(), price: neighbour.price() }).collect()
}

fn open_shelf(config: &ShelfConfig) -> Result<Arc<Shelf>, StartError> {
    let id: SourceId = ShelfConfig::ID.parse().map_err(in_room("shelf"))?;
    Shelf::open(id, config.path.clone(), config.capacity.bytes()).map_err(in_room("shelf"))
}

/// Puts the shelf before all sources, and a copy of what they bring on it.
fn with_shelf(shelf: &Arc<Shelf>, offers: Vec<Offer>) -> Vec<Offer> {
    let copied = offers.into_iter().map(|offer| Offer { source: shelf.beside(offer.source), ..offer });
    let source = Arc::clone(shelf) as Arc<dyn sourcing::Source>;
    std::iter::once(Offer { source, price: sourcing::Price::default() }).chain(copied).collect()
}

/// Whoever waits for the file never sees half of it.
fn write_ready_file(path: &Path, addresses: &Addresses) -> std::io::Result<()> {
    write_whole(path, &serde_json::to_vec(addresses)?)
}
