//! `weir cost`: what a month came to, what another way would cost, and whether nodes pay at all. Offline: it
//! reads files and talks to nobody.

mod advise;
mod log;
mod model;
mod report;

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use sourcing::meter::{FORMAT, Ledger};
use sourcing::tariff::{Month, Sheet};

use self::log::PaidBy;
use self::model::{Build, Fallback, Fill, Hosting, Millionths, Workload};
use self::report::Section;
use crate::clock;
use crate::config::read;
use crate::error::Error;

/// The sheet that this program was built with.
const SHEET: &str = include_str!("../../../deploy/prices.toml");
/// Prices older than this are named.
const STALE_DAYS: u64 = 365;

#[derive(Debug, Subcommand)]
pub(crate) enum Cost {
    /// A month's bill of nodes, from their ledgers or from access logs
    Report(Report),
    /// A month's bill now and with nodes of one's own, from a few figures
    Simulate(Simulate),
    /// All ways to deliver ranked, with the volumes where nodes begin to pay
    Advise(Simulate),
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// A node's ledger (`cost.ledger` of its gateway.toml); may be repeated
    #[arg(long, value_name = "FILE", required_unless_present = "access_log")]
    ledger: Vec<PathBuf>,
    /// A node's access log instead; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "ledger")]
    access_log: Vec<PathBuf>,
    /// With access logs: the price of a source's bytes, and perhaps of its requests,
    /// `s3=aws.egress.internet.us,aws.s3.req.standard.get`; may be repeated
    #[arg(long = "source", value_name = "NAME=PRICE[,PRICE]", value_parser = named_price, requires = "access_log")]
    sources: Vec<PaidBy>,
    /// Which month, like 2026-11 [default: the last one there is]
    #[arg(long)]
    month: Option<Month>,
    /// How to print it
    #[arg(long, value_enum, default_value = "markdown")]
    format: Format,
    #[command(flatten)]
    prices: Prices,
}

#[derive(Debug, Args)]
struct Prices {
    /// The price sheet [default: the one that this program was built with]
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Markdown,
    /// One row for each line of the bill and each baseline
    Csv,
    /// Rows of the FinOps Open Cost and Usage Specification 1.2
    Focus,
}

/// What one delivers and would build.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Monthly active users
    #[arg(long)]
    mau: u64,
    /// Hours that each watches
    #[arg(long, default_value = "15")]
    hours: Millionths,
    /// Mbit/s on average
    #[arg(long, default_value = "5")]
    mbps: Millionths,
    /// Seconds of a segment
    #[arg(long, default_value = "6")]
    segment: u64,
    /// What the CDN contract takes off the list price, in percent
    #[arg(long, default_value = "40")]
    contract_percent_off: u32,
    /// Where nodes stand
    #[arg(long, value_enum, default_value = "leased")]
    hosting: Hosting,
    /// Share of bytes that nodes have when they are asked
    #[arg(long, default_value = "0.99")]
    hit: Millionths,
    /// Share of what they lack that neighbours have
    #[arg(long, default_value = "0")]
    peers: Millionths,
    /// Share of all bytes that nodes deliver; the CDN delivers the rest
    #[arg(long, default_value = "0.97")]
    coverage: Millionths,
    /// Where nodes buy what they lack
    #[arg(long, value_enum, default_value = "auto")]
    fill: Fill,
    /// GB in the replica
    #[arg(long, default_value = "29360")]
    replica_gb: u64,
    /// How viewers that no node reaches are served
    #[arg(long, value_enum, default_value = "flat")]
    fallback: Fallback,
    /// Places with nodes
    #[arg(long, default_value = "3")]
    sites: u64,
    /// People who run them, full time
    #[arg(long, default_value = "0.5")]
    people: Millionths,
    #[command(flatten)]
    prices: Prices,
}

impl Simulate {
    fn workload(&self) -> Workload {
        let Self { hours, mbps, contract_percent_off, .. } = *self;
        Workload { viewers: self.mau, hours, mbps, segment_seconds: self.segment, contract_percent_off }
    }

