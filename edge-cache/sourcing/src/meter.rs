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
mod forecast;
mod ledger;

use std::collections::{BTreeMap, VecDeque};

pub use baseline::{Baseline, BaselineConfig, Baselines};
pub use ledger::{Count, FORMAT, Habits, Ledger, MAX_PAST, Settled, Statement};

use self::forecast::{DAY_SLOTS, HOUR_SLOTS, points, since_first};
use crate::account::{Account, Pricing, SourcePrice, Volume};
use crate::source::SourceId;
use crate::tariff::transit::{self, Ahead, SLOT_SECONDS, billed_level, discarded};
use crate::tariff::{Dollars, Month};

/// A link's level is raised by at least one in so many.
const LEVEL_STEPS: u64 = 50;
const DAY_HOURS: usize = 24;

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

/// What is remembered of a link from hour to hour.
#[derive(Debug, Clone, Default)]
struct LinkState {
    /// The levels that the last day's forecasts took to pay, one for each hour.
    forecasts: VecDeque<u64>,
    /// What it is filled to in each slot; all there is, when there is nobody else to go to.
    level: u64,
    /// The demand from which on a slot is worth throwing away.
    burst_from: Option<u64>,
    /// How many slots could be thrown away when this hour began.
    bursts: u64,
}

impl LinkState {
    /// The level from now on, when the forecast of this hour takes `best` to pay. A link that was filled too high stays
    /// so for the month, and one that was filled too low costs little by the day: so the level follows what
    /// three of four of the last day's forecasts reach, and not for a little.
    fn follow(&mut self, best: u64, paid: u64) {
        self.forecasts.push_back(best);
        self.forecasts.drain(..self.forecasts.len().saturating_sub(DAY_HOURS));
        let mut sorted: Vec<u64> = self.forecasts.iter().copied().collect();
        sorted.sort_unstable();
        let agreed = sorted.get(sorted.len() / 4).copied().unwrap_or_default();
        if agreed.abs_diff(self.level) > self.level / LEVEL_STEPS {
            self.level = agreed;
        }
        self.level = self.level.max(paid);
    }

    /// What it may still take in a slot of which so many seconds are over, when it took `taken` of `demand` so far. A slot
    /// that exceeds the level anyway is thrown away whole.
    fn allowance(&self, slot: u64, seconds: u64, taken: u64, demand: u64) -> u64 {
        // The slots of this hour before this one may all have been thrown away.
        let may = self.bursts > slot % HOUR_SLOTS as u64;
        let promised = u128::from(demand) * u128::from(SLOT_SECONDS) / u128::from(seconds.max(1));
        // In time, so that nothing is bought elsewhere between two looks.
        let full = taken >= self.level - self.level / 8;
        let burst = may && full && self.burst_from.is_some_and(|from| promised >= u128::from(from));
        let alone = self.level == u64::MAX;
        if alone || burst || taken > self.level { u64::MAX } else { self.level - taken }
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
    /// Whether free bytes are kept for worse times.
    saving: bool,
    /// The hour that was planned last.
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
        let level = |at: &usize| ledger.levels.get(&setup.account.lines[*at].id).copied().unwrap_or_default();
        let links =
            setup.account.links.iter().map(|at| LinkState { level: level(at), ..LinkState::default() });
        let links = links.collect();
        Self {
            setup,
            ledger,
            last: Readings::default(),
            outlook: Vec::new(),
            links,
            saving: false,
            planned: None,
        }
    }

    /// Goes on under another sheet from this moment on: what was bought so far stays at the price it was bought for, even if
    /// the new sheet calls itself by the old one's version. The sources are the same, in the same order.
    pub fn reprice(&mut self, setup: Setup, now: u64) {
        let mut ledger = self.ledger(now);
        ledger.settled = std::mem::take(&mut ledger.billed);
        ledger.sheet.clone_from(&setup.sheet);
        let last = std::mem::take(&mut self.last);
        *self = Self { last, ..Self::new(setup, ledger) };
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
        self.plan(slot);
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
        self.ledger.habits = Habits::learn(closed.month.start(), &closed.demand).or(closed.habits);
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
        self.links.iter_mut().for_each(|link| *link = LinkState::default());
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
        let beyond_links = self.beyond_links(left).saturating_mul(self.setup.nodes);
        Volume { bytes_ahead, requests_ahead, beyond_links, saving: self.saving, ..self.volume() }
    }

