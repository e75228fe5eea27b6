//! How a node's sources are paid: lines that are counted over a month and billed as a whole, and which of
//! them each source's bytes and requests go to.
//!
//! Two sources may share a line (two distributions of one CDN account climb the same tiers). A price depends
//! on where the month stands: [`Account::prices`] is a pure function of the account, the month's volume and
//! what is expected of the rest.

use serde::{Deserialize, Serialize};

use crate::price::Price;
use crate::source::SourceId;
use crate::tariff::transit::{SLOT_SECONDS, level_price};
use crate::tariff::{Dollars, Ladder, Rate, Sheet, Unit};

/// The most links billed at the 95th percentile.
pub const MAX_LINKS: usize = 8;

/// What a byte costs that is paid for already but not for ever: next to nothing, so that what expires sooner
/// (this slot's bandwidth, a neighbour's free bytes) is used first.
const SUNK: Rate = Rate::attodollars(1);

/// Free bytes are spent when they are at least this much of what is ahead, in percent.
const SPEND_FROM: u64 = 95;
/// They are saved when they are less than this; between the two things stay as they are.
const SAVE_BELOW: u64 = 85;
/// They are saved when what steps in for the cheapest source costs over so many times as much.
const WORTH: u64 = 2;

/// A link's bytes beyond what it was filled to raise the bill for the whole month.
fn beyond_level(per_mbps: Dollars) -> Rate {
    Rate::average(level_price(SLOT_SECONDS * 1_000_000, per_mbps), SLOT_SECONDS * 1_000_000)
}

/// The `[source.tariff]` table: how one source is paid, by ids of the price sheet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deal {
    /// The price or the plan that its bytes count towards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// The price of its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<String>,
    /// The price of the link that its bytes come over, billed at the 95th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transit: Option<String>,
}

/// A source and how it is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Which.
    pub source: SourceId,
    /// What it takes where the deal says nothing.
    pub fixed: Price,
    /// What the sheet says it takes.
    pub deal: Deal,
    /// Whether it has only some of what is wanted, as a neighbour does.
    pub partial: bool,
}

/// Something that is counted over a month and billed as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The price's or plan's id; requests of a plan have `#requests` behind it.
    pub id: String,
    /// How it is billed.
    pub pricing: Pricing,
}

/// How a line is billed.
#[derive(Debug, Clone, PartialEq)]
pub enum Pricing {
    /// By volume.
    Ladder(Ladder),
    /// A fee for so much, and a price beyond it.
    Plan {
        /// Paid in any case.
        fee: Dollars,
        /// Free volume.
        included: u64,
        /// What follows.
        beyond: Ladder,
    },
    /// By the 95th percentile, in dollars for a Mbit/s.
    Transit(Dollars),
}

impl Line {
    /// What a month's volume costs. A link is billed by its level instead.
    #[must_use]
    pub fn bill(&self, volume: u64) -> Dollars {
        match &self.pricing {
            Pricing::Ladder(ladder) => ladder.total(volume),
            Pricing::Plan { fee, included, beyond } => *fee + beyond.total(volume.saturating_sub(*included)),
            Pricing::Transit(_) => Dollars::ZERO,
        }
    }

    /// What a month's volume costs that the fee does not cover.
    fn cost_of(&self, from: u64, more: u64) -> Dollars {
        self.bill(from.saturating_add(more)) - self.bill(from)
    }

    /// What the next one costs after so many, when so many more are expected.
    #[must_use]
    pub fn rate(&self, volume: u64, ahead: u64) -> Rate {
        match &self.pricing {
            _ if self.left(volume) > 0 => SUNK,
            Pricing::Ladder(ladder) => ladder.outlook(volume, ahead),
            Pricing::Plan { included, beyond, .. } => beyond.outlook(volume.saturating_sub(*included), ahead),
            Pricing::Transit(per_mbps) => beyond_level(*per_mbps),
        }
    }

    /// What is left that costs nothing more: the rest of a plan, or of what is free every month.
    fn left(&self, volume: u64) -> u64 {
        let free = match &self.pricing {
            Pricing::Plan { included, beyond, .. } => included.saturating_add(beyond.free()),
            Pricing::Ladder(ladder) => ladder.free(),
            Pricing::Transit(_) => 0,
        };
        free.saturating_sub(volume)
    }
}

/// Where one source's bytes and requests go: indices of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Charge {
    /// What it takes where there is no line.
    pub fixed: Price,
    /// Its bytes.
    pub bytes: Option<usize>,
    /// Its requests.
    pub requests: Option<usize>,
    /// The link that it comes over, counted among the links.
    pub link: Option<usize>,
    /// Whether it has only some of what is wanted: nobody to rely on.
    pub partial: bool,
}

