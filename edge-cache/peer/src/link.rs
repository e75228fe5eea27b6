//! One UDP socket, both directions: the sources we buy from and the server for those who buy from us.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use sourcing::SourceId;
use store::SegmentStore;
use tokio::task::JoinSet;

use crate::client::PeerSource;
use crate::config::LinkConfig;
use crate::identity::{Fingerprint, Identity};
use crate::keeper::{Keeper, Slot};
use crate::metrics::Metrics;
use crate::server::{self, Gate, Server};
use crate::tls;

/// One edge that we exchange segments with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// What it is called as a source.
    pub id: SourceId,
    /// Where it listens: `host:port`, looked up anew for every connection.
    pub address: String,
    /// Whose key it must hold.
    pub fingerprint: Fingerprint,
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A bound or wait that makes no sense.
    #[error("the link's configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The UDP socket.
    #[error("cannot listen on {0} for neighbours: {1}")]
    Socket(SocketAddr, io::Error),
    /// TLS with this identity.
    #[error("cannot set up TLS for neighbours: {0}")]
    Tls(String),
    /// The metrics are already registered.
    #[error("cannot register the link's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// This node's end of all links to its neighbours. Dropping it closes them.
pub struct Link {
    endpoint: Endpoint,
    address: SocketAddr,
    socket_buffer: usize,
    server: Arc<Server>,
    server_config: ServerConfig,
    sources: Vec<Arc<PeerSource>>,
    /// Ended with the link.
    _keepers: JoinSet<()>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Link {
    /// Binds the socket and starts serving `store` to the neighbours, who hear "busy" while `gate` says `false`.
    /// Must be called within a runtime; the tasks end with the link.
    ///
    /// # Errors
    /// [`BindError`] says which of socket, identity, configuration or metrics is at fault.
    pub fn bind(
        config: &LinkConfig,
        listen: SocketAddr,
        identity: &Identity,
        neighbours: Vec<Neighbour>,
        (store, gate): (Arc<SegmentStore>, Gate),
        registry: &prometheus::Registry,
    ) -> Result<Self, BindError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(BindError::Config(problems));
        }
        let transport = Arc::new(transport(config)?);
        let accepted = neighbours.iter().map(|neighbour| neighbour.fingerprint).collect();
        let server_config = server_config(config, identity, accepted, &transport)?;
        let (endpoint, address) = endpoint(config, listen, server_config.clone())
            .map_err(|error| BindError::Socket(listen, error))?;
        // After the socket: a link that found it taken can be tried again.
        let metrics = Arc::new(Metrics::register(registry)?);
        let mut keepers = JoinSet::new();
        let mut sources = Vec::with_capacity(neighbours.len());
        for neighbour in neighbours {
            let tls = tls::client(identity, neighbour.fingerprint).map_err(refused)?;
            let id = neighbour.id.clone();
            let keeper = Arc::new(Keeper {
                neighbour,
                endpoint: endpoint.clone(),
                client: client_config(tls, &transport),
                config: config.clone(),
                metrics: Arc::clone(&metrics),
            });
            let slots: Vec<_> = (0..config.connections).map(|_| Slot::new()).collect();
            for slot in &slots {
                keepers.spawn(Arc::clone(&keeper).keep(Arc::clone(slot)));
            }
            sources.push(Arc::new(PeerSource::new(id, slots, Arc::clone(&metrics))));
        }
        let server = Arc::new(Server::new(config, store, Arc::clone(&metrics), gate));
        tokio::spawn(server::accept(endpoint.clone(), Arc::clone(&server)));
        let socket_buffer = socket_buffer(config);
        Ok(Self { endpoint, address, socket_buffer, server, server_config, sources, _keepers: keepers })
    }

    /// Where the link listens; with port 0 asked for, the port that was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The neighbours as sources, in the order they were configured.
    #[must_use]
    pub fn sources(&self) -> &[Arc<PeerSource>] {
        &self.sources
    }

    /// Leaves the port to another process: neighbours that hold connections to us hear goodbye and come back to
    /// whoever is there then. Our own connections to them go on from another port.
    ///
    /// # Errors
    /// The system's, when there is no other socket; the port is then still ours.
    pub async fn step_aside(&self) -> io::Result<()> {
        self.endpoint.set_server_config(None);
        self.server.dismiss();
        // Nothing tells when a datagram has left; late is no more than a silence that times out.
        tokio::time::sleep(GOODBYE).await;
        let mut elsewhere = self.address;
        elsewhere.set_port(0);
        // Twice, because the endpoint keeps the last socket open until something arrives on the new one.
        for _ in 0..2 {
            self.endpoint.rebind(socket(self.socket_buffer, elsewhere)?.into())?;
        }
        Ok(())
    }

    /// Takes the port back after [`Link::step_aside`].
    ///
    /// # Errors
    /// The system's, while another process holds the port.
    pub fn come_back(&self) -> io::Result<()> {
        self.endpoint.rebind(socket(self.socket_buffer, self.address)?.into())?;
        self.endpoint.set_server_config(Some(self.server_config.clone()));
        Ok(())
    }

    /// Takes no new connections, tells every neighbour goodbye, and waits until they heard it, at most for
    /// `patience`. Transfers that are still running break off; their readers resume elsewhere.
    pub async fn close(&self, patience: Duration) {
        self.endpoint.set_server_config(None);
        self.endpoint.close(VarInt::from_u32(0), b"closing");
        if tokio::time::timeout(patience, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("some neighbours did not answer the goodbye");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"closing");
    }
}

