//! The counters of this room, resolved once. There from the first scrape, so that a rate never misses the
//! first event.

use std::sync::Arc;
use std::time::Duration;

use engine::Outcome;
use http::StatusCode;
use media::{Part, RenditionKind, SegmentKey};
use prometheus::{
    Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use rustls::HandshakeKind;

use crate::cmcd::Urgency;
use crate::overload::Shed;
use crate::pulse::Cause;
use crate::record::End;
use crate::refusal::Refusal;

/// One counter for each value of a closed enum.
#[derive(Debug, Clone)]
pub(crate) struct Family<T>(Vec<(T, IntCounter)>);

impl<T: Copy + PartialEq> Family<T> {
    fn register(
        opts: Opts,
        label: &str,
        all: &[T],
        word: fn(T) -> &'static str,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let family = IntCounterVec::new(opts, &[label])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self(all.iter().map(|value| (*value, family.with_label_values(&[word(*value)]))).collect()))
    }

    pub(crate) fn add(&self, value: T, amount: u64) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == value) {
            counter.inc_by(amount);
        }
    }

    pub(crate) fn count(&self, value: T) {
        self.add(value, 1);
    }
}

/// What a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Main,
    Playlist,
    IFrames,
    Init,
    Media(RenditionKind),
    Health,
    Preflight,
    /// Refused before we knew.
    Unknown,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Main,
        Self::Playlist,
        Self::IFrames,
        Self::Init,
        Self::Media(RenditionKind::Video),
        Self::Media(RenditionKind::Audio),
        Self::Media(RenditionKind::Subtitles),
        Self::Media(RenditionKind::Images),
        Self::Media(RenditionKind::TrickPlay),
        Self::Media(RenditionKind::TransportStream),
        Self::Health,
        Self::Preflight,
        Self::Unknown,
    ];

    pub(crate) fn of(key: &SegmentKey, kind: RenditionKind) -> Self {
        match key.part {
            Part::Playlist if kind == RenditionKind::Main => Self::Main,
            Part::Playlist => Self::Playlist,
            Part::IFrames => Self::IFrames,
            Part::Init => Self::Init,
            Part::Media(_) => Self::Media(kind),
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Playlist => "playlist",
            Self::IFrames => "iframes",
            Self::Init => "init",
            Self::Media(kind) => kind.as_str(),
            Self::Health => "health",
            Self::Preflight => "preflight",
            Self::Unknown => "unknown",
        }
    }
}

/// The first digit of a status, or that none was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Success,
    Redirection,
    ClientError,
    ServerError,
    None,
}

impl Class {
    const ALL: [Self; 5] =
        [Self::Success, Self::Redirection, Self::ClientError, Self::ServerError, Self::None];

    fn of(status: Option<StatusCode>) -> Self {
        match status.map(|status| status.as_u16() / 100) {
            Some(2) => Self::Success,
            Some(3) => Self::Redirection,
            Some(4) => Self::ClientError,
            Some(_) => Self::ServerError,
            None => Self::None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::None => "none",
        }
    }
}

/// How a TLS handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    Full,
    Resumed,
    Failed,
    TimedOut,
}

impl Handshake {
    const ALL: [Self; 4] = [Self::Full, Self::Resumed, Self::Failed, Self::TimedOut];

    pub(crate) fn of(kind: Option<HandshakeKind>) -> Self {
        if kind == Some(HandshakeKind::Resumed) { Self::Resumed } else { Self::Full }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
        }
    }
}

/// What is told about connections.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionMetrics {
    open: IntGauge,
    accepted: IntCounter,
    refused: IntCounter,
    refused_address: IntCounter,
    ended: Family<Cause>,
    handshakes: Family<Handshake>,
}

