//! The serving side: what this node holds, to neighbours that ask for it by root. It reads the local store
//! and nothing else.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::GroupDigests;
use prometheus::IntCounter;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use store::{Held, ReadFault, SegmentStore};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::config::LinkConfig;
use crate::metrics::{Metrics, Served};
use crate::wire::{MAX_REQUEST_LEN, Request, Status, answer_head};

/// Groups read from the store at a time: 64 KiB, so that a neighbour that leaves costs little reading.
const BATCH: u64 = 4;

/// Said to a neighbour whose answer cannot be finished.
const RESET_ABANDONED: VarInt = VarInt::from_u32(2);

pub(crate) struct Server {
    store: Arc<SegmentStore>,
    connections: Semaphore,
    max_connections: usize,
    uploads: Semaphore,
    handshake_timeout: Duration,
    request_timeout: Duration,
    stall_timeout: Duration,
    metrics: Arc<Metrics>,
    gate: Gate,
    dismissed: Notify,
}

/// Whether uploads are allowed now: a node that is loaded serves its own viewers first.
pub type Gate = Arc<dyn Fn() -> bool + Send + Sync>;

impl Server {
    pub(crate) fn new(
        config: &LinkConfig,
        store: Arc<SegmentStore>,
        metrics: Arc<Metrics>,
        gate: Gate,
    ) -> Self {
        Self {
            store,
            connections: Semaphore::new(config.max_connections),
            max_connections: config.max_connections,
            uploads: Semaphore::new(config.max_uploads),
            handshake_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
            stall_timeout: config.upload_stall_timeout,
            metrics,
            gate,
            dismissed: Notify::new(),
        }
    }

    /// Says goodbye to every neighbour that holds a connection to us. New ones may come.
    pub(crate) fn dismiss(&self) {
        self.dismissed.notify_waiters();
    }
}

/// Takes connections until the endpoint is closed. Every task below ends with its connection, and every
/// connection with the endpoint.
pub(crate) async fn accept(endpoint: Endpoint, server: Arc<Server>) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(connection(incoming, Arc::clone(&server)));
    }
}

async fn connection(incoming: Incoming, server: Arc<Server>) {
    let from = incoming.remote_address();
    // Under pressure an address must first prove that it is not made up, before it may hold a place.
    let crowded = server.connections.available_permits() * 2 <= server.max_connections;
    if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
        // It fails only for addresses that are validated already.
        let _ = incoming.retry();
        return;
    }
    let Ok(_permit) = server.connections.try_acquire() else {
        server.metrics.refused_handshakes.inc();
        return incoming.refuse();
    };
    let connection = match timeout(server.handshake_timeout, async { incoming.accept()?.await }).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            server.metrics.refused_handshakes.inc();
            return tracing::debug!(%from, %error, "a neighbour's handshake failed");
        }
        Err(_) => return server.metrics.refused_handshakes.inc(),
    };
    server.metrics.accepted.inc();
    streams(&connection, &server).await;
    server.metrics.accepted.dec();
}

/// Serves each stream in its own task; the transport allows no more of them than configured.
async fn streams(connection: &Connection, server: &Arc<Server>) {
    loop {
        let asked = tokio::select! {
            biased;
            () = server.dismissed.notified() => return connection.close(VarInt::from_u32(0), b"moving"),
            asked = connection.accept_bi() => asked,
        };
        let Ok((send, recv)) = asked else { return };
        let server = Arc::clone(server);
        tokio::spawn(async move {
            let outcome = serve(&server, send, recv).await;
            server.metrics.serves.count(outcome);
        });
    }
}

