//! All places this node may buy from, and what is remembered about them.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, Registry};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::account::{MAX_LINKS, SourcePrice};
use crate::budget::Budget;
use crate::config::SourcingConfig;
use crate::fetch::Fetch;
use crate::gate::Gate;
use crate::health::{Health, Standing};
use crate::metrics::{Metrics, SourceMetrics};
use crate::planner::{Asking, Candidate, ChoiceReason, Need, plan};
use crate::price::Price;
use crate::probe::PROBE_LEN;
use crate::source::{Source, SourceId, SourceKind};
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

/// How long probes ask for the same.
const KEEP_SAMPLE: Duration = Duration::from_secs(10);

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
    pub(crate) hedges: Budget,
    retries: Budget,
    haste: Budget,
    urgent: IntCounter,
    /// Whether probes are sent.
    pub(crate) probed: AtomicBool,
    /// What probes ask for: the beginning of something that was delivered lately.
    sample: Mutex<Option<(Want, Instant)>>,
    /// A source was sent to rest, or is back.
    pub(crate) changed: Notify,
}

/// One source and everything remembered about it.
pub(crate) struct Known {
    pub(crate) source: Arc<dyn Source>,
    price: Price,
    posted: Posted,
    health: Mutex<Health>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: SourceMetrics,
    /// It was sent to rest.
    pub(crate) ejected: Notify,
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
    /// How long it still rests.
    pub rest: Option<Duration>,
    /// Average time to the first byte; `None` before the first one.
    pub first_byte: Option<Duration>,
    /// What half of its first bytes of late did not exceed.
    pub first_byte_p50: Option<Duration>,
    /// What 95 of 100 did not exceed.
    pub first_byte_p95: Option<Duration>,
    /// What 99 of 100 did not exceed.
    pub first_byte_p99: Option<Duration>,
    /// Bytes per second while it delivers, averaged.
    pub pace: Option<u64>,
    /// Of its transfers of the last 10 s, how many failed, in percent.
    pub failed_percent: Option<u32>,
    /// How many transfers it may have at the same time now.
    pub permits: usize,
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
            gate: Gate::new(config.permits, config.permit_bytes),
            ejected: Notify::new(),
        });
        let known = known.collect();
        let favourite = AtomicUsize::new(usize::MAX);
        let allowances = [const { AtomicI64::new(i64::MAX) }; MAX_LINKS];
        let hedge = &config.hedge;
        let hedges = Budget::new(hedge.max_extra_percent, hedge.reserve_bytes.bytes());
        let retries = Budget::new(config.retry.max_percent, config.retry.reserve.into());
        let haste = Budget::new(config.urgency.max_percent, config.urgency.reserve_bytes.bytes());
        Ok(Arc::new(Self {
            config,
            known,
            favourite,
            draws: AtomicU64::new(0),
            allowances,
            hedges,
            retries,
            haste,
            urgent: metrics.urgent(),
            probed: AtomicBool::new(false),
            sample: Mutex::default(),
            changed: Notify::new(),
        }))
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
        let plan = plan(now, &candidates, Need::bytes(want_len));
        let explained = |at: usize, reason| self.known[at].explained(now, candidates[at].asking, reason);
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
        let standing = match health.standing() {
            // A probe will try it, so that no viewer must.
            Standing::Open { until } if until <= now && self.is_for_probes(&health) => Standing::HalfOpen,
            standing => standing,
        };
        Candidate {
            asking: self.asking(known),
            standing,
            first_byte: health.first_byte(),
            pace: health.pace(),
            slow: health.is_slow(now, &self.config),
            favourite: self.favourite.load(Ordering::Relaxed) == index,
            rests: health.rests(),
            throttled: health.is_throttled(),
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

    fn is_for_probes(&self, health: &Health) -> bool {
        self.probed.load(Ordering::Relaxed) && !health.is_distrusted() && self.sample().is_some()
    }

    /// What a probe asks for; `None` before anything was delivered.
    pub(crate) fn sample(&self) -> Option<Want> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(want, _)| want.clone())
    }

    /// When the sample was taken: at most 10 s before the newest delivery.
    pub(crate) fn sampled(&self) -> Option<Instant> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, at)| *at)
    }

    /// Something is being delivered: from now on probes may ask for its beginning.
    pub(crate) fn remember(&self, want: &Want) {
        let now = Instant::now();
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = sample.as_ref().is_some_and(|(_, at)| now.saturating_duration_since(*at) < KEEP_SAMPLE);
        if !fresh && let Some(head) = want.head(PROBE_LEN) {
            *sample = Some((head, now));
        }
    }

    /// Whether a source is in use.
    pub(crate) fn is_in_use(&self, index: usize) -> bool {
        self.known[index].health().standing() == Standing::Closed
    }

    /// Whether no other is.
    pub(crate) fn is_last_in_use(&self, index: usize) -> bool {
        (0..self.known.len()).all(|other| other == index || !self.is_in_use(other))
    }

    /// Takes one retry out of the budget, if it is there.
    pub(crate) fn may_retry(&self, index: usize) -> bool {
        let may = self.retries.spend(1);
        if !may {
            self.known[index].metrics.retries_denied.inc();
        }
        may
    }

    /// Takes so many bytes out of the budget of urgency, if they are there.
    pub(crate) fn may_hurry(&self, len: u64) -> bool {
        let may = self.haste.spend(len);
        if may {
            self.urgent.inc_by(len);
        }
        may
    }

    pub(crate) fn delivered(&self, index: usize, bytes: u64) {
        self.favourite.store(index, Ordering::Relaxed);
        self.hedges.earn(bytes);
        self.haste.earn(bytes);
        self.retries.earn(1);
    }

    pub(crate) fn paid_for_a_request(&self, known: &Known) {
        known.metrics.spend.inc_by(picodollars(self.asking(known).request, 1));
    }

    pub(crate) fn paid_for_bytes(&self, known: &Known, count: u64) {
        known.metrics.bytes.inc_by(count);
        known.metrics.spend.inc_by(picodollars(self.asking(known).byte, count));
        self.took(known, count);
    }

    /// Bytes that came over a link use up its allowance.
    fn took(&self, known: &Known, count: u64) {
        let link = known.posted.link.load(Ordering::Relaxed);
        if let Some(left) = self.allowances.get(link) {
            left.fetch_sub(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// A draw that depends on the seed, the source and how many draws came before, and on nothing else.
    pub(crate) fn jitter(&self, id: &SourceId) -> u16 {
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
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A probe heard that it does not hold the sample: it is alive.
    pub(crate) fn answered(&self, now: Instant) {
        let mut health = self.health();
        health.delivered(now);
        self.metrics.stands(health.standing());
    }

    fn explained(&self, now: Instant, asking: Asking, reason: Option<ChoiceReason>) -> Explained {
        let health = self.health();
        let seen = health.first_bytes();
        let rest = match health.standing() {
            Standing::Open { until } => Some(until.saturating_duration_since(now)),
            Standing::Closed | Standing::HalfOpen => None,
        };
        Explained {
            id: self.source.id().clone(),
            asking,
            standing: health.standing(),
            rest,
            first_byte: health.first_byte(),
            first_byte_p50: seen.per_mille(500),
            first_byte_p95: seen.per_mille(950),
            first_byte_p99: seen.per_mille(990),
            pace: health.pace(),
            failed_percent: health.failed_percent(now),
            permits: self.gate.permits(),
            reason,
        }
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
