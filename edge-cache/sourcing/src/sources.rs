//! All places this node may buy from, and what is remembered about them.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::account::{MAX_LINKS, SourcePrice};
use crate::config::SourcingConfig;
use crate::fetch::Fetch;
use crate::health::{Health, Standing};
use crate::metrics::{Metrics, Outcome, SourceMetrics};
use crate::planner::{Asking, Candidate, ChoiceReason, plan};
use crate::price::Price;
use crate::source::{Reason, Source, SourceError, SourceId, SourceKind};
use crate::tariff::Rate;
use crate::want::Want;

/// A source and what it takes for its bytes.
#[derive(Clone)]
pub struct Offer {
    /// Where.
    pub source: Arc<dyn Source>,
    /// For how much.
    pub price: Price,
}

/// The most sources one node may have: a plan looks at each of them.
pub const MAX_SOURCES: usize = 256;

/// Why the sources cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Values that cannot work; every one with its key.
    #[error("the sourcing configuration cannot work: {}", .0.join("; "))]
    Values(Vec<String>),
    /// A metric of the same name is registered already.
    #[error("the metrics of sourcing cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Every place this node may buy bytes from.
pub struct Sources {
    pub(crate) config: SourcingConfig,
    pub(crate) known: Vec<Known>,
    /// Index of the source that delivered last.
    favourite: AtomicUsize,
    draws: AtomicU64,
    /// Bytes that each link may still take in this slot.
    allowances: [AtomicI64; MAX_LINKS],
}

/// One source and everything remembered about it.
pub(crate) struct Known {
    pub(crate) source: Arc<dyn Source>,
    price: Price,
    posted: Posted,
    health: Mutex<Health>,
    pub(crate) permits: Arc<Semaphore>,
    metrics: SourceMetrics,
}

/// What a source takes now. Read by every decision, written every few seconds; a decision that sees half of a
/// change is as good as one a moment earlier.
struct Posted {
    byte: AtomicU64,
    request: AtomicU64,
    /// For a byte when the link's allowance is used up.
    beyond: AtomicU64,
    /// Which link, or [`NO_LINK`].
    link: AtomicUsize,
}

const NO_LINK: usize = usize::MAX;

impl Posted {
    fn new(price: SourcePrice) -> Self {
        let posted = Self {
            byte: AtomicU64::default(),
            request: AtomicU64::default(),
            beyond: AtomicU64::default(),
            link: AtomicUsize::default(),
        };
        posted.set(price);
        posted
    }

    fn set(&self, price: SourcePrice) {
        self.byte.store(price.byte.get(), Ordering::Relaxed);
        self.request.store(price.request.get(), Ordering::Relaxed);
        self.beyond.store(price.link.map_or(0, |(_, beyond)| beyond.get()), Ordering::Relaxed);
        self.link.store(price.link.map_or(NO_LINK, |(link, _)| link), Ordering::Relaxed);
    }
}

/// What is known about one source now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// Its name.
    pub id: SourceId,
    /// What it is.
    pub kind: SourceKind,
    /// What it takes by the configuration.
    pub price: Price,
    /// What it takes now.
    pub asking: Asking,
    /// Where its breaker stands.
    pub standing: Standing,
    /// Failures in a row.
    pub failures: u32,
    /// Average time to the first byte; `None` before the first one.
    pub first_byte: Option<Duration>,
    /// Body bytes bought.
    pub bytes: u64,
    /// Requests that have ended.
    pub requests: u64,
    /// Spent so far, in picodollars.
    pub spend_picodollars: u64,
}

/// One line of an explanation: a source, what is known of it, and why it would be asked when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Who.
    pub id: SourceId,
    /// What it takes now.
    pub asking: Asking,
    /// Where its breaker stands.
    pub standing: Standing,
    /// Average time to the first byte; `None` before the first one.
    pub first_byte: Option<Duration>,
    /// Why it stands here; `None` for those that would not be asked.
    pub reason: Option<ChoiceReason>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.map_or("not asked", ChoiceReason::as_str);
        let per_gb = self.asking.byte.usd_per_billion();
        write!(f, "{}: {reason}, {per_gb:.6} USD/GB, {}", self.id, self.standing.as_str())?;
        match self.first_byte {
            Some(took) => write!(f, ", first byte {} ms", took.as_millis()),
            None => f.write_str(", never asked"),
        }
    }
}

