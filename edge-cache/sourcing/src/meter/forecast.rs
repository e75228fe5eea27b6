//! What the rest of a month may bring.
//!
//! Demand has habits: an hour of the week is like the same hour of another week, by a factor that hardly
//! changes within a month. So the forecast is the month before, hour by hour over the days that are left, as
//! much higher or lower as the last week was. Middles are used throughout, which a premiere does not move: one
//! that nobody announced is not expected again.

use super::ledger::Habits;

/// Slots of an hour.
pub(super) const HOUR_SLOTS: usize = 12;
/// Slots of a day.
pub(super) const DAY_SLOTS: usize = 288;
const WEEK_SLOTS: usize = 7 * DAY_SLOTS;
const HOURS_OF_WEEK: usize = 168;
/// Points of a profile.
const MAX_POINTS: usize = 512;
/// What the growth is taken to be less on the first day, in thousandths; half of it on the second, and so on.
const DOUBT: u64 = 10;
/// How demands of an hour scatter is remembered in so many steps.
const SCATTER: usize = 5;

/// Without the time before the node's first byte, and without the slot that still runs.
pub(super) fn since_first(demand: &[u64]) -> &[u64] {
    let ended = &demand[..demand.len().saturating_sub(1)];
    let first = ended.iter().position(|bytes| *bytes > 0).unwrap_or(ended.len());
    &ended[first..]
}

fn hour_of_week(month_start: u64, slot: usize) -> usize {
    ((month_start / 3_600) as usize + slot / HOUR_SLOTS) % HOURS_OF_WEEK
}

impl Habits {
    /// Learns from a month; `None` when it knows no whole week. Slots in which the node was not there do not
    /// count.
    pub(super) fn learn(month_start: u64, demand: &[u64]) -> Option<Self> {
        if since_first(demand).len() < WEEK_SLOTS {
            return None;
        }
        let mut hours = vec![Vec::new(); HOURS_OF_WEEK];
        for (slot, bytes) in demand.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
            hours[hour_of_week(month_start, slot)].push(*bytes);
        }
        let mut habits = Self { hours: hours.into_iter().map(middle).collect(), scatter: Vec::new() };
        let mut ratios: Vec<u64> = habits.ratios(month_start, 0, demand).collect();
        ratios.sort_unstable();
        let step = |nth: usize| ratios.get((2 * nth + 1) * ratios.len() / (2 * SCATTER)).copied();
        habits.scatter = (0..SCATTER).filter_map(step).collect();
        Some(habits)
    }

    /// Demands by what is usual at their hour, in thousandths; the first is of slot `from`.
    fn ratios<'a>(
        &'a self,
        month_start: u64,
        from: usize,
        demand: &'a [u64],
    ) -> impl Iterator<Item = u64> + 'a {
        // Slots in which the node was not there say nothing.
        let seen = demand.iter().enumerate().filter(|(_, bytes)| **bytes > 0);
        seen.filter_map(move |(at, bytes)| {
            let usual = self.hours.get(hour_of_week(month_start, from + at)).filter(|usual| **usual > 0)?;
            u64::try_from(u128::from(*bytes) * 1_000 / u128::from(*usual)).ok()
        })
    }

    /// This month's demand by last month's in thousandths: the middle of the last week. The slot that still runs does not
    /// count.
    fn growth(&self, month_start: u64, demand: &[u64]) -> u64 {
        let ended = &demand[..demand.len().saturating_sub(1)];
        let from = ended.len().saturating_sub(WEEK_SLOTS);
        let ratios: Vec<u64> = self.ratios(month_start, from, &ended[from..]).collect();
        if ratios.len() < HOUR_SLOTS { 1_000 } else { midmean(ratios) }
    }

    /// The growth, less what may be chance in it: a level that is too high stays so for the month, one that is too
    /// low for some days does not cost much.
    pub(super) fn cautious_growth(&self, month_start: u64, demand: &[u64]) -> u64 {
        let days = (since_first(demand).len() / DAY_SLOTS) as u64;
        self.growth(month_start, demand) * (1_000 - DOUBT / (1 + days)) / 1_000
    }

    /// What five minutes of the rest of a month may bring, the highest first.
    pub(super) fn ahead(&self, month_start: u64, slots: std::ops::Range<usize>, growth: u64) -> Vec<u64> {
        let hours = slots.step_by(HOUR_SLOTS).map(|slot| hour_of_week(month_start, slot));
        let usual = hours.filter_map(|hour| self.hours.get(hour));
        let scaled =
            |usual: u64, ratio: u64| u128::from(usual) * u128::from(ratio) * u128::from(growth) / 1_000_000;
        let points_of = |usual: &u64| {
            let usual = *usual;
            self.scatter.iter().map(move |ratio| u64::try_from(scaled(usual, *ratio)).unwrap_or(u64::MAX))
        };
        points(&usual.flat_map(points_of).collect::<Vec<_>>())
    }
}

