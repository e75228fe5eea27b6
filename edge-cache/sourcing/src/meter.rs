//! The cost meter: what a node bought and delivered this month, and what that costs.
//!
//! It counts integers (bytes and requests by source, bytes of each five minutes by link) and derives money
//! only when asked, from the counts, the price sheet and the tiers' integrals. A new sheet changes what is
//! derived from then on; what was bought under the old one stays at its price. [`Ledger`] is what survives a
//! restart; whoever runs the meter writes it down.
//!
//! What it does not do: it reads no clock and writes no file. One node sees its own bytes only: of an account
//! that several nodes buy under it assumes that they buy alike.

mod baseline;
mod ledger;

use std::collections::{BTreeMap, VecDeque};

pub use baseline::{Baseline, BaselineConfig, Baselines};
pub use ledger::{Count, FORMAT, Ledger, MAX_PAST, Settled, Statement};

use crate::account::{Account, Pricing, SourcePrice, Volume};
use crate::source::SourceId;
use crate::tariff::transit::{self, Ahead, SLOT_SECONDS, billed_level, discarded};
use crate::tariff::{Dollars, Month};

/// Slots of a day.
const DAY_SLOTS: usize = 288;
/// Slots of an hour.
const HOUR_SLOTS: usize = 12;
const HOURS_OF_WEEK: usize = 168;
/// A link's level is raised by at least one in so many.
const LEVEL_STEPS: u64 = 50;
const DAY_HOURS: usize = 24;
/// Points of a profile.
const MAX_POINTS: usize = 512;

/// What a meter is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The sources, in the order of the account's charges.
    pub sources: Vec<SourceId>,
    /// How they are paid.
    pub account: Account,
    /// What to compare with.
    pub baselines: Baselines,
    /// The version of the sheet that both come from.
    pub sheet: String,
    /// How many nodes buy under the same account.
    pub nodes: u64,
    /// What this node costs by the month whatever it does: machine, power, its share of site and people.
    pub usd_per_month: Dollars,
}

/// Counters of a process, from its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readings {
    /// By source, in the order of the set-up.
    pub sources: Vec<Count>,
    /// Handed to viewers.
    pub delivered: Count,
}

/// What to post to the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotes {
    /// What each source takes.
    pub prices: Vec<SourcePrice>,
    /// Bytes that each link may still take in this slot.
    pub allowances: Vec<u64>,
}

/// A month's money, derived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// What was spent, by line: prices, plans and links by their ids, sources with a fixed price by their
    /// name, and `node`.
    pub lines: BTreeMap<String, Dollars>,
    /// What the delivered bytes would have cost.
    pub baselines: BTreeMap<&'static str, Dollars>,
}

impl Bill {
    /// Everything that was spent.
    #[must_use]
    pub fn total(&self) -> Dollars {
        self.lines.values().copied().sum()
    }
}

/// What is remembered of a link from slot to slot.
#[derive(Debug, Clone, Default)]
struct LinkState {
    /// The levels that the last day's forecasts took to pay, one for each hour.
    forecasts: VecDeque<u64>,
    /// Bytes that it may take in the slot that was planned last.
    allowance: u64,
}

/// What there is to decide about a link in one slot.
struct LinkPlan<'a> {
    outlook: &'a [u64],
    /// The slots of this month that are over.
    samples: &'a [u64],
    slot: u64,
    month: u64,
    /// What it is paid up to, and after the first day filled to, so far.
    kept: u64,
    /// The level that pays by the forecast of this hour; `None` when there is nobody else to go to.
    best: Option<u64>,
}

