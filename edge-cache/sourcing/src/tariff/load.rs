//! From text to a checked sheet. Everything that makes no sense is told together, each with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use media::Digest;
use serde::Deserialize;
use toml::Spanned;

use super::calendar::AsOf;
use super::ladder::Ladder;
use super::money::Dollars;
use super::sheet::{Confidence, Discount, Entry, Plan, Provenance, Sheet, Terms};
use super::unit::Unit;

/// The layout of the file that this program reads.
const SCHEMA: u32 = 1;

/// Why a text is no price sheet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    /// It is no TOML, or has keys or types that no sheet has; the text names line and key.
    #[error("the price sheet cannot be read: {0}")]
    Shape(String),
    /// It can be read and makes no sense.
    #[error("the price sheet makes no sense:\n{}", list(.0))]
    Problems(Vec<Problem>),
}

/// One thing that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, counted from 1.
    pub line: usize,
    /// What, in words that begin with the id and the key.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSheet {
    schema: Spanned<u32>,
    currency: Spanned<String>,
    #[serde(default)]
    price: Vec<Spanned<RawPrice>>,
    #[serde(default)]
    plan: Vec<Spanned<RawPlan>>,
    #[serde(default)]
    discount: Vec<Spanned<RawDiscount>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    id: String,
    unit: Spanned<String>,
    usd: Option<Spanned<String>>,
    tiers: Option<Spanned<Vec<Spanned<RawTier>>>>,
    free: Option<Spanned<String>>,
    range: Option<Spanned<[String; 2]>>,
    #[serde(default)]
    terms: Terms,
    #[serde(rename = "note")]
    _note: Option<String>,
    source: String,
    as_of: Spanned<String>,
    confidence: Confidence,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    upto: Option<String>,
    usd: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    id: String,
    usd_per_month: Spanned<String>,
    includes: Spanned<String>,
    requests: Option<u64>,
    overage: Spanned<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
    source: String,
    as_of: Spanned<String>,
    confidence: Confidence,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDiscount {
    id: String,
    least: Spanned<String>,
    most: Spanned<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
    source: String,
    as_of: Spanned<String>,
    confidence: Confidence,
}

pub(super) fn parse(text: &str) -> Result<Sheet, SheetError> {
    let raw: RawSheet = toml::from_str(text).map_err(|error| SheetError::Shape(error.to_string()))?;
    let mut desk = Desk { text, about: String::new(), problems: Vec::new() };
    desk.head(&raw);
    let mut sheet = Sheet {
        version: Digest::of(text.as_bytes()).to_string()[..16].to_owned(),
        prices: BTreeMap::new(),
        plans: BTreeMap::new(),
        discounts: BTreeMap::new(),
    };
    for price in raw.price {
        desk.one(price, |raw| &raw.id, Desk::price, &mut sheet.prices);
    }
    let overages: Vec<_> = raw.plan.iter().map(|plan| plan.get_ref().overage.clone()).collect();
    for plan in raw.plan {
        desk.one(plan, |raw| &raw.id, Desk::plan, &mut sheet.plans);
    }
    for discount in raw.discount {
        desk.one(discount, |raw| &raw.id, Desk::discount, &mut sheet.discounts);
    }
    desk.cross_check(&sheet, &overages);
    if desk.problems.is_empty() { Ok(sheet) } else { Err(SheetError::Problems(desk.problems)) }
}

/// Checks one entry after another and remembers what is wrong.
struct Desk<'a> {
    text: &'a str,
    /// The id of the entry at hand.
    about: String,
    problems: Vec<Problem>,
}

