//! Bandwidth that is billed at the 95th percentile.
//!
//! A carrier samples a link every five minutes, throws the highest twentieth of a month's samples away, and
//! bills the highest that is left. So a byte costs nothing in a slot that stays below that level, nothing in
//! one of the slots that are thrown away, and a lot in any other. What can be chosen is the level, and which
//! slots to throw away; [`level`] and [`allowance`] choose from the demand that is expected.

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

/// What the rest of a month is expected to bring.
#[derive(Debug, Clone, Copy)]
pub struct Ahead<'a> {
    /// Demands of a slot that are as likely as each other, the highest first.
    pub demand: &'a [u64],
    /// Slots that are left.
    pub slots: u64,
    /// Slots of the whole month.
    pub month: u64,
    /// Slots that may still be thrown away.
    pub bursts: u64,
    /// The level that is paid already.
    pub floor: u64,
}

impl Ahead<'_> {
    /// Slots to throw away for demand that is expected. The rest is for premieres that nobody told us of; it
    /// shrinks as the month passes.
    fn planned_bursts(&self) -> u64 {
        let reserve = discarded(self.month) / RESERVE * self.slots / self.month.max(1);
        self.bursts.saturating_sub(reserve)
    }

    /// The likely demands that the discarded slots will take.
    fn burst_points(&self) -> usize {
        let points = self.demand.len() as u64;
        let burst = self.planned_bursts().min(self.slots).saturating_mul(points);
        burst.checked_div(self.slots).unwrap_or_default() as usize
    }

    /// The demand from which on a slot is worth throwing away: among those that are expected to be the
    /// highest, or higher than anything that is expected.
    fn burst_from(&self) -> Option<u64> {
        let highest = self.demand.first().copied();
        match (self.bursts, self.burst_points()) {
            (0, _) => None,
            (bursts, _) if bursts >= self.slots => Some(0),
            (_, 0) => highest.map(|highest| highest + highest / 10),
            (_, points) => self.demand.get(points - 1).copied(),
        }
    }
}

/// Which level to fill a link to, in bytes of a slot, so that the link and what does not fit together cost
/// least. `elsewhere` says what so many bytes cost when they are bought elsewhere.
#[must_use]
pub fn level(ahead: &Ahead<'_>, per_mbps: Dollars, elsewhere: impl Fn(u64) -> Dollars) -> u64 {
    let ordinary = &ahead.demand[ahead.burst_points().min(ahead.demand.len())..];
    let (points, slots) = (ahead.demand.len().max(1) as u128, u128::from(ahead.slots));
    // Of the demands above a candidate: how many there are, and their sum.
    let (mut above, mut sum) = (0_u128, 0_u128);
    let mut best = None;
    let mut consider = |level: u64, above: u128, sum: u128| {
        let overflow = (sum - above * u128::from(level)) * slots / points;
        let cost = level_price(level, per_mbps) + elsewhere(u64::try_from(overflow).unwrap_or(u64::MAX));
        if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, level));
        }
    };
    for demand in ordinary.iter().copied().take_while(|demand| *demand > ahead.floor) {
        consider(demand, above, sum);
        above += 1;
        sum += u128::from(demand);
    }
    consider(ahead.floor, above, sum);
    best.map_or(ahead.floor, |(_, level)| level)
}

/// How many bytes a link that is filled to its floor may take in the slot that begins, when the one before
/// brought `last`: its level, or everything when the slot may be one of those that are thrown away. That is so
/// while nothing is known; when the slot promises to be among the highest; and when the level reaches up to
/// those anyway, so that whatever exceeds it belongs to them.
#[must_use]
pub fn allowance(ahead: &Ahead<'_>, last: u64) -> u64 {
    let level = ahead.floor;
    let unknown = ahead.demand.is_empty() && ahead.bursts > 0;
    let burst = ahead.burst_from().is_some_and(|from| last >= from || level >= from - from / 20);
    if unknown || burst { u64::MAX } else { level }
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

    #[test]
    fn the_level_weighs_the_link_against_the_rest() {
        let demand = demand();
        let ahead = Ahead { demand: &demand, slots: 8_640, month: 8_640, bursts: 432, floor: 0 };
        let level_at = |per_mbps, per_gb: u64| {
            let elsewhere = |bytes: u64| Dollars::from_picodollars(i128::from(bytes) * i128::from(per_gb));
            level(&ahead, usd(per_mbps), elsewhere)
        };
        assert_eq!(level_at("0.01", 80), at(960), "a cheap link carries everything but the bursts");
        assert_eq!(level_at("0.17", 0), 0, "free bytes elsewhere: the link is not needed");
        // One Mbit/s more pays when it is used in k slots of 37.5 MB: k x 37.5 MB x 0.005 > 1 dollar, k > 5333.
        let dear = level_at("1", 5);
        assert!((at(350)..=at(360)).contains(&dear), "{}", mbps(dear));
        let paid = Ahead { floor: at(600), ..ahead };
        assert_eq!(level(&paid, usd("1"), |_| Dollars::ZERO), at(600), "what is paid is paid");
    }

    #[test]
    fn the_highest_slots_are_thrown_away() {
        let demand = demand();
        let ahead = Ahead { demand: &demand, slots: 8_640, month: 8_640, bursts: 432, floor: at(500) };
        assert_eq!(allowance(&ahead, at(10_000)), u64::MAX, "one of the highest");
        assert_eq!(allowance(&ahead, at(900)), at(500));
        let full = Ahead { floor: at(9_600), ..ahead };
        assert_eq!(allowance(&full, at(900)), u64::MAX, "no gap between the level and the highest");
        let none = Ahead { bursts: 0, ..ahead };
        assert_eq!(allowance(&none, at(10_000)), at(500));
        let few = Ahead { bursts: 90, ..ahead };
        assert_eq!(allowance(&few, at(10_000)), at(500), "the last ones are for what nobody expects");
        assert_eq!(allowance(&few, at(11_000)), u64::MAX);
        let all = Ahead { slots: 100, bursts: 100, ..ahead };
        assert_eq!(allowance(&all, 0), u64::MAX, "more to throw away than is left");
        let unknown = Ahead { demand: &[], ..ahead };
        assert_eq!(allowance(&unknown, at(900)), u64::MAX, "while nothing is known");
    }

    proptest! {
        #[test]
        fn no_level_among_the_demands_is_cheaper(
            mut demand in proptest::collection::vec(0u64..at(5_000), 1..40),
            bursts in 0u64..100, per_mbps in 1u64..5_000, per_gb in 0i128..200, floor in 0u64..at(3_000)
        ) {
            demand.sort_unstable_by(|a, b| b.cmp(a));
            let ahead = Ahead { demand: &demand, slots: 1_000, month: 8_640, bursts, floor };
            let per_mbps = Dollars::whole(1).share(per_mbps, 1_000);
            let elsewhere = |bytes: u64| Dollars::from_picodollars(i128::from(bytes) * per_gb);
            let chosen = level(&ahead, per_mbps, elsewhere);
            let ordinary = &demand[ahead.burst_points()..];
            let cost = |level: u64| {
                let over: u128 = ordinary.iter().map(|d| u128::from(d.saturating_sub(level))).sum();
                level_price(level, per_mbps) + elsewhere((over * 1_000 / demand.len() as u128) as u64)
            };
            prop_assert!(chosen >= floor);
            for other in ordinary.iter().copied().filter(|d| *d > floor).chain([floor]) {
                prop_assert!(cost(chosen) <= cost(other));
            }
        }
    }
}
