//! Which source next: a pure function of what is known now.
//!
//! The rule, in words: among sources in use, the cheapest for the bytes at hand; prices within
//! [`PRICE_BAND_PERCENT`] of each other count as equal and the faster one goes first, with a bonus of
//! [`FAVOURITE_PERCENT`] for the one used last, so that two equals do not alternate. Behind them the slow
//! ones, then those that failed this fetch already. When a player is in a hurry, those that would be too late for it stand
//! behind those in time, the fastest first. Resting sources are left alone, but one of them, the one
//! there is most hope of, always closes the list: the last source is never excluded.

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
    /// Bytes per second while it delivers; `None` before that was seen, which counts as fast.
    pub pace: Option<u64>,
    /// Whether its first bytes come too late for a first choice.
    pub slow: bool,
    /// Whether it was the one used last.
    pub favourite: bool,
    /// Rests in a row: the more, the less hope.
    pub rests: u32,
    /// Whether it rests because it asked for it.
    pub throttled: bool,
    /// Whether it has failed in this fetch already.
    pub tried: bool,
    /// Whether it said in this fetch that it cannot serve these bytes.
    pub absent: bool,
}

impl Candidate {
    /// A source in use of which nothing is known but its price.
    #[must_use]
    pub const fn new(asking: Asking) -> Self {
        Self {
            asking,
            standing: Standing::Closed,
            first_byte: None,
            pace: None,
            slow: false,
            favourite: false,
            rests: 0,
            throttled: false,
            tried: false,
            absent: false,
        }
    }
}

/// What a fetch needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// So many bytes.
    pub len: u64,
    /// So soon; `None` when nobody is known to be in a hurry.
    pub within: Option<Duration>,
}

impl Need {
    /// So many bytes, in no hurry.
    #[must_use]
    pub const fn bytes(len: u64) -> Self {
        Self { len, within: None }
    }
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
    /// Dearer than others, but those would be too late for the player.
    InTime,
    /// Too late for the player, like all the others; the fastest of them goes first.
    Late,
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
    /// Whether it is a source in use of which nothing bad is known.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        matches!(
            self,
            Self::Cheapest | Self::Faster | Self::Steady | Self::Dearer | Self::InTime | Self::Late
        )
    }

    /// The word used in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cheapest => "cheapest",
            Self::Faster => "faster",
            Self::Steady => "steady",
            Self::Dearer => "dearer",
            Self::InTime => "in-time",
            Self::Late => "late",
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
    Late,
    Slow,
    Again,
}

/// Those too late by about as much count as equally late.
const LATE_STEP: Duration = Duration::from_millis(100);

/// The order for one fetch. It is made anew for each leg and keeps its buffers, so that deciding allocates
/// nothing once it has seen as many candidates.
#[derive(Debug, Default)]
pub struct Plan {
    choices: Vec<Choice>,
    order: Vec<Place>,
    pays_for_haste: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    part: Part,
    /// By how many steps it would be late; 0 in every other part.
    late: u32,
    cost: Cost,
    at: usize,
}

impl Plan {
    /// A plan with room for so many candidates.
    #[must_use]
    pub fn with_capacity(candidates: usize) -> Self {
        // One more for the last resort.
        let choices = Vec::with_capacity(candidates + 1);
        Self { choices, order: Vec::with_capacity(candidates), pays_for_haste: false }
    }

    /// The next to try first.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Whether the first costs more than another that is in use and would be too late.
    #[must_use]
    pub fn pays_for_haste(&self) -> bool {
        self.pays_for_haste
    }

