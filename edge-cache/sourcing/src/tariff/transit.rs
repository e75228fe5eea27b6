//! Bandwidth that is billed at the 95th percentile.
//!
//! A carrier samples a link every five minutes, throws the highest twentieth of a month's samples away, and
//! bills the highest that is left. So a byte costs nothing in a slot that stays below that level, nothing in
//! one of the slots that are thrown away, and a lot in any other. What can be chosen is the level, and which
//! slots to throw away; [`level`] and the meter's allowance choose from the demand that is expected.

use super::money::Dollars;

/// Seconds of a sample.
pub const SLOT_SECONDS: u64 = 300;

/// How many samples of a month are thrown away.
#[must_use]
pub const fn discarded(slots: u64) -> u64 {
    slots / 20
}

/// The level that a month is billed at if nothing more is sent: the highest sample after the highest
/// twentieth of the whole month's are thrown away. In bytes of a slot.
#[must_use]
pub fn billed_level(samples: &[u64], slots_of_month: u64) -> u64 {
    let rank = discarded(slots_of_month) as usize;
    if samples.len() <= rank {
        return 0;
    }
    let mut sorted = samples.to_vec();
    let (_, level, _) = sorted.select_nth_unstable_by(rank, |a, b| b.cmp(a));
    *level
}

/// What a level costs at a price for a Mbit/s.
#[must_use]
pub fn level_price(level: u64, per_mbps: Dollars) -> Dollars {
    per_mbps.times(level.saturating_mul(8)).share(1, SLOT_SECONDS * 1_000_000)
}

/// A level in Mbit/s, for gauges.
#[must_use]
pub fn mbps(level: u64) -> f64 {
    level as f64 * 8.0 / SLOT_SECONDS as f64 / 1e6
}

/// One in so many of the slots that may be thrown away is kept for what nobody expects.
const RESERVE: u64 = 10;

/// A link in the middle of a month.
#[derive(Debug, Clone, Copy)]
pub struct Ahead<'a> {
    /// Demands of a slot of the rest that are as likely as each other, the highest first.
    pub demand: &'a [u64],
    /// What it carried in the slots that are over, the highest first.
    pub carried: &'a [u64],
    /// Slots that are left.
    pub slots: u64,
    /// Slots of the whole month.
    pub month: u64,
}

impl Ahead<'_> {
    /// The level that is paid already.
    #[must_use]
    pub fn paid(&self) -> u64 {
        self.carried.get(discarded(self.month) as usize).copied().unwrap_or_default()
    }

    /// Slots that may still be thrown away at a level.
    #[must_use]
    pub fn bursts(&self, level: u64) -> u64 {
        let above = self.carried.partition_point(|carried| *carried > level) as u64;
        discarded(self.month).saturating_sub(above)
    }

    /// The likely demands that the discarded slots will take. Some slots are left for premieres that nobody told
    /// us of, fewer as the month passes.
    fn burst_points(&self, level: u64) -> usize {
        let reserve = discarded(self.month) / RESERVE * self.slots / self.month.max(1);
        let planned = self.bursts(level).saturating_sub(reserve).min(self.slots);
        planned.saturating_mul(self.demand.len() as u64).checked_div(self.slots).unwrap_or_default() as usize
    }
}

/// Which level to fill a link to, in bytes of a slot, so that the link and what does not fit together cost
/// least. `elsewhere` says what so many bytes cost when they are bought elsewhere.
#[must_use]
pub fn level(ahead: &Ahead<'_>, per_mbps: Dollars, elsewhere: impl Fn(u64) -> Dollars) -> u64 {
    let points = ahead.demand.len().max(1) as u128;
    // The sum of the highest demands, by how many they are.
    let sums: Vec<u128> = std::iter::once(0)
        .chain(ahead.demand.iter().scan(0, |sum, demand| {
            *sum += u128::from(*demand);
            Some(*sum)
        }))
        .collect();
    let cost = |level: u64| {
        let above = ahead.demand.partition_point(|demand| *demand > level);
        let burst = ahead.burst_points(level).min(above);
        let over = sums[above] - sums[burst] - (above - burst) as u128 * u128::from(level);
        let overflow = u64::try_from(over * u128::from(ahead.slots) / points).unwrap_or(u64::MAX);
        level_price(level, per_mbps) + elsewhere(overflow)
    };
    let paid = ahead.paid();
    let candidates = ahead.demand.iter().copied().filter(|demand| *demand > paid).chain([paid]);
    candidates.min_by_key(|level| (cost(*level), *level)).unwrap_or(paid)
}

