//! One purchase, leg by leg.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Fuse;
use futures_util::{FutureExt, StreamExt};
use media::GROUP_LEN;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::health::Standing;
use crate::planner::{Candidate, Choice, ChoiceReason, Plan, rest_ends};
use crate::source::{ByteStream, Opened, Reason, SourceError, SourceId, SourceKind};
use crate::sources::{Sources, Transfer};
use crate::want::Want;

/// What a want of unknown length counts as when prices are compared: about a small index.
const GUESSED_LEN: u64 = 64 * 1024;

/// One purchase: legs from one source after another until the caller has everything. Dropping it ends it.
pub struct Fetch {
    sources: Arc<Sources>,
    want: Want,
    deadline: Instant,
    /// When whoever waits needs the bytes; `None` when nobody said.
    needed_by: Option<Instant>,
    /// Transfers begun, those that ended in "not here" excepted.
    attempts: u32,
    /// What this fetch knows about each source.
    marks: Vec<Mark>,
    last: LastError,
    desk: Desk,
}

/// Where decisions are made: buffers that one fetch uses again and again.
#[derive(Debug, Default)]
struct Desk {
    candidates: Vec<Candidate>,
    plan: Plan,
}

impl Desk {
    fn with_capacity(sources: usize) -> Self {
        Self { candidates: Vec::with_capacity(sources), plan: Plan::with_capacity(sources) }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    tries: u32,
    /// Whether it asked for a pause when it was asked last.
    throttled: bool,
    /// What it said when it could not serve these bytes at all.
    absent: Option<Reason>,
}

/// The newest failure, told by the fetch itself or by one of its legs.
#[derive(Clone, Default)]
struct LastError(Arc<Mutex<Option<SourceError>>>);

impl LastError {
    fn set(&self, error: &SourceError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    fn get(&self) -> Option<SourceError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Nobody delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// The newest failure.
    pub last: Option<SourceError>,
    /// Transfers begun, those that ended in "not here" excepted.
    pub attempts: u32,
    /// Whether every healthy source answered that it does not hold the bytes.
    pub not_found: bool,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last {
            Some(last) => write!(f, "no source delivered after {} attempts, the last: {last}", self.attempts),
            None => write!(f, "no source could be asked"),
        }
    }
}

impl std::error::Error for Exhausted {}

impl Fetch {
    pub(crate) fn new(sources: Arc<Sources>, want: Want, deadline: Instant) -> Self {
        let marks = vec![Mark::default(); sources.known.len()];
        let desk = Desk::with_capacity(marks.len());
        let (needed_by, last) = (None, LastError::default());
        Self { sources, want, deadline, needed_by, attempts: 0, marks, last, desk }
    }

    /// Says when the earliest of those who wait needs the bytes of the legs to come; `None` when nobody said.
    pub fn needed_by(&mut self, by: Option<Instant>) {
        self.needed_by = by;
    }

    /// Opens the next source at byte `from` of the want: as many bytes as the caller has verified. Returns when
    /// one has answered that the body follows.
    ///
    /// # Errors
    /// [`Exhausted`] when the deadline, the attempts or the sources have run out.
    pub async fn next_leg(&mut self, from: u64) -> Result<Leg, Exhausted> {
        let Some(want) = self.want.tail(from) else { return Err(self.exhausted()) };
        while self.attempts < self.sources.config.max_attempts {
            let Some((choice, permit)) = self.next_turn(&want).await else { break };
            let index = choice.index;
            let transfer = Transfer::begin(Arc::clone(&self.sources), index, permit);
            self.marks[index].tries += 1;
            self.attempts += 1;
            let (source, reason) = (transfer.source().id(), choice.reason.as_str());
            tracing::trace!(%source, reason, from, needed_by = ?self.needed_by, "asking");
            match self.open(transfer, &want).await {
                Ok(leg) => return Ok(leg),
                Err(error) => self.note(index, &error),
            }
        }
        Err(self.exhausted())
    }

    /// The best source that has a permit to spare. `None` when nobody is left or the deadline has come.
    async fn next_turn(&mut self, want: &Want) -> Option<(Choice, OwnedSemaphorePermit)> {
        // Lent out so that the waits below may look at the fetch; who is dropped in a wait loses buffers only.
        let mut desk = std::mem::take(&mut self.desk);
        self.choose(want, &mut desk).await;
        let turn = self.first_with_a_permit(desk.plan.choices()).await;
        self.desk = desk;
        turn
    }