/// The middle of some values; 0 of none.
fn middle(mut values: Vec<u64>) -> u64 {
    let at = values.len() / 2;
    if values.is_empty() { 0 } else { *values.select_nth_unstable(at).1 }
}

/// The mean of the middle half: as blind to extremes as the middle, and less shaken by chance.
fn midmean(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let half = &values[values.len() / 4..values.len() - values.len() / 4];
    half.iter().sum::<u64>() / half.len().max(1) as u64
}

/// At most [`MAX_POINTS`] of the demands, evenly taken, the highest first.
pub(super) fn points(demand: &[u64]) -> Vec<u64> {
    let mut sorted = demand.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let count = sorted.len().min(MAX_POINTS);
    // The middle of each share stands for it.
    (0..count).map(|nth| sorted[(2 * nth + 1) * sorted.len() / (2 * count)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Thursday, 0 h UTC.
    const START: u64 = 0;

    /// Two weeks in which each hour of the week brings its own number, with a little scatter.
    fn two_weeks() -> Vec<u64> {
        let slot = |at: usize| (1 + (at / HOUR_SLOTS % HOURS_OF_WEEK) as u64) * [900, 1_000, 1_100][at % 3];
        (0..2 * WEEK_SLOTS).map(slot).collect()
    }

    #[test]
    fn profiles_keep_the_shape_of_a_month() {
        assert_eq!(points(&[]), Vec::<u64>::new());
        assert_eq!(points(&[1, 3, 2]), [3, 2, 1]);
        let many: Vec<u64> = (0..10_240).collect();
        let profile = points(&many);
        assert_eq!((profile.len(), profile[0], profile[511]), (512, 10_229, 9));
        assert_eq!(since_first(&[0, 0, 5, 0, 7, 9]), [5, 0, 7], "the last slot still runs");
        assert_eq!(since_first(&[0, 0]), Vec::<u64>::new());
    }

    #[test]
    fn habits_are_those_of_ordinary_hours() {
        let demand = two_weeks();
        let habits = Habits::learn(START, &demand).expect("two weeks");
        let usual: Vec<u64> = (1..=HOURS_OF_WEEK as u64).map(|hour| hour * 1_000).collect();
        assert_eq!(habits.hours, usual);
        assert_eq!(habits.scatter, [900, 900, 1_000, 1_100, 1_100]);
        // A premiere of ten hours and a night off change nothing.
        let mut strange = demand.clone();
        strange[500..620].iter_mut().for_each(|bytes| *bytes *= 3);
        strange[900..960].fill(0);
        assert_eq!(Habits::learn(START, &strange).map(|habits| habits.scatter), Some(habits.scatter.clone()));
        assert_eq!(Habits::learn(START, &demand[..WEEK_SLOTS]), None, "the last slot of a week still runs");
    }

    #[test]
    fn growth_is_that_of_the_last_week_and_no_premiere() {
        let habits = Habits::learn(START, &two_weeks()).expect("two weeks");
        let grown: Vec<u64> = two_weeks().iter().map(|bytes| bytes * 12 / 10).collect();
        assert_eq!(habits.growth(START, &grown), 1_200);
        assert_eq!(habits.growth(START, &grown[..8]), 1_000, "nobody knows yet");
        let mut premiere = grown.clone();
        premiere[WEEK_SLOTS + 100..WEEK_SLOTS + 220].iter_mut().for_each(|bytes| *bytes *= 3);
        assert!(
            (1_195..=1_215).contains(&habits.growth(START, &premiere)),
            "{}",
            habits.growth(START, &premiere)
        );
        assert_eq!(
            habits.cautious_growth(START, &grown[..200]),
            habits.growth(START, &grown[..200]) * 990 / 1_000
        );
        let calm: Vec<u64> = [grown, two_weeks()].concat();
        assert_eq!(habits.growth(START, &calm), 1_000, "what was before the last week is over");
    }

    #[test]
    fn the_days_that_are_left_are_ahead() {
        let habits = Habits::learn(START, &two_weeks()).expect("two weeks");
        // The last two hours of a week, twice as much as usual.
        let ahead = habits.ahead(START, WEEK_SLOTS - 2 * HOUR_SLOTS..WEEK_SLOTS, 2_000);
        assert_eq!(ahead.len(), 2 * SCATTER);
        assert_eq!((ahead[0], ahead[9]), (168 * 2_200, 167 * 1_800));
        assert_eq!(habits.ahead(START, 7..7, 1_000), Vec::<u64>::new());
    }
}
