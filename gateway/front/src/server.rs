//! Listeners and connections: what the viewer's edge and the admin listener have in common.
//!
//! One task accepts on each address, one serves each connection. Everything that can be many is bounded by
//! [`Bounds`]; every wait by [`Patience`]. Dropping the [`Server`] ends its tasks.

mod connection;
mod house;
mod inherit;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use self::house::{House, Seat};
pub use self::inherit::{Inheritance, Listening};
use crate::body::ViewerBody;
use crate::metrics::ConnectionMetrics;
use crate::pulse::{Cause, Patience, Pulse};

/// How long a newcomer waits for the place of an idle connection that was told to leave.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// How long to leave `accept` alone after it failed (usually: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests. Must not fail: an error is a response too.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(self: Arc<Self>, request: Request<Incoming>, pulse: Arc<Pulse>) -> Answer;
}

/// A response in the making. Dropped when the viewer leaves.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<ViewerBody>> + Send>>;

/// What a server may use.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) backlog: u32,
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    pub(crate) handshake: Duration,
    pub(crate) patience: Patience,
    pub(crate) header_fields: usize,
    pub(crate) head_bytes: usize,
    pub(crate) http1_buffer: usize,
    pub(crate) http2_streams: u32,
    pub(crate) http2_buffer: usize,
}

/// Where to listen and how.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    /// Which one.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

/// The stages of a server's life, as its tasks see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// No new connections; each open one gets its next response, and that is its last.
    Leaving,
    /// Only the responses under way.
    Draining,
    Cut,
}

/// What draining came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections that were still open at the deadline.
    pub connections_cut: u64,
    /// Responses that were under way on them.
    pub responses_cut: u64,
}

/// A set of running listeners.
pub(crate) struct Server {
    sockets: Vec<Bound>,
    addresses: Vec<SocketAddr>,
    phase: watch::Sender<Phase>,
    shared: Arc<Shared>,
}

/// A listening socket; it is closed with its accepting task.
struct Bound {
    asked: SocketAddr,
    address: SocketAddr,
    listener: Weak<TcpListener>,
}

/// What all connections share.
struct Shared {
    handler: Arc<dyn Handler>,
    builder: Builder<TokioExecutor>,
    bounds: Bounds,
    permits: Arc<Semaphore>,
    house: Arc<House>,
    metrics: ConnectionMetrics,
    /// What the drain deadline cut: connections, and responses under way on them.
    cut: [AtomicU64; 2],
}

impl Server {
    /// Binds every place and begins to accept, or binds none. What another process had open already is taken
    /// from `inheritance` instead of being bound.
    pub(crate) fn start(
        places: Vec<Place>,
        bounds: Bounds,
        metrics: ConnectionMetrics,
        handler: Arc<dyn Handler>,
        inheritance: &mut Inheritance,
    ) -> Result<Self, ListenError> {
        let mut bound = Vec::with_capacity(places.len());
        for Place { address, tls } in places {
            let listener = listen(address, inheritance.take(address), bounds.backlog);
            bound.push((address, listener.map_err(|error| ListenError { address, error })?, tls));
        }
        let permits = Arc::new(Semaphore::new(bounds.connections.min(Semaphore::MAX_PERMITS)));
        let (builder, house) = (builder(&bounds), House::new(bounds.per_address));
        let cut = [AtomicU64::new(0), AtomicU64::new(0)];
        let shared = Arc::new(Shared { handler, builder, bounds, permits, house, metrics, cut });
        let (phase, _) = watch::channel(Phase::Serving);
        let mut sockets = Vec::with_capacity(bound.len());
        for (asked, (listener, address), tls) in bound {
            let listener = Arc::new(listener);
            sockets.push(Bound { asked, address, listener: Arc::downgrade(&listener) });
            let (tls, shared) = (tls.map(TlsAcceptor::from), Arc::clone(&shared));
            tokio::spawn(accept(listener, tls, shared, phase.subscribe()));
        }
        let addresses = sockets.iter().map(|bound| bound.address).collect();
        Ok(Self { sockets, addresses, phase, shared })
    }

    /// The addresses as bound, in the order of the places.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The listening sockets once more, for another process.
    pub(crate) fn listening(&self) -> io::Result<Vec<Listening>> {
        let open = self.sockets.iter().filter_map(|bound| Some((bound, bound.listener.upgrade()?)));
        open.map(|(bound, listener)| Listening::of(bound.asked, bound.address, &listener)).collect()
    }

    /// Connections that are doing something.
    pub(crate) fn busy(&self) -> usize {
        self.shared.house.busy()
    }