/// How long goodbyes may take to leave the socket.
const GOODBYE: Duration = Duration::from_millis(50);

fn socket_buffer(config: &LinkConfig) -> usize {
    usize::try_from(config.socket_buffer.bytes()).unwrap_or(usize::MAX)
}

fn socket(buffer: usize, listen: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel gives what its limits allow; less is slower, not wrong.
    socket.set_recv_buffer_size(buffer)?;
    socket.set_send_buffer_size(buffer)?;
    socket.bind(&listen.into())?;
    Ok(socket)
}

fn refused(error: impl fmt::Display) -> BindError {
    BindError::Tls(error.to_string())
}

fn server_config(
    config: &LinkConfig,
    identity: &Identity,
    accepted: HashSet<Fingerprint>,
    transport: &Arc<TransportConfig>,
) -> Result<ServerConfig, BindError> {
    let tls = tls::server(identity, accepted).map_err(refused)?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::clone(transport));
    // Handshakes that have not proved anything yet: few, and holding little.
    server.max_incoming(config.max_connections);
    server.incoming_buffer_size(64 * 1024);
    Ok(server)
}

fn client_config(tls: QuicClientConfig, transport: &Arc<TransportConfig>) -> ClientConfig {
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(Arc::clone(transport));
    client
}

fn transport(config: &LinkConfig) -> Result<TransportConfig, BindError> {
    let idle = IdleTimeout::try_from(config.idle_timeout).map_err(refused)?;
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(config.mtu_upper_bound);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(config.ack_threshold));
    acks.max_ack_delay(Some(config.max_ack_delay));
    let window = VarInt::from_u64(config.receive_window.bytes()).map_err(refused)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(config.max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive))
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(config.send_window.bytes())
        // One segment after another rather than all at the same speed: each is needed whole, by a deadline.
        .send_fairness(false)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(None)
        // At 0.1 % loss and 40 ms the default, CUBIC, stays at 11 Mb/s whatever the number of streams.
        .congestion_controller_factory(Arc::new(BbrConfig::default()));
    Ok(transport)
}

fn endpoint(
    config: &LinkConfig,
    listen: SocketAddr,
    server: ServerConfig,
) -> io::Result<(Endpoint, SocketAddr)> {
    let socket = socket(socket_buffer(config), listen)?;
    let endpoint =
        Endpoint::new(EndpointConfig::default(), Some(server), socket.into(), Arc::new(TokioRuntime))?;
    let address = endpoint.local_addr()?;
    Ok((endpoint, address))
}
