//! What the same bytes would have cost without this node: four honest ways to buy them.
//!
//! A saving is the difference of two whole bills, each with its own tiers; bytes times a list price would
//! overstate it three- to fourfold.

use serde::{Deserialize, Serialize};

use super::Count;
use crate::tariff::{Dollars, Ladder, Sheet};

/// A way to deliver the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Baseline {
    /// A CDN at its list price.
    List,
    /// The same CDN under contract.
    Contract,
    /// The same CDN's flat-rate plans.
    Flat,
    /// A volume CDN.
    Volume,
}

impl Baseline {
    /// Every baseline.
    pub const ALL: [Self; 4] = [Self::List, Self::Contract, Self::Flat, Self::Volume];

    /// The word used in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Contract => "contract",
            Self::Flat => "flat",
            Self::Volume => "volume",
        }
    }
}

/// Which prices of the sheet the baselines are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaselineConfig {
    /// The CDN's list price of bytes to viewers; default `aws.cloudfront.dto.us`.
    pub list: String,
    /// Its list price of requests; default `aws.cloudfront.https_req.us`.
    pub list_requests: String,
    /// What a contract takes off both, in percent; default 40.
    pub contract_percent_off: u32,
    /// How the ids of its flat-rate plans begin; default `aws.cloudfront.flat.premium.`.
    pub flat_plans: String,
    /// The volume CDN's price of bytes; default `bunny.volume`.
    pub volume: String,
}

impl Default for BaselineConfig {
    fn default() -> Self {
        Self {
            list: "aws.cloudfront.dto.us".to_owned(),
            list_requests: "aws.cloudfront.https_req.us".to_owned(),
            contract_percent_off: 40,
            flat_plans: "aws.cloudfront.flat.premium.".to_owned(),
            volume: "bunny.volume".to_owned(),
        }
    }
}

/// The baselines, looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Baselines {
    list: Ladder,
    list_requests: Ladder,
    contract_percent_off: u64,
    flat: Vec<FlatPlan>,
    volume: Ladder,
}

/// A flat-rate plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlatPlan {
    fee: Dollars,
    bytes: u64,
    requests: u64,
}

impl Baselines {
    /// Looks them up.
    ///
    /// # Errors
    /// Everything that the sheet does not have, each with its key.
    pub fn new(sheet: &Sheet, config: &BaselineConfig) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut keep = |key: &str, found: Result<&Ladder, crate::tariff::Unknown>| {
            found.cloned().map_err(|why| problems.push(format!("{key}: {why}"))).ok()
        };
        let list = keep("list", sheet.per_byte(&config.list));
        let list_requests = keep("list_requests", sheet.per_request(&config.list_requests));
        let volume = keep("volume", sheet.per_byte(&config.volume));
        let plans = sheet.plans(&config.flat_plans);
        let flat: Vec<FlatPlan> = plans
            .iter()
            .map(|(_, plan)| FlatPlan {
                fee: plan.fee,
                bytes: plan.bytes,
                requests: plan.requests.unwrap_or(u64::MAX),
            })
            .collect();
        if flat.is_empty() {
            problems
                .push(format!("flat_plans: no plan of the price sheet begins with {:?}", config.flat_plans));
        }
        if config.contract_percent_off > 100 {
            problems.push("contract_percent_off: at most 100".to_owned());
        }
        let contract_percent_off = u64::from(config.contract_percent_off);
        match (list, list_requests, volume) {
            (Some(list), Some(list_requests), Some(volume)) if problems.is_empty() => {
                Ok(Self { list, list_requests, contract_percent_off, flat, volume })
            }
            _ => Err(problems),
        }
    }

    /// What so much would cost in a month.
    #[must_use]
    pub fn bill(&self, baseline: Baseline, delivered: Count) -> Dollars {
        let list = || self.list.total(delivered.bytes) + self.list_requests.total(delivered.requests);
        match baseline {
            Baseline::List => list(),
            Baseline::Contract => list().share(100 - self.contract_percent_off, 100),
            Baseline::Flat => flat(&self.flat, delivered),
            Baseline::Volume => self.volume.total(delivered.bytes),
        }
    }
}

