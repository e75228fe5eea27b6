//! What the engine counts. Handles are resolved once; label values come from closed enums.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};
use sourcing::SourceKind;

use crate::engine::Outcome;
use crate::error::Failure;

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Whole and handed to the store.
    Stored,
    /// Nobody was left to read it and little of it was there.
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
            Self::Abandoned => "abandoned",
            Self::Failed(failure) => failure.as_str(),
            Self::Stopped => "stopped",
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Stored, Self::Abandoned, Self::Stopped].into_iter().chain(Failure::ALL.map(Self::Failed))
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
    pub(crate) fill_seconds: Histogram,
    pub(crate) running_fills: IntGauge,
    pub(crate) buffered_bytes: IntGauge,
}

/// A segment from a neighbour takes milliseconds, one from far away seconds.
const FILL_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let outcomes = || Outcome::ALL.into_iter();
        let seconds =
            "From the first viewer's arrival to the last verified group, waits included; whole fills only";
        let seconds = HistogramOpts::new("weir_engine_fill_seconds", seconds).buckets(FILL_BUCKETS.to_vec());
        let running = IntGauge::new("weir_engine_running_fills", "Fills that wait or fetch")?;
        let buffered = IntGauge::new("weir_engine_buffered_bytes", "Bytes set aside for fills that fetch")?;
        Ok(Self {
            requests: each(
                (
                    "weir_engine_requests_total",
                    "Requests whose first byte was at hand, by where from",
                    "outcome",
                ),
                outcomes().map(|outcome| (outcome, outcome.as_str())),
                registry,
            )?,
            bytes: each(
                ("weir_engine_bytes_total", "Body bytes handed to the front, by where from", "outcome"),
                outcomes().map(|outcome| (outcome, outcome.as_str())),
                registry,
            )?,
            failures: each(
                (
                    "weir_engine_failures_total",
                    "Requests that failed, before or after their first byte",
                    "reason",
                ),
                Failure::ALL.into_iter().map(|failure| (failure, failure.as_str())),
                registry,
            )?,
            fills: each(
                ("weir_engine_fills_total", "Fills, by how they ended", "end"),
                End::all().map(|end| (end, end.as_str())),
                registry,
            )?,
            verify_failures: each(
                (
                    "weir_engine_verify_failures_total",
                    "Bytes refused for their digest, by kind of source",
                    "kind",
                ),
                SourceKind::ALL.into_iter().map(|kind| (kind, kind.as_str())),
                registry,
            )?,
            fill_seconds: registered(Histogram::with_opts(seconds)?, registry)?,
            running_fills: registered(running, registry)?,
            buffered_bytes: registered(buffered, registry)?,
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

    pub(crate) fn verify_failed(&self, kind: SourceKind) {
        self.verify_failures.add(&kind, 1);
    }
}

fn each<T>(
    (name, help, label): (&str, &str, &str),
    values: impl Iterator<Item = (T, &'static str)>,
    registry: &Registry,
) -> prometheus::Result<Each<T>> {
    let family = registered(IntCounterVec::new(Opts::new(name, help), &[label])?, registry)?;
    Ok(Each(values.map(|(value, word)| (value, family.with_label_values(&[word]))).collect()))
}

fn registered<C: Collector + Clone + 'static>(collector: C, registry: &Registry) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone())).map(|()| collector)
}