    /// What the links will not carry in so many slots, when their discarded ones take the highest demands.
    fn beyond_links(&self, left: u64) -> u64 {
        let levels = self.link_ids().filter_map(|id| self.ledger.levels.get(id)).copied();
        let level = levels.fold(0, u64::saturating_add);
        let bursts = if level > 0 { discarded(self.slots_of_month()).min(left) } else { 0 };
        let points = self.outlook.len() as u64;
        let burst_points = (bursts * points).checked_div(left).unwrap_or_default() as usize;
        let over = self.outlook[burst_points.min(self.outlook.len())..]
            .iter()
            .map(|demand| u128::from(demand.saturating_sub(level)));
        u64::try_from(over.sum::<u128>() * u128::from(left) / u128::from(points.max(1))).unwrap_or(u64::MAX)
    }

    /// Once an hour: what is ahead, and what it means for links and for free bytes.
    fn plan(&mut self, slot: u64) {
        if self.planned == Some(slot / HOUR_SLOTS as u64) {
            return;
        }
        self.planned = Some(slot / HOUR_SLOTS as u64);
        self.outlook = self.expected_demand(slot);
        let volume = self.volume_ahead(slot);
        for link in 0..self.links.len() {
            let mut state = std::mem::take(&mut self.links[link]);
            self.plan_link(link, slot, &volume, &mut state);
            self.ledger.levels.insert(self.link_id(link).to_owned(), state.level);
            self.links[link] = state;
        }
        self.saving = self.setup.account.worth_saving(&self.volume_ahead(slot));
    }

    /// What to fill a link to.
    fn plan_link(&self, link: usize, slot: u64, volume: &Volume, state: &mut LinkState) {
        let line = &self.setup.account.lines[self.setup.account.links[link]];
        let nodes = self.setup.nodes;
        let elsewhere = |bytes: u64| {
            let bytes = bytes.saturating_mul(nodes);
            self.setup.account.elsewhere(volume, bytes).map(|usd| usd.share(1, nodes))
        };
        let (Pricing::Transit(per_mbps), Some(_)) = (&line.pricing, elsewhere(0)) else {
            *state = LinkState { level: u64::MAX, ..LinkState::default() };
            return;
        };
        let mut carried = self.ledger.links.get(&line.id).cloned().unwrap_or_default();
        carried.truncate(slot as usize);
        carried.sort_unstable_by(|a, b| b.cmp(a));
        let month = self.slots_of_month();
        let ahead = Ahead { demand: &self.outlook, carried: &carried, slots: month - slot, month };
        let best = transit::level(&ahead, *per_mbps, |bytes| elsewhere(bytes).unwrap_or_default());
        state.follow(best, ahead.paid());
        state.bursts = ahead.bursts(state.level);
        state.burst_from = transit::burst_from(&ahead, state.level);
    }

    /// What five minutes of the rest of the month may bring. Without habits: last month's, or this month's own
    /// once two weeks are known.
    fn expected_demand(&self, slot: u64) -> Vec<u64> {
        let (start, demand) = (self.ledger.month.start(), &self.ledger.demand);
        if let Some(habits) = &self.ledger.habits {
            let left = slot as usize..self.slots_of_month() as usize;
            return habits.ahead(start, left, habits.cautious_growth(start, demand));
        }
        let seen = since_first(demand);
        let profile = &self.ledger.profile;
        if seen.len() >= 14 * DAY_SLOTS || profile.is_empty() { points(seen) } else { profile.clone() }
    }

    /// What each source takes now, and what the links may still carry.
    #[must_use]
    pub fn quotes(&self, now: u64) -> Quotes {
        let slot = self.slot(now);
        let so_far = |slots: Option<&Vec<u64>>| {
            slots.and_then(|slots| slots.get(slot as usize)).copied().unwrap_or_default()
        };
        let seconds = now.saturating_sub(self.ledger.month.start() + slot * SLOT_SECONDS);
        let demand = so_far(Some(&self.ledger.demand));
        let allowances = self
            .links
            .iter()
            .zip(self.link_ids())
            .map(|(state, id)| state.allowance(slot, seconds, so_far(self.ledger.links.get(id)), demand));
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

#[cfg(test)]
mod tests;
