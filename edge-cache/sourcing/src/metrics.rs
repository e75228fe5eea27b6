//! What buying counts. Handles are resolved once for each source; the `source` label is bounded by the
//! configuration.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::health::Standing;
use crate::source::{Reason, SourceId};

/// How a request to a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every promised byte came.
    Delivered,
    /// We lost interest before the end.
    Dropped,
    /// It failed.
    Failed(Reason),
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Failed(reason) => reason.as_str(),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Delivered, Self::Dropped].into_iter().chain(Reason::ALL.map(Self::Failed))
    }
}

/// The families; one for the room.
pub(crate) struct Metrics {
    bytes: IntCounterVec,
    requests: IntCounterVec,
    first_byte: HistogramVec,
    breaker: IntGaugeVec,
    spend: IntCounterVec,
}

/// One source's handles.
pub(crate) struct SourceMetrics {
    pub(crate) bytes: IntCounter,
    pub(crate) spend: IntCounter,
    pub(crate) first_byte: Histogram,
    requests: Vec<(Outcome, IntCounter)>,
    breaker: IntGauge,
}

const SOURCE: &[&str] = &["source"];

/// From a neighbour's memory to the longest patience anybody configures.
const FIRST_BYTE_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let first_byte = HistogramOpts::new(
            "weir_sourcing_first_byte_seconds",
            "From asking a source (a transfer permit is in hand) to the first byte of its body",
        );
        let first_byte = HistogramVec::new(first_byte.buckets(FIRST_BYTE_BUCKETS.to_vec()), SOURCE)?;
        let bytes = Opts::new("weir_sourcing_bytes_total", "Body bytes bought, those later refused included");
        let requests = Opts::new("weir_sourcing_requests_total", "Requests to a source, by how they ended");
        let breaker = Opts::new("weir_sourcing_breaker_state", "0 in use, 1 on trial, 2 resting");
        let spend = Opts::new(
            "weir_sourcing_spend_picodollars_total",
            "Marginal price of the bytes and requests bought; 10^12 are one US dollar",
        );
        let metrics = Self {
            bytes: IntCounterVec::new(bytes, SOURCE)?,
            requests: IntCounterVec::new(requests, &["source", "outcome"])?,
            first_byte,
            breaker: IntGaugeVec::new(breaker, SOURCE)?,
            spend: IntCounterVec::new(spend, SOURCE)?,
        };
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.first_byte.clone()))?;
        registry.register(Box::new(metrics.breaker.clone()))?;
        registry.register(Box::new(metrics.spend.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn of(&self, source: &SourceId) -> SourceMetrics {
        let label = &[source.as_str()];
        let requests =
            |outcome: Outcome| self.requests.with_label_values(&[source.as_str(), outcome.as_str()]);
        SourceMetrics {
            bytes: self.bytes.with_label_values(label),
            spend: self.spend.with_label_values(label),
            first_byte: self.first_byte.with_label_values(label),
            requests: Outcome::all().map(|outcome| (outcome, requests(outcome))).collect(),
            breaker: self.breaker.with_label_values(label),
        }
    }
}

impl SourceMetrics {
    pub(crate) fn ended(&self, outcome: Outcome) {
        if let Some((_, counter)) = self.requests.iter().find(|(known, _)| *known == outcome) {
            counter.inc();
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.iter().map(|(_, counter)| counter.get()).sum()
    }

    pub(crate) fn stands(&self, standing: Standing) {
        self.breaker.set(match standing {
            Standing::Closed => 0,
            Standing::HalfOpen => 1,
            Standing::Open { .. } => 2,
        });
    }
}
