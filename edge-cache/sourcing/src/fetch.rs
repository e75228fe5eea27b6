//! One purchase, leg by leg.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::contest::{Another, Contender};
use crate::gate::Permit;
use crate::health::Standing;
use crate::leg::{Begun, Leg, Limits};
use crate::planner::{Candidate, Choice, ChoiceReason, Need, Plan, rest_ends};
use crate::source::{Reason, SourceError};
use crate::sources::Sources;
use crate::transfer::Transfer;
use crate::want::Want;

/// What a want of unknown length counts as when prices are compared: about a small index.
const GUESSED_LEN: u64 = 64 * 1024;

/// So many bytes earn a fetch one more attempt.
const EARNS_ATTEMPT: u64 = 1 << 20;

/// One purchase: legs from one source after another until the caller has everything. Dropping it ends it.
pub struct Fetch {
    sources: Arc<Sources>,
    want: Want,
    deadline: Instant,
    /// Until when somebody must have sent a byte; later on only the deadline counts.
    answer_by: Instant,
    needed_by: Option<Instant>,
    /// It has asked a resting source for want of another: once is enough, or all dead sources would be asked by everybody.
    resorted: bool,
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
pub(crate) struct LastError(Arc<Mutex<Option<SourceError>>>);

impl LastError {
    pub(crate) fn set(&self, error: &SourceError) {
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
        let answer_by = deadline.min(Instant::now() + sources.config.first_byte_timeout);
        let last = LastError::default();
        Self {
            sources,
            want,
            deadline,
            answer_by,
            needed_by: None,
            resorted: false,
            attempts: 0,
            marks,
            last,
            desk,
        }
    }

    /// When the bytes are needed, as far as a player told. From the next leg on a dearer source may be taken if the
    /// cheapest would be too late, within the budget of urgency.
    pub fn needed_by(&mut self, by: Option<Instant>) {
        self.needed_by = by;
    }

    /// Opens the next source at byte `from` of the want: as many bytes as the caller has verified. Returns when
    /// one has sent its first bytes.
    ///
    /// # Errors
    /// [`Exhausted`] when the deadline, the attempts or the sources have run out.
    pub async fn next_leg(&mut self, from: u64) -> Result<Leg, Exhausted> {
        let Some(want) = self.want.tail(from) else { return Err(self.exhausted()) };
        let earned = u32::try_from(from / EARNS_ATTEMPT).unwrap_or(u32::MAX);
        let allowed = self.sources.config.max_attempts.saturating_add(earned);
        while self.attempts < allowed {
            let Some((choice, permit)) = self.next_turn(&want).await else { break };
            tracing::trace!(source = %self.sources.known[choice.index].source.id(), reason = choice.reason.as_str(), from, "asking");
            self.resorted |= self.is_hopeless(&choice);
            if let Some(begun) = self.contest(&want, (choice.index, permit), allowed).await {
                self.answer_by = self.deadline;
                self.sources.remember(&want);
                return Ok(self.leg(begun));
            }
        }
        Err(self.exhausted())
    }