/// What one source takes now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourcePrice {
    /// For a byte.
    pub byte: Rate,
    /// For a request.
    pub request: Rate,
    /// The link that it comes over, and what a byte costs when the link's allowance is used up.
    pub link: Option<(usize, Rate)>,
}

impl From<Price> for SourcePrice {
    fn from(price: Price) -> Self {
        Self {
            byte: Rate::picodollars(price.picodollars_per_byte),
            request: Rate::picodollars(price.picodollars_per_request),
            link: None,
        }
    }
}

/// A node's lines and charges.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Account {
    /// What is counted.
    pub lines: Vec<Line>,
    /// Who counts towards what, in the order of the sources.
    pub charges: Vec<Charge>,
    /// Which lines are links.
    pub links: Vec<usize>,
}

/// What is expected of the rest of the month, and what it has brought so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// For each line, how much was counted.
    pub used: Vec<u64>,
    /// Bytes that will still be bought.
    pub bytes_ahead: u64,
    /// Those of them that no link will carry.
    pub beyond_links: u64,
    /// Whether free bytes are kept for worse times.
    pub saving: bool,
    /// Requests that will still be made.
    pub requests_ahead: u64,
}

impl Account {
    /// Looks every deal up in the sheet.
    ///
    /// # Errors
    /// Everything that the sheet does not have or that makes no sense, each with the source's key.
    pub fn new(sheet: &Sheet, terms: &[Terms]) -> Result<Self, Vec<String>> {
        let (mut account, mut problems) = (Self::default(), Vec::new());
        for terms in terms {
            match account.charge(sheet, terms) {
                Ok(charge) => account.charges.push(charge),
                Err(problem) => problems.push(format!("source.{}.tariff.{problem}", terms.source)),
            }
        }
        if account.links.len() > MAX_LINKS {
            problems.push(format!("source: at most {MAX_LINKS} different `tariff.transit`"));
        }
        if problems.is_empty() { Ok(account) } else { Err(problems) }
    }

    fn charge(&mut self, sheet: &Sheet, terms: &Terms) -> Result<Charge, String> {
        let Terms { fixed, deal, partial, .. } = terms;
        let requests = match &deal.requests {
            Some(id) => Some((id, sheet.per_request(id).map_err(|why| format!("requests: {why}"))?)),
            None => None,
        };
        let plan = deal.bytes.as_ref().and_then(|id| Some((id, sheet.plan(id).ok()?)));
        let (bytes, requests) = match (&deal.bytes, plan) {
            (Some(id), Some((_, plan))) => {
                let beyond = sheet.per_byte(&plan.overage).map_err(|why| format!("bytes: {why}"))?.clone();
                let bytes = Pricing::Plan { fee: plan.fee, included: plan.bytes, beyond };
                let requests = match (requests, plan.requests) {
                    (Some((_, ladder)), Some(included)) => {
                        let beyond = ladder.clone();
                        let pricing = Pricing::Plan { fee: Dollars::ZERO, included, beyond };
                        Some(self.line(&format!("{id}#requests"), pricing))
                    }
                    // As many requests as one likes.
                    _ => None,
                };
                (Some(self.line(id, bytes)), requests)
            }
            (Some(id), None) => {
                let ladder = sheet.per_byte(id).map_err(|why| format!("bytes: {why}"))?.clone();
                let requests = requests.map(|(id, ladder)| self.line(id, Pricing::Ladder(ladder.clone())));
                (Some(self.line(id, Pricing::Ladder(ladder))), requests)
            }
            (None, _) => (None, requests.map(|(id, ladder)| self.line(id, Pricing::Ladder(ladder.clone())))),
        };
        let link = match &deal.transit {
            Some(id) => Some(self.link(sheet, id)?),
            None => None,
        };
        let covered = plan.is_some() && requests.is_none();
        let fixed = if covered { Price { picodollars_per_request: 0, ..*fixed } } else { *fixed };
        Ok(Charge { fixed, bytes, requests, link, partial: *partial })
    }

    fn link(&mut self, sheet: &Sheet, id: &str) -> Result<usize, String> {
        let wanted = "bandwidth (Mbps-p95-month)";
        let price = sheet.ladder(id, wanted, |unit| unit == Unit::MbpsP95Month);
        let price = price.map_err(|why| format!("transit: {why}"))?.first();
        let line = self.line(id, Pricing::Transit(price));
        let known = self.links.iter().position(|known| *known == line);
        Ok(known.unwrap_or_else(|| {
            self.links.push(line);
            self.links.len() - 1
        }))
    }

    fn line(&mut self, id: &str, pricing: Pricing) -> usize {
        let known = self.lines.iter().position(|line| line.id == id);
        known.unwrap_or_else(|| {
            self.lines.push(Line { id: id.to_owned(), pricing });
            self.lines.len() - 1
        })
    }

