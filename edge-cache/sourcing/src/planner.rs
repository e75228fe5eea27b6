//! Which source next: a pure function of what is known now.
//!
//! The rule, in words: among sources in use, the cheapest for the bytes at hand; prices within
//! [`PRICE_BAND_PERCENT`] of each other count as equal and the faster one goes first, with a bonus of
//! [`FAVOURITE_PERCENT`] for the one used last, so that two equals do not alternate. Behind them the slow
//! ones, then those that failed this fetch already. Resting sources are left alone, but one of them, the one
//! whose rest ends first, always closes the list: the last source is never excluded.

use std::time::Duration;

use tokio::time::Instant;

use crate::health::Standing;
use crate::price::Price;
use crate::tariff::Rate;

/// Prices that differ by no more than this count as equal.
pub const PRICE_BAND_PERCENT: u64 = 5;

/// The latency of the source used last counts as only this much of itself.
pub const FAVOURITE_PERCENT: u32 = 75;

/// What something costs, in attodollars: wide enough for any want at any price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(u128);

impl Cost {
    /// One request for so many bytes.
    #[must_use]
    pub fn of(byte: Rate, request: Rate, len: u64) -> Self {
        Self(u128::from(byte.get()) * u128::from(len) + u128::from(request.get()))
    }

    /// In picodollars, rounded down.
    #[must_use]
    pub const fn picodollars(self) -> u128 {
        self.0 / 1_000_000
    }
}

/// The most that counts as equal to a cost.
#[must_use]
pub fn with_band(cost: Cost) -> Cost {
    Cost(cost.0.saturating_add(cost.0 / 100 * u128::from(PRICE_BAND_PERCENT)))
}

/// What a source takes now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asking {
    /// For a byte.
    pub byte: Rate,
    /// For a request.
    pub request: Rate,
}

impl From<Price> for Asking {
    fn from(price: Price) -> Self {
        let rate = Rate::picodollars;
        Self { byte: rate(price.picodollars_per_byte), request: rate(price.picodollars_per_request) }
    }
}

/// What the planner knows about one source.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// What it takes.
    pub asking: Asking,
    /// Where its breaker stands.
    pub standing: Standing,
    /// Average time to the first byte; `None` before the first answer, which counts as fast: it gets a chance.
    pub first_byte: Option<Duration>,
    /// Whether that is too slow for a first choice.
    pub slow: bool,
    /// Whether it was the one used last.
    pub favourite: bool,
    /// Whether it has failed in this fetch already.
    pub tried: bool,
    /// Whether it said in this fetch that it cannot serve these bytes.
    pub absent: bool,
}

/// One line of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Which candidate.
    pub index: usize,
    /// Why it stands here.
    pub reason: ChoiceReason,
}

/// Why a source stands where it stands in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChoiceReason {
    /// None of those in use is cheaper.
    Cheapest,
    /// Hardly dearer than the cheapest, and faster.
    Faster,
    /// Hardly dearer than the cheapest, not much slower, and used last.
    Steady,
    /// Dearer than those before it.
    Dearer,
    /// Rested, and due for its trial.
    Trial,
    /// Its first bytes come late.
    Slow,
    /// It has failed in this fetch; once more, for want of others.
    Again,
    /// Resting, but better than nothing.
    LastResort,
}

impl ChoiceReason {
    /// The word used in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cheapest => "cheapest",
            Self::Faster => "faster",
            Self::Steady => "steady",
            Self::Dearer => "dearer",
            Self::Trial => "trial",
            Self::Slow => "slow",
            Self::Again => "again",
            Self::LastResort => "last-resort",
        }
    }
}

/// In which part of the plan a candidate belongs; earlier parts go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    InUse,
    Slow,
    Again,
}

/// The order for one fetch. It is made anew for each leg and keeps its buffers, so that deciding allocates
/// nothing once it has seen as many candidates.
#[derive(Debug, Default)]
pub struct Plan {
    choices: Vec<Choice>,
    order: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    part: Part,
    cost: Cost,
    at: usize,
}

impl Plan {
    /// A plan with room for so many candidates.
    #[must_use]
    pub fn with_capacity(candidates: usize) -> Self {
        // One more for the last resort.
        Self { choices: Vec::with_capacity(candidates + 1), order: Vec::with_capacity(candidates) }
    }

