//! The viewer's edge as a whole: start, addresses, drain.

use std::net::SocketAddr;
use std::sync::Arc;

use control_api::TokenVerifier;
use engine::Engine;
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::authorise::Authoriser;
use crate::config::FrontConfig;
use crate::explain::{Debugger, Debugging};
use crate::metrics::{ConnectionMetrics, Metrics};
use crate::overload::{Gauges, Overload, watch};
use crate::pulse::Patience;
use crate::record::{AccessSink, Recorder, WallClock};
use crate::server::{Bounds, Drained, Inheritance, ListenError, Listening, Place, Server};
use crate::viewer::Viewer;

/// What a front needs from the program.
pub struct FrontParts {
    /// What the operator chose.
    pub config: FrontConfig,
    /// Where the bytes come from.
    pub engine: Engine,
    /// Who may watch.
    pub verifier: TokenVerifier,
    /// The time of day: tokens end by it.
    pub clock: WallClock,
    /// This node's name, in `Cache-Status` and the access log.
    pub node: String,
    /// Where access lines go.
    pub access: Arc<dyn AccessSink>,
    /// For the TLS addresses; see [`crate::tls::server_config`].
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whom to show the sources; `None` for nobody.
    pub debug: Option<Debugging>,
}

/// Why a front did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work; every reason, each with its key.
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    /// An address could not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A metric name is taken: two fronts share one registry.
    #[error("the metrics could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A running viewer's edge. Dropping it closes every connection at once; [`Front::drain`] is the polite way.
pub struct Front {
    server: Arc<Server>,
    plain: usize,
    /// Looks after the load; ends with the front.
    _watch: JoinSet<()>,
}

impl Front {
    /// Binds all addresses and begins to serve. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(parts: FrontParts, registry: &Registry) -> Result<Self, StartError> {
        Self::succeed(parts, registry, &mut Inheritance::default())
    }

    /// The same in place of another process: what it listens on is taken from `inheritance`, and only what is
    /// not there is bound.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn succeed(
        parts: FrontParts,
        registry: &Registry,
        inheritance: &mut Inheritance,
    ) -> Result<Self, StartError> {
        let FrontParts { config, engine, verifier, clock, node, access, tls, debug } = parts;
        let mut problems = config.problems();
        if tls.is_none() && !config.tls.is_empty() {
            problems.push("front.tls: needs a certificate and key".to_owned());
        }
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        let metrics = Metrics::register(registry)?;
        let connections = ConnectionMetrics::register(registry)?;
        let authoriser = Authoriser::new(verifier, &config, Arc::clone(&metrics));
        let recorder = Arc::new(Recorder { node, clock, sink: access, metrics: Arc::clone(&metrics) });
        let overload =
            Overload::new(&config.overload, engine.load(), !inheritance.is_empty(), Instant::now());
        let viewer = Viewer {
            engine: engine.clone(),
            authoriser,
            recorder,
            max_head_bytes: config.max_head_bytes,
            overload: Arc::clone(&overload),
            debugger: Debugger::new(debug),
        };
        let (places, bounds) = (places(&config, tls.as_ref()), bounds(&config));
        let server = Server::start(places, bounds, connections, Arc::new(viewer), inheritance)?;
        let server = Arc::new(server);
        let max_connections = config.max_connections;
        let gauges = Gauges { overload, metrics, server: Arc::clone(&server), engine, max_connections };
        let mut watching = JoinSet::new();
        watching.spawn(watch(gauges));
        Ok(Self { server, plain: config.plain.len(), _watch: watching })
    }

    /// The plain addresses as bound, in the order of the configuration.
    #[must_use]
    pub fn plain_addresses(&self) -> &[SocketAddr] {
        &self.server.addresses()[..self.plain]
    }

    /// The TLS addresses as bound, in the order of the configuration.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.server.addresses()[self.plain..]
    }

    /// The listening sockets once more, for the process that takes over.
    ///
    /// # Errors
    /// The system's, when there are no file descriptors left.
    pub fn listening(&self) -> std::io::Result<Vec<Listening>> {
        self.server.listening()
    }

    /// Stops accepting because another process does from now on. Nothing is cut short for it: each connection
    /// hears with its next response that it is the last, until `until`; then the same as [`Front::drain`].
    pub async fn leave(&self, until: Instant, deadline: Instant) -> Drained {
        self.server.leave(until, deadline).await
    }

    /// Stops accepting, closes idle connections, tells busy ones that this response is their last
    /// (`Connection: close`, `GOAWAY`), waits for the responses until the deadline, and cuts the rest. Turn
    /// readiness off some time before, so that no load balancer still sends viewers here. If the caller walks
    /// away, responses go on until the front is dropped.
    pub async fn drain(&self, deadline: Instant) -> Drained {
        self.server.drain(deadline).await
    }
}

fn places(config: &FrontConfig, tls: Option<&Arc<rustls::ServerConfig>>) -> Vec<Place> {
    let plain = config.plain.iter().map(|address| Place { address: *address, tls: None });
    let secure = config.tls.iter().map(|address| Place { address: *address, tls: tls.cloned() });
    plain.chain(secure).collect()
}

fn bounds(config: &FrontConfig) -> Bounds {
    Bounds {
        backlog: config.backlog,
        connections: config.max_connections,
        per_address: config.max_connections_per_address,
        handshake: config.handshake_timeout,
        patience: Patience {
            header: config.header_timeout,
            idle: config.idle_timeout,
            write: config.write_timeout,
        },
        header_fields: config.max_header_fields,
        head_bytes: config.max_head_bytes,
        http1_buffer: config.http1_buffer_bytes,
        http2_streams: config.http2_max_streams,
        http2_buffer: config.http2_buffer_bytes,
    }
}
