//! The link's counters, resolved once.

use prometheus::{Error, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::wire::Status;

/// How our own request to a neighbour ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// Every byte came and was verified.
    Whole,
    /// The neighbour answered with another status.
    Answered(Status),
    /// The neighbour could not be reached.
    Unreachable,
    /// The answer broke off.
    Cut,
    /// The answer broke the protocol or a digest.
    Corrupt,
    /// We lost interest before the end.
    Dropped,
}

impl Fetched {
    const ALL: [Self; 9] = [
        Self::Whole,
        Self::Answered(Status::NotFound),
        Self::Answered(Status::Busy),
        Self::Answered(Status::Refused),
        Self::Answered(Status::Fault),
        Self::Unreachable,
        Self::Cut,
        Self::Corrupt,
        Self::Dropped,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Answered(status) => status.as_str(),
            Self::Unreachable => "unreachable",
            Self::Cut => "cut",
            Self::Corrupt => "corrupt",
            Self::Dropped => "dropped",
        }
    }
}

/// How a neighbour's request to us ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// Every byte was handed to the transport.
    Whole,
    /// Answered with another status.
    Answered(Status),
    /// The neighbour said no more bytes, or its connection broke.
    Stopped,
    /// The neighbour neither asked nor read for too long.
    Stalled,
}

impl Served {
    const ALL: [Self; 7] = [
        Self::Whole,
        Self::Answered(Status::NotFound),
        Self::Answered(Status::Busy),
        Self::Answered(Status::Refused),
        Self::Answered(Status::Fault),
        Self::Stopped,
        Self::Stalled,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Answered(status) => status.as_str(),
            Self::Stopped => "stopped",
            Self::Stalled => "stalled",
        }
    }
}

/// One counter for each outcome, resolved once; there from the first scrape, so that a rate never misses the
/// first event.
#[derive(Debug)]
pub(crate) struct Outcomes<T>(Vec<(T, IntCounter)>);

impl<T: Copy + PartialEq> Outcomes<T> {
    fn register(
        opts: Opts,
        all: &[T],
        word: fn(T) -> &'static str,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let family = IntCounterVec::new(opts, &["outcome"])?;
        registry.register(Box::new(family.clone()))?;
        Ok(Self(all.iter().map(|outcome| (*outcome, family.with_label_values(&[word(*outcome)]))).collect()))
    }

    pub(crate) fn count(&self, outcome: T) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| *known == outcome) {
            counter.inc();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Metrics {
    /// Verified payload bytes that neighbours sent us.
    pub(crate) bytes_in: IntCounter,
    /// Payload bytes read for neighbours; what the transport holds when one leaves is counted too.
    pub(crate) bytes_out: IntCounter,
    /// Live connections that neighbours made to us.
    pub(crate) accepted: IntGauge,
    /// Live connections that we made to neighbours.
    pub(crate) connected: IntGauge,
    /// Handshakes that failed or were refused, in either direction.
    pub(crate) refused_handshakes: IntCounter,
    /// Our requests.
    pub(crate) fetches: Outcomes<Fetched>,
    /// Their requests.
    pub(crate) serves: Outcomes<Served>,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, Error> {
        let bytes = Opts::new(
            "weir_peer_bytes_total",
            "Segment bytes exchanged with neighbours; in: verified, out: read for them",
        );
        let bytes = IntCounterVec::new(bytes, &["direction"])?;
        let connections = Opts::new("weir_peer_connections", "Live connections; in: neighbours made them");
        let connections = IntGaugeVec::new(connections, &["direction"])?;
        let refused = "weir_peer_refused_handshakes_total";
        let refused = IntCounter::new(refused, "Handshakes that one side refused or did not finish")?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let fetches = Opts::new("weir_peer_fetches_total", "Our requests to neighbours, by how they ended");
        let serves = Opts::new("weir_peer_serves_total", "Neighbours' requests to us, by how they ended");
        Ok(Self {
            bytes_in: bytes.with_label_values(&["in"]),
            bytes_out: bytes.with_label_values(&["out"]),
            accepted: connections.with_label_values(&["in"]),
            connected: connections.with_label_values(&["out"]),
            refused_handshakes: refused,
            fetches: Outcomes::register(fetches, &Fetched::ALL, Fetched::as_str, registry)?,
            serves: Outcomes::register(serves, &Served::ALL, Served::as_str, registry)?,
        })
    }
}
