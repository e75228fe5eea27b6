//! The `[cost]` table: prices from a sheet, and the meter.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sourcing::meter::BaselineConfig;
use sourcing::tariff::Dollars;

/// What a node needs to know of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CostConfig {
    /// The price sheet; default `prices.toml`.
    pub(crate) sheet: PathBuf,
    /// How often the sheet's file is looked at; default 30 s. A changed one is in force at once, if it makes sense. 0: it is
    /// read at the start only.
    #[serde(with = "media::human_duration")]
    pub(crate) look_every: Duration,
    /// Where this node stands, for metrics and reports; default `default`.
    pub(crate) site: String,
    /// Whose list prices it is compared with, for metrics and reports; default `us`.
    pub(crate) price_region: String,
    /// How many nodes buy under the same account, this one included; default 1. Tiers and plans are the
    /// account's; of the other nodes it is assumed that they buy as much as this one.
    pub(crate) nodes: u64,
    /// What this node costs by the month whatever it does: machine, power, its share of site and people;
    /// default 0.
    pub(crate) usd_per_month: Dollars,
    /// Prices in use that were seen longer ago are warned of at the start; default 365 days.
    #[serde(with = "media::human_duration")]
    pub(crate) stale_after: Duration,
    /// Where the month is kept across restarts; default `cost.json`.
    pub(crate) ledger: PathBuf,
    /// How often it is written, and so how much a crash can lose; default 10 s.
    #[serde(with = "media::human_duration")]
    pub(crate) save_every: Duration,
    /// What the delivered bytes would have cost elsewhere.
    pub(crate) baseline: BaselineConfig,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self {
            sheet: PathBuf::from("prices.toml"),
            look_every: Duration::from_secs(30),
            site: "default".to_owned(),
            price_region: "us".to_owned(),
            nodes: 1,
            usd_per_month: Dollars::ZERO,
            stale_after: Duration::from_secs(365 * 86_400),
            ledger: PathBuf::from("cost.json"),
            save_every: Duration::from_secs(10),
            baseline: BaselineConfig::default(),
        }
    }
}

impl CostConfig {
    /// Everything that makes no sense, each with its key.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(format!("cost.{text}"));
            }
        };
        let label = |text: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            (1..=64).contains(&text.len()) && text.bytes().all(fits)
        };
        require(label(&self.site), "site: 1 to 64 letters, digits, dots, dashes or underscores");
        let region = label(&self.price_region);
        require(region, "price_region: 1 to 64 letters, digits, dots, dashes or underscores");
        require((1..=100_000).contains(&self.nodes), "nodes: 1 to 100000");
        require(self.usd_per_month >= Dollars::ZERO, "usd_per_month: must not be negative");
        let often = Duration::from_secs(1)..=Duration::from_secs(3_600);
        require(often.contains(&self.save_every), "save_every: 1s to 1h");
        let look = self.look_every.is_zero() || self.look_every >= Duration::from_secs(1);
        require(look, "look_every: at least 1s, or 0s for never");
        problems
    }
}
