//! Buying a month, slot by slot: with the real rooms, or in a fixed order.

use std::time::Duration;

use sourcing::health::Standing;
use sourcing::meter::{Count, Ledger, Meter, Quotes, Readings};
use sourcing::planner::{Asking, Candidate, Need, Plan};
use sourcing::policy::{Policy, Verdict};
use tokio::time::Instant;

use super::month::Month;
use crate::Fault;
use crate::stats::Side;

/// Bytes of one want.
const SEGMENT: u64 = 4_000_000;
const SLOT: u64 = 300;
/// How often prices are posted within a slot. A gateway does it every second.
const STEPS: u64 = 10;

/// What a month came to.
pub(super) struct Outcome {
    /// Everything that was spent.
    pub(super) usd: f64,
    /// How often the order of prices changed.
    pub(super) order_changes: u32,
    /// Bytes.
    pub(super) bought: u64,
}

/// A side's memory of a month.
struct Buyer<'a> {
    month: &'a Month,
    meter: Meter,
    policy: Policy,
    plan: Plan,
    readings: Readings,
    order_changes: u32,
}

/// Buys the month before, then the month.
pub(super) fn run_month(side: Side, month: &Month) -> Result<Outcome, Fault> {
    let first: sourcing::tariff::Month =
        "2026-10".parse().map_err(|error| Fault::new("naming a month", error))?;
    let ledger = Ledger::new("sim".to_owned(), "sim".to_owned(), first);
    let readings = Readings { sources: vec![Count::default(); month.sources.len()], ..Readings::default() };
    let mut buyer = Buyer {
        month,
        meter: Meter::new(month.setups[0].clone(), ledger),
        policy: Policy::default(),
        plan: Plan::with_capacity(month.sources.len()),
        readings,
        order_changes: 0,
    };
    // The month before is there to be learnt from; it ends where the next begins, however short it is.
    let start = first.next().start();
    let earlier = start - month.before.len() as u64 * SLOT;
    for (at, demand) in month.before.iter().enumerate() {
        buyer.slot(side, earlier + at as u64 * SLOT, *demand, |_| false);
    }
    buyer.order_changes = 0;
    for (at, demand) in month.demand.iter().enumerate() {
        let now = start + at as u64 * SLOT;
        if at == month.change {
            let setup = month.setups[1].clone();
            buyer.meter = Meter::new(setup, buyer.meter.ledger(now));
            buyer.readings.sources.fill(Count::default());
        }
        buyer.slot(side, now, *demand, |source| month.outages[source][at]);
    }
    let end = start + month.demand.len() as u64 * SLOT;
    let usd = buyer.meter.bill(end - 1).total().to_f64();
    let bought = buyer.meter.counts().bought().bytes;
    Ok(Outcome { usd, order_changes: buyer.order_changes, bought })
}

impl Buyer<'_> {
    /// Everything that is missed in a slot, in steps: at each, and whenever a link is full, prices are posted.
    fn slot(&mut self, side: Side, start: u64, demand: u64, fails: impl Fn(usize) -> bool) {
        for step in 0..STEPS {
            let now = start + step * SLOT / STEPS;
            let share = demand * (step + 1) / STEPS - demand * step / STEPS;
            let mut left = share;
            while left > 0 {
                // A step passes as its bytes are bought.
                let passed = (u128::from(share - left) * u128::from(SLOT / STEPS) / u128::from(share)) as u64;
                let Some(bought) = self.buy(side, now + passed, left, &fails) else { return };
                left -= bought;
            }
        }
        self.meter.observe(start + SLOT - 1, &self.readings);
    }

    /// Posts prices and buys from the first source in the order, until a link is full.
    fn buy(&mut self, side: Side, now: u64, left: u64, fails: &impl Fn(usize) -> bool) -> Option<u64> {
        self.meter.observe(now, &self.readings);
        let quotes = self.meter.quotes(now);
        if self.policy.step(now, &quotes.prices) == Verdict::Changed {
            self.order_changes += 1;
        }
        let source = match side {
            Side::Ours => self.choose(&quotes, fails)?,
            Side::Naive => (0..self.month.sources.len()).find(|source| !fails(*source))?,
        };
        let bytes = left.min(self.room(side, &quotes, source));
        let count = &mut self.readings.sources[source];
        count.bytes += bytes;
        count.requests += bytes / SEGMENT;
        Some(bytes)
    }

    /// How much goes to a source before the next decision: a link's allowance, or all.
    fn room(&self, side: Side, quotes: &Quotes, source: usize) -> u64 {
        let link = self.policy.prices()[source].link.filter(|_| side == Side::Ours);
        link.map(|(link, _)| quotes.allowances[link]).filter(|left| *left > 0).unwrap_or(u64::MAX)
    }

    fn choose(&mut self, quotes: &Quotes, fails: &impl Fn(usize) -> bool) -> Option<usize> {
        let now = Instant::now();
        let prices = self.policy.prices().iter().enumerate();
        let candidates = prices.map(|(source, price)| {
            let spent = price.link.filter(|(link, _)| quotes.allowances[*link] == 0);
            let byte = spent.map_or(price.byte, |(_, beyond)| beyond);
            let standing = if fails(source) {
                Standing::Open { until: now + Duration::from_secs(60) }
            } else {
                Standing::Closed
            };
            Candidate { standing, ..Candidate::new(Asking { byte, request: price.request }) }
        });
        let candidates: Vec<Candidate> = candidates.collect();
        self.plan.decide(now, &candidates, Need::bytes(SEGMENT));
        self.plan.choices().first().map(|choice| choice.index)
    }
}
