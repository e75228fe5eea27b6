//! Days and billing months (UTC) as plain numbers: the proleptic Gregorian calendar, no clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const DAY_SECONDS: u64 = 86_400;

/// A billing month, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: u32,
    month: u32,
}

/// A text is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no month: write it like 2026-11")]
pub struct MonthError(String);

impl Month {
    /// The month that holds this moment, in Unix seconds.
    #[must_use]
    pub fn of(unix: u64) -> Self {
        let (year, month, _) = civil(unix / DAY_SECONDS);
        Self { year, month }
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { year: self.year, month: month + 1 },
        }
    }

    /// Its first second, in Unix seconds.
    #[must_use]
    pub fn start(self) -> u64 {
        days(self.year, self.month, 1) * DAY_SECONDS
    }

    /// How many seconds it has.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.next().start() - self.start()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        match parse(text) {
            Some((year, Some(month), None)) => Ok(Self { year, month }),
            _ => Err(MonthError(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for Month {
    type Error = MonthError;

    fn try_from(text: String) -> Result<Self, MonthError> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

/// When a price was seen: a year, a month or a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AsOf {
    /// Days from 1970 to the first day of what was named.
    day: u64,
}

impl AsOf {
    /// Reads `2026`, `2026-09` or `2026-09-05`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month, day) = parse(text)?;
        Some(Self { day: days(year, month.unwrap_or(1), day.unwrap_or(1)) })
    }

    /// Whole days from then to this moment, in Unix seconds.
    #[must_use]
    pub fn age_days(self, unix: u64) -> u64 {
        (unix / DAY_SECONDS).saturating_sub(self.day)
    }
}

fn parse(text: &str) -> Option<(u32, Option<u32>, Option<u32>)> {
    let number = |part: &str, digits: usize| {
        let fits = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse::<u32>().ok()).flatten()
    };
    let mut parts = text.split('-');
    let year = number(parts.next()?, 4).filter(|year| (1970..=9999).contains(year))?;
    let part = |part: Option<&str>, most: u32| match part {
        None => Some(None),
        Some(part) => number(part, 2).filter(|n| (1..=most).contains(n)).map(Some),
    };
    let (month, day) = (part(parts.next(), 12)?, part(parts.next(), 31)?);
    parts.next().is_none().then_some((year, month, day))
}

/// Days from 1970-01-01 to a date; years are shifted so that the leap day is a year's last.
fn days(year: u32, month: u32, day: u32) -> u64 {
    let year = u64::from(year) - u64::from(month <= 2);
    let day_of_year = (153 * u64::from((month + 9) % 12) + 2) / 5 + u64::from(day) - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    days.saturating_sub(719_468)
}

/// The date so many days after 1970-01-01.
fn civil(days: u64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months() {
        for (unix, month, start, days) in [
            (0, "1970-01", 0, 31),
            (1_709_164_800, "2024-02", 1_706_745_600, 29),
            (1_764_547_199, "2025-11", 1_761_955_200, 30),
            (1_764_547_200, "2025-12", 1_764_547_200, 31),
            (4_107_542_399, "2100-02", 4_105_123_200, 28),
        ] {
            let of = Month::of(unix);
            assert_eq!((of.to_string().as_str(), of.start(), of.seconds()), (month, start, days * 86_400));
            assert_eq!(month.parse(), Ok(of));
        }
        for bad in ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2026-11-"] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_there_and_back() {
        for day in 0..146_097 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn ages() {
        let now = 1_764_547_200;
        for (text, age) in [("2025-12-01", 0), ("2025-11-30", 1), ("2025-11", 30), ("2025", 334), ("2027", 0)]
        {
            assert_eq!(AsOf::parse(text).map(|as_of| as_of.age_days(now)), Some(age), "{text}");
        }
        assert_eq!(AsOf::parse("undated"), None);
    }
}