    fn build(&self) -> Build {
        Build {
            hosting: self.hosting,
            fill: self.fill,
            fallback: self.fallback,
            coverage: self.coverage,
            hit: self.hit,
            peers: self.peers,
            sites: self.sites,
            people: self.people,
            replica_gb: self.replica_gb,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let shares = [("--hit", self.hit), ("--peers", self.peers), ("--coverage", self.coverage)];
        if let Some((name, _)) = shares.iter().find(|(_, share)| *share > Millionths::ONE) {
            return Err(Error::Cost(format!("{name} is a share: 0 to 1")));
        }
        let whole = [
            ("--mau", self.mau, 10_000_000_000),
            ("--segment", self.segment, 60),
            ("--sites", self.sites, 100_000),
        ];
        if let Some((name, _, most)) = whole.iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            return Err(Error::Cost(format!("{name} must be 1 to {most}")));
        }
        Ok(())
    }
}

/// Does what was typed.
///
/// # Errors
/// [`Error`] is a text for the operator.
pub(crate) fn perform(cost: &Cost, out: &mut impl Write) -> Result<(), Error> {
    let text = match cost {
        Cost::Report(report) => self::report(report)?,
        Cost::Simulate(wish) => {
            wish.check()?;
            advise::simulate(&sheet(&wish.prices)?, &wish.workload(), &wish.build(), clock::now())?
        }
        Cost::Advise(wish) => {
            wish.check()?;
            advise::advise(&sheet(&wish.prices)?, &wish.workload(), &wish.build(), clock::now())?
        }
    };
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn sheet(prices: &Prices) -> Result<Sheet, Error> {
    let parsed = match &prices.prices {
        None => Sheet::parse(SHEET).map_err(|error| error.to_string()),
        Some(path) => Sheet::parse(&read(path)?).map_err(|error| format!("{}: {error}", path.display())),
    };
    parsed.map_err(Error::Cost)
}

fn report(wish: &Report) -> Result<String, Error> {
    let mut sections = Vec::new();
    for path in &wish.ledger {
        sections.push(section_of(path, &ledger(path)?, wish.month)?);
    }
    if !wish.access_log.is_empty() {
        let sheet = sheet(&wish.prices)?;
        for path in &wish.access_log {
            let file = std::fs::File::open(path).map_err(|error| Error::File(path.clone(), error))?;
            let months = log::statements(BufReader::new(file), &sheet, &wish.sources);
            let (months, skipped) = months.map_err(|problem| in_file(path, problem))?;
            let statement = pick(path, months, wish.month)?;
            let site = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            sections.push(Section { site, price_region: "us".to_owned(), statement, skipped });
        }
    }
    Ok(match wish.format {
        Format::Markdown => report::markdown(&sections),
        Format::Csv => report::csv(&sections),
        Format::Focus => report::focus(&sections),
    })
}

fn ledger(path: &Path) -> Result<Ledger, Error> {
    let ledger: Ledger = serde_json::from_str(&read(path)?).map_err(|error| in_file(path, error))?;
    match ledger.format {
        FORMAT => Ok(ledger),
        other => Err(in_file(path, format!("it has format {other}, this program reads {FORMAT}"))),
    }
}

fn section_of(path: &Path, ledger: &Ledger, month: Option<Month>) -> Result<Section, Error> {
    let statement = pick(path, ledger.statements(), month)?;
    let (site, price_region) = (ledger.site.clone(), ledger.price_region.clone());
    Ok(Section { site, price_region, statement, skipped: 0 })
}

fn pick(
    path: &Path,
    months: Vec<sourcing::meter::Statement>,
    wanted: Option<Month>,
) -> Result<sourcing::meter::Statement, Error> {
    let known: Vec<String> = months.iter().map(|statement| statement.month.to_string()).collect();
    let fits = |month: Month| wanted.is_none_or(|wanted| month == wanted);
    let found = months.into_iter().rev().find(|statement| fits(statement.month));
    found.ok_or_else(|| in_file(path, format!("it does not have that month, but {known:?}")))
}

fn in_file(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::Cost(format!("{}: {problem}", path.display()))
}

fn named_price(text: &str) -> Result<PaidBy, String> {
    let (source, prices) =
        text.split_once('=').ok_or("expected NAME=PRICE, such as s3=aws.egress.internet.us")?;
    let (bytes, requests) = match prices.split_once(',') {
        Some((bytes, requests)) => (bytes, Some(requests.to_owned())),
        None => (prices, None),
    };
    Ok(PaidBy { source: source.to_owned(), bytes: bytes.to_owned(), requests })
}

/// The prices that should be looked at, as lines of a list; empty when none should.
fn remarks<'a>(sheet: &Sheet, ids: impl IntoIterator<Item = &'a str>, now: u64) -> String {
    let mut ids: Vec<&str> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    sheet.review(ids, now, STALE_DAYS).iter().map(|remark| format!("- {remark}\n")).collect()
}
