//! Values with units: `30s`, `48h`, `64KiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time: `500ms`, `30s`, `48h`, `30days`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |e| format!("{text:?} is no length of time such as \"30s\" or \"48h\": {e}");
        let span = humantime::parse_duration(&text).map_err(wrong)?;
        // A century keeps every sum of two times inside u64 and every timer inside what tokio takes.
        let fine = span > Duration::ZERO && span <= Duration::from_secs(100 * 366 * 86_400);
        fine.then_some(Self(span)).ok_or_else(|| format!("{text:?} is not above zero and below a century"))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        humantime::format_duration(span.0).to_string().replace(' ', "")
    }
}

/// A number of bytes: `512`, `64KiB`, `16MiB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

const UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl Size {
    /// So many KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
        let (number, unit) = unit.unwrap_or((text, 1));
        let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        size.map(Self).ok_or_else(|| format!("{text:?} is no size such as \"64KiB\" or \"16MiB\""))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, size): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*size);
        match UNITS.iter().find(fits) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl From<Size> for String {
    fn from(size: Size) -> String {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("512", 512, "512B"),
            ("64KiB", 65_536, "64KiB"),
            ("16 MiB", 16 << 20, "16MiB"),
            ("5MB", 5_000_000, "5MB"),
            ("0", 0, "0B"),
        ] {
            let size: Size = text.parse().expect(text);
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "KiB", "-1", "1.5MiB", "1 KiBs", "99999999999GiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans() {
        for (text, seconds) in [("30s", 30), ("48h", 172_800), ("30days", 2_592_000), ("1h 30m", 5400)] {
            assert_eq!(Span::try_from(text.to_owned()), Ok(Span::seconds(seconds)));
        }
        assert_eq!(String::from(Span::seconds(5400)), "1h30m");
        for bad in ["", "30", "0s", "-1s", "1000years"] {
            assert!(Span::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