    /// Orders the candidates for a need. Those that cannot help are not in the list: absent ones, resting ones (but
    /// see above), and resting ones that failed in this fetch.
    pub fn decide(&mut self, now: Instant, candidates: &[Candidate], need: Need) {
        self.order.clear();
        let places = candidates.iter().enumerate();
        self.order.extend(places.filter_map(|(at, candidate)| place(now, at, candidate, need)));
        self.order.sort_unstable_by_key(|place| (place.part, place.late, place.cost, place.at));
        let mut rest = self.order.as_mut_slice();
        while let Some(&Place { part, late, cost, .. }) = rest.first() {
            let limit = with_band(cost);
            let equal = |place: &&Place| (place.part, place.late) == (part, late) && place.cost <= limit;
            let band = rest.iter().take_while(equal).count();
            let (equals, dearer) = rest.split_at_mut(band);
            equals.sort_unstable_by_key(|place| (felt_latency(&candidates[place.at]), place.cost, place.at));
            rest = dearer;
        }
        let lowest =
            |part| self.order.iter().filter(move |place| place.part == part).map(|place| place.cost).min();
        let lowest = (lowest(Part::InUse), lowest(Part::Late));
        let first = self.order.first().filter(|place| place.part <= Part::Late);
        self.pays_for_haste =
            first.is_some_and(|first| lowest.1.is_some_and(|late| first.cost > with_band(late)));
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
pub fn plan(now: Instant, candidates: &[Candidate], need: Need) -> Vec<Choice> {
    let mut plan = Plan::with_capacity(candidates.len());
    plan.decide(now, candidates, need);
    plan.choices
}

/// What an order is sorted by. `None` for those that are not to be asked in the ordinary course.
fn place(now: Instant, at: usize, candidate: &Candidate, need: Need) -> Option<Place> {
    let cost = Cost::of(candidate.asking.byte, candidate.asking.request, need.len);
    let part = part(now, candidate)?;
    let late = if part == Part::InUse { steps_late(candidate, need) } else { 0 };
    Some(Place { part: if late > 0 { Part::Late } else { part }, late, cost, at })
}

/// By how many steps a source would miss the moment when its bytes are needed.
fn steps_late(candidate: &Candidate, need: Need) -> u32 {
    let Some(within) = need.within else { return 0 };
    let body = candidate.pace.map(|pace| need.len.saturating_mul(1_000) / pace.max(1));
    let takes = candidate.first_byte.unwrap_or_default() + Duration::from_millis(body.unwrap_or_default());
    let late = takes.saturating_sub(within).as_millis().div_ceil(LATE_STEP.as_millis());
    u32::try_from(late).unwrap_or(u32::MAX)
}

/// `None` for those that are not to be asked.
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

/// `lowest` is the lowest cost among those in use, and among those too late.
fn reason(
    now: Instant,
    c: &Candidate,
    place: &Place,
    nth: usize,
    lowest: (Option<Cost>, Option<Cost>),
) -> ChoiceReason {
    let due = matches!(c.standing, Standing::Open { until } if until <= now);
    match place.part {
        Part::Late => ChoiceReason::Late,
        Part::Slow => ChoiceReason::Slow,
        Part::Again => ChoiceReason::Again,
        Part::InUse if due => ChoiceReason::Trial,
        Part::InUse if nth == 0 && lowest.1.is_some_and(|late| place.cost > with_band(late)) => {
            ChoiceReason::InTime
        }
        Part::InUse if Some(place.cost) == lowest.0 => ChoiceReason::Cheapest,
        Part::InUse if nth == 0 && c.favourite => ChoiceReason::Steady,
        Part::InUse if nth == 0 => ChoiceReason::Faster,
        Part::InUse => ChoiceReason::Dearer,
    }
}

/// Of those whose rest is not over (or whose trial is under way) the one that rested least often in a row; among equals
/// the one that is nearest to its end.
fn last_resort(now: Instant, candidates: &[Candidate]) -> Option<Choice> {
    let resting = candidates.iter().enumerate().filter(|(_, c)| !c.absent && !c.tried);
    let end = resting.filter_map(|(at, c)| match c.standing {
        Standing::Closed => None,
        Standing::Open { until } => (until > now).then_some((c.rests, until, at)),
        Standing::HalfOpen => Some((c.rests, now, at)),
    });
    end.min().map(|(_, _, index)| Choice { index, reason: ChoiceReason::LastResort })
}

/// When the first of those that have not failed in this fetch ends its rest, if that is not later than `soon`; one that
/// asked for its rest may take until `late`. `None` if no rest ends in time.
#[must_use]
pub fn rest_ends(candidates: &[Candidate], soon: Instant, late: Instant) -> Option<Instant> {
    let ends = candidates.iter().filter(|c| !c.absent && !c.tried).filter_map(|c| match c.standing {
        Standing::Open { until } => (until <= if c.throttled { late } else { soon }).then_some(until),
        Standing::Closed | Standing::HalfOpen => None,
    });
    ends.min()
}

#[cfg(test)]
mod tests;