    /// Stops accepting; every open connection may ask once more until `until`, and is told that this response
    /// is its last. Then the same as [`Server::drain`].
    pub(crate) async fn leave(&self, until: Instant, deadline: Instant) -> Drained {
        self.phase.send_replace(Phase::Leaving);
        match tokio::time::timeout_at(until, self.phase.closed()).await {
            Ok(()) => Drained::default(),
            Err(_) => self.drain(deadline).await,
        }
    }

    /// Stops accepting, lets what runs finish until the deadline, cuts the rest. If the caller walks away, the
    /// connections go on draining until the server is dropped.
    pub(crate) async fn drain(&self, deadline: Instant) -> Drained {
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout_at(deadline, self.phase.closed()).await.is_ok() {
            return Drained::default();
        }
        self.phase.send_replace(Phase::Cut);
        self.phase.closed().await;
        let [connections, responses] = &self.shared.cut;
        Drained { connections_cut: connections.load(Relaxed), responses_cut: responses.load(Relaxed) }
    }
}

/// A listening socket, new or inherited. `SO_REUSEADDR` so that a restart does not wait for old connections to
/// time out.
fn listen(
    address: SocketAddr,
    inherited: Option<OwnedFd>,
    backlog: u32,
) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match inherited {
        Some(socket) => Socket::from(socket),
        None => bind(address)?,
    };
    socket.set_nonblocking(true)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn builder(bounds: &Bounds) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // The pulse has the finer rules; the library's own timer stands behind them.
    let behind = bounds.patience.idle.max(bounds.patience.header) * 2;
    // `pipeline_flush` stays off: with it the library's bound on buffered body bytes no longer holds.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(behind)
        .max_headers(bounds.header_fields)
        .max_buf_size(bounds.http1_buffer)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(bounds.patience.idle))
        .keep_alive_timeout(bounds.patience.header)
        .max_concurrent_streams(Some(bounds.http2_streams))
        .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(bounds.http2_buffer)
        // Requests have no body: a small window says so.
        .initial_stream_window_size(Some(16 * 1024))
        .initial_connection_window_size(Some(64 * 1024))
        .max_pending_accept_reset_streams(Some(20))
        .max_local_error_reset_streams(Some(128));
    builder
}

async fn accept(
    listener: Arc<TcpListener>,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, from)) => admit(socket, from, tls.as_ref(), &shared, &phase),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; pausing");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives the connection a place and a task, or closes it at once: a player that is refused now can try the
/// next host now. A full house asks an idle connection to leave.
fn admit(
    socket: TcpStream,
    from: SocketAddr,
    tls: Option<&TlsAcceptor>,
    shared: &Arc<Shared>,
    phase: &watch::Receiver<Phase>,
) {
    let Some(seat) = shared.house.seat(from.ip()) else {
        return shared.metrics.refused_address();
    };
    let permit = Arc::clone(&shared.permits).try_acquire_owned().ok();
    if permit.is_none() && !shared.house.make_room(Instant::now()) {
        return shared.metrics.refused();
    }
    // Latency of small responses; the large ones fill their packets anyway.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let newcomer = Newcomer { socket, from, tls: tls.cloned(), seat, permit };
    tokio::spawn(newcomer.serve(Arc::clone(shared), phase.clone()));
}

/// An accepted connection that nothing has been read from.
struct Newcomer {
    socket: TcpStream,
    from: SocketAddr,
    tls: Option<TlsAcceptor>,
    seat: Seat,
    /// `None` while somebody else is leaving for it.
    permit: Option<OwnedSemaphorePermit>,
}

impl Newcomer {
    async fn serve(self, shared: Arc<Shared>, phase: watch::Receiver<Phase>) {
        let Self { socket, from, tls, seat, permit } = self;
        let permit = match permit {
            Some(permit) => permit,
            None => {
                match tokio::time::timeout(ROOM_WAIT, Arc::clone(&shared.permits).acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    _ => return shared.metrics.refused(),
                }
            }
        };
        match tls {
            None => connection::serve(socket, from, &shared, phase).await,
            Some(tls) => secure(socket, from, &tls, &shared, phase).await,
        }
        drop((permit, seat));
    }
}

async fn secure(
    socket: TcpStream,
    from: SocketAddr,
    tls: &TlsAcceptor,
    shared: &Shared,
    mut phase: watch::Receiver<Phase>,
) {
    let handshake = tokio::time::timeout(shared.bounds.handshake, tls.accept(socket));
    let shaken = tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
        shaken = handshake => shaken,
    };
    let socket = match shaken {
        Ok(Ok(socket)) => socket,
        Ok(Err(_)) => return shared.metrics.handshake(crate::metrics::Handshake::Failed),
        Err(_) => return shared.metrics.handshake(crate::metrics::Handshake::TimedOut),
    };
    shared.metrics.handshake(crate::metrics::Handshake::of(socket.get_ref().1.handshake_kind()));
    connection::serve(socket, from, shared, phase).await;
}