    async fn first_with_a_permit(&self, choices: &[Choice]) -> Option<(Choice, OwnedSemaphorePermit)> {
        for choice in choices {
            if choice.reason == ChoiceReason::Again {
                self.pause(self.marks[choice.index].tries).await;
            }
            if self.deadline <= Instant::now() {
                self.last.set(&failure(Reason::Timeout, "the deadline of the fetch has come"));
                return None;
            }
            if let Some(permit) = self.permit(choice.index).await {
                return Some((*choice, permit));
            }
        }
        None
    }

    /// Makes the plan; but if it has nobody but sources that rest, and a rest ends soon, the plan of that
    /// moment: one that said "slow down" is worth the wait when there is no other.
    async fn choose(&self, want: &Want, desk: &mut Desk) {
        let len = want.len().unwrap_or(GUESSED_LEN);
        let now = self.look(false, &mut desk.candidates);
        desk.plan.decide(now, &desk.candidates, len);
        if desk.plan.choices().first().is_some_and(|choice| choice.reason != ChoiceReason::LastResort) {
            return;
        }
        let soon = self.deadline.min(now + self.sources.config.rest_wait);
        self.look(true, &mut desk.candidates);
        if let Some(end) = rest_ends(&desk.candidates).filter(|end| *end <= soon) {
            sleep_until(end).await;
            let now = self.look(true, &mut desk.candidates);
            desk.plan.decide(now, &desk.candidates, len);
        }
    }

    /// What is known of each source now. With a second chance those that only asked for a pause count as new.
    fn look(&self, second_chance: bool, candidates: &mut Vec<Candidate>) -> Instant {
        let now = Instant::now();
        candidates.clear();
        candidates.extend(self.marks.iter().enumerate().map(|(index, mark)| {
            let tried = mark.tries > 0 && !(second_chance && mark.throttled);
            Candidate { tried, absent: mark.absent.is_some(), ..self.sources.candidate(index, now) }
        }));
        now
    }

    async fn pause(&self, tries: u32) {
        let pause = self.sources.config.retry_pause * (1 << (tries - 1).min(10));
        sleep_until((Instant::now() + pause).min(self.deadline)).await;
    }

    async fn permit(&self, index: usize) -> Option<OwnedSemaphorePermit> {
        let known = &self.sources.known[index];
        let until = (Instant::now() + self.sources.config.permit_wait).min(self.deadline);
        let permit = timeout_at(until, Arc::clone(&known.permits).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok);
        if permit.is_none() {
            let id = known.source.id();
            self.last.set(&failure(Reason::Throttled, format_args!("all our permits for {id} are in use")));
        }
        permit
    }

    async fn open(&self, mut transfer: Transfer, want: &Want) -> Result<Leg, SourceError> {
        let patience =
            Patience::until(transfer.started() + self.sources.config.first_byte_timeout, self.deadline);
        let source = Arc::clone(transfer.source());
        let opened = match timeout_at(patience.until, source.open(want)).await {
            Ok(opened) => opened.and_then(|opened| as_promised(opened, want)),
            Err(_) if patience.is_ours => {
                return Err(failure(Reason::Timeout, "the deadline came before an answer"));
            }
            Err(_) => Err(failure(Reason::Timeout, "no answer in time")),
        };
        let opened = opened.inspect_err(|error| transfer.failed(error))?;
        Ok(Leg {
            transfer,
            sources: Arc::clone(&self.sources),
            body: opened.body.fuse(),
            promised: opened.len,
            received: 0,
            listened: Duration::ZERO,
            of_group: 0,
            patience,
            deadline: self.deadline,
            last: self.last.clone(),
        })
    }

    fn note(&mut self, index: usize, error: &SourceError) {
        self.last.set(error);
        self.marks[index].throttled = error.reason == Reason::Throttled;
        if error.reason.is_absence() {
            self.marks[index].absent = Some(error.reason);
            self.attempts -= 1;
        }
    }

