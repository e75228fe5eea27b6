//! What prices are for. A gibibyte and a gigabyte are two types: mixing them is a 7.4 % error.

use std::str::FromStr;

/// So many gibibytes: 2^30 bytes each, as AWS meters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GiB(pub u64);

/// So many gigabytes: 10^9 bytes each, as CDNs, hosters and carriers meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gb(pub u64);

impl GiB {
    /// So many tebibytes, which AWS calls TB.
    #[must_use]
    pub const fn tib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// How many bytes that is.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0.saturating_mul(1 << 30)
    }
}

impl Gb {
    /// So many terabytes.
    #[must_use]
    pub const fn tb(count: u64) -> Self {
        Self(count * 1000)
    }

    /// How many bytes that is.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0.saturating_mul(1_000_000_000)
    }
}

/// What one price is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words of the price sheet, in `Unit::as_str`")]
pub enum Unit {
    GiB,
    Gb,
    Tb,
    GiBMonth,
    GbMonth,
    Request,
    Object,
    ObjectMonth,
    Path,
    Line,
    Invocation,
    Minute,
    Hour,
    VcpuHour,
    Month,
    WriteUnit,
    ReadUnit,
    MbpsP95Month,
    ServerMonth,
    Node,
    KwMonth,
    SiteMonth,
    FteMonth,
}

/// A text names no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no unit of a price sheet; known are {known}", known = Unit::ALL.map(Unit::as_str).join(", "))]
pub struct UnitError(String);

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 23] = [
        Self::GiB,
        Self::Gb,
        Self::Tb,
        Self::GiBMonth,
        Self::GbMonth,
        Self::Request,
        Self::Object,
        Self::ObjectMonth,
        Self::Path,
        Self::Line,
        Self::Invocation,
        Self::Minute,
        Self::Hour,
        Self::VcpuHour,
        Self::Month,
        Self::WriteUnit,
        Self::ReadUnit,
        Self::MbpsP95Month,
        Self::ServerMonth,
        Self::Node,
        Self::KwMonth,
        Self::SiteMonth,
        Self::FteMonth,
    ];

    /// The word used in price sheets.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GiB => "GiB",
            Self::Gb => "GB",
            Self::Tb => "TB",
            Self::GiBMonth => "GiB-month",
            Self::GbMonth => "GB-month",
            Self::Request => "request",
            Self::Object => "object",
            Self::ObjectMonth => "object-month",
            Self::Path => "path",
            Self::Line => "line",
            Self::Invocation => "invocation",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::VcpuHour => "vCPU-hour",
            Self::Month => "month",
            Self::WriteUnit => "WRU",
            Self::ReadUnit => "RRU",
            Self::MbpsP95Month => "Mbps-p95-month",
            Self::ServerMonth => "server-month",
            Self::Node => "node",
            Self::KwMonth => "kW-month",
            Self::SiteMonth => "site-month",
            Self::FteMonth => "FTE-month",
        }
    }

    /// How many of what is counted make one of this: bytes of a GiB, requests of a request.
    #[must_use]
    pub const fn size(self) -> u64 {
        match self {
            Self::GiB | Self::GiBMonth => GiB(1).bytes(),
            Self::Gb | Self::GbMonth => Gb(1).bytes(),
            Self::Tb => Gb::tb(1).bytes(),
            _ => 1,
        }
    }

    /// Whether it is for transferred bytes.
    #[must_use]
    pub const fn is_bytes(self) -> bool {
        matches!(self, Self::GiB | Self::Gb | Self::Tb)
    }
}

impl FromStr for Unit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let named = Self::ALL.into_iter().find(|unit| unit.as_str() == text);
        named.ok_or_else(|| UnitError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_words() {
        assert_eq!(GiB::tib(10).bytes(), 10_995_116_277_760);
        assert_eq!(Gb::tb(10).bytes(), 10_000_000_000_000);
        assert_eq!(GiB(u64::MAX).bytes(), u64::MAX);
        for unit in Unit::ALL {
            assert_eq!(unit.as_str().parse(), Ok(unit));
        }
        assert!("GIB".parse::<Unit>().is_err() && "".parse::<Unit>().is_err());
    }
}
