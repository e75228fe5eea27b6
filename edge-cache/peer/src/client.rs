//! A neighbour as a [`Source`]: ask for a run of bytes of a segment, get them verified or not at all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream;
use quinn::{Connection, ConnectionError, RecvStream, VarInt};
use sourcing::{BoxFuture, Opened, Reason, Source, SourceError, SourceId, SourceKind, Want};

use crate::keeper::{Slot, out_of_reach};
use crate::metrics::{Fetched, Metrics};
use crate::wire::{Answer, Event, Request, Status, WireError};

/// Chunks taken from the transport at once. One is a datagram's worth, so this is about 40 KB.
const CHUNKS: usize = 32;

/// Said to a neighbour whose answer broke the protocol or a digest.
pub(crate) const CLOSE_CORRUPT: VarInt = VarInt::from_u32(1);

/// One pinned neighbour, as something to buy bytes from.
///
/// Its connections are kept by the link, not made on demand: a request to a neighbour that is not there fails
/// at once instead of making a viewer wait for a handshake that will not come. Dropping the future of
/// [`Source::open`] or the body stops the neighbour's sending at once.
pub struct PeerSource {
    id: SourceId,
    slots: Vec<Arc<Slot>>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for PeerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerSource").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Source for PeerSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Peer
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            // A neighbour speaks segments: the index and other whole objects are bought elsewhere.
            let Some(want) = &want.segment else {
                return Err(fault(Reason::Unsupported, "a neighbour serves segments only"));
            };
            let (key, len, root, range) = (want.key.clone(), want.len, want.root, want.range);
            self.fetch(&Request { key, len, root, range }).await
        })
    }
}

impl PeerSource {
    pub(crate) fn new(id: SourceId, slots: Vec<Arc<Slot>>, metrics: Arc<Metrics>) -> Self {
        Self { id, slots, metrics }
    }

    /// Whether a request would find a live connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.slots.iter().any(|slot| slot.connection().is_ok())
    }

    async fn fetch(&self, request: &Request) -> Result<Opened, SourceError> {
        let mut tally = Tally { metrics: Arc::clone(&self.metrics), outcome: Fetched::Dropped };
        let asked = self.ask(request).await;
        let (connection, lease, recv) = asked.inspect_err(|_| tally.outcome = Fetched::Unreachable)?;
        let answer = Answer::to(request);
        let mut transfer =
            Transfer { answer, recv, pending: VecDeque::new(), connection, tally, _lease: lease };
        match transfer.status().await? {
            Status::Found => {}
            status => {
                transfer.tally.outcome = Fetched::Answered(status);
                return Err(refusal(status));
            }
        }
        let body = stream::try_unfold(transfer, |mut transfer| async {
            Ok(transfer.bytes().await?.map(|bytes| (bytes, transfer)))
        });
        Ok(Opened { len: request.range.len(), body: Box::pin(body) })
    }

    /// Opens a stream on the least busy live connection and says what we want.
    async fn ask(&self, request: &Request) -> Result<(Connection, Lease, RecvStream), SourceError> {
        let live = self.slots.iter().filter_map(|slot| Some((slot, slot.connection().ok()?)));
        let least = live.min_by_key(|(slot, _)| slot.open.load(Ordering::Relaxed));
        let Some((slot, connection)) = least else { return Err(self.why_none()) };
        let lease = Lease::of(slot);
        let (mut send, recv) = connection.open_bi().await.map_err(|error| out_of_reach(&error))?;
        let written = send.write_chunk(request.encode()).await;
        written.map_err(|error| fault(Reason::Unavailable, error))?;
        send.finish().map_err(|error| fault(Reason::Unavailable, error))?;
        Ok((connection, lease, recv))
    }

    fn why_none(&self) -> SourceError {
        let known = self.slots.iter().find_map(|slot| slot.connection().err());
        known.unwrap_or_else(|| fault(Reason::Unavailable, "no connection is configured"))
    }
}