impl Sources {
    /// Puts the offers together.
    ///
    /// # Errors
    /// [`ConfigError`]: impossible values, no source at all, two of the same name, or metrics that exist.
    pub fn new(
        config: SourcingConfig,
        offers: Vec<Offer>,
        registry: &Registry,
    ) -> Result<Arc<Self>, ConfigError> {
        let mut problems = config.problems();
        if offers.is_empty() || offers.len() > MAX_SOURCES {
            problems.push(format!("sources: {} are configured, needed are 1 to {MAX_SOURCES}", offers.len()));
        }
        let mut names = HashSet::new();
        let twice = offers.iter().map(|offer| offer.source.id()).filter(|id| !names.insert((*id).clone()));
        problems.extend(twice.map(|id| format!("sources: {id} stands there twice")));
        if !problems.is_empty() {
            return Err(ConfigError::Values(problems));
        }
        let metrics = Metrics::register(registry)?;
        let known = offers.into_iter().map(|offer| Known {
            metrics: metrics.of(offer.source.id()),
            source: offer.source,
            price: offer.price,
            posted: Posted::new(offer.price.into()),
            health: Mutex::default(),
            permits: Arc::new(Semaphore::new(config.permits)),
        });
        let known = known.collect();
        let favourite = AtomicUsize::new(usize::MAX);
        let allowances = [const { AtomicI64::new(i64::MAX) }; MAX_LINKS];
        Ok(Arc::new(Self { config, known, favourite, draws: AtomicU64::new(0), allowances }))
    }

