//! What the meter says on `/metrics`. Dollars are derived when somebody looks, from counters that are integers.

use std::sync::{Arc, Mutex, PoisonError};

use engine::Engine;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use sourcing::Sources;
use sourcing::meter::{Bill, Ledger, Meter};
use sourcing::tariff::transit::mbps;

use super::Prices;
use crate::clock;

/// Where the figures come from.
pub(super) struct Scrape {
    pub(super) meter: Arc<Mutex<Meter>>,
    pub(super) sources: Arc<Sources>,
    pub(super) engine: Engine,
    pub(super) sheet: Arc<Mutex<SheetAge>>,
}

/// How old the prices in force are.
pub(super) struct SheetAge {
    /// The age of the oldest one in use, in days, at `since`.
    days: Option<u64>,
    /// Unix seconds.
    since: u64,
}

impl SheetAge {
    pub(super) fn of(prices: &Prices, now: u64) -> Self {
        Self { days: prices.sheet.age_days(prices.ids(), now), since: now }
    }

    fn at(&self, now: u64) -> f64 {
        let passed = now.saturating_sub(self.since) / 86_400;
        self.days.map_or(0.0, |days| (days + passed) as f64)
    }
}

/// What is counted when it happens.
pub(super) struct CostMetrics {
    order_changes: IntCounter,
    write_failures: IntCounter,
    reloads: IntCounterVec,
}

impl CostMetrics {
    pub(super) fn register(scrape: Scrape, registry: &Registry) -> prometheus::Result<Self> {
        let order_changes = IntCounter::new(
            "weir_cost_order_changes_total",
            "Changes of the sources' order by price; at most one in five minutes",
        )?;
        let write_failures =
            IntCounter::new("weir_cost_ledger_write_failures_total", "Ledgers that could not be written")?;
        let reloads = Opts::new("weir_cost_sheet_reloads_total", "Changed price sheets that were read");
        let reloads = IntCounterVec::new(reloads, &["result"])?;
        for result in ["in-force", "refused"] {
            reloads.with_label_values(&[result]);
        }
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(order_changes.clone()))?;
        registry.register(Box::new(write_failures.clone()))?;
        registry.register(Box::new(Derived { families: Families::new()?, scrape }))?;
        Ok(Self { order_changes, write_failures, reloads })
    }

    pub(super) fn order_changed(&self) {
        self.order_changes.inc();
    }

    pub(super) fn sheet_reloaded(&self, in_force: bool) {
        self.reloads.with_label_values(&[if in_force { "in-force" } else { "refused" }]).inc();
    }

    pub(super) fn write_failed(&self) {
        self.write_failures.inc();
    }
}

/// Everything that is derived. Label values are sources, lines and plans of the configuration, and baselines.
struct Families {
    bytes: IntGaugeVec,
    requests: IntGaugeVec,
    delivered: IntGaugeVec,
    marginal: GaugeVec,
    usd: GaugeVec,
    baseline: GaugeVec,
    saved: GaugeVec,
    per_tb: Gauge,
    link_p95: GaugeVec,
    plan_used: GaugeVec,
    sheet_age: Gauge,
    sheet: IntGaugeVec,
}

const PLACE: &[&str] = &["source", "site", "price_region"];

