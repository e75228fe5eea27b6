//! Log set-up and metric handles. Label values come from closed lists; no title, viewer or package is ever one.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("log.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else set one up.
    #[error("the log is set up already: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends log lines to standard error for the rest of the process.
///
/// # Errors
/// [`LogError`] when the filter is malformed.
pub fn start_log(log: &Log) -> Result<(), LogError> {
    let filter: EnvFilter = log.filter.parse()?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
        LogFormat::Text => lines.finish().try_init()?,
    }
    Ok(())
}

/// The program's metrics.
pub struct Metrics {
    /// Answers by route and status class.
    pub requests: IntCounterVec,
    /// From a request's head read to its answer's head ready, by route.
    pub request_seconds: HistogramVec,
    /// Decisions on playback sessions, by what was decided.
    pub sessions: IntCounterVec,
    /// Purchases recorded, by kind.
    pub purchases: IntCounterVec,
    /// Purchases that a repeated request asked for again.
    pub purchase_replays: IntCounter,
    /// Steps of orders, by event.
    pub order_events: IntCounterVec,
    /// Orders that wait for the payment service, as the last recovery saw them.
    pub orders_waiting: IntGauge,
    /// Settled ingests, by outcome.
    pub ingests: IntCounterVec,
    /// Effects of ingests, by effect and outcome.
    pub effects: IntCounterVec,
    /// From an effect's start to its end, by effect.
    pub effect_seconds: HistogramVec,
    /// Ingests that wait for their turn.
    pub waiting: IntGauge,
    /// Ingests at work.
    pub running: IntGauge,
    /// Bytes put into the package store.
    pub published_bytes: IntCounter,
    /// From a submission to its publication.
    pub publish_seconds: Histogram,
}

impl Metrics {
    /// Makes the handles and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let add = Adder { registry };
        Ok(Self {
            requests: add.counters("requests_total", "Answers of the API", &["route", "status"])?,
            request_seconds: add.times(
                "request_seconds",
                "From a request's head read to its answer's head ready",
                &["route"],
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0],
            )?,
            sessions: add.counters("sessions_total", "Decisions on playback sessions", &["decision"])?,
            purchases: add.counters("purchases_total", "Purchases and rentals recorded", &["kind"])?,
            purchase_replays: add
                .counter("purchase_replays_total", "Purchases asked for again under the same key")?,
            order_events: add.counters("order_events_total", "Steps of orders", &["event"])?,
            orders_waiting: add.gauge("orders_waiting", "Orders that wait for the payment service")?,
            ingests: add.counters("ingests_total", "Ingests that settled", &["outcome"])?,
            effects: add.counters(
                "ingest_effects_total",
                "Effects of ingests that ended",
                &["effect", "outcome"],
            )?,
            effect_seconds: add.times(
                "ingest_effect_seconds",
                "From an effect's start to its end",
                &["effect"],
                &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43_200.0],
            )?,
            waiting: add.gauge("ingests_waiting", "Ingests that wait for their turn")?,
            running: add.gauge("ingests_running", "Ingests at work")?,
            published_bytes: add.counter("published_bytes_total", "Bytes put into the package store")?,
            publish_seconds: add.histogram(
                "publish_seconds",
                "From a submission to its publication",
                &[10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0],
            )?,
        })
    }
}

struct Adder<'a> {
    registry: &'a Registry,
}

impl Adder<'_> {
    fn put<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: C,
    ) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.put(IntCounter::new(full(name), help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.put(IntCounterVec::new(Opts::new(full(name), help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.put(IntGauge::new(full(name), help)?)
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.put(Histogram::with_opts(HistogramOpts::new(full(name), help).buckets(bounds.to_vec()))?)
    }

    fn times(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        bounds: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.put(HistogramVec::new(HistogramOpts::new(full(name), help).buckets(bounds.to_vec()), labels)?)
    }
}

fn full(name: &str) -> String {
    format!("weir_control_plane_{name}")
}