impl LinkPlan<'_> {
    fn ahead(&self, floor: u64) -> Ahead<'_> {
        let above = self.samples.iter().filter(|sample| **sample > floor).count() as u64;
        let bursts = discarded(self.month).saturating_sub(above);
        Ahead { demand: self.outlook, slots: self.month - self.slot, month: self.month, bursts, floor }
    }

    /// The level from now on, and the allowance of this slot. A link that was filled too high stays so for the
    /// month, and one that was filled too low costs little by the day: so the level rises to what three of four
    /// of the last day's forecasts reach, and not for a little. On the first day there is no level yet to keep.
    fn decide(&self, anew: bool, last: u64, forecasts: &mut VecDeque<u64>) -> (u64, u64) {
        let Some(best) = self.best else { return (self.kept, u64::MAX) };
        if self.slot < HOUR_SLOTS as u64 {
            // Nobody knows yet what this month will be like; an hour of slots to throw away is not much.
            return (self.kept, u64::MAX);
        }
        if anew {
            forecasts.push_back(best);
            forecasts.drain(..forecasts.len().saturating_sub(DAY_HOURS));
        }
        let mut sorted: Vec<u64> = forecasts.iter().copied().collect();
        sorted.sort_unstable();
        let agreed = sorted.get(sorted.len() / 4).copied().unwrap_or_default();
        let first_day = self.slot < DAY_SLOTS as u64;
        let level = match () {
            () if first_day => agreed.max(self.kept),
            () if forecasts.len() == DAY_HOURS && agreed > self.kept + self.kept / LEVEL_STEPS => agreed,
            () => self.kept,
        };
        (level, transit::allowance(&self.ahead(level), last))
    }
}

/// The meter.
#[derive(Debug, Clone)]
pub struct Meter {
    setup: Setup,
    ledger: Ledger,
    last: Readings,
    /// Expected demands of five minutes, the highest first.
    outlook: Vec<u64>,
    links: Vec<LinkState>,
    /// The slot that the links were planned for.
    planned: Option<u64>,
}

/// The id of the line for what a node costs by itself.
pub const NODE_LINE: &str = "node";

impl Meter {
    /// Goes on with a ledger. If it was written under another sheet, what it says was spent stays.
    #[must_use]
    pub fn new(setup: Setup, mut ledger: Ledger) -> Self {
        if ledger.sheet != setup.sheet {
            ledger.settled = std::mem::take(&mut ledger.billed);
            ledger.sheet.clone_from(&setup.sheet);
        }
        let links = vec![LinkState::default(); setup.account.links.len()];
        Self { setup, ledger, last: Readings::default(), outlook: Vec::new(), links, planned: None }
    }

    /// Takes new readings at this moment (Unix seconds). What came since the last ones belongs to it.
    pub fn observe(&mut self, now: u64, readings: &Readings) {
        // A clock that was set back does not reopen a month.
        while Month::of(now) > self.ledger.month {
            self.close_month();
        }
        let slot = self.slot(now);
        let mut bought = 0;
        for (at, name) in self.setup.sources.iter().enumerate() {
            let reading = |of: &Readings| of.sources.get(at).copied().unwrap_or_default();
            let more = reading(readings).since(reading(&self.last));
            if more == Count::default() {
                continue;
            }
            self.ledger.sources.entry(name.clone()).or_default().add(more);
            bought += more.bytes;
            if let Some(link) = self.setup.account.charges[at].link {
                let id = self.link_id(link).to_owned();
                add_to(self.ledger.links.entry(id).or_default(), slot, more.bytes);
            }
        }
        add_to(&mut self.ledger.demand, slot, bought);
        self.ledger.delivered.add(readings.delivered.since(self.last.delivered));
        self.last.clone_from(readings);
        self.plan_links(slot);
    }

    fn slot(&self, now: u64) -> u64 {
        let in_month = now.saturating_sub(self.ledger.month.start());
        in_month.min(self.ledger.month.seconds() - 1) / SLOT_SECONDS
    }

    fn slots_of_month(&self) -> u64 {
        self.ledger.month.seconds() / SLOT_SECONDS
    }

    fn close_month(&mut self) {
        let end = self.ledger.month.start() + self.ledger.month.seconds();
        let Ledger { lines, baselines, .. } = self.ledger(end);
        let next =
            Ledger::new(self.ledger.site.clone(), self.ledger.price_region.clone(), self.ledger.month.next());
        let mut closed = std::mem::replace(&mut self.ledger, next);
        let seen = since_first(&closed.demand);
        self.ledger.profile = if seen.len() >= DAY_SLOTS { points(seen) } else { closed.profile };
        self.ledger.habits = if seen.len() >= 7 * DAY_SLOTS {
            habits(closed.month.start(), &closed.demand)
        } else {
            closed.habits
        };
        self.ledger.sheet.clone_from(&closed.sheet);
        self.ledger.past = std::mem::take(&mut closed.past);
        self.ledger.past.push(Statement {
            month: closed.month,
            sheet: closed.sheet,
            sources: closed.sources,
            delivered: closed.delivered,
            lines,
            baselines,
        });
        let surplus = self.ledger.past.len().saturating_sub(MAX_PAST);
        self.ledger.past.drain(..surplus);
        self.planned = None;
        self.links.iter_mut().for_each(|link| link.forecasts.clear());
    }

