//! A price that changes with the month's volume.

use super::money::{Dollars, divide};
use super::unit::Unit;

/// Attodollars of a picodollar.
const ATTO: i128 = 1_000_000;

/// What one more byte or request costs, in attodollars (10^-18 dollars): 0.085 dollars for a GiB are
/// 79,162,419 of them for a byte, so prices for GB and for GiB compare without a visible error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// Free.
    pub const ZERO: Self = Self(0);

    /// So many attodollars.
    #[must_use]
    pub const fn attodollars(count: u64) -> Self {
        Self(count)
    }

    /// So many picodollars.
    #[must_use]
    pub const fn picodollars(count: u64) -> Self {
        Self(count.saturating_mul(ATTO as u64))
    }

    /// How many attodollars.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// What `total` for `count` comes to for one. Free of nothing.
    #[must_use]
    pub fn average(total: Dollars, count: u64) -> Self {
        if count == 0 {
            return Self::ZERO;
        }
        let atto = divide(total.picodollars().max(0).saturating_mul(ATTO), i128::from(count));
        Self(u64::try_from(atto).unwrap_or(u64::MAX))
    }

    /// What `count` cost.
    #[must_use]
    pub fn of(self, count: u64) -> Dollars {
        Dollars::from_picodollars(divide(i128::from(self.0).saturating_mul(i128::from(count)), ATTO))
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// For gauges: dollars for 10^9.
    #[must_use]
    pub fn usd_per_billion(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// Tiers over one month's volume, a free part first. Everything is counted in bytes (or requests); the unit
/// only says what the prices are for, so a tier in GiB and a volume in GB cannot be confused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    unit: Unit,
    free: u64,
    /// Where each step ends (the last one never), and what one unit costs within it.
    steps: Vec<(u64, Dollars)>,
}

impl Ladder {
    /// The same price for everything.
    #[must_use]
    pub fn flat(unit: Unit, price: Dollars) -> Self {
        Self { unit, free: 0, steps: vec![(u64::MAX, price)] }
    }

    /// Whether the steps rise and the last one has no end is the loader's business.
    pub(super) fn new(unit: Unit, free: u64, steps: Vec<(u64, Dollars)>) -> Self {
        Self { unit, free, steps }
    }

    /// What the prices are for.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// How much is free every month.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free
    }

    /// The price of one unit in the first step, before volume makes it cheaper.
    #[must_use]
    pub fn first(&self) -> Dollars {
        self.steps.first().map_or(Dollars::ZERO, |step| step.1)
    }

    /// What a month's volume costs. Exact, rounded to a picodollar once.
    #[must_use]
    pub fn total(&self, volume: u64) -> Dollars {
        let (mut from, mut sum) = (0, 0_i128);
        for (upto, price) in &self.steps {
            let paid = volume.min(*upto).saturating_sub(from.max(self.free));
            sum = sum.saturating_add(i128::from(paid).saturating_mul(price.picodollars()));
            from = *upto;
        }
        Dollars::from_picodollars(divide(sum, i128::from(self.unit.size())))
    }

    /// What the volume between two counts costs.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Dollars {
        self.total(to) - self.total(from)
    }

    /// What the next byte or request costs after so many.
    #[must_use]
    pub fn marginal(&self, at: u64) -> Rate {
        let step = self.steps.iter().find(|(upto, _)| at < *upto).or(self.steps.last());
        match step {
            Some((_, price)) if at >= self.free => Rate::average(*price, self.unit.size()),
            _ => Rate::ZERO,
        }
    }

    /// What a byte or request costs on average over the next `ahead`; the marginal price when that is 0.
    #[must_use]
    pub fn outlook(&self, at: u64, ahead: u64) -> Rate {
        match ahead {
            0 => self.marginal(at),
            _ => Rate::average(self.between(at, at.saturating_add(ahead)), ahead),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tariff::unit::GiB;

    fn usd(text: &str) -> Dollars {
        text.parse().expect(text)
    }

    fn ladder() -> Ladder {
        let steps =
            vec![(GiB(100).bytes(), usd("0.09")), (GiB(300).bytes(), usd("0.05")), (u64::MAX, usd("0.02"))];
        Ladder::new(Unit::GiB, GiB(10).bytes(), steps)
    }

    #[test]
    fn the_free_part_is_of_the_first_tier() {
        for (gib, expected) in [(0, "0"), (10, "0"), (11, "0.09"), (100, "8.1"), (101, "8.15"), (400, "20.1")]
        {
            assert_eq!(ladder().total(GiB(gib).bytes()), usd(expected), "{gib}");
        }
        let rate = |gib| ladder().marginal(GiB(gib).bytes());
        let per_gib = |text| Rate::average(usd(text), GiB(1).bytes());
        assert_eq!([rate(0), rate(9)], [Rate::ZERO; 2]);
        assert_eq!([rate(10), rate(99)], [per_gib("0.09"); 2]);
        assert_eq!([rate(100), rate(299)], [per_gib("0.05"); 2]);
        assert_eq!([rate(300), ladder().marginal(u64::MAX)], [per_gib("0.02"); 2]);
    }

    #[test]
    fn the_unit_decides_what_a_byte_costs() {
        let gib = Ladder::flat(Unit::GiB, usd("0.085"));
        let gb = Ladder::flat(Unit::Gb, usd("0.085"));
        assert_eq!(gb.marginal(0), Rate::picodollars(85));
        assert_eq!(gib.marginal(0), Rate::attodollars(79_162_419));
        assert_eq!(gb.total(GiB(1).bytes()), usd("0.09126805504"));
        assert_eq!(gib.total(GiB(1).bytes()), usd("0.085"));
        assert_eq!(Rate::picodollars(85).of(1_000), Dollars::from_picodollars(85_000));
        assert_eq!(Ladder::flat(Unit::Tb, usd("1.16")).total(2_500_000_000_000), usd("2.9"));
    }

    proptest! {
        #[test]
        fn a_bill_is_the_sum_of_its_parts(a in 0u64..1 << 42, b in 0u64..1 << 42) {
            let ladder = ladder();
            let parts = ladder.total(a) + ladder.between(a, a + b);
            prop_assert_eq!(parts, ladder.total(a + b));
            prop_assert!(ladder.total(a + b) >= ladder.total(a));
            // The average over what is ahead lies between the dearest and the cheapest step.
            let average = ladder.outlook(a.max(GiB(10).bytes()), b + 1);
            prop_assert!(average <= ladder.marginal(GiB(10).bytes()).plus(Rate::attodollars(1)));
        }
    }
}