impl Desk<'_> {
    fn wrong(&mut self, at: Range<usize>, text: impl fmt::Display) {
        let line = self.text[..at.start].matches('\n').count() + 1;
        let about = if self.about.is_empty() { String::new() } else { format!("{}.", self.about) };
        self.problems.push(Problem { line, text: format!("{about}{text}") });
    }

    fn head(&mut self, raw: &RawSheet) {
        if *raw.schema.get_ref() != SCHEMA {
            self.wrong(raw.schema.span(), format_args!("schema: this program reads schema {SCHEMA}"));
        }
        if raw.currency.get_ref() != "USD" {
            self.wrong(raw.currency.span(), "currency: must be \"USD\"");
        }
    }

    fn one<R, T>(
        &mut self,
        raw: Spanned<R>,
        id: fn(&R) -> &String,
        check: fn(&mut Self, R, Range<usize>) -> Option<T>,
        into: &mut BTreeMap<String, T>,
    ) {
        let (span, raw) = (raw.span(), raw.into_inner());
        id(&raw).clone_into(&mut self.about);
        let Some(checked) = check(self, raw, span.clone()) else { return };
        let id = std::mem::take(&mut self.about);
        if id.is_empty() {
            self.wrong(span.clone(), "id: must not be empty");
        }
        if into.insert(id.clone(), checked).is_some() {
            self.wrong(span, format_args!("{id}.id: stands there twice"));
        }
    }

    fn price(&mut self, raw: RawPrice, span: Range<usize>) -> Option<Entry> {
        let unit = self.keep(&raw.unit, "unit", |text| text.parse::<Unit>())?;
        let free = match &raw.free {
            Some(free) => self.keep(free, "free", |text| amount(text, unit))?,
            None => 0,
        };
        let steps = match (&raw.usd, raw.tiers) {
            (Some(usd), None) => vec![(u64::MAX, self.dollars(usd, "usd")?)],
            (None, Some(tiers)) => self.tiers(tiers, unit)?,
            _ => {
                self.wrong(span, "usd, tiers: exactly one of them");
                return None;
            }
        };
        let range = match &raw.range {
            Some(range) => Some(self.keep(range, "range", range_of)?),
            None => None,
        };
        let provenance = self.provenance(raw.source, &raw.as_of, raw.confidence)?;
        Some(Entry { ladder: Ladder::new(unit, free, steps), range, terms: raw.terms, provenance })
    }

    /// Every tier but the last says where it ends, in the unit of the price, and each ends later than the one
    /// before: then they neither overlap nor leave a gap.
    fn tiers(&mut self, raw: Spanned<Vec<Spanned<RawTier>>>, unit: Unit) -> Option<Vec<(u64, Dollars)>> {
        let (span, tiers) = (raw.span(), raw.into_inner());
        let (count, before) = (tiers.len(), self.problems.len());
        if count == 0 {
            self.wrong(span, "tiers: at least one");
        }
        let mut steps: Vec<(u64, Dollars)> = Vec::with_capacity(count);
        for (at, tier) in tiers.iter().enumerate() {
            let (name, raw) = (format!("tiers[{at}]"), tier.get_ref());
            let upto = match raw.upto.as_deref().map(|text| amount(text, unit)) {
                None => u64::MAX,
                Some(Ok(upto)) => upto,
                Some(Err(why)) => {
                    self.wrong(tier.span(), format_args!("{name}.upto: {why}"));
                    continue;
                }
            };
            match raw.usd.parse::<Dollars>() {
                Ok(price) if price >= Dollars::ZERO => {
                    let last = steps.last().map_or(0, |step| step.0);
                    if upto <= last {
                        self.wrong(tier.span(), format_args!("{name}: overlaps the tier before it"));
                    }
                    steps.push((upto, price));
                }
                Ok(_) => self.wrong(tier.span(), format_args!("{name}.usd: must not be negative")),
                Err(why) => self.wrong(tier.span(), format_args!("{name}.usd: {why}")),
            }
            if at + 1 == count && raw.upto.is_some() {
                self.wrong(tier.span(), format_args!("{name}.upto: a gap follows: the last tier has no end"));
            }
        }
        (self.problems.len() == before).then_some(steps)
    }

    fn plan(&mut self, raw: RawPlan, _: Range<usize>) -> Option<Plan> {
        let fee = self.dollars(&raw.usd_per_month, "usd_per_month")?;
        let bytes = self.keep(&raw.includes, "includes", amount_of_bytes)?;
        let provenance = self.provenance(raw.source, &raw.as_of, raw.confidence)?;
        let overage = raw.overage.into_inner();
        Some(Plan { fee, bytes, requests: raw.requests, overage, provenance })
    }

    fn discount(&mut self, raw: RawDiscount, span: Range<usize>) -> Option<Discount> {
        let least_percent = self.keep(&raw.least, "least", percent)?;
        let most_percent = self.keep(&raw.most, "most", percent)?;
        if least_percent > most_percent {
            self.wrong(span, "least: must not be more than most");
        }
        let provenance = self.provenance(raw.source, &raw.as_of, raw.confidence)?;
        Some(Discount { least_percent, most_percent, provenance })
    }

    fn provenance(
        &mut self,
        source: String,
        as_of: &Spanned<String>,
        confidence: Confidence,
    ) -> Option<Provenance> {
        let dated = match as_of.get_ref().as_str() {
            "undated" => None,
            _ => Some(self.keep(as_of, "as_of", |text| {
                AsOf::parse(text).ok_or("write 2026, 2026-09, 2026-09-05 or undated")
            })?),
        };
        if source.trim().is_empty() {
            self.wrong(as_of.span(), "source: must not be empty");
        }
        Some(Provenance { source, as_of: dated, confidence })
    }

    fn dollars(&mut self, raw: &Spanned<String>, key: &str) -> Option<Dollars> {
        let dollars = self.keep(raw, key, |text| text.parse::<Dollars>())?;
        if dollars < Dollars::ZERO {
            self.wrong(raw.span(), format_args!("{key}: must not be negative"));
        }
        Some(dollars)
    }

    fn keep<R, T, E: fmt::Display>(
        &mut self,
        raw: &Spanned<R>,
        key: &str,
        read: impl FnOnce(&R) -> Result<T, E>,
    ) -> Option<T> {
        read(raw.get_ref()).map_err(|why| self.wrong(raw.span(), format_args!("{key}: {why}"))).ok()
    }

    /// What a plan charges beyond its volume must be a price of bytes; and no id means two things.
    fn cross_check(&mut self, sheet: &Sheet, overages: &[Spanned<String>]) {
        self.about.clear();
        for overage in overages {
            if let Err(why) = sheet.per_byte(overage.get_ref()) {
                self.wrong(overage.span(), format_args!("overage: {why}"));
            }
        }
        for id in sheet.plans.keys().filter(|id| sheet.prices.contains_key(*id)) {
            self.wrong(0..0, format_args!("{id}: is a price and a plan"));
        }
    }
}

