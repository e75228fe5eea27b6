//! Package, sources and clock of one story.

use std::sync::Arc;

use sourcing::{Offer, Price, Source};

use crate::chance::Chance;
use crate::log::Log;
use crate::node::{Node, NodeConfig};
use crate::package::{Package, Shape};
use crate::script::Script;
use crate::source::ScriptedSource;

/// Everything around a node. Must be made within the runtime whose clock it lives by.
pub struct World {
    /// Where all draws of the story come from.
    pub chance: Chance,
    /// The film that all sources hold.
    pub package: Arc<Package>,
    /// The sources in the order of their price.
    pub sources: Vec<Arc<ScriptedSource>>,
    /// What happened so far.
    pub log: Log,
}

impl World {
    /// A world with the package of [`Shape::default`] and no source yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, &Shape::default())
    }

    /// A world with a package of this shape and no source yet.
    #[must_use]
    pub fn with(seed: u64, shape: &Shape) -> Self {
        Self {
            chance: Chance::new(seed),
            package: Arc::new(Package::generate(seed, shape)),
            sources: Vec::new(),
            log: Log::begin(),
        }
    }

    /// Adds a source that is dearer than those before it, so that they are asked in this order.
    ///
    /// # Panics
    /// If `id` is no source's name.
    #[must_use]
    pub fn source(mut self, id: &str, script: Script) -> Self {
        let source =
            ScriptedSource::new(id, Arc::clone(&self.package), script, self.chance, self.log.clone());
        self.sources.push(Arc::new(source));
        self
    }

    /// A node with default configuration, a memory tier and no disk.
    pub async fn node(&self) -> Node {
        self.node_with(NodeConfig::default()).await
    }

    /// A node as configured.
    ///
    /// # Panics
    /// If it cannot be put together: no source, two of one name, or an impossible configuration.
    pub async fn node_with(&self, config: NodeConfig) -> Node {
        Node::start(self, config).await
    }

    /// Bytes of media that all sources sent together.
    #[must_use]
    pub fn media_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.media_bytes()).sum()
    }

    pub(crate) fn offers(&self) -> Vec<Offer> {
        let offer = |(nth, source): (u64, &Arc<ScriptedSource>)| Offer {
            source: Arc::clone(source) as Arc<dyn Source>,
            price: Price { picodollars_per_byte: 85 + nth * 100, picodollars_per_request: 0 },
        };
        (0..).zip(&self.sources).map(offer).collect()
    }
}