    /// How much each line has counted, over all nodes of the account.
    fn volume(&self) -> Volume {
        let mut used = vec![0_u64; self.setup.account.lines.len()];
        for (name, charge) in self.setup.sources.iter().zip(&self.setup.account.charges) {
            let count = self.ledger.sources.get(name).copied().unwrap_or_default();
            let mut add = |line: Option<usize>, more: u64| {
                if let Some(used) = line.and_then(|line| used.get_mut(line)) {
                    *used = used.saturating_add(more.saturating_mul(self.setup.nodes));
                }
            };
            add(charge.bytes, count.bytes);
            add(charge.requests, count.requests);
        }
        Volume { used, ..Volume::default() }
    }

    /// The volume, and what the rest of the month will bring if it goes on as expected.
    fn volume_ahead(&self, slot: u64) -> Volume {
        let left = self.slots_of_month().saturating_sub(slot);
        let expected: u128 = self.outlook.iter().copied().map(u128::from).sum();
        let bytes = expected * u128::from(left) / self.outlook.len().max(1) as u128;
        let bytes_ahead = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(self.setup.nodes);
        let so_far = self.ledger.bought();
        let requests =
            u128::from(bytes_ahead) * u128::from(so_far.requests) / u128::from(so_far.bytes.max(1));
        let requests_ahead = u64::try_from(requests).unwrap_or(u64::MAX);
        Volume { bytes_ahead, requests_ahead, ..self.volume() }
    }

    /// Once for each slot: what the links may take.
    fn plan_links(&mut self, slot: u64) {
        if self.planned == Some(slot) {
            return;
        }
        let anew = self.planned.is_none_or(|planned| planned / HOUR_SLOTS as u64 != slot / HOUR_SLOTS as u64);
        if anew {
            self.outlook = self.expected_demand();
        }
        self.planned = Some(slot);
        let volume = self.volume_ahead(slot);
        let last = slot.checked_sub(1).and_then(|last| self.ledger.demand.get(last as usize));
        let last = last.copied().unwrap_or_default();
        for link in 0..self.links.len() {
            let mut forecasts = std::mem::take(&mut self.links[link].forecasts);
            let plan = self.plan_link(link, slot, &volume);
            let (level, allowance) = plan.decide(anew, last, &mut forecasts);
            self.ledger.levels.insert(self.link_id(link).to_owned(), level);
            self.links[link] = LinkState { forecasts, allowance };
        }
    }