    /// The next to try first.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Orders the candidates for a fetch of `want_len` bytes. Those that cannot help are not in the list:
    /// absent ones, resting ones (but see above), and resting ones that failed in this fetch.
    pub fn decide(&mut self, now: Instant, candidates: &[Candidate], want_len: u64) {
        let cost = |c: &Candidate| Cost::of(c.asking.byte, c.asking.request, want_len);
        self.order.clear();
        let places = candidates.iter().enumerate();
        let places = places.filter_map(|(at, c)| Some(Place { part: part(now, c)?, cost: cost(c), at }));
        self.order.extend(places);
        self.order.sort_unstable_by_key(|place| (place.part, place.cost, place.at));
        let mut rest = self.order.as_mut_slice();
        while let Some(&Place { part, cost, .. }) = rest.first() {
            let limit = with_band(cost);
            let band = rest.iter().take_while(|place| place.part == part && place.cost <= limit).count();
            let (equals, dearer) = rest.split_at_mut(band);
            equals.sort_unstable_by_key(|place| (felt_latency(&candidates[place.at]), place.cost, place.at));
            rest = dearer;
        }
        let in_use = self.order.iter().filter(|place| place.part == Part::InUse);
        let lowest = in_use.map(|place| place.cost).min().unwrap_or_default();
        self.choices.clear();
        let choices = self.order.iter().enumerate().map(|(nth, place)| {
            let reason = reason(now, &candidates[place.at], place, nth, lowest);
            Choice { index: place.at, reason }
        });
        self.choices.extend(choices);
        self.choices.extend(last_resort(now, candidates));
    }
}

/// [`Plan::decide`] for once.
#[must_use]
pub fn plan(now: Instant, candidates: &[Candidate], want_len: u64) -> Vec<Choice> {
    let mut plan = Plan::with_capacity(candidates.len());
    plan.decide(now, candidates, want_len);
    plan.choices
}

/// `None` for those that are not to be asked in the ordinary course.
fn part(now: Instant, candidate: &Candidate) -> Option<Part> {
    let in_use = match candidate.standing {
        Standing::Closed => true,
        Standing::Open { until } => until <= now && !candidate.tried,
        Standing::HalfOpen => false,
    };
    match candidate {
        Candidate { absent: true, .. } => None,
        _ if !in_use => None,
        Candidate { tried: true, .. } => Some(Part::Again),
        Candidate { slow: true, .. } => Some(Part::Slow),
        _ => Some(Part::InUse),
    }
}

fn felt_latency(candidate: &Candidate) -> Duration {
    let latency = candidate.first_byte.unwrap_or_default();
    if candidate.favourite { latency * FAVOURITE_PERCENT / 100 } else { latency }
}

fn reason(now: Instant, c: &Candidate, place: &Place, nth: usize, lowest: Cost) -> ChoiceReason {
    let due = matches!(c.standing, Standing::Open { until } if until <= now);
    match place.part {
        Part::Slow => ChoiceReason::Slow,
        Part::Again => ChoiceReason::Again,
        Part::InUse if due => ChoiceReason::Trial,
        Part::InUse if place.cost == lowest => ChoiceReason::Cheapest,
        Part::InUse if nth == 0 && c.favourite => ChoiceReason::Steady,
        Part::InUse if nth == 0 => ChoiceReason::Faster,
        Part::InUse => ChoiceReason::Dearer,
    }
}

/// Of those whose rest is not over (or whose trial is under way) the one that is nearest to its end.
fn last_resort(now: Instant, candidates: &[Candidate]) -> Option<Choice> {
    let resting = candidates.iter().enumerate().filter(|(_, c)| !c.absent && !c.tried);
    let end = resting.filter_map(|(at, c)| match c.standing {
        Standing::Closed => None,
        Standing::Open { until } => (until > now).then_some((until, at)),
        Standing::HalfOpen => Some((now, at)),
    });
    end.min().map(|(_, index)| Choice { index, reason: ChoiceReason::LastResort })
}