impl ConnectionMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let open =
            IntGauge::new("weir_front_connections", "Open viewer connections, after any TLS handshake")?;
        let accepted = "weir_front_connections_accepted_total";
        let accepted = IntCounter::new(accepted, "Viewer connections that began to speak HTTP")?;
        let refused = "weir_front_connections_refused_total";
        let refused = IntCounter::new(refused, "Viewer connections closed at once: too many are open")?;
        let refused_address = "weir_front_connections_refused_by_address_total";
        let told = "Viewer connections closed at once: too many are open from one address";
        let refused_address = IntCounter::new(refused_address, told)?;
        registry.register(Box::new(refused_address.clone()))?;
        registry.register(Box::new(open.clone()))?;
        registry.register(Box::new(accepted.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let ended = Opts::new("weir_front_connections_ended_total", "Viewer connections, by who ended them");
        let handshakes = Opts::new("weir_front_tls_handshakes_total", "TLS handshakes with viewers");
        Ok(Self {
            open,
            accepted,
            refused,
            refused_address,
            ended: Family::register(ended, "cause", &Cause::ALL, Cause::as_str, registry)?,
            handshakes: Family::register(handshakes, "result", &Handshake::ALL, Handshake::as_str, registry)?,
        })
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn refused_address(&self) {
        self.refused_address.inc();
    }

    pub(crate) fn handshake(&self, result: Handshake) {
        self.handshakes.count(result);
    }

    /// Counts a connection until the returned value is dropped.
    pub(crate) fn opened(&self) -> Open<'_> {
        self.accepted.inc();
        self.open.inc();
        Open(self)
    }
}

/// An open connection.
pub(crate) struct Open<'a>(&'a ConnectionMetrics);

impl Open<'_> {
    pub(crate) fn close(self, cause: Cause) {
        self.0.ended.count(cause);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// How a token was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The signature was checked now.
    Verified,
    /// It had been checked before.
    Remembered,
    /// Refused now.
    Refused,
    /// It had been refused before.
    RefusedAgain,
}

impl Judged {
    const ALL: [Self; 4] = [Self::Verified, Self::Remembered, Self::Refused, Self::RefusedAgain];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Remembered => "remembered",
            Self::Refused => "refused",
            Self::RefusedAgain => "refused-again",
        }
    }
}

/// What became of a request for debugging fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debugged {
    /// The key was right.
    Shown,
    /// It was wrong, or there is none.
    Denied,
}

impl Debugged {
    const ALL: [Self; 2] = [Self::Shown, Self::Denied];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Denied => "denied",
        }
    }
}

/// What is told about requests.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Vec<(Kind, Class, IntCounter)>,
    refusals: Family<Refusal>,
    /// Body bytes handed to the connection.
    bytes: Vec<(Option<Outcome>, IntCounter)>,
    first_byte: Vec<(Outcome, Histogram)>,
    ends: Family<End>,
    pub(crate) in_flight: IntGauge,
    pub(crate) tokens: Family<Judged>,
    pub(crate) lost_lines: IntCounter,
    pub(crate) level: IntGauge,
    pub(crate) shed: Family<Shed>,
    pub(crate) said: Family<Urgency>,
    pub(crate) debugged: Family<Debugged>,
}

/// Seconds; a memory hit is well below a millisecond, a Roku gives up after some ten.
const FIRST_BYTE_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Arc<Self>, Error> {
        let ends = Opts::new("weir_front_responses_ended_total", "Responses, by how their body ended");
        let tokens = Opts::new("weir_front_token_checks_total", "Playback tokens, by how they were judged");
        let refusals = Opts::new("weir_front_refusals_total", "Requests answered with an error, by reason");
        let in_flight = "weir_front_requests_in_flight";
        let in_flight =
            IntGauge::new(in_flight, "Requests that were let in and whose response has not ended")?;
        let lost = "weir_front_access_lines_dropped_total";
        let lost_lines = IntCounter::new(lost, "Access lines dropped because the writer was behind")?;
        let level = "weir_front_overload_level";
        let level = IntGauge::new(
            level,
            "What is given up: 1 prefetch, 2 uploads, 3 disk admission, 4 new sessions, 5 new work",
        )?;
        let shed = Opts::new(
            "weir_front_shed_total",
            "Requests sent away or refused for overload, by what they were",
        );
        let said = Opts::new(
            "weir_front_cmcd_requests_total",
            "Requests whose player reports, by how soon it needs the bytes",
        );
        let debugged = Opts::new(
            "weir_front_debug_requests_total",
            "Requests with Weir-Debug, by whether its key was right",
        );
        registry.register(Box::new(level.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(lost_lines.clone()))?;
        Ok(Arc::new(Self {
            requests: requests(registry)?,
            refusals: Family::register(refusals, "reason", &Refusal::all(), Refusal::code, registry)?,
            bytes: bytes(registry)?,
            first_byte: first_byte(registry)?,
            ends: Family::register(ends, "end", &End::ALL, End::as_str, registry)?,
            in_flight,
            tokens: Family::register(tokens, "judged", &Judged::ALL, Judged::as_str, registry)?,
            lost_lines,
            level,
            shed: Family::register(shed, "what", &Shed::ALL, Shed::as_str, registry)?,
            said: Family::register(said, "urgency", &Urgency::ALL, Urgency::as_str, registry)?,
            debugged: Family::register(debugged, "result", &Debugged::ALL, Debugged::as_str, registry)?,
        }))
    }

    /// Body bytes handed to connections so far.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.bytes.iter().map(|(_, counter)| counter.get()).sum()
    }

    /// Responses under way; refusals are none.
    pub(crate) fn responses(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Counts a response that has ended.
    pub(crate) fn responded(&self, kind: Kind, status: Option<StatusCode>, end: End) {
        let class = Class::of(status);
        if let Some((.., counter)) = self.requests.iter().find(|row| (row.0, row.1) == (kind, class)) {
            counter.inc();
        }
        self.ends.count(end);
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals.count(refusal);
    }

    pub(crate) fn sent(&self, outcome: Option<Outcome>, bytes: u64) {
        if let Some((_, counter)) = self.bytes.iter().find(|(known, _)| *known == outcome) {
            counter.inc_by(bytes);
        }
    }

    pub(crate) fn first_byte(&self, outcome: Outcome, after: Duration) {
        if let Some((_, histogram)) = self.first_byte.iter().find(|(known, _)| *known == outcome) {
            histogram.observe(after.as_secs_f64());
        }
    }
}