    /// What each source takes now, in the order of the sources.
    #[must_use]
    pub fn prices(&self, volume: &Volume) -> Vec<SourcePrice> {
        let mut prices: Vec<SourcePrice> =
            self.charges.iter().map(|charge| self.price(charge, volume)).collect();
        if let Some((_, cheapest)) = self.cheapest(volume).filter(|_| volume.saving) {
            // Behind the cheapest by more than the planner's band, before anything that costs more.
            let behind = cheapest.plus(Rate::attodollars(cheapest.get() / 10));
            prices.iter_mut().filter(|price| price.byte == SUNK).for_each(|price| price.byte = behind);
        }
        prices
    }

    /// Whether free bytes are better kept for worse times, which is so when all of them will be used before the month
    /// ends, and when what steps in for the cheapest source costs much more than it.
    #[must_use]
    pub fn worth_saving(&self, volume: &Volume) -> bool {
        let percent = if volume.saving { SPEND_FROM } else { SAVE_BELOW };
        let scarce =
            u128::from(self.free_left(volume)) * 100 < u128::from(volume.beyond_links) * u128::from(percent);
        let Some((at, cheapest)) = self.cheapest(volume) else { return false };
        let others = self.full_sources().filter(|(other, _)| *other != at);
        let next = others.map(|(_, charge)| self.beyond_free(charge, volume).0).min();
        scarce && next.is_some_and(|next| next.get() / WORTH > cheapest.get())
    }

    /// Sources that have everything and come over no link. A neighbour has what it has.
    fn full_sources(&self) -> impl Iterator<Item = (usize, &Charge)> {
        let charges = self.charges.iter().enumerate();
        charges.filter(|(_, charge)| charge.link.is_none() && !charge.partial)
    }

    /// The cheapest full source that has nothing free left, and what a byte costs there.
    fn cheapest(&self, volume: &Volume) -> Option<(usize, Rate)> {
        let rate = |(at, charge)| match self.beyond_free(charge, volume) {
            (rate, 0) => Some((at, rate)),
            _ => None,
        };
        self.full_sources().filter_map(rate).min_by_key(|(_, rate)| *rate)
    }

    /// What a source's byte costs beyond what is free, and how much is free.
    fn beyond_free(&self, charge: &Charge, volume: &Volume) -> (Rate, u64) {
        let line = charge.bytes.and_then(|at| Some((self.lines.get(at)?, *volume.used.get(at)?)));
        match line {
            Some((line, used)) => {
                let left = line.left(used);
                (line.rate(used.saturating_add(left), volume.beyond_links), left)
            }
            None => (SourcePrice::from(charge.fixed).byte, 0),
        }
    }

    /// All that is free, counted once where sources share it.
    fn free_left(&self, volume: &Volume) -> u64 {
        let mut lines: Vec<usize> = self.full_sources().filter_map(|(_, charge)| charge.bytes).collect();
        lines.sort_unstable();
        lines.dedup();
        let left = lines.iter().filter_map(|at| Some(self.lines.get(*at)?.left(*volume.used.get(*at)?)));
        left.fold(0_u64, u64::saturating_add)
    }

    fn price(&self, charge: &Charge, volume: &Volume) -> SourcePrice {
        let rate = |line: Option<usize>, ahead| {
            let line = line.and_then(|at| Some((self.lines.get(at)?, volume.used.get(at).copied()?)));
            line.map(|(line, used)| line.rate(used, ahead))
        };
        let fixed = SourcePrice::from(charge.fixed);
        let ahead = if charge.link.is_some() { volume.bytes_ahead } else { volume.beyond_links };
        let byte = rate(charge.bytes, ahead).unwrap_or(fixed.byte);
        let request = rate(charge.requests, volume.requests_ahead).unwrap_or(fixed.request);
        let link = charge.link.and_then(|at| {
            let beyond = self.lines.get(*self.links.get(at)?)?.rate(0, 0);
            Some((at, byte.plus(beyond)))
        });
        SourcePrice { byte, request, link }
    }

    /// The least that so many bytes cost on full sources: what is free first, then all of the rest at one source, as
    /// volume makes cheaper. `None` when there is no such source.
    #[must_use]
    pub fn elsewhere(&self, volume: &Volume, bytes: u64) -> Option<Dollars> {
        let rest = bytes.saturating_sub(self.free_left(volume));
        let line = |charge: &Charge| Some((self.lines.get(charge.bytes?)?, *volume.used.get(charge.bytes?)?));
        let cost = |(_, charge): (usize, &Charge)| match line(charge) {
            Some((line, used)) => line.cost_of(used + line.left(used), rest),
            None => SourcePrice::from(charge.fixed).byte.of(rest),
        };
        self.full_sources().map(cost).min()
    }
}

#[cfg(test)]
mod tests;
