//! Which prices are in use: fresh ones, unless they would change the order of the sources too soon.
//!
//! A new order sends a node's whole demand elsewhere; tiers and plans that end, or a forecast that wavers,
//! must not make it swing. So the order changes at most once in [`HOLD_SECONDS`]. Prices that change nothing
//! in the order are in use at once.

use crate::account::SourcePrice;
use crate::planner::{Cost, with_band};

/// The shortest time between two changes of order.
pub const HOLD_SECONDS: u64 = 300;

/// What the order is judged by: about a segment.
const JUDGED_LEN: u64 = 4_000_000;

/// The prices in use.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    prices: Vec<SourcePrice>,
    changed: Option<u64>,
}

/// What became of fresh prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// In use; the order is as before.
    Same,
    /// In use; the order is another one.
    Changed,
    /// Not in use yet: the order changed a short while ago.
    Held,
}

impl Policy {
    /// Takes fresh prices at this moment (Unix seconds).
    pub fn step(&mut self, now: u64, fresh: &[SourcePrice]) -> Verdict {
        let first = self.prices.len() != fresh.len();
        if !first && !self.reorders(fresh) {
            self.prices.copy_from_slice(fresh);
            return Verdict::Same;
        }
        // A clock that was set back holds nothing for longer than one that was not.
        let too_soon = self.changed.is_some_and(|at| now.abs_diff(at) < HOLD_SECONDS);
        if too_soon && !first {
            return Verdict::Held;
        }
        self.prices = fresh.to_vec();
        self.changed = Some(now);
        if first { Verdict::Same } else { Verdict::Changed }
    }

    /// The prices in use.
    #[must_use]
    pub fn prices(&self) -> &[SourcePrice] {
        &self.prices
    }

    /// Whether any two sources stand otherwise to each other than before: dearer, cheaper, or equal within the
    /// planner's band.
    fn reorders(&self, fresh: &[SourcePrice]) -> bool {
        let cost = |price: &SourcePrice| Cost::of(price.byte, price.request, JUDGED_LEN);
        let pairs = self.prices.iter().zip(fresh);
        let pairs: Vec<(Cost, Cost)> = pairs.map(|(old, new)| (cost(old), cost(new))).collect();
        let dearer = |a: Cost, b: Cost| a > with_band(b);
        pairs.iter().any(|a| pairs.iter().any(|b| dearer(a.0, b.0) != dearer(a.1, b.1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tariff::Rate;

    fn prices(picodollars: &[u64]) -> Vec<SourcePrice> {
        let price = |byte: &u64| SourcePrice { byte: Rate::picodollars(*byte), ..SourcePrice::default() };
        picodollars.iter().map(price).collect()
    }

    #[test]
    fn a_new_order_waits_and_new_figures_do_not() {
        let mut policy = Policy::default();
        let mut step = |now, fresh: &[u64], verdict| {
            assert_eq!(policy.step(now, &prices(fresh)), verdict, "{fresh:?} at {now}");
            policy.prices().iter().map(|price| price.byte.get() / 1_000_000).collect::<Vec<_>>()
        };
        assert_eq!(step(1_000, &[10, 20], Verdict::Same), [10, 20], "the first ones");
        assert_eq!(step(1_001, &[15, 16], Verdict::Same), [15, 16], "the same order");
        assert_eq!(step(1_002, &[16, 16], Verdict::Held), [15, 16], "equals are another order");
        assert_eq!(step(1_299, &[20, 16], Verdict::Held), [15, 16]);
        assert_eq!(step(1_300, &[20, 16], Verdict::Changed), [20, 16]);
        assert_eq!(step(1_301, &[19, 15], Verdict::Same), [19, 15]);
        assert_eq!(step(1_302, &[10, 16], Verdict::Held), [19, 15]);
        assert_eq!(step(5_000, &[10, 16], Verdict::Changed), [10, 16]);
        assert_eq!(step(4_000, &[20, 16], Verdict::Changed), [20, 16], "a clock set back far");
    }

    proptest! {
        #[test]
        fn never_two_changes_within_five_minutes(
            steps in proptest::collection::vec((0u64..200, proptest::collection::vec(0u64..50, 4)), 1..200)
        ) {
            let (mut policy, mut now, mut changes) = (Policy::default(), 1_000, Vec::new());
            for (wait, fresh) in steps {
                now += wait;
                if policy.step(now, &prices(&fresh)) == Verdict::Changed {
                    changes.push(now);
                }
            }
            prop_assert!(changes.windows(2).all(|pair| pair[1] - pair[0] >= HOLD_SECONDS));
        }
    }
}