impl Families {
    fn new() -> prometheus::Result<Self> {
        let int = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let float = |name, help, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels);
        Ok(Self {
            bytes: int("weir_cost_bytes_mtd", "Body bytes bought this month (UTC), across restarts", PLACE)?,
            requests: int("weir_cost_requests_mtd", "Requests to a source this month (UTC)", PLACE)?,
            delivered: int(
                "weir_cost_delivered_bytes_mtd",
                "Body bytes handed to viewers this month (UTC), across restarts",
                &PLACE[1..],
            )?,
            marginal: float(
                "weir_cost_marginal_usd_per_gb",
                "What the planner takes the next 10^9 bytes of a source to cost",
                &PLACE[..1],
            )?,
            usd: float("weir_cost_usd_mtd", "Spent this month (UTC), by line of the bill", &["line"])?,
            baseline: float(
                "weir_cost_baseline_usd_mtd",
                "What the delivered bytes would have cost this month (UTC)",
                &["baseline"],
            )?,
            saved: float(
                "weir_cost_saved_usd_mtd",
                "Baseline less everything that was spent, this month (UTC)",
                &["baseline"],
            )?,
            per_tb: Gauge::new("weir_cost_usd_per_tb", "Spent this month for 10^12 bytes handed to viewers")?,
            link_p95: float(
                "weir_cost_link_p95_mbps",
                "The level that a link would be billed at if nothing more came this month",
                &["link"],
            )?,
            plan_used: float("weir_cost_plan_used_ratio", "Used of what a plan includes", &["plan"])?,
            sheet_age: Gauge::new("weir_cost_sheet_age_days", "Days since the oldest price in use was seen")?,
            sheet: int(
                "weir_cost_sheet_info",
                "1 for the version of the price sheet in force",
                &["version"],
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 12] {
        [
            &self.bytes,
            &self.requests,
            &self.delivered,
            &self.marginal,
            &self.usd,
            &self.baseline,
            &self.saved,
            &self.per_tb,
            &self.link_p95,
            &self.plan_used,
            &self.sheet_age,
            &self.sheet,
        ]
    }

    fn counted(&self, ledger: &Ledger) {
        let (site, region) = (ledger.site.as_str(), ledger.price_region.as_str());
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (source, count) in &ledger.sources {
            let place = [source.as_str(), site, region];
            self.bytes.with_label_values(&place).set(gauge(count.bytes));
            self.requests.with_label_values(&place).set(gauge(count.requests));
        }
        self.sheet.reset();
        self.sheet.with_label_values(&[ledger.sheet.as_str()]).set(1);
        self.delivered.with_label_values(&[site, region]).set(gauge(ledger.delivered.bytes));
    }

    fn derived(&self, bill: &Bill, delivered: u64) {
        // Lines of last month must not stand there with last month's money.
        self.usd.reset();
        bill.lines.iter().for_each(|(line, usd)| self.usd.with_label_values(&[line]).set(usd.to_f64()));
        let total = bill.total();
        for (baseline, usd) in &bill.baselines {
            self.baseline.with_label_values(&[*baseline]).set(usd.to_f64());
            self.saved.with_label_values(&[*baseline]).set((*usd - total).to_f64());
        }
        self.per_tb.set(if delivered == 0 { 0.0 } else { total.to_f64() / (delivered as f64 / 1e12) });
    }
}

struct Derived {
    families: Families,
    scrape: Scrape,
}

impl Derived {
    fn derive(&self) {
        let (now, families) = (clock::unix_seconds(), &self.families);
        let mut meter = self.scrape.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.observe(now, &super::readings(&self.scrape.sources, &self.scrape.engine));
        families.bytes.reset();
        families.requests.reset();
        families.counted(meter.counts());
        families.derived(&meter.bill(now), meter.counts().delivered.bytes);
        for link in meter.link_ids() {
            families.link_p95.with_label_values(&[link]).set(mbps(meter.link_level(link)));
        }
        for (plan, used, included) in meter.plans() {
            families.plan_used.with_label_values(&[plan]).set(used as f64 / included.max(1) as f64);
        }
        drop(meter);
        for report in self.scrape.sources.report() {
            let marginal = families.marginal.with_label_values(&[report.id.as_str()]);
            marginal.set(report.asking.byte.usd_per_billion());
        }
        families.sheet_age.set(self.scrape.sheet.lock().unwrap_or_else(PoisonError::into_inner).at(now));
    }
}

impl Collector for Derived {
    fn desc(&self) -> Vec<&Desc> {
        self.families.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.derive();
        self.families.all().into_iter().flat_map(Collector::collect).collect()
    }
}
