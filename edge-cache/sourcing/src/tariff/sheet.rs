//! The price sheet as values.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::calendar::AsOf;
use super::ladder::Ladder;
use super::load;
use super::money::Dollars;
use super::unit::Unit;

/// Every price somebody wrote down, checked. See `deploy/prices.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    pub(super) version: String,
    pub(super) prices: BTreeMap<String, Entry>,
    pub(super) plans: BTreeMap<String, Plan>,
    pub(super) discounts: BTreeMap<String, Discount>,
}

/// One price.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it costs, by volume.
    pub ladder: Ladder,
    /// The least and the most that is known to be asked.
    pub range: Option<(Dollars, Dollars)>,
    /// What else comes with it.
    pub terms: Terms,
    /// Where the figures come from.
    pub provenance: Provenance,
}

/// Conditions and sizes that come with a price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Smaller objects are billed as this large.
    pub min_object_bytes: Option<u64>,
    /// Objects are billed for at least so many days.
    pub min_days: Option<u64>,
    /// Added to each object at the price of the standard class.
    pub overhead_bytes_standard: Option<u64>,
    /// Added to each object at the price of its own class.
    pub overhead_bytes_class: Option<u64>,
    /// How long one is bound.
    pub term_months: Option<u64>,
    /// Over how many months a purchase is written off.
    pub amortise_months: Option<u64>,
    /// Hours until a restored object can be read.
    pub restore_hours: Option<u64>,
    /// Megabits a second that a machine serves.
    pub usable_mbps: Option<u64>,
    /// Terabytes of disk that a machine has.
    pub disk_tb: Option<u64>,
    /// Watts that a machine takes.
    pub watts: Option<u64>,
}

/// Volume that is paid by the month, used or not: a flat-rate plan or a contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What a month costs.
    pub fee: Dollars,
    /// Bytes it includes.
    pub bytes: u64,
    /// Requests it includes; `None` for as many as one likes.
    pub requests: Option<u64>,
    /// The price of a byte beyond.
    pub overage: String,
    /// Where the figures come from.
    pub provenance: Provenance,
}

/// Taken off a list price.
#[derive(Debug, Clone, PartialEq)]
pub struct Discount {
    /// At least this percentage is known to be granted.
    pub least_percent: u32,
    /// At most this one.
    pub most_percent: u32,
    /// Where the figures come from.
    pub provenance: Provenance,
}

/// Where a figure comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Who said so.
    pub source: String,
    /// When; `None` for a page without a date.
    pub as_of: Option<AsOf>,
    /// How far to trust it.
    pub confidence: Confidence,
}

/// How far a figure is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// A public page or repository said so.
    Read,
    /// Computed from figures that were read.
    Derived,
    /// From memory.
    Remembered,
    /// An engineering estimate.
    Assumption,
}

impl Confidence {
    /// The word used in sheets and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Derived => "derived",
            Self::Remembered => "remembered",
            Self::Assumption => "assumption",
        }
    }
}

/// Why a figure in use should be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Which price or plan.
    pub id: String,
    /// Why.
    pub doubt: Doubt,
}

/// What is doubtful about a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Nobody has read it anywhere.
    Unread(Confidence),
    /// It was seen so many days ago.
    Stale(u64),
    /// Its source has no date.
    Undated,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.id;
        match self.doubt {
            Doubt::Unread(Confidence::Assumption) => write!(f, "{id} is an assumption: put your own figure"),
            Doubt::Unread(confidence) => write!(f, "{id} is {}: check it", confidence.as_str()),
            Doubt::Stale(days) => write!(f, "{id} was seen {days} days ago: check it"),
            Doubt::Undated => write!(f, "{id} has a source without a date: check it"),
        }
    }
}

/// The id stands in no sheet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such price.
    #[error("the price sheet has no price {0:?}")]
    Price(String),
    /// No such plan.
    #[error("the price sheet has no plan {0:?}")]
    Plan(String),
    /// It is for something else.
    #[error("the price {id:?} is for one {}, wanted is one for {wanted}", unit.as_str())]
    Unit {
        /// Which price.
        id: String,
        /// What it is for.
        unit: Unit,
        /// What it should be for.
        wanted: &'static str,
    },
}

