//! The money of a node: reads the price sheet, runs the meter, posts prices to the sources, and keeps the
//! month across restarts. What anything costs is decided in `sourcing`; here is the clock and the file.

mod file;
mod metrics;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::Engine;
use front::AccessSink;
use media::Digest;
use prometheus::Registry;
use sourcing::account::{Account, Deal, Terms};
use sourcing::meter::{Baselines, Count, Ledger, Meter, Readings, Setup};
use sourcing::policy::{Policy, Verdict};
use sourcing::tariff::{Month, Sheet};
use sourcing::{SourceId, SourceKind, SourceReport, Sources};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::metrics::{CostMetrics, Scrape, SheetAge};
use crate::clock;
use crate::config::{Config, CostConfig};

/// How often counters are read and prices posted.
const TICK: Duration = Duration::from_secs(1);
/// The longest price sheet that is read.
const MAX_SHEET_LEN: u64 = 4 * 1024 * 1024;
/// About a segment: what an explanation in the log is for.
const EXPLAINED_LEN: u64 = 4_000_000;

/// What the files of the configuration say about money: checked, nothing started.
#[derive(Clone)]
pub(crate) struct Prices {
    sheet: Sheet,
    /// Of the file that it was read from.
    digest: Digest,
    config: CostConfig,
    deals: Vec<(SourceId, Deal)>,
    baselines: Baselines,
}

impl Prices {
    /// Reads the sheet and looks up everything that the configuration names. `None` without `[cost]`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its key.
    pub(crate) fn load(config: &Config) -> Option<Result<Self, String>> {
        let cost = config.cost.as_ref()?;
        Some(Self::check(cost, config).map_err(|problems| problems.join("\ncost: ")))
    }

    fn check(cost: &CostConfig, config: &Config) -> Result<Self, Vec<String>> {
        let file = read_sheet(&cost.sheet).map_err(|problem| vec![problem])?;
        let deals =
            config.source.iter().filter_map(|source| Some((source.id().clone(), source.deal()?.clone())));
        Self::of(file, cost, deals.collect())
    }