    /// What there is to decide about a link in this slot.
    fn plan_link(&self, link: usize, slot: u64, volume: &Volume) -> LinkPlan<'_> {
        let line = &self.setup.account.lines[self.setup.account.links[link]];
        let nodes = self.setup.nodes;
        let elsewhere = |bytes: u64| {
            let bytes = bytes.saturating_mul(nodes);
            self.setup.account.elsewhere(volume, bytes).map(|usd| usd.share(1, nodes))
        };
        let samples = self.ledger.links.get(&line.id).map_or(&[][..], Vec::as_slice);
        let (samples, month) = (&samples[..samples.len().min(slot as usize)], self.slots_of_month());
        let paid = billed_level(samples, month);
        let kept = self.ledger.levels.get(&line.id).copied().filter(|_| slot >= DAY_SLOTS as u64);
        let kept = kept.unwrap_or_default().max(paid);
        let mut plan = LinkPlan { outlook: &self.outlook, samples, slot, month, kept, best: None };
        if let (Pricing::Transit(per_mbps), Some(_)) = (&line.pricing, elsewhere(0)) {
            let cost = |bytes| elsewhere(bytes).unwrap_or_default();
            plan.best = Some(transit::level(&plan.ahead(kept), *per_mbps, cost));
        }
        plan
    }

    /// What five minutes may bring: this month's own once two weeks are known, before that last month's, as
    /// much higher or lower as this month began.
    fn expected_demand(&self) -> Vec<u64> {
        let seen = since_first(&self.ledger.demand);
        let profile = &self.ledger.profile;
        if seen.len() >= 14 * DAY_SLOTS || profile.is_empty() {
            return points(seen);
        }
        let growth = u128::from(self.growth());
        let scaled = |demand: &u64| u64::try_from(u128::from(*demand) * growth / 1_000).unwrap_or(u64::MAX);
        profile.iter().map(scaled).collect()
    }

    /// This month's demand by last month's in thousandths, in the middle slot of those seen and over the same
    /// hours of the week: neither a weekend nor a premiere is growth.
    fn growth(&self) -> u64 {
        let habits = &self.ledger.habits;
        let ended = &self.ledger.demand[..self.ledger.demand.len().saturating_sub(1)];
        // Slots in which the node was not there say nothing.
        let seen = ended.iter().enumerate().filter(|(_, bytes)| **bytes > 0);
        let usual = |slot: usize| habits.get(hour_of_week(self.ledger.month.start(), slot)).copied();
        let ratios = seen.filter_map(|(slot, bytes)| {
            let usual = usual(slot).filter(|usual| *usual > 0)?;
            u64::try_from(u128::from(*bytes) * 1_000 / u128::from(usual)).ok()
        });
        let ratios: Vec<u64> = ratios.collect();
        if ratios.len() < HOUR_SLOTS { 1_000 } else { middle(ratios) }
    }

    /// What each source takes now, and what the links may still carry.
    #[must_use]
    pub fn quotes(&self, now: u64) -> Quotes {
        let slot = self.slot(now);
        let allowances = self.links.iter().zip(self.link_ids()).map(|(LinkState { allowance, .. }, id)| {
            let samples = self.ledger.links.get(id);
            let taken = samples.and_then(|samples| samples.get(slot as usize)).copied().unwrap_or_default();
            if *allowance == u64::MAX { u64::MAX } else { allowance.saturating_sub(taken) }
        });
        let allowances = allowances.collect();
        Quotes { prices: self.setup.account.prices(&self.volume_ahead(slot)), allowances }
    }

    /// What the month has cost so far.
    #[must_use]
    pub fn bill(&self, now: u64) -> Bill {
        let mut lines: BTreeMap<String, Dollars> = BTreeMap::new();
        let mut add = |id: &str, usd: Dollars| *lines.entry(id.to_owned()).or_default() += usd;
        for (id, settled) in self.line_bills() {
            add(&id, settled.usd);
        }
        for (name, charge) in self.setup.sources.iter().zip(&self.setup.account.charges) {
            let Count { bytes, requests } = self.ledger.sources.get(name).copied().unwrap_or_default();
            let price = SourcePrice::from(charge.fixed);
            if charge.bytes.is_none() {
                add(name.as_str(), price.byte.of(bytes));
            }
            if charge.requests.is_none() {
                add(name.as_str(), price.request.of(requests));
            }
        }
        let passed = now.saturating_sub(self.ledger.month.start()).min(self.ledger.month.seconds());
        add(NODE_LINE, self.setup.usd_per_month.share(passed, self.ledger.month.seconds()));
        Bill { lines, baselines: self.baselines() }
    }

    /// Lines of the sheet, retired ones included: money that was spent does not vanish with its price.
    fn line_bills(&self) -> BTreeMap<String, Settled> {
        let mut bills = self.ledger.settled.clone();
        bills.retain(|_, settled| settled.usd != Dollars::ZERO);
        for (line, used) in self.setup.account.lines.iter().zip(self.volume().used) {
            let bill = |volume: u64| line.bill(volume).share(1, self.setup.nodes);
            let usd = match (&line.pricing, self.ledger.settled.get(&line.id)) {
                (Pricing::Transit(per_mbps), _) => self.link_bill(&line.id, *per_mbps),
                (_, Some(before)) => before.usd + bill(used) - bill(before.volume),
                (_, None) => bill(used),
            };
            bills.insert(line.id.clone(), Settled { usd, volume: used });
        }
        bills
    }

    fn link_bill(&self, id: &str, per_mbps: Dollars) -> Dollars {
        transit::level_price(self.link_level(id), per_mbps)
    }

    /// The level that a link would be billed at if nothing more came, in bytes of five minutes.
    #[must_use]
    pub fn link_level(&self, id: &str) -> u64 {
        self.ledger.links.get(id).map_or(0, |samples| billed_level(samples, self.slots_of_month()))
    }

    /// The plans among the lines: id, used and included.
    #[must_use]
    pub fn plans(&self) -> Vec<(&str, u64, u64)> {
        let lines = self.setup.account.lines.iter().zip(self.volume().used);
        let plans = lines.filter_map(|(line, used)| match line.pricing {
            Pricing::Plan { included, .. } => Some((line.id.as_str(), used, included)),
            _ => None,
        });
        plans.collect()
    }

    fn baselines(&self) -> BTreeMap<&'static str, Dollars> {
        let Count { bytes, requests } = self.ledger.delivered;
        let nodes = self.setup.nodes;
        let all = Count { bytes: bytes.saturating_mul(nodes), requests: requests.saturating_mul(nodes) };
        let bill = |baseline| self.setup.baselines.bill(baseline, all).share(1, nodes);
        Baseline::ALL.into_iter().map(|baseline| (baseline.as_str(), bill(baseline))).collect()
    }

    /// What to write down at this moment: the counts, and what they came to under the sheet of today.
    #[must_use]
    pub fn ledger(&self, now: u64) -> Ledger {
        let Bill { lines, baselines } = self.bill(now);
        let baselines = baselines.into_iter().map(|(name, usd)| (name.to_owned(), usd)).collect();
        Ledger { billed: self.line_bills(), lines, baselines, ..self.ledger.clone() }
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> &Ledger {
        &self.ledger
    }

    fn link_id(&self, link: usize) -> &str {
        &self.setup.account.lines[self.setup.account.links[link]].id
    }

    /// The ids of the lines that are links.
    pub fn link_ids(&self) -> impl Iterator<Item = &str> {
        (0..self.setup.account.links.len()).map(|link| self.link_id(link))
    }
}

