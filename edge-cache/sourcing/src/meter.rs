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

use std::collections::BTreeMap;

pub use baseline::{Baseline, BaselineConfig, Baselines};
pub use ledger::{Count, FORMAT, Ledger, MAX_PAST, Settled, Statement};

use crate::account::{Account, Pricing, SourcePrice, Volume};
use crate::source::SourceId;
use crate::tariff::transit::{self, Ahead, SLOT_SECONDS, billed_level, discarded};
use crate::tariff::{Dollars, Month};

/// Slots of a day: as much as it takes to know a node's habits.
const DAY_SLOTS: usize = 288;
/// How often links are planned anew.
const PLAN_SLOTS: u64 = 12;
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

/// A link's plan for the slot at hand.
#[derive(Debug, Clone, Copy, Default)]
struct LinkPlan {
    level: u64,
    allowance: u64,
}

/// The meter.
#[derive(Debug, Clone)]
pub struct Meter {
    setup: Setup,
    ledger: Ledger,
    last: Readings,
    /// Expected demands of five minutes, the highest first.
    outlook: Vec<u64>,
    links: Vec<LinkPlan>,
    /// The slot that the plans are for.
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
        let links = vec![LinkPlan::default(); setup.account.links.len()];
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
                let id = &self.setup.account.lines[self.setup.account.links[link]].id;
                add_to(self.ledger.links.entry(id.clone()).or_default(), slot, more.bytes);
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
        if self.planned.is_none_or(|planned| planned / PLAN_SLOTS != slot / PLAN_SLOTS) {
            self.outlook = self.expected_demand();
        }
        self.planned = Some(slot);
        let volume = self.volume_ahead(slot);
        let last = slot.checked_sub(1).and_then(|last| self.ledger.demand.get(last as usize));
        let last = last.copied().unwrap_or_default();
        self.links = (0..self.links.len()).map(|link| self.plan_link(link, slot, last, &volume)).collect();
    }

    fn plan_link(&self, link: usize, slot: u64, last: u64, volume: &Volume) -> LinkPlan {
        let line = &self.setup.account.lines[self.setup.account.links[link]];
        let Pricing::Transit(per_mbps) = line.pricing else { return LinkPlan::default() };
        let nothing = Vec::new();
        let samples = self.ledger.links.get(&line.id).unwrap_or(&nothing);
        let slots = self.slots_of_month();
        let before = &samples[..samples.len().min(slot as usize)];
        let floor = billed_level(before, slots);
        let above = |level: u64| before.iter().filter(|sample| **sample > level).count() as u64;
        let bursts = |level: u64| discarded(slots).saturating_sub(above(level));
        let ahead =
            |level: u64| Ahead { demand: &self.outlook, slots: slots - slot, bursts: bursts(level), floor };
        let nodes = self.setup.nodes;
        let elsewhere = |bytes: u64| {
            let bytes = bytes.saturating_mul(nodes);
            self.setup.account.elsewhere(volume, bytes).map(|usd| usd.share(1, nodes))
        };
        if elsewhere(0).is_none() {
            // Nobody else to go to: the link takes what comes.
            return LinkPlan { level: u64::MAX, allowance: u64::MAX };
        }
        let kept = self.links.get(link).map_or(floor, |plan| plan.level.max(floor));
        let level = transit::level(&ahead(kept), per_mbps, |bytes| elsewhere(bytes).unwrap_or_default());
        LinkPlan { level, allowance: transit::allowance(&ahead(level), level, last) }
    }

    /// What five minutes may bring: this month's own once a week is known, before that last month's, as much
    /// higher or lower as this month began.
    fn expected_demand(&self) -> Vec<u64> {
        let seen = since_first(&self.ledger.demand);
        let profile = &self.ledger.profile;
        if seen.len() >= 7 * DAY_SLOTS || profile.is_empty() {
            return points(seen);
        }
        if seen.len() < DAY_SLOTS {
            return profile.clone();
        }
        let mean = |demand: &[u64]| {
            demand.iter().copied().map(u128::from).sum::<u128>() / demand.len().max(1) as u128
        };
        let (ours, theirs) = (mean(seen), mean(profile).max(1));
        let scaled = |demand: &u64| u64::try_from(u128::from(*demand) * ours / theirs).unwrap_or(u64::MAX);
        profile.iter().map(scaled).collect()
    }

    /// What each source takes now, and what the links may still carry.
    #[must_use]
    pub fn quotes(&self, now: u64) -> Quotes {
        let slot = self.slot(now);
        let allowances = self.links.iter().zip(&self.setup.account.links).map(|(plan, line)| {
            let samples = self.ledger.links.get(&self.setup.account.lines[*line].id);
            let taken = samples.and_then(|samples| samples.get(slot as usize)).copied().unwrap_or_default();
            if plan.allowance == u64::MAX { u64::MAX } else { plan.allowance.saturating_sub(taken) }
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

    /// The ids of the lines that are links.
    pub fn link_ids(&self) -> impl Iterator<Item = &str> {
        self.setup.account.links.iter().map(|line| self.setup.account.lines[*line].id.as_str())
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