/// The largest plan as often as it is filled, and the cheapest one that holds the rest. Whether a provider
/// sells one service several plans is another question: it is a baseline, and a low one.
fn flat(plans: &[FlatPlan], delivered: Count) -> Dollars {
    let Some(largest) = plans.last().filter(|largest| largest.bytes > 0 && largest.requests > 0) else {
        return Dollars::ZERO;
    };
    let full = (delivered.bytes / largest.bytes).max(delivered.requests / largest.requests);
    let rest = Count {
        bytes: delivered.bytes.saturating_sub(full.saturating_mul(largest.bytes)),
        requests: delivered.requests.saturating_sub(full.saturating_mul(largest.requests)),
    };
    let holds = |plan: &&FlatPlan| plan.bytes >= rest.bytes && plan.requests >= rest.requests;
    let last = plans.iter().filter(holds).map(|plan| plan.fee).min();
    let nothing = rest == Count::default();
    largest.fee.times(full) + last.filter(|_| !nothing).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tariff::Gb;

    const SHEET: &str = include_str!("../../../../deploy/prices.toml");

    /// The bills of 100 thousand, a million and ten million viewers, as the project's study of money has them.
    #[test]
    fn the_study_of_money_to_its_last_digit() {
        let sheet = Sheet::parse(SHEET).expect("the project's own sheet");
        for (mau, percent_off, expected) in [
            (100_000, 40, ["93.9", "56.4", "60.0", "11.6"]),
            (1_000_000, 60, ["678.7", "271.5", "563.5", "102.8"]),
            (10_000_000, 60, ["6421.6", "2568.6", "5626.0", "1014.0"]),
        ] {
            let config = BaselineConfig { contract_percent_off: percent_off, ..BaselineConfig::default() };
            let baselines = Baselines::new(&sheet, &config).expect("known prices");
            // 15 hours at 5 Mbit/s, one request for 6 seconds and a twentieth more for playlists.
            let delivered = Count { bytes: Gb(mau * 3_375 / 100).bytes(), requests: mau * 9_450 };
            for (baseline, expected) in Baseline::ALL.into_iter().zip(expected) {
                let thousands = baselines.bill(baseline, delivered).share(1, 1_000);
                assert_eq!(format!("{thousands:.1}"), expected, "{} of {mau}", baseline.as_str());
            }
        }
    }

    #[test]
    fn plans_are_stacked_by_bytes_and_by_requests() {
        let sheet = Sheet::parse(SHEET).expect("the project's own sheet");
        let baselines = Baselines::new(&sheet, &BaselineConfig::default()).expect("known prices");
        for (tb, requests, fee) in [
            (0, 0, 0),
            (0, 1, 1_000),
            (50, 500_000_000, 1_000),
            (50, 500_000_001, 1_450),
            (51, 0, 1_450),
            (600, 0, 10_000),
            (601, 0, 11_000),
            (10, 6_000_000_001, 11_000),
        ] {
            let delivered = Count { bytes: Gb::tb(tb).bytes(), requests };
            assert_eq!(baselines.bill(Baseline::Flat, delivered), Dollars::whole(fee), "{tb} TB");
        }
    }

    #[test]
    fn unknown_prices_are_told_together() {
        let sheet = Sheet::parse(SHEET).expect("the project's own sheet");
        let config = BaselineConfig {
            list: "x".to_owned(),
            volume: "ops.fte".to_owned(),
            flat_plans: "none".to_owned(),
            contract_percent_off: 101,
            ..BaselineConfig::default()
        };
        let problems = Baselines::new(&sheet, &config).expect_err("four mistakes");
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
