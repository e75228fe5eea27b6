//! Money: exact integers, never floats.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits after the point that a picodollar has.
const DIGITS: usize = 12;

/// Picodollars of a dollar.
const PER_DOLLAR: i128 = 1_000_000_000_000;

/// An exact amount of US dollars, in whole picodollars. Sums never drift; what is not a whole number of
/// picodollars is rounded once, where it is divided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dollars(i128);

/// A text is no amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no amount of dollars: write a decimal text such as \"0.085\", at most 12 digits after the point"
)]
pub struct DollarsError(String);

impl Dollars {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many picodollars.
    #[must_use]
    pub const fn from_picodollars(picodollars: i128) -> Self {
        Self(picodollars)
    }

    /// So many dollars.
    #[must_use]
    pub const fn whole(dollars: u32) -> Self {
        Self(dollars as i128 * PER_DOLLAR)
    }

    /// How many picodollars.
    #[must_use]
    pub const fn picodollars(self) -> i128 {
        self.0
    }

    /// How many cents, halves away from zero.
    #[must_use]
    pub const fn cents(self) -> i128 {
        divide(self.0, PER_DOLLAR / 100)
    }

    /// For gauges and ratios only: floats are shown, never summed.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / PER_DOLLAR as f64
    }

    /// So many times this.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count as i128))
    }

    /// `part` of `whole` of this, halves away from zero. Nothing of nothing is nothing.
    #[must_use]
    pub const fn share(self, part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::ZERO;
        }
        Self(divide(self.0.saturating_mul(part as i128), whole as i128))
    }
}

/// Divides by a positive number, halves away from zero.
pub(super) const fn divide(value: i128, by: i128) -> i128 {
    let half = by / 2;
    if value < 0 { (value - half) / by } else { (value + half) / by }
}

impl Add for Dollars {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Dollars {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Dollars {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Dollars {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for Dollars {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl FromStr for Dollars {
    type Err = DollarsError;

    fn from_str(text: &str) -> Result<Self, DollarsError> {
        let wrong = || DollarsError(text.chars().take(40).collect());
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let fine = fraction.trim_end_matches('0');
        if !number(whole) || !number(fraction) || fine.len() > DIGITS || whole.len() > 15 {
            return Err(wrong());
        }
        let picodollars = format!("{whole}{fine:0<DIGITS$}").parse::<i128>().map_err(|_| wrong())?;
        Ok(Self(sign * picodollars))
    }
}

impl TryFrom<String> for Dollars {
    type Error = DollarsError;

    fn try_from(text: String) -> Result<Self, DollarsError> {
        text.parse()
    }
}

impl From<Dollars> for String {
    fn from(dollars: Dollars) -> Self {
        dollars.to_string()
    }
}

/// Every digit there is; with a precision, rounded to it: `{:.2}` shows cents.
impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(DIGITS).min(DIGITS);
        let rounded = divide(self.0, 10_i128.pow((DIGITS - precision) as u32));
        let sign = if rounded < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", rounded.unsigned_abs(), width = precision + 1);
        let (whole, fraction) = digits.split_at(digits.len() - precision);
        let fraction = if f.precision().is_some() { fraction } else { fraction.trim_end_matches('0') };
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_survive_the_round_trip() {
        for (text, picodollars) in [
            ("0", 0),
            ("0.085", 85_000_000_000),
            ("0.0000000025", 2_500),
            ("0.000000000001", 1),
            ("-12.5", -12_500_000_000_000),
            ("528170.2", 528_170_200_000_000_000),
        ] {
            let dollars: Dollars = text.parse().expect(text);
            assert_eq!((dollars.picodollars(), dollars.to_string().as_str()), (picodollars, text));
        }
        assert_eq!("1.500".parse(), Ok(Dollars::from_picodollars(1_500_000_000_000)));
        for bad in ["", ".", ".5", "5.", "+1", "1e3", "0,085", "0.0.1", "$1", " 1", "--1", "0.0000000000001"]
        {
            assert!(bad.parse::<Dollars>().is_err(), "{bad:?}");
        }
        assert!("1234567890123456".parse::<Dollars>().is_err(), "more than anything costs");
    }

    #[test]
    fn rounding_is_half_away_from_zero_and_once() {
        let dollars = |text: &str| text.parse::<Dollars>().expect(text);
        for (text, cents, shown) in [
            ("0.005", 1, "0.01"),
            ("0.0049", 0, "0.00"),
            ("-0.005", -1, "-0.01"),
            ("1234.5", 123_450, "1234.50"),
        ] {
            assert_eq!((dollars(text).cents(), format!("{:.2}", dollars(text)).as_str()), (cents, shown));
        }
        assert_eq!(format!("{:.0}", dollars("0.5")), "1");
        assert_eq!(dollars("1").share(1, 3), dollars("0.333333333333"));
        assert_eq!(dollars("2").share(1, 3), dollars("0.666666666667"));
        assert_eq!(dollars("2").share(1, 0), Dollars::ZERO);
        assert_eq!([dollars("0.1"); 10].into_iter().sum::<Dollars>(), Dollars::whole(1));
    }
}
