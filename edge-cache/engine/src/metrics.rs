//! What the engine counts. Handles are resolved once; label values come from closed enums.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};
use sourcing::SourceKind;

use crate::completion::Verdict;
use crate::disk_feed::Departure;
use crate::engine::Outcome;
use crate::error::Failure;
use crate::fill::admission::Gauges;

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Whole and handed to the store.
    Stored,
    /// Everything that was wanted of it, and handed to the store.
    Part,
    /// Nobody was left to wait for it and the rest was not worth its price. What had come went to the store.
    Abandoned,
    /// It failed.
    Failed(Failure),
    /// Its task was stopped from outside: the runtime is shutting down.
    Stopped,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Part => "part",
            Self::Abandoned => "abandoned",
            Self::Failed(failure) => failure.as_str(),
            Self::Stopped => "stopped",
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Stored, Self::Part, Self::Abandoned, Self::Stopped]
            .into_iter()
            .chain(Failure::ALL.map(Self::Failed))
    }
}

/// One counter for each value of a closed enum.
struct Each<T>(Vec<(T, IntCounter)>);

impl<T: PartialEq> Each<T> {
    fn add(&self, value: &T, count: u64) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| known == value) {
            counter.inc_by(count);
        }
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, counter)| counter.get()).sum()
    }
}

pub(crate) struct Metrics {
    requests: Each<Outcome>,
    bytes: Each<Outcome>,
    failures: Each<Failure>,
    fills: Each<End>,
    verify_failures: Each<SourceKind>,
    completions: Each<Verdict>,
    departures: Each<Departure>,
    pub(crate) fill_seconds: Histogram,
    pub(crate) running_fills: IntGauge,
    pub(crate) strands: IntCounter,
    pub(crate) group_bytes: IntGauge,
    pub(crate) stale: IntCounter,
    pub(crate) admission: Gauges,
}

/// A segment from a neighbour takes milliseconds, one from far away seconds.
const FILL_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Name, help and label of counters that differ in one label.
type Family = (&'static str, &'static str, &'static str);

const REQUESTS: Family =
    ("weir_engine_requests_total", "Requests whose first byte was at hand, by where from", "outcome");
const BYTES: Family = ("weir_engine_bytes_total", "Body bytes handed to the front, by where from", "outcome");
const FAILURES: Family =
    ("weir_engine_failures_total", "Requests that failed, before or after their first byte", "reason");
const FILLS: Family = ("weir_engine_fills_total", "Fills, by how they ended", "end");
const VERIFY_FAILURES: Family =
    ("weir_engine_verify_failures_total", "Bytes refused for their digest, by kind of source", "kind");
const COMPLETIONS: Family = (
    "weir_engine_completions_total",
    "Fills that nobody waited for any more, by whether the rest was bought",
    "verdict",
);
const DEPARTURES: Family =
    ("weir_engine_disk_departures_total", "Viewers who went on elsewhere than on disk", "reason");

const FILL_SECONDS: (&str, &str) = (
    "weir_engine_fill_seconds",
    "From the first viewer's arrival to the last verified group, waits included; whole fills only",
);
const RUNNING: (&str, &str) = ("weir_engine_running_fills", "Fills that wait or fetch");
const STRANDS: (&str, &str) =
    ("weir_engine_strands_total", "Runs of missing groups that fills began to fetch");
const GROUP_BYTES: (&str, &str) = (
    "weir_engine_group_bytes",
    "Bytes of bought groups that anything still holds: fills, the memory tier, viewers",
);
const STALE: (&str, &str) =
    ("weir_engine_stale_total", "Responses with bytes that were purged softly, because no source delivered");
const BUFFERED: (&str, &str) =
    ("weir_engine_buffered_bytes", "Bytes set aside for fills that fetch or linger for slow viewers");
const LINGERING: (&str, &str) =
    ("weir_engine_lingering_fills", "Fills that ended and are kept for viewers who still read them");
const CUT_READERS: (&str, &str) =
    ("weir_engine_cut_readers_total", "Slow viewers whose ended fill made room for a new one");

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |(name, help)| registered(IntGauge::new(name, help)?, registry);
        let counter = |(name, help)| registered(IntCounter::new(name, help)?, registry);
        let outcomes = || Outcome::ALL.map(|outcome| (outcome, outcome.as_str()));
        let seconds = HistogramOpts::new(FILL_SECONDS.0, FILL_SECONDS.1).buckets(FILL_BUCKETS.to_vec());
        let failures = Failure::ALL.map(|failure| (failure, failure.as_str()));
        let verdicts = Verdict::ALL.map(|verdict| (verdict, verdict.as_str()));
        let departures = Departure::ALL.map(|departure| (departure, departure.as_str()));
        let admission = Gauges {
            buffered: gauge(BUFFERED)?,
            lingering: gauge(LINGERING)?,
            cut_readers: counter(CUT_READERS)?,
        };
        Ok(Self {
            requests: each(REQUESTS, outcomes(), registry)?,
            bytes: each(BYTES, outcomes(), registry)?,
            failures: each(FAILURES, failures, registry)?,
            fills: each(FILLS, End::all().map(|end| (end, end.as_str())), registry)?,
            verify_failures: each(
                VERIFY_FAILURES,
                SourceKind::ALL.map(|kind| (kind, kind.as_str())),
                registry,
            )?,
            completions: each(COMPLETIONS, verdicts, registry)?,
            departures: each(DEPARTURES, departures, registry)?,
            fill_seconds: registered(Histogram::with_opts(seconds)?, registry)?,
            running_fills: gauge(RUNNING)?,
            strands: counter(STRANDS)?,
            group_bytes: gauge(GROUP_BYTES)?,
            stale: counter(STALE)?,
            admission,
        })
    }

    pub(crate) fn served(&self, outcome: Outcome) {
        self.requests.add(&outcome, 1);
    }

    pub(crate) fn sent(&self, outcome: Outcome, bytes: usize) {
        self.bytes.add(&outcome, bytes as u64);
    }

    /// Bytes and requests, over all outcomes.
    pub(crate) fn delivered(&self) -> (u64, u64) {
        (self.bytes.sum(), self.requests.sum())
    }

    pub(crate) fn failed(&self, failure: Failure) {
        self.failures.add(&failure, 1);
    }

    pub(crate) fn filled(&self, end: End) {
        self.fills.add(&end, 1);
    }

    pub(crate) fn completion(&self, verdict: Verdict) {
        self.completions.add(&verdict, 1);
    }

    pub(crate) fn departed(&self, departure: Departure) {
        self.departures.add(&departure, 1);
    }

    pub(crate) fn verify_failed(&self, kind: SourceKind) {
        self.verify_failures.add(&kind, 1);
    }
}

fn each<T>(
    (name, help, label): Family,
    values: impl IntoIterator<Item = (T, &'static str)>,
    registry: &Registry,
) -> prometheus::Result<Each<T>> {
    let family = registered(IntCounterVec::new(Opts::new(name, help), &[label])?, registry)?;
    let counter = |(value, word)| (value, family.with_label_values(&[word]));
    Ok(Each(values.into_iter().map(counter).collect()))
}

fn registered<C: Collector + Clone + 'static>(collector: C, registry: &Registry) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone())).map(|()| collector)
}