/// Counts into a slot; slots that nobody saw are empty.
fn add_to(slots: &mut Vec<u64>, slot: u64, bytes: u64) {
    let at = slot as usize;
    if slots.len() <= at {
        slots.resize(at + 1, 0);
    }
    slots[at] = slots[at].saturating_add(bytes);
}

/// Without the time before the node's first byte, and without the slot that still runs.
fn since_first(demand: &[u64]) -> &[u64] {
    let ended = &demand[..demand.len().saturating_sub(1)];
    let first = ended.iter().position(|bytes| *bytes > 0).unwrap_or(ended.len());
    &ended[first..]
}

fn hour_of_week(month_start: u64, slot: usize) -> usize {
    ((month_start / 3_600) as usize + slot / HOUR_SLOTS) % HOURS_OF_WEEK
}

/// The middle slot of each hour of the week. Slots in which the node was not there do not count.
fn habits(month_start: u64, demand: &[u64]) -> Vec<u64> {
    let mut hours = vec![Vec::new(); HOURS_OF_WEEK];
    for (slot, bytes) in demand.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
        hours[hour_of_week(month_start, slot)].push(*bytes);
    }
    hours.into_iter().map(middle).collect()
}

/// The middle of some values; 0 of none.
fn middle(mut values: Vec<u64>) -> u64 {
    let at = values.len() / 2;
    if values.is_empty() { 0 } else { *values.select_nth_unstable(at).1 }
}

/// At most [`MAX_POINTS`] of the demands, evenly taken, the highest first.
fn points(demand: &[u64]) -> Vec<u64> {
    let mut sorted = demand.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let count = sorted.len().min(MAX_POINTS);
    // The middle of each share stands for it.
    (0..count).map(|nth| sorted[(2 * nth + 1) * sorted.len() / (2 * count)]).collect()
}

#[cfg(test)]
mod tests;
