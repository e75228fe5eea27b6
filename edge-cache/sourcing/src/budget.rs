//! An allowance that success earns: what is spent on guesses stays a share of what was bought for good.

use std::sync::atomic::{AtomicI64, Ordering};

/// So many percent of what was earned may be spent, and never more than the reserve at once.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In hundredths, so that one percent of one unit still counts.
    left: AtomicI64,
    most: i64,
    percent: i64,
}

impl Budget {
    /// A budget that begins with its whole reserve. With 0 percent there is nothing to spend, ever.
    pub(crate) fn new(percent: u32, reserve: u64) -> Self {
        let most = i64::try_from(reserve).unwrap_or(i64::MAX).saturating_mul(100);
        let most = if percent == 0 { 0 } else { most };
        Self { left: AtomicI64::new(most), most, percent: i64::from(percent) }
    }

    /// Something was bought for good.
    pub(crate) fn earn(&self, units: u64) {
        let earned = i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(self.percent);
        let add = |left: i64| Some(left.saturating_add(earned).min(self.most));
        // It always has a value to set, so it cannot fail.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes so much; `false`, and nothing is taken, when it is not there.
    pub(crate) fn spend(&self, units: u64) -> bool {
        let cost = i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(100);
        let take = |left: i64| left.checked_sub(cost).filter(|rest| *rest >= 0 && self.most > 0);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reserve_goes_first_and_then_what_was_earned() {
        let budget = Budget::new(3, 10);
        assert!(budget.spend(10) && !budget.spend(1));
        budget.earn(33);
        assert!(!budget.spend(1), "99 hundredths");
        budget.earn(1);
        assert!(budget.spend(1));
        budget.earn(1_000_000);
        assert!(!budget.spend(11) && budget.spend(10), "no more than the reserve is kept");
    }

    #[test]
    fn nothing_percent_is_nothing() {
        let budget = Budget::new(0, 1_000);
        budget.earn(u64::MAX);
        assert!(!budget.spend(0) && !budget.spend(1));
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_and_the_reserve(
            percent in 1u32..100, reserve in 0u64..1_000, steps in proptest::collection::vec((any::<bool>(), 0u64..2_000), 0..100)
        ) {
            let (budget, mut earned, mut spent) = (Budget::new(percent, reserve), 0, 0);
            for (earn, units) in steps {
                if earn {
                    budget.earn(units);
                    earned += units;
                } else if budget.spend(units) {
                    spent += units;
                }
            }
            prop_assert!(spent * 100 <= reserve * 100 + earned * u64::from(percent));
        }
    }
}
