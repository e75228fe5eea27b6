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
    /// Another source, asked later, sent its first byte earlier.
    Overtaken,
    /// It failed.
    Failed(Reason),
}

impl Outcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Overtaken => "overtaken",
            Self::Failed(reason) => reason.as_str(),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Delivered, Self::Dropped, Self::Overtaken].into_iter().chain(Reason::ALL.map(Self::Failed))
    }
}

/// What became of the wish to ask a second source.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hedge {
    /// It was asked.
    Sent,
    /// There was no budget, or no permit.
    Denied,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Probe {
    /// The source is alive.
    Answered,
    /// It is not.
    Failed,
}

/// The families; one for the room.
pub(crate) struct Metrics {
    bytes: IntCounterVec,
    requests: IntCounterVec,
    first_byte: HistogramVec,
    breaker: IntGaugeVec,
    spend: IntCounterVec,
    hedges: IntCounterVec,
    probes: IntCounterVec,
    rests: IntCounterVec,
    retries_denied: IntCounterVec,
    permits: IntGaugeVec,
    urgent: IntCounter,
}

/// One source's handles.
pub(crate) struct SourceMetrics {
    pub(crate) bytes: IntCounter,
    pub(crate) spend: IntCounter,
    pub(crate) first_byte: Histogram,
    pub(crate) rests: IntCounter,
    pub(crate) retries_denied: IntCounter,
    pub(crate) permits: IntGauge,
    requests: Vec<(Outcome, IntCounter)>,
    breaker: IntGauge,
    /// Sent and denied.
    hedges: [IntCounter; 2],
    /// Answered and failed.
    probes: [IntCounter; 2],
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
        let hedges =
            Opts::new("weir_sourcing_hedges_total", "Second sources asked for the same bytes, or not");
        let probes = Opts::new("weir_sourcing_probes_total", "Probes of a source, by how they ended");
        let rests = Opts::new("weir_sourcing_rests_total", "How often a source in use was sent to rest");
        let denied = Opts::new(
            "weir_sourcing_retries_denied_total",
            "Transfers that were not tried again at the same source: the budget was used up",
        );
        let permits =
            Opts::new("weir_sourcing_permits", "Most transfers from a source at the same time, now");
        let metrics = Self {
            hedges: IntCounterVec::new(hedges, &["source", "result"])?,
            probes: IntCounterVec::new(probes, &["source", "result"])?,
            rests: IntCounterVec::new(rests, SOURCE)?,
            retries_denied: IntCounterVec::new(denied, SOURCE)?,
            permits: IntGaugeVec::new(permits, SOURCE)?,
            urgent: IntCounter::new(
                "weir_sourcing_urgent_bytes_total",
                "Bytes wanted from a dearer source because the cheapest would have been too late",
            )?,
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
        registry.register(Box::new(metrics.hedges.clone()))?;
        registry.register(Box::new(metrics.probes.clone()))?;
        registry.register(Box::new(metrics.rests.clone()))?;
        registry.register(Box::new(metrics.retries_denied.clone()))?;
        registry.register(Box::new(metrics.permits.clone()))?;
        registry.register(Box::new(metrics.urgent.clone()))?;
        Ok(metrics)
    }

    /// Bytes wanted in haste.
    pub(crate) fn urgent(&self) -> IntCounter {
        self.urgent.clone()
    }

    pub(crate) fn of(&self, source: &SourceId) -> SourceMetrics {
        let label = &[source.as_str()];
        let requests =
            |outcome: Outcome| self.requests.with_label_values(&[source.as_str(), outcome.as_str()]);
        let result = |family: &IntCounterVec, result| family.with_label_values(&[source.as_str(), result]);
        SourceMetrics {
            hedges: ["sent", "denied"].map(|word| result(&self.hedges, word)),
            probes: ["answered", "failed"].map(|word| result(&self.probes, word)),
            rests: self.rests.with_label_values(label),
            retries_denied: self.retries_denied.with_label_values(label),
            permits: self.permits.with_label_values(label),
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

    pub(crate) fn hedged(&self, hedge: Hedge) {
        self.hedges[hedge as usize].inc();
    }

    pub(crate) fn probed(&self, probe: Probe) {
        self.probes[probe as usize].inc();
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