/// Counts an open request on its connection; dropping it ends the request.
struct Lease(Arc<Slot>);

impl Lease {
    fn of(slot: &Arc<Slot>) -> Self {
        slot.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(slot))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts how a request ended, whoever ends it.
struct Tally {
    metrics: Arc<Metrics>,
    outcome: Fetched,
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.fetches.count(self.outcome);
    }
}

/// An answer on its way.
struct Transfer {
    answer: Answer,
    recv: RecvStream,
    pending: VecDeque<Bytes>,
    connection: Connection,
    tally: Tally,
    _lease: Lease,
}

impl Transfer {
    /// How the answer begins. A connection that breaks before it said anything was never of use: with TLS 1.3
    /// the side that connects learns only here that its own key was refused.
    async fn status(&mut self) -> Result<Status, SourceError> {
        match self.next().await {
            Ok(Some(Event::Status(status))) => Ok(status),
            Ok(_) => Err(fault(Reason::Corrupt, "no status")),
            Err(error) => match self.connection.close_reason() {
                None | Some(ConnectionError::LocallyClosed) => Err(error),
                Some(reason) => {
                    self.tally.outcome = Fetched::Unreachable;
                    Err(out_of_reach(&reason))
                }
            },
        }
    }

    /// The next verified bytes; `None` after the last of them.
    async fn bytes(&mut self) -> Result<Option<Bytes>, SourceError> {
        match self.next().await? {
            Some(Event::Bytes(bytes)) => {
                self.tally.metrics.bytes_in.inc_by(bytes.len() as u64);
                if self.answer.is_complete() {
                    self.tally.outcome = Fetched::Whole;
                }
                Ok(Some(bytes))
            }
            Some(Event::Status(_)) => Err(fault(Reason::Corrupt, "a second status")),
            None => Ok(None),
        }
    }

    async fn next(&mut self) -> Result<Option<Event>, SourceError> {
        loop {
            if let Some(event) = self.pending_event()? {
                return Ok(Some(event));
            }
            if self.answer.is_complete() {
                return Ok(None);
            }
            let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
            match self.recv.read_chunks(&mut chunks).await {
                Ok(Some(count)) => self.pending.extend(chunks.into_iter().take(count)),
                Ok(None) => return Err(self.cut("the neighbour ended the answer early")),
                Err(error) => return Err(self.cut(&format!("the answer broke off: {error}"))),
            }
        }
    }

    fn pending_event(&mut self) -> Result<Option<Event>, SourceError> {
        while let Some(chunk) = self.pending.front_mut() {
            match self.answer.read(chunk) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => drop(self.pending.pop_front()),
                Err(error) => return Err(self.corrupt(error)),
            }
        }
        Ok(None)
    }

    fn cut(&mut self, detail: &str) -> SourceError {
        self.tally.outcome = Fetched::Cut;
        fault(Reason::Cut, detail)
    }

    /// A neighbour that lies once is not asked anything more over this connection.
    fn corrupt(&mut self, error: WireError) -> SourceError {
        self.tally.outcome = Fetched::Corrupt;
        self.connection.close(CLOSE_CORRUPT, b"corrupt answer");
        fault(Reason::Corrupt, error)
    }
}

/// What another status means to the planner.
fn refusal(status: Status) -> SourceError {
    match status {
        Status::NotFound => fault(Reason::NotFound, "the neighbour does not hold the segment"),
        Status::Busy => fault(Reason::Throttled, "the neighbour serves as many as it may"),
        Status::Refused => fault(Reason::Refused, "the neighbour did not understand the request"),
        Status::Fault | Status::Found => {
            fault(Reason::Unavailable, "the neighbour could not read the segment")
        }
    }
}

pub(crate) fn fault(reason: Reason, detail: impl fmt::Display) -> SourceError {
    SourceError::new(reason, detail)
}