impl Sheet {
    /// Reads and checks a sheet.
    ///
    /// # Errors
    /// [`load::SheetError`] with every problem and its line.
    pub fn parse(text: &str) -> Result<Self, load::SheetError> {
        load::parse(text)
    }

    /// Tells two sheets apart: the first 16 hex digits of its text's hash.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A price.
    ///
    /// # Errors
    /// [`Unknown::Price`].
    pub fn price(&self, id: &str) -> Result<&Entry, Unknown> {
        self.prices.get(id).ok_or_else(|| Unknown::Price(id.to_owned()))
    }

    /// The ladder of a price that must be for one unit of a kind.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn ladder(&self, id: &str, wanted: &'static str, fits: fn(Unit) -> bool) -> Result<&Ladder, Unknown> {
        let ladder = &self.price(id)?.ladder;
        match ladder.unit() {
            unit if fits(unit) => Ok(ladder),
            unit => Err(Unknown::Unit { id: id.to_owned(), unit, wanted }),
        }
    }

    /// The ladder of a price of transferred bytes.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn per_byte(&self, id: &str) -> Result<&Ladder, Unknown> {
        self.ladder(id, "transferred bytes (GiB, GB, TB)", Unit::is_bytes)
    }

    /// The ladder of a price of requests.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn per_request(&self, id: &str) -> Result<&Ladder, Unknown> {
        self.ladder(id, "requests", |unit| unit == Unit::Request)
    }

    /// What one unit costs in the first tier.
    ///
    /// # Errors
    /// [`Unknown::Price`].
    pub fn unit_price(&self, id: &str) -> Result<Dollars, Unknown> {
        Ok(self.price(id)?.ladder.first())
    }

    /// A plan.
    ///
    /// # Errors
    /// [`Unknown::Plan`].
    pub fn plan(&self, id: &str) -> Result<&Plan, Unknown> {
        self.plans.get(id).ok_or_else(|| Unknown::Plan(id.to_owned()))
    }

    /// All plans whose ids begin so, the smallest first.
    #[must_use]
    pub fn plans(&self, prefix: &str) -> Vec<(&str, &Plan)> {
        let named = self.plans.iter().filter(|(id, _)| id.starts_with(prefix));
        let mut plans: Vec<_> = named.map(|(id, plan)| (id.as_str(), plan)).collect();
        plans.sort_by_key(|(_, plan)| (plan.bytes, plan.fee));
        plans
    }

    /// A discount.
    #[must_use]
    pub fn discount(&self, id: &str) -> Option<&Discount> {
        self.discounts.get(id)
    }

    /// Where the figures of a price, plan or discount come from.
    #[must_use]
    pub fn provenance(&self, id: &str) -> Option<&Provenance> {
        let price = self.prices.get(id).map(|entry| &entry.provenance);
        let plan = self.plans.get(id).map(|plan| &plan.provenance);
        price.or(plan).or(self.discounts.get(id).map(|discount| &discount.provenance))
    }

    /// Every id.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.prices.keys().chain(self.plans.keys()).chain(self.discounts.keys()).map(String::as_str)
    }

    /// What should be looked at among the ids in use, at this moment (Unix seconds): figures that nobody has
    /// read, figures without a date, and figures older than so many days.
    #[must_use]
    pub fn review<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
        unix: u64,
        stale_days: u64,
    ) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for id in ids {
            let Some(provenance) = self.provenance(id) else { continue };
            let mut remark = |doubt| remarks.push(Remark { id: id.to_owned(), doubt });
            if matches!(provenance.confidence, Confidence::Remembered | Confidence::Assumption) {
                remark(Doubt::Unread(provenance.confidence));
            }
            match provenance.as_of.map(|as_of| as_of.age_days(unix)) {
                None => remark(Doubt::Undated),
                Some(age) if age > stale_days => remark(Doubt::Stale(age)),
                Some(_) => {}
            }
        }
        remarks
    }

    /// Days since the oldest of these was seen; `None` when none has a date.
    #[must_use]
    pub fn age_days<'a>(&self, ids: impl IntoIterator<Item = &'a str>, unix: u64) -> Option<u64> {
        let dates = ids.into_iter().filter_map(|id| self.provenance(id)?.as_of);
        dates.map(|as_of| as_of.age_days(unix)).max()
    }
}
