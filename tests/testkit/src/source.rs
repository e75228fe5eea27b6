//! A source that follows a script and remembers what it was asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use media::ByteRange;
use sourcing::{BoxFuture, ByteStream, Opened, Reason, Source, SourceError, SourceId, SourceKind, Want};
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance::Chance;
use crate::log::Log;
use crate::package::Package;
use crate::script::{Behaviour, Fault, Question, Script, Version};

/// A place that holds the whole package and hands it out as its script says.
pub struct ScriptedSource {
    id: SourceId,
    package: Arc<Package>,
    script: Mutex<Script>,
    chance: Chance,
    log: Log,
    transfers: Arc<Mutex<Vec<Transfer>>>,
}

/// One question and what was sent for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What was asked, and when.
    pub question: Question,
    /// Bytes sent so far.
    pub sent: u64,
    /// How and when it ended; `None` while it runs.
    pub end: Option<(TransferEnd, Duration)>,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferEnd {
    /// Every byte was sent.
    Whole,
    /// The source refused or broke off.
    Broken,
    /// The one who asked walked away first.
    Cancelled,
}

impl ScriptedSource {
    pub(crate) fn new(id: &str, package: Arc<Package>, script: Script, chance: Chance, log: Log) -> Self {
        let chance = chance.for_("source").for_(id);
        let id = id.parse().expect("a source's name");
        Self { id, package, script: Mutex::new(script), chance, log, transfers: Arc::default() }
    }

    /// From now on it follows another script; what is under way goes on.
    pub fn follow(&self, script: Script) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Everything it was asked, in order.
    #[must_use]
    pub fn transfers(&self) -> Vec<Transfer> {
        lock(&self.transfers).clone()
    }

    /// The transfers that touch these bytes of an object.
    #[must_use]
    pub fn transfers_of(&self, object: &str, range: ByteRange) -> Vec<Transfer> {
        let touches = |asked: ByteRange| asked.start() < range.end() && range.start() < asked.end();
        let of = |t: &Transfer| t.question.object == object && touches(t.question.range);
        self.transfers().into_iter().filter(of).collect()
    }

    /// Bytes of media sent so far; the index and its digests do not count.
    #[must_use]
    pub fn media_bytes(&self) -> u64 {
        let transfers = lock(&self.transfers);
        transfers.iter().filter(|transfer| transfer.question.is_media()).map(|transfer| transfer.sent).sum()
    }

    async fn answer(&self, want: &Want) -> Result<Opened, SourceError> {
        let object = self.package.object(&want.object);
        let object = object.ok_or_else(|| error(Reason::NotFound, "the package has no such object"))?;
        let range =
            want.range.or(ByteRange::whole(object.len() as u64)).filter(|r| r.end() <= object.len() as u64);
        let range = range.ok_or_else(|| error(Reason::Changed, "the range reaches past the end"))?;
        let question = Question { object: want.object.clone(), range, at: self.log.now() };
        let chance = self.chance.for_(&want.object).nth(range.start());
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let behaviour = script.answer(&question, chance);
        let mut ticket = self.ticket(question);
        let answered = Instant::now() + behaviour.latency;
        match behaviour.fault {
            Some(Fault::Hang) => std::future::pending().await,
            fault => {
                sleep_until(answered).await;
                let refused = match fault {
                    Some(Fault::Refuse(reason)) => Some(reason),
                    Some(Fault::Version(Version::Length)) if want.object_len.is_some() => {
                        Some(Reason::Changed)
                    }
                    _ => None,
                };
                if let Some(reason) = refused {
                    ticket.end = TransferEnd::Broken;
                    return Err(error(reason, "as scripted"));
                }
            }
        }
        let bytes = object.slice(range.start() as usize..range.end() as usize);
        let delivery = Delivery::new(bytes, behaviour, chance, answered, ticket);
        Ok(Opened { len: range.len(), body: delivery.stream() })
    }

    fn ticket(&self, question: Question) -> Ticket {
        let name = format!("{} {} {}", self.id, question.object, question.range);
        self.log.note(format_args!("{name}: asked"));
        let mut transfers = lock(&self.transfers);
        let place = transfers.len();
        transfers.push(Transfer { question, sent: 0, end: None });
        let transfers = Arc::clone(&self.transfers);
        Ticket { name, place, transfers, log: self.log.clone(), end: TransferEnd::Cancelled }
    }
}

impl Source for ScriptedSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Http
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(self.answer(want))
    }
}

fn error(reason: Reason, detail: &str) -> SourceError {
    SourceError::new(reason, detail)
}

fn lock(transfers: &Mutex<Vec<Transfer>>) -> MutexGuard<'_, Vec<Transfer>> {
    transfers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the record of one transfer; dropped, it writes down the end.
