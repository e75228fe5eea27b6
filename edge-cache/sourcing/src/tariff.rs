//! What bytes cost: money, units, tiers and the price sheet. Pure values; no clock, no I/O, no floats summed.
//!
//! A [`Sheet`] is read from text and checked as a whole: a price without a unit, tiers that overlap or leave a
//! gap, a tier in another unit than its price, or a key that no sheet has is refused with its line. A
//! [`Ladder`] is one price by volume; a month's bill is its exact integral, never bytes times a rate.
//!
//! What it does not do: it knows no source and counts nothing (the meter does), and it does not fetch prices.

mod calendar;
mod ladder;
mod load;
mod money;
mod sheet;
pub mod transit;
mod unit;

#[cfg(test)]
mod tests;

pub use calendar::{AsOf, Month, MonthError};
pub use ladder::{Ladder, Rate};
pub use load::{Problem, SheetError};
pub use money::{Dollars, DollarsError};
pub use sheet::{Confidence, Discount, Doubt, Entry, Plan, Provenance, Remark, Sheet, Terms, Unknown};
pub use unit::{Gb, GiB, Unit, UnitError};
