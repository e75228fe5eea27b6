//! A body that has begun: one source's part of a fetch.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Fuse;
use futures_util::{FutureExt, StreamExt};
use media::GROUP_LEN;
use tokio::time::{Instant, timeout_at};

use crate::fetch::{LastError, failure};
use crate::source::{ByteStream, Reason, SourceError, SourceId, SourceKind};
use crate::transfer::Transfer;

/// A body shorter than this says nothing about pace.
const PACE_LEN: u64 = 256 * 1024;

/// How long a body is listened to before its pace is judged.
const DRIP_SPAN: Duration = Duration::from_secs(1);

/// A body that has begun. Dropping it before its end cancels the transfer and is no evidence against the source.
pub struct Leg {
    transfer: Transfer,
    body: Fuse<ByteStream>,
    /// What came while the sources were in a contest.
    first: Option<Bytes>,
    promised: u64,
    received: u64,
    limits: Limits,
    last: LastError,
    /// How long we have listened for the group that is coming, and how much of it is here.
    group: Span,
    /// The same since the pace was judged last, and in all.
    judged: Span,
    all: Span,
    /// The longest that we listened for one group.
    longest: Duration,
}

/// When a body is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Listening for one group.
    pub(crate) stall: Duration,
    /// Fewer bytes in a second of listening; 0 for none.
    pub(crate) drip: u64,
    /// The fetch's own end.
    pub(crate) deadline: Instant,
}

/// Bytes, and how long we listened for them.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    bytes: u64,
    listened: Duration,
}

impl Span {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.listened += other.listened;
    }

    fn pace(self) -> Option<u64> {
        let millis = u64::try_from(self.listened.as_millis()).unwrap_or(u64::MAX);
        self.bytes.saturating_mul(1_000).checked_div(millis)
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leg({}, {} of {} bytes)", self.source(), self.received, self.promised)
    }
}

/// A body whose first bytes are here.
pub(crate) struct Begun {
    pub(crate) transfer: Transfer,
    pub(crate) body: Fuse<ByteStream>,
    pub(crate) promised: u64,
    /// `None` only when nothing was promised.
    pub(crate) first: Option<Bytes>,
}

impl Leg {
    pub(crate) fn new(begun: Begun, limits: Limits, last: LastError) -> Self {
        let Begun { transfer, body, promised, first } = begun;
        let (group, judged, all) = Default::default();
        Self {
            transfer,
            body,
            first,
            promised,
            received: 0,
            limits,
            last,
            group,
            judged,
            all,
            longest: Duration::ZERO,
        }
    }

    /// Who delivers.
    #[must_use]
    pub fn source(&self) -> &SourceId {
        self.transfer.source().id()
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        self.transfer.source().kind()
    }

    /// How many bytes the body will carry.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// The next bytes, never empty; `None` only after every promised byte. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`SourceError`] when the source falls silent or drips, breaks off, or sends more than it promised. The leg is
    /// over then; the fetch may have another.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        if self.received == self.promised {
            return self.end();
        }
        let piece = match self.first.take() {
            Some(first) => first,
            None => self.listen().await?,
        };
        self.received += piece.len() as u64;
        self.transfer.saw_bytes(piece.len() as u64);
        if self.received > self.promised {
            let error = failure(Reason::Changed, "sent more bytes than it promised");
            return Err(self.fail(error));
        }
        Ok(Some(piece))
    }

    /// A source is given its time from when we begin to listen: a caller who was busy is not its fault. Each group
    /// of bytes has that time, because a source that drips is never silent and never done.
    async fn listen(&mut self) -> Result<Bytes, SourceError> {
        let listening = Instant::now();
        let theirs = listening + self.limits.stall.saturating_sub(self.group.listened);
        let piece = match timeout_at(theirs.min(self.limits.deadline), next_piece(&mut self.body)).await {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => {
                let missing = self.promised - self.received;
                return Err(self.fail(failure(Reason::Cut, format_args!("{missing} bytes are missing"))));
            }
            Ok(Err(error)) => return Err(self.fail(error)),
            Err(_) if self.limits.deadline < theirs => {
                let error = failure(Reason::Timeout, "the deadline of the fetch has come");
                self.last.set(&error);
                return Err(error);
            }
            Err(_) => {
                return Err(self.fail(failure(Reason::Timeout, "the body fell silent, or nearly so")));
            }
        };
        self.heard(Span { bytes: piece.len() as u64, listened: listening.elapsed() })?;
        Ok(piece)
    }

    fn heard(&mut self, span: Span) -> Result<(), SourceError> {
        self.group.add(span);
        self.judged.add(span);
        self.all.add(span);
        self.longest = self.longest.max(self.group.listened);
        if self.group.bytes >= GROUP_LEN {
            self.group = Span::default();
        }
        if self.judged.listened < DRIP_SPAN {
            return Ok(());
        }
        let judged = std::mem::take(&mut self.judged);
        match judged.pace() {
            Some(pace) if pace < self.limits.drip => {
                let error = failure(Reason::Timeout, format_args!("the body drips: {pace} bytes per second"));
                Err(self.fail(error))
            }
            _ => Ok(()),
        }
    }

    /// The caller checked the bytes and they are wrong: the source rests for long.
    pub fn corrupt(mut self) {
        self.fail(failure(Reason::Corrupt, "bytes that the signed index does not vouch for"));
    }

    /// Everything came. What more is at hand already is too much; nobody waits for what may follow.
    fn end(&mut self) -> Result<Option<Bytes>, SourceError> {
        match self.body.next().now_or_never() {
            Some(Some(Ok(piece))) if !piece.is_empty() => {
                Err(self.fail(failure(Reason::Changed, "sent more bytes than it promised")))
            }
            _ => {
                let pace = self.all.pace().filter(|_| self.all.bytes >= PACE_LEN);
                self.transfer.delivered(self.received, self.longest, pace);
                Ok(None)
            }
        }
    }

    fn fail(&mut self, error: SourceError) -> SourceError {
        self.last.set(&error);
        self.transfer.failed(&error);
        error
    }
}

/// The next piece that is not empty; `None` at the end.
pub(crate) async fn next_piece(body: &mut Fuse<ByteStream>) -> Result<Option<Bytes>, SourceError> {
    loop {
        match body.next().await.transpose()? {
            Some(piece) if piece.is_empty() => {}
            other => return Ok(other),
        }
    }
}
