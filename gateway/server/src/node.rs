//! A node's life: put the rooms together, serve until told to stop, leave politely.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use control_api::TokenVerifier;
use engine::Engine;
use front::{Admin, Front, FrontParts, Readiness};
use peer::{Link, Neighbour};
use prometheus::{IntGaugeVec, Opts, Registry};
use serde::Serialize;
use sourcing::{Offer, SourceId, Sources, SourcingConfig};
use store::SegmentStore;
use tokio::time::Instant;

use crate::config::{Config, PeerConfig, ShelfConfig};
use crate::cost::Cost;
use crate::materials::Materials;
use crate::sources::Shelf;
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
    link: Option<Link>,
    admin: Admin,
    cost: Option<Cost>,
    access_log: AccessLog,
    readiness: Arc<Stage>,
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

impl Node {
    /// Starts every room, the outermost last: no viewer is accepted before the cache is recovered. The admin
    /// listener is the exception, so that a supervisor can watch a long recovery.
    pub(crate) async fn start(config: &Config, materials: Materials) -> Result<Self, StartError> {
        let registry = Registry::new();
        build_info(&registry).map_err(in_room("metrics"))?;
        let readiness = Arc::new(Stage(Mutex::new(Some("starting"))));
        let admin =
            Admin::start(&config.admin, registry.clone(), watched(&readiness)).map_err(in_room("admin"))?;
        let store = SegmentStore::open(&config.store, None, &registry).await.map_err(in_room("store"))?;
        let Materials { token_keys, index_keys, tls, identity, mut offers, prices } = materials;
        let link = match (&config.peer, &identity) {
            (Some(peer), Some(identity)) => Some(link(peer, identity, &store, &registry)?),
            _ => None,
        };
        offers.extend(config.peer.iter().zip(&link).flat_map(|(peer, link)| peer_offers(peer, link)));
        if let Some(shelf) = &config.shelf {
            offers = with_shelf(shelf, offers)?;
        }
        let sources =
            Sources::new(seeded(&config.sourcing), offers, &registry).map_err(in_room("sourcing"))?;
        let engine = Engine::new(config.engine.clone(), store, Arc::clone(&sources), index_keys, &registry);
        let engine = engine.map_err(in_room("engine"))?;
        let cost = prices.map(|prices| Cost::start(&prices, &sources, &engine, &registry)).transpose();
        let cost = cost.map_err(in_room("cost"))?;
        let (access_log, access) = AccessLog::start(&config.access_log).map_err(in_room("access_log"))?;
        let parts = FrontParts {
            config: config.front.clone(),
            engine: engine.clone(),
            verifier: TokenVerifier::new(token_keys),
            clock: Arc::new(clock::unix_seconds),
            node: config.node.clone(),
            access,
            tls,
        };
        let front = Front::start(parts, &registry).map_err(in_room("front"))?;
        let node = Self { front, engine, link, admin, cost, access_log, readiness };
        node.announce(config)?;
        Ok(node)
    }

    /// Says where the node listens, in the log and in the ready file, and opens the door for load balancers.
    fn announce(&self, config: &Config) -> Result<(), StartError> {
        let listening = |listener: &'static str, address: SocketAddr| {
            tracing::info!(listener, %address, "listening");
        };
        self.front.plain_addresses().iter().for_each(|address| listening("viewer", *address));
        self.front.tls_addresses().iter().for_each(|address| listening("tls", *address));
        let admin = self.admin.address();
        admin.iter().for_each(|address| listening("admin", *address));
        let peer = self.link.as_ref().map(Link::address);
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
}

/// What fills, disk writes and neighbours get even when viewers took all the time.
const LEAST_FLUSH: std::time::Duration = std::time::Duration::from_secs(1);

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

fn link(
    config: &PeerConfig,
    identity: &peer::Identity,
    store: &Arc<SegmentStore>,
    registry: &Registry,
) -> Result<Link, StartError> {
    let neighbour = |neighbour: &crate::config::NeighbourConfig| {
        let fingerprint = neighbour.fingerprint.parse().map_err(in_room("peer.neighbour"))?;
        Ok(Neighbour { id: neighbour.id.clone(), address: neighbour.address.clone(), fingerprint })
    };
    let neighbours = config.neighbour.iter().map(neighbour).collect::<Result<_, StartError>>()?;
    Link::bind(&config.link, config.listen, identity, neighbours, Arc::clone(store), registry)
        .map_err(in_room("peer"))
}

/// The link's sources come in the order of the configuration.
fn peer_offers(config: &PeerConfig, link: &Link) -> Vec<Offer> {
    let priced = link.sources().iter().zip(&config.neighbour);
    priced.map(|(source, neighbour)| Offer { source: source.clone(), price: neighbour.price() }).collect()
}

/// Puts the shelf before all sources, and a copy of what they bring on it.
fn with_shelf(config: &ShelfConfig, offers: Vec<Offer>) -> Result<Vec<Offer>, StartError> {
    let id: SourceId = ShelfConfig::ID.parse().map_err(in_room("shelf"))?;
    let shelf = Shelf::open(id, config.path.clone(), config.capacity.bytes()).map_err(in_room("shelf"))?;
    let copied = offers.into_iter().map(|offer| Offer { source: shelf.beside(offer.source), ..offer });
    let copied: Vec<Offer> = copied.collect();
    let first = Offer { source: shelf, price: sourcing::Price::default() };
    Ok(std::iter::once(first).chain(copied).collect())
}

/// Whoever waits for the file never sees half of it.
fn write_ready_file(path: &Path, addresses: &Addresses) -> std::io::Result<()> {
    let unfinished = path.with_extension("part");
    std::fs::write(&unfinished, serde_json::to_vec(addresses)?)?;
    std::fs::rename(unfinished, path)
}