/// `10240 GiB` of a price in GiB, in bytes; another unit than the price's is refused.
fn amount(text: &str, wanted: Unit) -> Result<u64, String> {
    let (count, unit) = count_and_unit(text)?;
    if unit != wanted {
        return Err(format!("{text:?} mixes units: the price is for one {}", wanted.as_str()));
    }
    Ok(count.saturating_mul(unit.size()))
}

fn amount_of_bytes(text: &String) -> Result<u64, String> {
    let (count, unit) = count_and_unit(text)?;
    if !unit.is_bytes() {
        return Err(format!("{text:?} is no amount of bytes (GiB, GB, TB)"));
    }
    Ok(count.saturating_mul(unit.size()))
}

fn count_and_unit(text: &str) -> Result<(u64, Unit), String> {
    let (count, unit) =
        text.split_once(' ').ok_or_else(|| format!("{text:?} lacks a unit, as in \"10240 GiB\""))?;
    let count = count.parse().map_err(|_| format!("{text:?} begins with no whole number"))?;
    Ok((count, unit.parse::<Unit>().map_err(|error| error.to_string())?))
}

fn range_of(raw: &[String; 2]) -> Result<(Dollars, Dollars), String> {
    let [least, most] = raw.each_ref().map(|text| text.parse::<Dollars>());
    match (least, most) {
        (Ok(least), Ok(most)) if least <= most => Ok((least, most)),
        (Ok(_), Ok(_)) => Err("the least comes first".to_owned()),
        (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
    }
}

/// A share such as `0.30`, in percent.
fn percent(text: &String) -> Result<u32, String> {
    let share: Dollars = text.parse().map_err(|_| format!("{text:?} is no share such as \"0.30\""))?;
    let percent = u32::try_from(share.cents()).ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| format!("{text:?} is no share of a price: write 0 to 1"))
}
