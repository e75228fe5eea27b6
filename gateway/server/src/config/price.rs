//! Prices as people write them, exact to the picodollar: decimal text, never a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sourcing::Price;

/// Digits after the point that a picodollar has.
const PICO_DIGITS: usize = 12;

/// Why a text is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PriceError {
    #[error("{0:?} is no price: write dollars as a decimal text such as \"0.085\"")]
    Shape(String),
    #[error("{0:?} is finer than a thousandth of a dollar per GB, which is 1 picodollar per byte")]
    TooFine(String),
    #[error("{0:?} is finer than a picodollar (12 digits after the point)")]
    TooFineRequest(String),
    #[error("{0:?} dollars is more than anything costs")]
    TooMuch(String),
}

/// Dollars for 10^9 bytes (GB, as clouds bill; not GiB). Resolution 0.001 dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct UsdPerGb {
    picodollars_per_byte: u64,
}

/// Dollars for one request. Resolution 10^-12 dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct UsdPerRequest {
    picodollars: u64,
}

/// What a source charges, as the planner counts it.
pub(crate) fn price(bytes: UsdPerGb, request: UsdPerRequest) -> Price {
    Price { picodollars_per_byte: bytes.picodollars_per_byte, picodollars_per_request: request.picodollars }
}

impl FromStr for UsdPerGb {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        // 10^12 picodollars to the dollar, 10^9 bytes to the GB.
        let picodollars_per_byte = decimal(text, 3, PriceError::TooFine)?;
        Ok(Self { picodollars_per_byte })
    }
}

impl FromStr for UsdPerRequest {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        Ok(Self { picodollars: decimal(text, PICO_DIGITS, PriceError::TooFineRequest)? })
    }
}

/// A decimal number scaled by 10^`digits`, exactly or not at all.
fn decimal(text: &str, digits: usize, too_fine: fn(String) -> PriceError) -> Result<u64, PriceError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !number(whole) || !number(fraction) {
        return Err(PriceError::Shape(text.chars().take(40).collect()));
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > digits {
        return Err(too_fine(text.chars().take(40).collect()));
    }
    // A thousand dollars for a GB or a request is a slip of the pen.
    let scaled = format!("{whole}{fraction:0<digits$}").parse::<u64>().ok();
    let scaled = scaled.filter(|_| whole.trim_start_matches('0').len() <= 3);
    scaled.ok_or_else(|| PriceError::TooMuch(text.chars().take(40).collect()))
}

fn show(f: &mut fmt::Formatter<'_>, scaled: u64, digits: usize) -> fmt::Result {
    let text = format!("{scaled:0>width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    match fraction.trim_end_matches('0') {
        "" => write!(f, "{whole}"),
        fraction => write!(f, "{whole}.{fraction}"),
    }
}

impl fmt::Display for UsdPerGb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.picodollars_per_byte, 3)
    }
}

impl fmt::Display for UsdPerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.picodollars, PICO_DIGITS)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = PriceError;

            fn try_from(text: String) -> Result<Self, PriceError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(price: $name) -> String {
                price.to_string()
            }
        }
    };
}

as_text!(UsdPerGb);
as_text!(UsdPerRequest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, picodollars, shown) in [
            ("0.085", 85, "0.085"),
            ("0.09", 90, "0.09"),
            ("0", 0, "0"),
            ("0.000", 0, "0"),
            ("1", 1_000, "1"),
        ] {
            let price: UsdPerGb = text.parse().expect(text);
            assert_eq!((price.picodollars_per_byte, price.to_string().as_str()), (picodollars, shown));
        }
        for (text, picodollars, shown) in [
            ("0.0000004", 400_000, "0.0000004"),
            ("0.000000000001", 1, "0.000000000001"),
            ("0.000001", 1_000_000, "0.000001"),
            ("999", 999_000_000_000_000, "999"),
        ] {
            let price: UsdPerRequest = text.parse().expect(text);
            assert_eq!((price.picodollars, price.to_string().as_str()), (picodollars, shown));
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        let refused = |text: &str| text.parse::<UsdPerGb>().expect_err(text);
        for text in ["", ".", ".5", "5.", "-1", "+1", "1e3", "0,085", "0.0.1", "$1", " 1"] {
            assert!(matches!(refused(text), PriceError::Shape(_)), "{text:?}");
        }
        assert!(matches!(refused("0.0125"), PriceError::TooFine(_)));
        assert!(matches!(refused("1000"), PriceError::TooMuch(_)));
        assert!(matches!(refused("99999999999999999999"), PriceError::TooMuch(_)));
        assert!(matches!("0.0000000000001".parse::<UsdPerRequest>(), Err(PriceError::TooFineRequest(_))));
    }
}