fn requests(registry: &Registry) -> Result<Vec<(Kind, Class, IntCounter)>, Error> {
    let opts =
        Opts::new("weir_front_requests_total", "Requests, by what they were about and the status class");
    let family = IntCounterVec::new(opts, &["kind", "class"])?;
    registry.register(Box::new(family.clone()))?;
    let rows = Kind::ALL.into_iter().flat_map(|kind| Class::ALL.into_iter().map(move |class| (kind, class)));
    Ok(rows
        .map(|(kind, class)| (kind, class, family.with_label_values(&[kind.as_str(), class.as_str()])))
        .collect())
}

fn bytes(registry: &Registry) -> Result<Vec<(Option<Outcome>, IntCounter)>, Error> {
    let opts = Opts::new(
        "weir_front_body_bytes_total",
        "Body bytes handed to viewers' connections, by where they came from; none: not from the engine",
    );
    let family = IntCounterVec::new(opts, &["outcome"])?;
    registry.register(Box::new(family.clone()))?;
    let rows = Outcome::ALL.into_iter().map(Some).chain([None]);
    Ok(rows.map(|row| (row, family.with_label_values(&[row.map_or("none", Outcome::as_str)]))).collect())
}

fn first_byte(registry: &Registry) -> Result<Vec<(Outcome, Histogram)>, Error> {
    let opts = HistogramOpts::new(
        "weir_front_first_byte_seconds",
        "From a parsed request head to the first body byte handed to the connection",
    );
    let family = HistogramVec::new(opts.buckets(FIRST_BYTE_BUCKETS.to_vec()), &["outcome"])?;
    registry.register(Box::new(family.clone()))?;
    Ok(Outcome::ALL.into_iter().map(|row| (row, family.with_label_values(&[row.as_str()]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What dashboards and alerts are written against.
    #[test]
    fn the_list() {
        let registry = Registry::new();
        Metrics::register(&registry).expect("registers");
        ConnectionMetrics::register(&registry).expect("registers");
        let families = registry.gather();
        let names: Vec<&str> = families.iter().map(prometheus::proto::MetricFamily::name).collect();
        assert_eq!(
            names,
            [
                "weir_front_access_lines_dropped_total",
                "weir_front_body_bytes_total",
                "weir_front_cmcd_requests_total",
                "weir_front_connections",
                "weir_front_connections_accepted_total",
                "weir_front_connections_ended_total",
                "weir_front_connections_refused_by_address_total",
                "weir_front_connections_refused_total",
                "weir_front_debug_requests_total",
                "weir_front_first_byte_seconds",
                "weir_front_overload_level",
                "weir_front_refusals_total",
                "weir_front_requests_in_flight",
                "weir_front_requests_total",
                "weir_front_responses_ended_total",
                "weir_front_shed_total",
                "weir_front_tls_handshakes_total",
                "weir_front_token_checks_total",
            ]
        );
        for family in &families {
            let series = family.get_metric().len();
            assert!(series <= 80, "{} has {series} series", family.name());
        }
        assert!(Metrics::register(&registry).is_err(), "two fronts cannot share a registry");
    }
}