    /// The same configuration with what stands in the file now; `None` when that has not changed.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    fn renewed(&self) -> Result<Option<Self>, Vec<String>> {
        let (text, digest) = read_sheet(&self.config.sheet).map_err(|problem| vec![problem])?;
        if digest == self.digest {
            return Ok(None);
        }
        Self::of((text, digest), &self.config, self.deals.clone()).map(Some)
    }

    fn of(
        (text, digest): (String, Digest),
        cost: &CostConfig,
        deals: Vec<(SourceId, Deal)>,
    ) -> Result<Self, Vec<String>> {
        let named = |error| vec![format!("{}: {error}", cost.sheet.display())];
        let sheet = Sheet::parse(&text).map_err(named)?;
        let terms = deals.iter().map(|(id, deal)| terms(id.clone(), deal.clone()));
        let account = Account::new(&sheet, &terms.collect::<Vec<_>>());
        let baselines = Baselines::new(&sheet, &cost.baseline);
        match (account, baselines) {
            (Ok(_), Ok(baselines)) => Ok(Self { sheet, digest, config: cost.clone(), deals, baselines }),
            (account, baselines) => {
                let mut problems = account.err().unwrap_or_default();
                let key = |problem| format!("baseline.{problem}");
                problems.extend(baselines.err().unwrap_or_default().into_iter().map(key));
                Err(problems)
            }
        }
    }

    /// The ids of the sheet that are in use.
    fn ids(&self) -> Vec<&str> {
        let deals = self.deals.iter().map(|(_, deal)| [&deal.bytes, &deal.requests, &deal.transit]);
        let sources = deals.flatten().flatten().map(String::as_str);
        let baseline = &self.config.baseline;
        let mut ids: Vec<&str> = sources
            .chain([&baseline.list, &baseline.list_requests, &baseline.volume].map(String::as_str))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

fn terms(source: SourceId, deal: Deal) -> Terms {
    Terms { source, fixed: sourcing::Price::default(), deal, partial: false }
}

fn read_sheet(path: &Path) -> Result<(String, Digest), String> {
    let named = |problem: String| format!("{}: {problem}", path.display());
    let length = std::fs::metadata(path).map_err(|error| named(error.to_string()))?.len();
    if length > MAX_SHEET_LEN {
        return Err(named(format!("{length} bytes are no price sheet")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    let digest = Digest::of(text.as_bytes());
    Ok((text, digest))
}

/// The running meter.
pub(crate) struct Cost {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// What the clerk is told.
enum Order {
    /// Write the month down, then leave the file alone; the other side hears when that is done.
    Hold(oneshot::Sender<()>),
    /// The file is ours again.
    GoOn,
}

impl Cost {
    /// Goes on with the month and begins to post prices.
    ///
    /// # Errors
    /// The ledger's file cannot be read, the metrics exist already, or a source's price makes no sense.
    pub(crate) fn start(
        prices: &Prices,
        (sources, engine): (&Arc<Sources>, &Engine),
        bought: BoughtLines,
        registry: &Registry,
    ) -> Result<Self, String> {
        let setup = setup(prices, &sources.report()).map_err(|problems| problems.join("; "))?;
        let now = clock::unix_seconds();
        let config = &prices.config;
        let fresh = || Ledger::new(config.site.clone(), config.price_region.clone(), Month::of(now));
        let mut ledger = file::read(&config.ledger, now)?.unwrap_or_else(fresh);
        ledger.site.clone_from(&config.site);
        ledger.price_region.clone_from(&config.price_region);
        tell(prices, now);
        let meter = Arc::new(Mutex::new(Meter::new(setup, ledger)));
        let seen = Arc::new(Mutex::new(SheetAge::of(prices, now)));
        let scrape = Scrape {
            meter: Arc::clone(&meter),
            sources: Arc::clone(sources),
            engine: engine.clone(),
            sheet: Arc::clone(&seen),
        };
        let metrics = CostMetrics::register(scrape, registry).map_err(|error| error.to_string())?;
        let clerk = Clerk {
            meter,
            sources: Arc::clone(sources),
            engine: engine.clone(),
            policy: Policy::default(),
            metrics,
            prices: prices.clone(),
            sheet: seen,
            refused: None,
            bought,
            held: None,
        };
        let (orders, heard) = mpsc::channel(4);
        Ok(Self { orders, task: tokio::spawn(clerk.run(heard)) })
    }

    /// Writes the month down and leaves the file to another process that takes over. What this one still buys and
    /// delivers until it ends is told in its log and in nobody's ledger.
    pub(crate) async fn hold(&self) {
        let (held, done) = oneshot::channel();
        if self.orders.send(Order::Hold(held)).await.is_ok() {
            // It has ended when nobody answers.
            let _ = done.await;
        }
    }

    /// The other process did not take over: the file is ours again.
    pub(crate) async fn go_on(&self) {
        let _ = self.orders.send(Order::GoOn).await;
    }

    /// Counts what is left to count and writes the month down, at most for `patience`.
    pub(crate) async fn stop(self, patience: Duration) {
        drop(self.orders);
        if !matches!(tokio::time::timeout(patience, self.task).await, Ok(Ok(()))) {
            tracing::warn!("the last seconds of the cost meter may not be written");
        }
    }
}

/// Every source of the node, in its order; those without a deal keep their fixed price.
fn setup(prices: &Prices, reports: &[SourceReport]) -> Result<Setup, Vec<String>> {
    let deal = |id: &SourceId| {
        let deal = prices.deals.iter().find(|(known, _)| known == id);
        deal.map(|(_, deal)| deal.clone()).unwrap_or_default()
    };
    let terms: Vec<Terms> = reports
        .iter()
        .map(|report| {
            let partial = report.kind == SourceKind::Peer;
            Terms { fixed: report.price, partial, ..terms(report.id.clone(), deal(&report.id)) }
        })
        .collect();
    Ok(Setup {
        sources: reports.iter().map(|report| report.id.clone()).collect(),
        account: Account::new(&prices.sheet, &terms)?,
        baselines: prices.baselines.clone(),
        sheet: prices.sheet.version().to_owned(),
        nodes: prices.config.nodes,
        usd_per_month: prices.config.usd_per_month,
    })
}

/// What somebody should look at before he believes the figures.
fn tell(prices: &Prices, now: u64) {
    let stale_days = prices.config.stale_after.as_secs() / 86_400;
    let remarks = prices.sheet.review(prices.ids(), now, stale_days);
    for remark in &remarks {
        tracing::warn!(%remark, "a price in use is doubtful");
    }
    let (sheet, doubtful) = (prices.sheet.version(), remarks.len());
    tracing::info!(sheet, prices = prices.ids().len(), doubtful, "the price sheet is in force");
}

/// What the counters of this process say now.
fn readings(sources: &Sources, engine: &Engine) -> Readings {
    let count = |report: SourceReport| Count { bytes: report.bytes, requests: report.requests };
    let (bytes, requests) = engine.delivered();
    Readings {
        sources: sources.report().into_iter().map(count).collect(),
        delivered: Count { bytes, requests },
    }
}

/// Lines of the access log that say what was bought: with them a bill can be worked out anew from logs alone, also of bytes
/// that were bought for nobody.
pub(crate) struct BoughtLines {
    node: String,
    access: Arc<dyn AccessSink>,
    /// What was told so far, by source in their order.
    told: Vec<Count>,
}

impl BoughtLines {
    pub(crate) fn new(node: &str, access: &Arc<dyn AccessSink>) -> Self {
        Self { node: node.to_owned(), access: Arc::clone(access), told: Vec::new() }
    }

    /// Tells what came since the last line; nothing if nothing did. A line for which there is no room is told with the
    /// next one.
    fn write(&mut self, now: u64, reports: &[SourceReport]) {
        self.told.resize(reports.len(), Count::default());
        let count = |report: &SourceReport| Count { bytes: report.bytes, requests: report.requests };
        let news =
            reports.iter().zip(&self.told).map(|(report, told)| (&report.id, count(report).since(*told)));
        let news: BTreeMap<&SourceId, Count> = news.filter(|(_, count)| *count != Count::default()).collect();
        let line = serde_json::json!({ "time": now, "node": self.node, "bought": news });
        if !news.is_empty() && self.access.offer(line.to_string()) {
            self.told = reports.iter().map(count).collect();
        }
    }
}

/// Reads counters, posts prices, writes the ledger.
struct Clerk {
    meter: Arc<Mutex<Meter>>,
    sources: Arc<Sources>,
    engine: Engine,
    policy: Policy,
    metrics: CostMetrics,
    prices: Prices,
    sheet: Arc<Mutex<SheetAge>>,
    /// Why the file's newest text is not in force: told once.
    refused: Option<String>,
    bought: BoughtLines,
    /// What had been delivered when another process got the file.
    held: Option<u64>,
}

impl Clerk {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut saved, mut looked) = (Instant::now(), Instant::now());
        let CostConfig { save_every, look_every, .. } = self.prices.config;
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => break,
                },
                _ = ticks.tick() => self.tick(),
            }
            if saved.elapsed() >= save_every {
                self.bought.write(clock::unix_seconds(), &self.sources.report());
                self.save().await;
                saved = Instant::now();
            }
            if !look_every.is_zero() && looked.elapsed() >= look_every {
                self.look_at_the_sheet().await;
                looked = Instant::now();
            }
        }
        self.tick();
        self.bought.write(clock::unix_seconds(), &self.sources.report());
        self.save().await;
        if let Some(before) = self.held {
            let delivered = self.engine.delivered().0.saturating_sub(before);
            tracing::info!(delivered, "bytes after the takeover that no ledger holds");
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Hold(held) => {
                self.tick();
                self.save().await;
                self.held = Some(self.engine.delivered().0);
                // Whoever gave the order may be gone.
                let _ = held.send(());
            }
            Order::GoOn => self.held = None,
        }
    }

    fn tick(&mut self) {
        let now = clock::unix_seconds();
        let quotes = {
            // Counters are read while the meter is ours: a scrape may observe too, and older readings after
            // newer ones would count twice.
            let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
            meter.observe(now, &readings(&self.sources, &self.engine));
            meter.quotes(now)
        };
        let verdict = self.policy.step(now, &quotes.prices);
        self.sources.post(self.policy.prices(), &quotes.allowances);
        if verdict == Verdict::Changed {
            self.metrics.order_changed();
            let order: Vec<String> =
                self.sources.explain(EXPLAINED_LEN).iter().map(ToString::to_string).collect();
            tracing::info!(order = order.join("; "), "the sources have another order of prices");
        }
    }

    /// Puts a changed sheet in force. One that makes no sense is told, and the last good one stays.
    async fn look_at_the_sheet(&mut self) {
        let prices = self.prices.clone();
        let looked = tokio::task::spawn_blocking(move || prices.renewed()).await;
        let renewed = match looked.unwrap_or_else(|error| Err(vec![error.to_string()])) {
            Ok(None) => return self.refused = None,
            Ok(Some(prices)) => setup(&prices, &self.sources.report()).map(|setup| (prices, setup)),
            Err(problems) => Err(problems),
        };
        match renewed {
            Ok((prices, setup)) => self.put_in_force(prices, setup),
            Err(problems) => self.refuse(problems.join("; ")),
        }
    }

    fn put_in_force(&mut self, prices: Prices, setup: Setup) {
        // What was bought until now was bought at the old prices.
        self.tick();
        let now = clock::unix_seconds();
        tell(&prices, now);
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).reprice(setup, now);
        *self.sheet.lock().unwrap_or_else(PoisonError::into_inner) = SheetAge::of(&prices, now);
        (self.prices, self.refused) = (prices, None);
        self.metrics.sheet_reloaded(true);
        self.tick();
    }

    fn refuse(&mut self, problem: String) {
        if self.refused.as_ref() == Some(&problem) {
            return;
        }
        let in_force = self.prices.sheet.version();
        tracing::error!(problem, in_force, "the changed price sheet makes no sense; the last good one stays");
        self.metrics.sheet_reloaded(false);
        self.refused = Some(problem);
    }

    async fn save(&self) {
        if self.held.is_some() {
            return;
        }
        let ledger = self.meter.lock().unwrap_or_else(PoisonError::into_inner).ledger(clock::unix_seconds());
        let path = self.prices.config.ledger.clone();
        let written = tokio::task::spawn_blocking(move || file::write(&path, &ledger)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(&error),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) {
        self.metrics.write_failed();
        let path = self.prices.config.ledger.display();
        tracing::error!(%path, %error, "the cost ledger cannot be written");
    }
}
