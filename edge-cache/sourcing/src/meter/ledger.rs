//! What is kept of a month: integers that were counted, and money that earlier sheets have fixed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::source::SourceId;
use crate::tariff::{Dollars, Month};

/// The layout of a ledger that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Closed months that are kept.
pub const MAX_PAST: usize = 24;

/// Bytes and requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Body bytes.
    pub bytes: u64,
    /// Requests that have ended.
    pub requests: u64,
}

impl Count {
    /// What came since an earlier reading of the same counters.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let bytes = self.bytes.saturating_sub(earlier.bytes);
        Self { bytes, requests: self.requests.saturating_sub(earlier.requests) }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.requests = self.requests.saturating_add(more.requests);
    }
}

/// Money that earlier sheets have fixed: what was bought under a price stays at that price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// How much, for this node.
    pub usd: Dollars,
    /// For how much of the month's volume, of the whole account.
    pub volume: u64,
}

/// What the demand of an ordinary week is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Habits {
    /// Bytes of the middle five minutes of each hour of the week, Thursday 0 h UTC first, as 1970 began.
    pub hours: Vec<u64>,
    /// How five minutes scatter around them, in thousandths: a few ratios as likely as each other.
    pub scatter: Vec<u64>,
}

/// A node's month so far. Serialised as it stands, it survives a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// [`FORMAT`].
    pub format: u32,
    /// Where the node stands.
    pub site: String,
    /// Whose list prices it is compared with.
    pub price_region: String,
    /// The month that is counted.
    pub month: Month,
    /// The version of the sheet that [`Ledger::billed`] was derived with.
    pub sheet: String,
    /// Bought, by source.
    pub sources: BTreeMap<SourceId, Count>,
    /// Handed to viewers.
    pub delivered: Count,
    /// Bytes of each five minutes since the month began, by link.
    pub links: BTreeMap<String, Vec<u64>>,
    /// What each link is filled to this month, in bytes of five minutes.
    pub levels: BTreeMap<String, u64>,
    /// Bytes bought in each five minutes since the month began, over all sources.
    pub demand: Vec<u64>,
    /// The month before: demands of five minutes that are as likely as each other, the highest first.
    pub profile: Vec<u64>,
    /// What an ordinary week was like; `None` while no whole one is known.
    #[serde(default)]
    pub habits: Option<Habits>,
    /// What earlier sheets have fixed, by line.
    pub settled: BTreeMap<String, Settled>,
    /// What each line came to when this was written, with the volume it stands for.
    pub billed: BTreeMap<String, Settled>,
    /// What the month had come to when this was written, by line of the bill.
    pub lines: BTreeMap<String, Dollars>,
    /// What it would have come to, by baseline.
    pub baselines: BTreeMap<String, Dollars>,
    /// Closed months, the newest last.
    pub past: Vec<Statement>,
}

/// What a month came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Which month.
    pub month: Month,
    /// The sheet that it was derived with.
    pub sheet: String,
    /// Bought, by source.
    pub sources: BTreeMap<SourceId, Count>,
    /// Handed to viewers.
    pub delivered: Count,
    /// What it came to, by line.
    pub lines: BTreeMap<String, Dollars>,
    /// What it would have come to, by baseline.
    pub baselines: BTreeMap<String, Dollars>,
}

impl Statement {
    /// Everything that was spent.
    #[must_use]
    pub fn total(&self) -> Dollars {
        self.lines.values().copied().sum()
    }
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new(site: String, price_region: String, month: Month) -> Self {
        Self {
            format: FORMAT,
            site,
            price_region,
            month,
            sheet: String::new(),
            sources: BTreeMap::new(),
            delivered: Count::default(),
            links: BTreeMap::new(),
            levels: BTreeMap::new(),
            demand: Vec::new(),
            profile: Vec::new(),
            habits: None,
            settled: BTreeMap::new(),
            billed: BTreeMap::new(),
            lines: BTreeMap::new(),
            baselines: BTreeMap::new(),
            past: Vec::new(),
        }
    }

    /// Every month it knows, the current one last.
    #[must_use]
    pub fn statements(&self) -> Vec<Statement> {
        let now = Statement {
            month: self.month,
            sheet: self.sheet.clone(),
            sources: self.sources.clone(),
            delivered: self.delivered,
            lines: self.lines.clone(),
            baselines: self.baselines.clone(),
        };
        self.past.iter().cloned().chain([now]).collect()
    }

    /// Everything bought.
    #[must_use]
    pub fn bought(&self) -> Count {
        self.sources.values().fold(Count::default(), |mut sum, count| {
            sum.add(*count);
            sum
        })
    }
}