/// When the first of those that have not failed in this fetch ends its rest; `None` if none of them rests.
#[must_use]
pub fn rest_ends(candidates: &[Candidate]) -> Option<Instant> {
    let ends = candidates.iter().filter(|c| !c.absent && !c.tried).filter_map(|c| match c.standing {
        Standing::Open { until } => Some(until),
        Standing::Closed | Standing::HalfOpen => None,
    });
    ends.min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MB: u64 = 1_000_000;

    fn at(price: u64, latency_ms: u64) -> Candidate {
        Candidate {
            asking: Asking { byte: Rate::picodollars(price), request: Rate::ZERO },
            standing: Standing::Closed,
            first_byte: Some(Duration::from_millis(latency_ms)),
            slow: false,
            favourite: false,
            tried: false,
            absent: false,
        }
    }

    fn open(now: Instant, rest_secs: u64) -> Standing {
        Standing::Open { until: now + Duration::from_secs(rest_secs) }
    }

    fn check(candidates: &[Candidate], expected: &[(usize, ChoiceReason)]) {
        let now = Instant::now();
        let plan = plan(now, candidates, MB);
        let plan: Vec<_> = plan.into_iter().map(|choice| (choice.index, choice.reason)).collect();
        assert_eq!(plan, expected);
    }

    #[test]
    fn by_price_then_by_latency_among_equals() {
        use ChoiceReason::{Again, Cheapest, Dearer, Faster, Slow, Steady};
        check(&[], &[]);
        check(&[at(85, 10), at(0, 90), at(20, 50)], &[(1, Cheapest), (2, Dearer), (0, Dearer)]);
        check(&[at(100, 50), at(104, 10)], &[(1, Faster), (0, Cheapest)]);
        check(&[at(100, 50), at(106, 10)], &[(0, Cheapest), (1, Dearer)]);
        let steady = Candidate { favourite: true, ..at(104, 60) };
        check(&[at(100, 50), steady], &[(1, Steady), (0, Cheapest)]);
        check(&[at(100, 40), steady], &[(0, Cheapest), (1, Dearer)]);
        let slow = Candidate { slow: true, ..at(0, 3_000) };
        check(&[slow, at(85, 10)], &[(1, Cheapest), (0, Slow)]);
        let tried = Candidate { tried: true, ..at(0, 10) };
        check(&[tried, slow, at(85, 10)], &[(2, Cheapest), (1, Slow), (0, Again)]);
        let absent = Candidate { absent: true, ..at(0, 10) };
        check(&[absent], &[]);
    }

    #[test]
    fn the_request_price_counts_for_small_wants() {
        let per_request = Price { picodollars_per_byte: 1, picodollars_per_request: 400_000 };
        let requests = Candidate { asking: per_request.into(), ..at(0, 10) };
        let first = |len| plan(Instant::now(), &[requests, at(2, 10)], len)[0].index;
        assert_eq!((first(1_000), first(10_000_000)), (1, 0));
    }

    #[test]
    fn resting_sources_are_left_alone_but_the_last_one_never_is() {
        use ChoiceReason::{Dearer, LastResort, Trial};
        let now = Instant::now();
        let resting = |secs| Candidate { standing: open(now, secs), ..at(0, 10) };
        let plan = |candidates: &[Candidate]| -> Vec<_> {
            plan(now, candidates, MB).into_iter().map(|choice| (choice.index, choice.reason)).collect()
        };
        assert_eq!(
            plan(&[resting(9), resting(3), at(85, 10)])[..],
            [(2, ChoiceReason::Cheapest), (1, LastResort)]
        );
        assert_eq!(plan(&[resting(9), resting(3)])[..], [(1, LastResort)]);
        assert_eq!(plan(&[resting(0), at(85, 10)])[..], [(0, Trial), (1, Dearer)]);
        let trial = Candidate { standing: Standing::HalfOpen, ..at(0, 10) };
        assert_eq!(plan(&[trial])[..], [(0, LastResort)]);
        let failed = Candidate { tried: true, ..resting(3) };
        assert_eq!(plan(&[failed, resting(9)])[..], [(1, LastResort)]);
        assert_eq!(plan(&[failed]), []);
        let end = |secs| Some(now + Duration::from_secs(secs));
        assert_eq!(rest_ends(&[failed, resting(9), at(85, 10)]), end(9));
        assert_eq!(rest_ends(&[failed, at(85, 10)]), None);
    }

    prop_compose! {
        fn candidate(now: Instant)(
            price in 0u64..200, standing in 0u8..4, latency in proptest::option::of(0u64..5_000),
            flags in any::<[bool; 4]>()
        ) -> Candidate {
            let [slow, favourite, tried, absent] = flags;
            let standing = match standing {
                0 => Standing::HalfOpen,
                1 => Standing::Open { until: now + Duration::from_millis(price) },
                2 => Standing::Open { until: now },
                _ => Standing::Closed,
            };
            let first_byte = latency.map(Duration::from_millis);
            Candidate { standing, first_byte, slow, favourite, tried, absent, ..at(price, 0) }
        }
    }

    proptest! {
        #[test]
        fn a_plan_names_nobody_twice_and_forgets_nobody_useful(
            candidates in proptest::collection::vec(candidate(Instant::now()), 0..12), len in any::<u64>()
        ) {
            let now = Instant::now();
            let plan = plan(now, &candidates, len);
            let mut seen: Vec<usize> = plan.iter().map(|choice| choice.index).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), plan.len());
            for (at, c) in candidates.iter().enumerate() {
                let in_plan = seen.contains(&at);
                prop_assert!(!(c.absent && in_plan));
                prop_assert!(c.absent || c.standing != Standing::Closed || in_plan, "a closed one is missing");
            }
            let untried = candidates.iter().any(|c| !c.absent && !c.tried);
            prop_assert!(!untried || !plan.is_empty(), "the last source was excluded");
        }

        #[test]
        fn among_those_in_use_nobody_much_cheaper_stands_behind(
            candidates in proptest::collection::vec(candidate(Instant::now()), 0..12)
        ) {
            let plan = plan(Instant::now(), &candidates, MB);
            let in_use = plan.iter().filter(|choice| {
                let c = &candidates[choice.index];
                !c.tried && !c.slow && choice.reason != ChoiceReason::LastResort
            });
            let cost = |c: &Candidate| Cost::of(c.asking.byte, c.asking.request, MB);
            let costs: Vec<Cost> = in_use.map(|choice| cost(&candidates[choice.index])).collect();
            prop_assert!(costs.windows(2).all(|pair| pair[0] <= with_band(pair[1])));
        }
    }
}