    /// Posts what the sources take from now on, in their order, and what each link may still take in this slot.
    pub fn post(&self, prices: &[SourcePrice], allowances: &[u64]) {
        self.known.iter().zip(prices).for_each(|(known, price)| known.posted.set(*price));
        for (posted, left) in self.allowances.iter().zip(allowances) {
            posted.store(i64::try_from(*left).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// In which order a fetch of so many bytes would ask now, and why; those that would not be asked come last.
    #[must_use]
    pub fn explain(&self, want_len: u64) -> Vec<Explained> {
        let now = Instant::now();
        let candidates: Vec<Candidate> = (0..self.known.len()).map(|at| self.candidate(at, now)).collect();
        let plan = plan(now, &candidates, want_len);
        let explained = |at: usize, reason| {
            let Candidate { asking, standing, first_byte, .. } = candidates[at];
            Explained { id: self.known[at].source.id().clone(), asking, standing, first_byte, reason }
        };
        let others = (0..candidates.len()).filter(|at| plan.iter().all(|choice| choice.index != *at));
        let asked = plan.iter().map(|choice| explained(choice.index, Some(choice.reason)));
        asked.chain(others.map(|at| explained(at, None))).collect()
    }

    /// Begins to buy something; nothing is asked before [`Fetch::next_leg`].
    #[must_use]
    pub fn fetch(self: &Arc<Self>, want: Want, deadline: Instant) -> Fetch {
        Fetch::new(Arc::clone(self), want, deadline)
    }

    /// What is known about each source now, in the order of the configuration.
    #[must_use]
    pub fn report(&self) -> Vec<SourceReport> {
        self.known.iter().map(|known| known.report(self.asking(known))).collect()
    }

    /// One source as the planner sees it, before a fetch adds what it has seen itself.
    pub(crate) fn candidate(&self, index: usize, now: Instant) -> Candidate {
        let known = &self.known[index];
        let health = known.health();
        Candidate {
            asking: self.asking(known),
            standing: health.standing(),
            first_byte: health.first_byte(),
            slow: health.is_slow(now, &self.config),
            favourite: self.favourite.load(Ordering::Relaxed) == index,
            tried: false,
            absent: false,
        }
    }

    fn asking(&self, known: &Known) -> Asking {
        let Posted { byte, request, beyond, link } = &known.posted;
        let link = self.allowances.get(link.load(Ordering::Relaxed));
        let spent = link.is_some_and(|left| left.load(Ordering::Relaxed) <= 0);
        let byte = if spent { beyond } else { byte };
        let rate = |posted: &AtomicU64| Rate::attodollars(posted.load(Ordering::Relaxed));
        Asking { byte: rate(byte), request: rate(request) }
    }

    /// Bytes that came over a link use up its allowance.
    fn took(&self, known: &Known, count: u64) {
        let link = known.posted.link.load(Ordering::Relaxed);
        if let Some(left) = self.allowances.get(link) {
            left.fetch_sub(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// A draw that depends on the seed, the source and how many draws came before, and on nothing else.
    fn jitter(&self, id: &SourceId) -> u16 {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        let name =
            id.as_str().bytes().fold(self.config.jitter_seed, |mixed, byte| mix(mixed ^ u64::from(byte)));
        (mix(name ^ draw) >> 48) as u16
    }
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What so many cost, for the counter of spend.
fn picodollars(rate: Rate, count: u64) -> u64 {
    u64::try_from(rate.of(count).picodollars()).unwrap_or_default()
}

impl Known {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, asking: Asking) -> SourceReport {
        let health = self.health();
        SourceReport {
            id: self.source.id().clone(),
            kind: self.source.kind(),
            price: self.price,
            asking,
            standing: health.standing(),
            failures: health.failures(),
            first_byte: health.first_byte(),
            bytes: self.metrics.bytes.get(),
            requests: self.metrics.requests(),
            spend_picodollars: self.metrics.spend.get(),
        }
    }
}

/// One request to one source, from the question to its end. It tells health and metrics what happened, exactly
/// once; dropped without a word it was our own choice and is no evidence.
pub(crate) struct Transfer {
    sources: Arc<Sources>,
    index: usize,
    started: Instant,
    trial: bool,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Transfer {
    pub(crate) fn begin(sources: Arc<Sources>, index: usize, permit: OwnedSemaphorePermit) -> Self {
        let (started, known) = (Instant::now(), &sources.known[index]);
        let mut health = known.health();
        let trial = health.begin(started);
        known.metrics.stands(health.standing());
        drop(health);
        known.metrics.spend.inc_by(picodollars(sources.asking(known).request, 1));
        Self { sources, index, started, trial, ended: false, _permit: permit }
    }

    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.known().source
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    fn known(&self) -> &Known {
        &self.sources.known[self.index]
    }

    pub(crate) fn saw_first_byte(&self) {
        let now = Instant::now();
        let took = now - self.started;
        self.known().metrics.first_byte.observe(took.as_secs_f64());
        self.known().health().saw_first_byte(now, took);
    }

    pub(crate) fn saw_bytes(&self, count: u64) {
        let known = self.known();
        known.metrics.bytes.inc_by(count);
        known.metrics.spend.inc_by(picodollars(self.sources.asking(known).byte, count));
        self.sources.took(known, count);
    }

    pub(crate) fn delivered(&mut self) {
        if self.end(Outcome::Delivered, Health::delivered) {
            self.sources.favourite.store(self.index, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&mut self, error: &SourceError) {
        let (trial, reason) = (self.trial, error.reason);
        let jitter = self.sources.jitter(self.source().id());
        let sources = Arc::clone(&self.sources);
        let ended = self.end(Outcome::Failed(reason), |health, now| {
            health.failed(now, reason, trial, jitter, &sources.config.breaker);
        });
        if ended && !reason.is_absence() {
            self.tell(reason, &error.detail);
        }
    }

    /// Wrong bytes are for people to look at; the rest is weather.
    fn tell(&self, reason: Reason, detail: &str) {
        let (source, reason_text) = (self.source().id(), reason.as_str());
        match reason {
            Reason::Corrupt | Reason::Changed | Reason::Refused => {
                tracing::warn!(%source, reason = reason_text, detail, "a source failed");
            }
            _ => tracing::debug!(%source, reason = reason_text, detail, "a source failed"),
        }
    }

    /// `false` if the end was told before: the first word counts.
    fn end(&mut self, outcome: Outcome, tell: impl FnOnce(&mut Health, Instant)) -> bool {
        if std::mem::replace(&mut self.ended, true) {
            return false;
        }
        let known = self.known();
        known.metrics.ended(outcome);
        let mut health = known.health();
        tell(&mut health, Instant::now());
        known.metrics.stands(health.standing());
        true
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let trial = self.trial;
        self.end(Outcome::Dropped, |health, now| health.abandoned(now, trial));
    }
}