    fn exhausted(&self) -> Exhausted {
        let mut candidates = Vec::new();
        self.look(false, &mut candidates);
        let asked = |c: &Candidate| c.absent || c.standing != Standing::Closed;
        let not_here = self.marks.iter().any(|mark| mark.absent == Some(Reason::NotFound));
        let not_found = not_here && self.attempts == 0 && candidates.iter().all(asked);
        Exhausted { last: self.last.get(), attempts: self.attempts, not_found }
    }
}

/// A body of another length than the index promises is another version.
fn as_promised(opened: Opened, want: &Want) -> Result<Opened, SourceError> {
    match want.len() {
        Some(len) if len != opened.len => {
            Err(failure(Reason::Changed, format_args!("offers {} bytes where {len} were asked", opened.len)))
        }
        _ => Ok(opened),
    }
}

fn failure(reason: Reason, detail: impl fmt::Display) -> SourceError {
    SourceError::new(reason, detail)
}

/// Until when to wait, and whether it is our own deadline that ends it: then the source is not to blame.
#[derive(Debug, Clone, Copy)]
struct Patience {
    until: Instant,
    is_ours: bool,
}

impl Patience {
    fn until(theirs: Instant, deadline: Instant) -> Self {
        Self { until: theirs.min(deadline), is_ours: deadline < theirs }
    }
}

/// A body that has begun. Dropping it before its end cancels the transfer and is no evidence against the source.
pub struct Leg {
    transfer: Transfer,
    sources: Arc<Sources>,
    body: Fuse<ByteStream>,
    promised: u64,
    received: u64,
    /// How long we have listened for the group that is coming, and how much of it is here.
    listened: Duration,
    of_group: u64,
    patience: Patience,
    deadline: Instant,
    last: LastError,
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leg({}, {} of {} bytes)", self.source(), self.received, self.promised)
    }
}

impl Leg {
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
        self.renew_patience();
        let listening = Instant::now();
        let piece = self.piece().await.inspect_err(|error| self.fail(error))?;
        self.note(piece.len() as u64, listening.elapsed());
        if self.received > self.promised {
            let error = failure(Reason::Changed, "sent more bytes than it promised");
            self.fail(&error);
            return Err(error);
        }
        Ok(Some(piece))
    }

    /// A source is given its time from when we begin to listen: a caller who was busy is not its fault. Until the
    /// first byte came, the patience that the question began with stands if it is not over. After that each group
    /// of bytes has the stall timeout, because a source that drips is never silent and never done.
    fn renew_patience(&mut self) {
        let now = Instant::now();
        if self.received > 0 || self.patience.until <= now {
            let left = self.sources.config.stall_timeout.saturating_sub(self.listened);
            self.patience = Patience::until(now + left, self.deadline);
        }
    }

    fn note(&mut self, len: u64, listened: Duration) {
        if self.received == 0 {
            self.transfer.saw_first_byte();
        } else {
            self.listened += listened;
        }
        self.received += len;
        self.of_group += len;
        if self.of_group >= GROUP_LEN {
            (self.of_group, self.listened) = (0, Duration::ZERO);
        }
        self.transfer.saw_bytes(len);
    }

    /// The caller checked the bytes and they are wrong: the source rests for long.
    pub fn corrupt(mut self) {
        self.fail(&failure(Reason::Corrupt, "bytes that the signed index does not vouch for"));
    }

    async fn piece(&mut self) -> Result<Bytes, SourceError> {
        loop {
            match timeout_at(self.patience.until, self.body.next()).await {
                Ok(Some(Ok(piece))) if piece.is_empty() => {}
                Ok(Some(piece)) => return piece,
                Ok(None) => {
                    let missing = self.promised - self.received;
                    return Err(failure(Reason::Cut, format_args!("{missing} bytes are missing")));
                }
                Err(_) => return Err(failure(Reason::Timeout, "the body fell silent, or nearly so")),
            }
        }
    }

    /// Everything came. What more is at hand already is too much; nobody waits for what may follow.
    fn end(&mut self) -> Result<Option<Bytes>, SourceError> {
        match self.body.next().now_or_never() {
            Some(Some(Ok(piece))) if !piece.is_empty() => {
                let error = failure(Reason::Changed, "sent more bytes than it promised");
                self.fail(&error);
                Err(error)
            }
            _ => {
                self.transfer.delivered();
                Ok(None)
            }
        }
    }

    fn fail(&mut self, error: &SourceError) {
        self.last.set(error);
        let ours = error.reason == Reason::Timeout && self.patience.is_ours;
        if !ours {
            self.transfer.failed(error);
        }
    }
}
