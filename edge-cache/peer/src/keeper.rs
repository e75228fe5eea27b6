//! Keeps the connections to one neighbour alive, so that requests find them warm or hear at once that there is
//! none. A handshake costs two round trips, and to a dead neighbour a whole timeout; no viewer waits for either.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use sourcing::{Reason, SourceError};
use tokio::time::{sleep, timeout};

use crate::client::fault;
use crate::config::LinkConfig;
use crate::link::Neighbour;
use crate::metrics::Metrics;

/// One place for a connection.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Requests that are open on it.
    pub(crate) open: AtomicUsize,
    held: Mutex<Result<Connection, SourceError>>,
}

impl Slot {
    pub(crate) fn new() -> Arc<Self> {
        let none_yet = fault(Reason::Unavailable, "not connected yet");
        Arc::new(Self { open: AtomicUsize::new(0), held: Mutex::new(Err(none_yet)) })
    }

    /// The live connection, or why there is none.
    pub(crate) fn connection(&self) -> Result<Connection, SourceError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        held.close_reason().map_or(Ok(held), |reason| Err(out_of_reach(&reason)))
    }

    fn hold(&self, connection: Result<Connection, SourceError>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

/// Everything it takes to reach one neighbour.
pub(crate) struct Keeper {
    pub(crate) neighbour: Neighbour,
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientConfig,
    pub(crate) config: LinkConfig,
    pub(crate) metrics: Arc<Metrics>,
}

impl Keeper {
    /// Connects, waits until the connection ends, and connects again, for as long as it is not dropped. After
    /// a failure or a short life it pauses, twice as long each time.
    pub(crate) async fn keep(self: Arc<Self>, slot: Arc<Slot>) {
        let mut pause = self.config.reconnect_after;
        loop {
            match timeout(self.config.connect_timeout, self.connect()).await {
                Ok(Ok(connection)) => {
                    slot.hold(Ok(connection.clone()));
                    self.metrics.connected.inc();
                    tracing::info!(neighbour = %self.neighbour.id, "connected to the neighbour");
                    let lived = timeout(self.config.idle_timeout, connection.closed()).await.is_err();
                    let reason = connection.closed().await;
                    self.metrics.connected.dec();
                    self.lost(&slot, out_of_reach(&reason));
                    if lived {
                        pause = self.config.reconnect_after;
                    }
                }
                Ok(Err(error)) => self.lost(&slot, error),
                Err(_) => self.lost(&slot, fault(Reason::Timeout, "no handshake in time")),
            }
            sleep(pause).await;
            pause = next_pause(pause, self.config.reconnect_longest);
        }
    }

    fn lost(&self, slot: &Slot, error: SourceError) {
        // At most once for each pause, which grows: a dead neighbour does not fill the log.
        tracing::info!(neighbour = %self.neighbour.id, %error, "no connection to the neighbour");
        if error.reason == Reason::Refused {
            self.metrics.refused_handshakes.inc();
        }
        slot.hold(Err(error));
    }

    async fn connect(&self) -> Result<Connection, SourceError> {
        let unreachable = |error: &dyn Display| fault(Reason::Unavailable, error);
        let address = self.address().await.map_err(|error| unreachable(&error))?;
        // The name is sent but means nothing: the key is pinned.
        let connecting = self.endpoint.connect_with(self.client.clone(), address, "weir");
        connecting.map_err(|error| unreachable(&error))?.await.map_err(|error| out_of_reach(&error))
    }

    /// Looked up anew each time: neighbours move.
    async fn address(&self) -> io::Result<SocketAddr> {
        let local = self.endpoint.local_addr()?;
        let mut found = tokio::net::lookup_host(&self.neighbour.address).await?;
        let usable = found.find(|address| address.is_ipv4() == local.is_ipv4());
        usable.ok_or_else(|| {
            io::Error::other("the address and the local socket are not both IPv4 or both IPv6")
        })
    }
}

fn next_pause(pause: Duration, longest: Duration) -> Duration {
    pause.saturating_mul(2).min(longest)
}

/// What a broken connection means to the planner. TLS alerts (RFC 9001 section 4.8) say that one side's key
/// is not the one the other has pinned; with TLS 1.3 the side that connects hears it after its handshake.
pub(crate) fn out_of_reach(error: &ConnectionError) -> SourceError {
    let code = match error {
        ConnectionError::TransportError(error) => Some(u64::from(error.code)),
        ConnectionError::ConnectionClosed(close) => Some(u64::from(close.error_code)),
        _ => None,
    };
    let reason = match (error, code) {
        (_, Some(0x100..=0x1ff)) => Reason::Refused,
        (ConnectionError::TimedOut, _) => Reason::Timeout,
        _ => Reason::Unavailable,
    };
    fault(reason, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let (first, longest) = (Duration::from_millis(250), Duration::from_secs(1));
        let pauses = std::iter::successors(Some(first), |pause| Some(next_pause(*pause, longest)));
        let pauses: Vec<u128> = pauses.take(4).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 1_000]);
    }
}