/// The demand from which on a slot is worth throwing away when a link is filled to a level: among the highest that
/// are expected, or higher than all of them. `None` when there is nothing left to throw away.
#[must_use]
pub fn burst_from(ahead: &Ahead<'_>, level: u64) -> Option<u64> {
    match (ahead.bursts(level), ahead.burst_points(level)) {
        (0, _) => None,
        (bursts, _) if bursts >= ahead.slots || ahead.demand.is_empty() => Some(0),
        (_, 0) => ahead.demand.first().map(|highest| highest + highest / 10),
        // Up to a level near them whatever exceeds it belongs to them.
        (_, points) => {
            ahead.demand.get(points - 1).copied().filter(|from| level < from - from / 20).or(Some(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(text: &str) -> Dollars {
        text.parse().expect(text)
    }

    /// Bytes of a slot at so many Mbit/s.
    fn at(mbps: u64) -> u64 {
        mbps * 1_000_000 * SLOT_SECONDS / 8
    }

    #[test]
    fn a_twentieth_is_thrown_away() {
        let month = 8_640;
        let samples: Vec<u64> = (0..month).map(at).collect();
        assert_eq!(billed_level(&samples, month), at(8_639 - 432));
        assert_eq!(billed_level(&samples[..432], month), 0, "so far every sample can be thrown away");
        assert_eq!(billed_level(&samples[..433], month), 0);
        assert_eq!(billed_level(&samples[..434], month), at(1));
        assert_eq!(billed_level(&[], month), 0);
        assert_eq!(level_price(at(1_000), usd("0.17")), usd("170"));
        assert!((mbps(at(250)) - 250.0).abs() < 1e-9);
    }

    /// Demand by slot, highest first: a peak of 3 % and a slope below.
    fn demand() -> Vec<u64> {
        (0..100).map(|at_slot| at(if at_slot < 3 { 10_000 } else { 1_000 - 10 * at_slot })).collect()
    }

    fn ahead<'a>(demand: &'a [u64], carried: &'a [u64]) -> Ahead<'a> {
        Ahead { demand, carried, slots: 8_640, month: 8_640 }
    }

    #[test]
    fn the_level_weighs_the_link_against_the_rest() {
        let demand = demand();
        let ahead = ahead(&demand, &[]);
        let level_at = |per_mbps, per_gb: u64| {
            let elsewhere = |bytes: u64| Dollars::from_picodollars(i128::from(bytes) * i128::from(per_gb));
            level(&ahead, usd(per_mbps), elsewhere)
        };
        assert_eq!(level_at("0.01", 80), at(960), "a cheap link carries everything but the bursts");
        assert_eq!(level_at("0.17", 0), 0, "free bytes elsewhere: the link is not needed");
        // One Mbit/s more pays when it is used in k slots of 37.5 MB: k x 37.5 MB x 0.005 > 1 dollar, k > 5333.
        let dear = level_at("1", 5);
        assert!((at(350)..=at(360)).contains(&dear), "{}", mbps(dear));
        let carried = vec![at(600); 433];
        let paid = Ahead { carried: &carried, ..ahead };
        assert_eq!(level(&paid, usd("1"), |_| Dollars::ZERO), at(600), "what is paid is paid");
        let begun = Ahead { carried: &carried[1..], ..ahead };
        assert_eq!(level(&begun, usd("1"), |_| Dollars::ZERO), 0, "all of it can still be thrown away");
    }

    #[test]
    fn the_highest_slots_are_thrown_away() {
        let demand = demand();
        let fresh = ahead(&demand, &[]);
        assert_eq!(burst_from(&fresh, at(500)), Some(at(970)), "three peaks and one more of a hundred");
        assert_eq!(burst_from(&fresh, at(960)), Some(0), "no gap between the level and the highest");
        let carried = vec![at(700); 432];
        let used_up = ahead(&demand, &carried);
        assert_eq!((used_up.bursts(at(500)), burst_from(&used_up, at(500))), (0, None));
        assert_eq!(used_up.bursts(at(700)), 432, "what stays below the level is none of them");
        let few = ahead(&demand, &carried[..380]);
        assert_eq!(burst_from(&few, at(500)), Some(at(11_000)), "the last ones are for what nobody expects");
        let all = Ahead { slots: 400, ..fresh };
        assert_eq!(burst_from(&all, at(500)), Some(0), "more to throw away than is left");
        assert_eq!(burst_from(&ahead(&[], &[]), at(500)), Some(0), "while nothing is known");
    }

    proptest! {
        #[test]
        fn no_level_among_the_demands_is_cheaper(
            mut demand in proptest::collection::vec(0u64..at(5_000), 1..40),
            mut carried in proptest::collection::vec(0u64..at(5_000), 0..600),
            per_mbps in 1u64..5_000, per_gb in 0i128..200
        ) {
            demand.sort_unstable_by(|a, b| b.cmp(a));
            carried.sort_unstable_by(|a, b| b.cmp(a));
            let ahead = Ahead { demand: &demand, carried: &carried, slots: 1_000, month: 8_640 };
            let per_mbps = Dollars::whole(1).share(per_mbps, 1_000);
            let elsewhere = |bytes: u64| Dollars::from_picodollars(i128::from(bytes) * per_gb);
            let (chosen, floor) = (level(&ahead, per_mbps, elsewhere), billed_level(&carried, 8_640));
            let cost = |level: u64| {
                let ordinary = &demand[ahead.burst_points(level).min(demand.len())..];
                let over: u128 = ordinary.iter().map(|d| u128::from(d.saturating_sub(level))).sum();
                level_price(level, per_mbps) + elsewhere((over * 1_000 / demand.len() as u128) as u64)
            };
            prop_assert!(chosen >= floor);
            for other in demand.iter().copied().filter(|d| *d > floor).chain([floor]) {
                prop_assert!(cost(chosen) <= cost(other));
            }
        }
    }
}