    pub(crate) fn sources(&self) -> Arc<Sources> {
        Arc::clone(&self.sources)
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn len_of(&self, want: &Want) -> u64 {
        want.len().unwrap_or(GUESSED_LEN)
    }

    /// The best source that has a permit to spare. `None` when nobody is left or the deadline has come.
    async fn next_turn(&mut self, want: &Want) -> Option<(Choice, Permit)> {
        // Lent out so that the waits below may look at the fetch; who is dropped in a wait loses buffers only.
        let mut desk = std::mem::take(&mut self.desk);
        self.choose(want, &mut desk).await;
        let turn = self.first_with_a_permit(desk.plan.choices(), self.len_of(want)).await;
        self.desk = desk;
        turn
    }

    async fn first_with_a_permit(&self, choices: &[Choice], len: u64) -> Option<(Choice, Permit)> {
        for (nth, choice) in choices.iter().enumerate() {
            if self.resorted && self.is_hopeless(choice) {
                continue;
            }
            if choice.reason == ChoiceReason::Again && !self.may_try_again(choice.index).await {
                continue;
            }
            if self.answer_by <= Instant::now() {
                self.last.set(&failure(Reason::Timeout, "the deadline of the fetch has come"));
                return None;
            }
            let is_last = nth + 1 == choices.len();
            if let Some(permit) = self.permit(choice.index, len, is_last).await {
                return Some((*choice, permit));
            }
        }
        None
    }

    /// Makes the plan; but if it has nobody but sources that rest, and a rest ends soon, the plan of that
    /// moment: one that said "slow down" is worth the wait when there is no other.
    async fn choose(&self, want: &Want, desk: &mut Desk) {
        let len = self.len_of(want);
        let now = self.look(false, &mut desk.candidates);
        self.decide(now, desk, len);
        if desk.plan.choices().first().is_some_and(|choice| choice.reason != ChoiceReason::LastResort) {
            return;
        }
        let soon = self.answer_by.min(now + self.sources.config.rest_wait);
        self.look(true, &mut desk.candidates);
        if let Some(end) = rest_ends(&desk.candidates, soon, self.answer_by) {
            sleep_until(end).await;
            let now = self.look(true, &mut desk.candidates);
            self.decide(now, desk, len);
        }
    }

    /// Who is in a hurry gets a dearer source only while there is budget for it.
    fn decide(&self, now: Instant, desk: &mut Desk, len: u64) {
        let within = self.needed_by.map(|by| by.saturating_duration_since(now));
        desk.plan.decide(now, &desk.candidates, Need { len, within });
        if desk.plan.pays_for_haste() && !self.sources.may_hurry(len) {
            desk.plan.decide(now, &desk.candidates, Need::bytes(len));
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

    /// Whether it is asked for want of a better one, and did not just ask for a pause.
    fn is_hopeless(&self, choice: &Choice) -> bool {
        let last_resort = choice.reason == ChoiceReason::LastResort;
        last_resort && !self.sources.known[choice.index].health().is_throttled()
    }

    /// Whether the budget allows the same source once more; after a pause.
    async fn may_try_again(&self, index: usize) -> bool {
        if !self.sources.may_retry(index) {
            self.last.set(&failure(Reason::Throttled, "too many transfers failed lately to try any again"));
            return false;
        }
        let doublings = self.marks[index].tries.saturating_sub(1).min(10);
        let pause = self.sources.config.retry_pause * (1 << doublings);
        sleep_until((Instant::now() + pause).min(self.answer_by)).await;
        true
    }

    /// Waits for room, but not for long while there is another to ask.
    async fn permit(&self, index: usize, len: u64, is_last: bool) -> Option<Permit> {
        let known = &self.sources.known[index];
        let config = &self.sources.config;
        let wait = if is_last { config.first_byte_timeout } else { config.permit_wait };
        let until = (Instant::now() + wait).min(self.answer_by);
        let permit = known.gate.enter(len, until).await;
        if permit.is_none() {
            let id = known.source.id();
            self.last.set(&failure(Reason::Throttled, format_args!("all our permits for {id} are in use")));
        }
        permit
    }

    /// Begins a transfer and says how long it has for its first byte: its usual time while another source stands ready,
    /// and twice as much after each attempt, because it may be us who are slow.
    pub(crate) fn contender(&mut self, index: usize, permit: Permit) -> Contender {
        let transfer = Transfer::begin(self.sources(), index, permit);
        let usual = transfer.patience().first_byte;
        let most = self.sources.config.first_byte_timeout;
        let given = if self.another_stands_ready(index) { self.grown(usual, most) } else { most };
        let until = (transfer.started() + given).min(self.answer_by);
        let fair = until >= transfer.started() + usual.min(given);
        self.marks[index].tries += 1;
        self.attempts += 1;
        Contender { transfer, until, fair }
    }

    fn leg(&self, begun: Begun) -> Leg {
        let config = &self.sources.config;
        let another = self.another_stands_ready(begun.transfer.index());
        let stall = self.grown(begun.transfer.patience().stall, config.stall_timeout);
        let limits = Limits {
            stall: if another { stall } else { config.stall_timeout },
            drip: if another { config.patience.drip_bytes_per_second.bytes() } else { 0 },
            deadline: self.deadline,
        };
        Leg::new(begun, limits, self.last.clone())
    }

    fn grown(&self, usual: Duration, most: Duration) -> Duration {
        usual.saturating_mul(1 << self.attempts.saturating_sub(1).min(10)).min(most)
    }

    /// Whether a source in use that has not failed in this fetch is left beside this one.
    fn another_stands_ready(&self, index: usize) -> bool {
        self.marks.iter().enumerate().any(|(other, mark)| {
            other != index && mark.tries == 0 && mark.absent.is_none() && self.sources.is_in_use(other)
        })
    }

    /// Whom to ask beside those who were asked.
    pub(crate) fn next_best(&mut self, want: &Want, newest: usize, why: Another) -> Option<usize> {
        let mut desk = std::mem::take(&mut self.desk);
        let now = self.look(false, &mut desk.candidates);
        desk.plan.decide(now, &desk.candidates, Need::bytes(self.len_of(want)));
        let good = |choice: &&Choice| choice.reason.is_ordinary();
        let best = desk.plan.choices().iter().find(good).map(|choice| choice.index);
        self.desk = desk;
        let same = (why == Another::Late && self.sources.is_in_use(newest)).then_some(newest);
        best.or(same)
    }

    pub(crate) fn note(&mut self, index: usize, error: &SourceError) {
        self.last.set(error);
        self.marks[index].throttled = error.reason == Reason::Throttled;
        if error.reason.is_absence() {
            self.marks[index].absent = Some(error.reason);
            self.attempts -= 1;
        }
    }

    /// It did not fail, another was faster: it may be asked again as if it had not been.
    pub(crate) fn lost(&mut self, index: usize) {
        self.marks[index].tries -= 1;
        self.attempts -= 1;
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

pub(crate) fn failure(reason: Reason, detail: impl fmt::Display) -> SourceError {
    SourceError::new(reason, detail)
}