struct Ticket {
    name: String,
    place: usize,
    transfers: Arc<Mutex<Vec<Transfer>>>,
    log: Log,
    end: TransferEnd,
}

impl Ticket {
    fn sent(&self, count: usize) {
        lock(&self.transfers)[self.place].sent += count as u64;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut transfers = lock(&self.transfers);
        let transfer = &mut transfers[self.place];
        transfer.end = Some((self.end, self.log.now()));
        self.log.note(format_args!("{}: {:?} after {} bytes", self.name, self.end, transfer.sent));
    }
}

/// What a dripping source still sends, and in which pieces.
const DRIP_BYTES_PER_SECOND: u64 = 1_000;
const DRIP_PIECE: usize = 100;

/// One body on its way out.
struct Delivery {
    rest: Bytes,
    then: Then,
    piece: usize,
    sent: u64,
    rate: u64,
    begun: Instant,
    ticket: Ticket,
}

/// What follows the last byte.
#[derive(Clone, Copy)]
enum Then {
    End,
    Break,
    Silence,
    /// The rest of the body, but slowly.
    Drip(usize),
}

impl Delivery {
    fn new(bytes: Bytes, behaviour: Behaviour, chance: Chance, begun: Instant, ticket: Ticket) -> Self {
        let until = |at: u64| bytes.slice(..bytes.len().min(at as usize));
        let inside = |at: u64| at < bytes.len() as u64;
        let (rest, then) = match behaviour.fault {
            Some(Fault::Cut(at)) if inside(at) => (until(at), Then::Break),
            Some(Fault::Reset(at)) if inside(at) => {
                // What was on its way is lost with the connection.
                (until(at - chance.for_("lost").below(at + 1)), Then::Break)
            }
            Some(Fault::Stall(at)) if inside(at) => (until(at), Then::Silence),
            Some(Fault::Drip(at)) if inside(at) => {
                let rest = bytes.len() - at as usize;
                (bytes, Then::Drip(rest))
            }
            Some(Fault::Flip(at)) => (flipped(&bytes, at), Then::End),
            Some(Fault::Version(Version::Bytes)) => (bytes.iter().map(|byte| !byte).collect(), Then::End),
            _ => (bytes, Then::End),
        };
        // Pieces of odd sizes: the reader must not depend on where a body is cut.
        let piece = chance.for_("piece").between(1_000, 20_000) as usize;
        Self { rest, then, piece, sent: 0, rate: behaviour.rate.max(1), begun, ticket }
    }

    fn stream(self) -> ByteStream {
        Box::pin(stream::unfold(Some(self), |delivery| async {
            let mut delivery = delivery?;
            let item = delivery.next().await?;
            let more = item.is_ok().then_some(delivery);
            Some((item, more))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        if self.rest.is_empty() {
            return match self.then {
                Then::End | Then::Drip(_) => None,
                Then::Break => Some(Err(self.broken())),
                Then::Silence => std::future::pending().await,
            };
        }
        if let Then::Drip(slow) = self.then
            && self.rest.len() <= slow
        {
            return self.drop_of().await;
        }
        let piece = self.rest.split_to(self.piece.min(self.rest.len()));
        self.sent += piece.len() as u64;
        // Paced from the beginning, so that the clock's whole milliseconds do not add up.
        let micros = self.sent.saturating_mul(1_000_000) / self.rate;
        sleep_until(self.begun + Duration::from_micros(micros)).await;
        self.ticket.sent(piece.len());
        if self.rest.is_empty() && matches!(self.then, Then::End) {
            self.ticket.end = TransferEnd::Whole;
        }
        Some(Ok(piece))
    }

    /// The next piece of a body that has slowed down.
    async fn drop_of(&mut self) -> Option<Result<Bytes, SourceError>> {
        let piece = self.rest.split_to(DRIP_PIECE.min(self.rest.len()));
        sleep(Duration::from_millis(piece.len() as u64 * 1_000 / DRIP_BYTES_PER_SECOND)).await;
        self.ticket.sent(piece.len());
        if self.rest.is_empty() {
            self.ticket.end = TransferEnd::Whole;
        }
        Some(Ok(piece))
    }

    fn broken(&mut self) -> SourceError {
        self.ticket.end = TransferEnd::Broken;
        error(Reason::Cut, "as scripted")
    }
}

fn flipped(bytes: &Bytes, at: u64) -> Bytes {
    let mut bytes = BytesMut::from(&bytes[..]);
    if let Some(byte) = bytes.get_mut(at as usize) {
        *byte ^= 0x10;
    }
    bytes.freeze()
}
