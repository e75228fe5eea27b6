//! The real rooms of a node over the world.

use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, EngineConfig};
use prometheus::{Registry, TextEncoder};
use sourcing::{Sources, SourcingConfig};
use store::{ByteSize, Device, DiskConfig, MemoryDevice, SegmentStore, StoreConfig};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::log::Log;
use crate::package::Package;
use crate::world::World;

/// How long [`Node::until`] waits, in virtual time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a node is put together.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The engine.
    pub engine: EngineConfig,
    /// The tiers.
    pub store: StoreConfig,
    /// The buying of bytes.
    pub sourcing: SourcingConfig,
    /// What stands in for the disk; needs `store.disk`.
    pub device: Option<Arc<MemoryDevice>>,
}

impl Default for NodeConfig {
    /// Every room's defaults, with 64 MiB of memory and no disk.
    fn default() -> Self {
        let store = StoreConfig { memory_bytes: ByteSize::mib(64), ..StoreConfig::default() };
        Self { engine: EngineConfig::default(), store, sourcing: SourcingConfig::default(), device: None }
    }
}

impl NodeConfig {
    /// A disk tier on this device and no memory tier, so that every hit is a read of the disk.
    #[must_use]
    pub fn disk_only(device: &Arc<MemoryDevice>) -> Self {
        let disk = vec![DiskConfig::default()];
        let store = StoreConfig { memory_bytes: ByteSize::from(0), disk, ..StoreConfig::default() };
        Self { store, device: Some(Arc::clone(device)), ..Self::default() }
    }
}

/// A node: the real store, the real sourcing and the real engine.
pub struct Node {
    /// What viewers ask.
    pub engine: Engine,
    /// Its tiers.
    pub store: Arc<SegmentStore>,
    pub(crate) package: Arc<Package>,
    pub(crate) log: Log,
    registry: Registry,
    _probes: AbortOnDropHandle<()>,
}

impl Node {
    pub(crate) async fn start(world: &World, config: NodeConfig) -> Self {
        let registry = Registry::new();
        let sources =
            Sources::new(config.sourcing, world.offers(), &registry).expect("sources that can work");
        let probes = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&sources).probe()));
        let devices = config.device.into_iter().map(|device| device as Arc<dyn Device>).collect();
        let store =
            SegmentStore::open(&config.store, devices, &registry).await.expect("a store that can work");
        let trusted = vec![Package::trusted()];
        let engine =
            Engine::new(config.engine, Arc::clone(&store), sources, trusted, Arc::default(), &registry);
        Self {
            engine: engine.expect("an engine that can work"),
            store,
            package: Arc::clone(&world.package),
            log: world.log.clone(),
            registry,
            _probes: probes,
        }
    }

    /// The value of one metric, named as it stands in the exposition: `weir_engine_running_fills`.
    ///
    /// # Panics
    /// If there is no such metric: a misspelt name must not read as 0.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).expect("metrics encode");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        assert!(value.is_some(), "there is no metric {name} with a whole value");
        value.unwrap_or_default()
    }

    /// Waits for a state, in virtual time, but not forever.
    ///
    /// # Panics
    /// If it has not come after a minute.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "{what} never came");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until no fill runs.
    ///
    /// # Panics
    /// If one still runs after a minute.
    pub async fn until_no_fill_runs(&self) {
        self.until("the end of all fills", |node| node.metric("weir_engine_running_fills") == 0).await;
    }
}