/// One request, one answer.
async fn serve(server: &Server, mut send: SendStream, mut recv: RecvStream) -> Served {
    let message = match timeout(server.request_timeout, recv.read_to_end(MAX_REQUEST_LEN)).await {
        Ok(Ok(message)) => message,
        Ok(Err(quinn::ReadToEndError::TooLong)) => return refuse(server, &mut send, Status::Refused).await,
        Ok(Err(quinn::ReadToEndError::Read(_))) => return Served::Stopped,
        Err(_) => return Served::Stalled,
    };
    let Ok(request) = Request::decode(&message) else {
        return refuse(server, &mut send, Status::Refused).await;
    };
    if !(server.gate)() {
        return refuse(server, &mut send, Status::Busy).await;
    }
    let Ok(_permit) = server.uploads.try_acquire() else {
        return refuse(server, &mut send, Status::Busy).await;
    };
    let held = server.store.lookup(&request.key, request.len, request.root);
    // Some of what was asked helps nobody: the neighbour would have to go elsewhere for the rest.
    if !held.groups().is_some_and(|groups| groups.has_all(request.groups())) {
        return refuse(server, &mut send, Status::NotFound).await;
    }
    let digests = match server.store.digests(&request.key, request.len, request.root).await {
        Ok(Some(digests)) => digests,
        // Evicted since the lookup.
        Ok(None) => return refuse(server, &mut send, Status::NotFound).await,
        // Counted and logged by the store.
        Err(_) => return refuse(server, &mut send, Status::Fault).await,
    };
    let upload = Upload { held, groups: request.groups(), bytes_out: server.metrics.bytes_out.clone() };
    upload.run(send, &digests, server.stall_timeout).await
}

/// An answer on its way out.
struct Upload {
    held: Held,
    groups: Range<u64>,
    bytes_out: IntCounter,
}

impl Upload {
    /// Sends the head and then the groups, a batch at a time. When the neighbour stops listening, the next
    /// write fails and nothing more is read. A fault midway resets the stream: the neighbour keeps what it
    /// verified and resumes elsewhere.
    async fn run(mut self, mut send: SendStream, digests: &GroupDigests, patience: Duration) -> Served {
        let mut batch = vec![answer_head(Status::Found, digests.as_slice())];
        loop {
            match timeout(patience, send.write_all_chunks(&mut batch)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Served::Stopped,
                Err(_) => return abandon(&mut send, Served::Stalled),
            }
            batch = match self.next_batch().await {
                Ok(batch) if batch.is_empty() => return finish(&mut send, Served::Whole),
                Ok(batch) => batch,
                Err(_) => return abandon(&mut send, Served::Answered(Status::Fault)),
            };
            self.bytes_out.inc_by(batch.iter().map(|group| group.len() as u64).sum());
        }
    }

    /// As many groups as one tier has in a row, each from the nearest tier that has it. A group that went since the
    /// lookup is a fault: the answer cannot be finished.
    async fn next_batch(&mut self) -> Result<Vec<Bytes>, ReadFault> {
        let batch = self.groups.start..self.groups.end.min(self.groups.start + BATCH);
        let in_memory = |group: u64| self.held.memory.as_ref().and_then(|body| body.group(group)).cloned();
        let mut ready: Vec<Bytes> = batch.clone().map_while(in_memory).collect();
        if ready.is_empty() && !batch.is_empty() {
            let end = batch.clone().find(|group| in_memory(*group).is_some()).unwrap_or(batch.end);
            ready = match &self.held.disk {
                Some(object) => object.read(batch.start..end).await?,
                None => Vec::new(),
            };
            if ready.is_empty() {
                return Err(ReadFault::Gone);
            }
        }
        self.groups.start += ready.len() as u64;
        Ok(ready)
    }
}

fn abandon(send: &mut SendStream, outcome: Served) -> Served {
    // It fails only if the stream is closed already, which is what is wanted.
    let _ = send.reset(RESET_ABANDONED);
    outcome
}

/// A neighbour whose window is shut could otherwise keep its place for ever.
async fn refuse(server: &Server, send: &mut SendStream, status: Status) -> Served {
    match timeout(server.stall_timeout, send.write_chunk(answer_head(status, &[]))).await {
        Ok(Ok(())) => finish(send, Served::Answered(status)),
        Ok(Err(_)) => Served::Stopped,
        Err(_) => abandon(send, Served::Stalled),
    }
}

fn finish(send: &mut SendStream, outcome: Served) -> Served {
    if send.finish().is_ok() { outcome } else { Served::Stopped }
}
