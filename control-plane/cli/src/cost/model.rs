//! A month's delivery bill from a few figures: now, and with nodes of one's own. Pure, in integers; the prices
//! come from the sheet.
//!
//! The formulas are those of the project's study of money: one joint tier integral for everything that goes
//! over a CDN account, machines for the peak with one spare a site, transit by the 95th percentile, and people.

use clap::ValueEnum;
use sourcing::meter::{Baseline, BaselineConfig, Baselines, Count};
use sourcing::tariff::{Dollars, Sheet, Unknown};

/// Millionths, for shares and factors that people write as decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millionths(pub(crate) u64);

impl Millionths {
    pub(crate) const ONE: Self = Self(1_000_000);

    pub(crate) fn of(self, amount: u128) -> u128 {
        amount.saturating_mul(u128::from(self.0)) / 1_000_000
    }

    pub(crate) fn rest(self) -> Self {
        Self(Self::ONE.0.saturating_sub(self.0))
    }
}

impl std::str::FromStr for Millionths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{text:?} is no decimal number such as 0.995");
        let picodollars = text.parse::<Dollars>().map_err(wrong)?.picodollars();
        // The same notation, twelve digits after the point there and six here.
        match u64::try_from(picodollars / 1_000_000) {
            Ok(millionths) if picodollars % 1_000_000 == 0 && millionths <= 1_000_000_000_000 => {
                Ok(Self(millionths))
            }
            _ => Err(format!("{text:?}: 0 to 1000000, with at most 6 digits after the point")),
        }
    }
}

/// Where the nodes stand and how their bandwidth is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hosting {
    /// Servers with a 10 Gbit/s flat rate, by the month
    Leased,
    /// Own servers in halls, with transit at the 95th percentile
    Colo,
    /// Three fifths of the bytes from servers inside ISPs, the rest as in halls
    Isp,
    /// EC2: for tests; its bytes to viewers cost more than the CDN's in every tier
    Ec2,
}

impl Hosting {
    pub(crate) const ALL: [Self; 4] = [Self::Leased, Self::Colo, Self::Isp, Self::Ec2];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Leased => "leased servers",
            Self::Colo => "own servers in halls",
            Self::Isp => "own servers, 60 % inside ISPs",
            Self::Ec2 => "EC2",
        }
    }
}

/// Where nodes buy what they lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fill {
    /// The cheapest of CloudFront, Direct Connect and S3
    Auto,
    /// A replica without egress fees, holding --replica-gb
    Replica,
    /// CloudFront, on top of what the fallback takes
    Cdn,
    /// Two Direct Connect ports of 10 Gbit/s
    Direct,
    /// S3 over the Internet
    S3,
}

/// How viewers that no node reaches are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fallback {
    /// The CDN's list price
    List,
    /// The CDN's flat-rate plans
    Flat,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) viewers: u64,
    pub(crate) hours: Millionths,
    pub(crate) mbps: Millionths,
    pub(crate) segment_seconds: u64,
    pub(crate) contract_percent_off: u32,
}

/// What one would build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) hosting: Hosting,
    pub(crate) fill: Fill,
    pub(crate) fallback: Fallback,
    /// Share of the bytes that nodes deliver.
    pub(crate) coverage: Millionths,
    /// Share of their bytes that they have.
    pub(crate) hit: Millionths,
    /// Share of the missing bytes that neighbours have.
    pub(crate) peers: Millionths,
    pub(crate) sites: u64,
    pub(crate) people: Millionths,
    pub(crate) replica_gb: u64,
}

/// Seconds of a month: 730 hours.
const MONTH_SECONDS: u128 = 730 * 3_600;
/// Peak and 95th percentile of a month by its mean, with an evening curve and two premieres.
const PEAK: Millionths = Millionths(3_270_000);
const P95: Millionths = Millionths(2_360_000);
/// Requests by segment: playlists and init sections come on top.
const REQUESTS: Millionths = Millionths(1_050_000);
/// Bytes that an ISP hosts.
const ISP_SHARE: Millionths = Millionths(600_000);
/// From here on transit is bought by 100 Gbit/s.
const LARGE_LINK_MBPS: u64 = 100_000;
/// Warranty and spare parts, on what a machine is written off.
const UPKEEP: Millionths = Millionths(1_150_000);
const HOURS_OF_MONTH: u64 = 730;

impl Workload {
    /// What viewers get in a month.
    pub(crate) fn delivered(&self) -> Count {
        let seconds = self.hours.of(u128::from(self.viewers) * 3_600);
        let bytes = self.mbps.of(seconds * 1_000_000) / 8;
        let requests = REQUESTS.of(seconds / u128::from(self.segment_seconds.max(1)));
        Count { bytes: narrow(bytes), requests: narrow(requests) }
    }

    fn mean_mbps(&self) -> u128 {
        u128::from(self.delivered().bytes) * 8 / MONTH_SECONDS / 1_000_000
    }

    pub(crate) fn baselines(&self, sheet: &Sheet) -> Result<Vec<(Baseline, Dollars)>, Vec<String>> {
        let config =
            BaselineConfig { contract_percent_off: self.contract_percent_off, ..BaselineConfig::default() };
        let baselines = Baselines::new(sheet, &config)?;
        let bill = |baseline| (baseline, baselines.bill(baseline, self.delivered()));
        Ok(Baseline::ALL.into_iter().map(bill).collect())
    }
}

/// A line of the bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) usd: Dollars,
    /// The prices that it comes from.
    pub(crate) prices: Vec<&'static str>,
}

/// What a month with nodes costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) lines: Vec<Line>,
    pub(crate) nodes: u64,
}

impl Bill {
    pub(crate) fn total(&self) -> Dollars {
        self.lines.iter().map(|line| line.usd).sum()
    }

    fn add(&mut self, name: &'static str, usd: Dollars, prices: &[&'static str]) {
        self.lines.push(Line { name, usd, prices: prices.to_vec() });
    }
}

const CDN: &str = "aws.cloudfront.dto.us";
const CDN_REQUESTS: &str = "aws.cloudfront.https_req.us";
const EC2_EGRESS: &str = "aws.egress.internet.us";
const EC2_NODE: &str = "aws.ec2.im4gn_16xlarge";
const LEASE: &str = "dedicated.10g_unmetered.lease";
const NODE: &str = "edge.node.capex";

/// The bill of a workload on nodes of one's own.
pub(crate) fn with_nodes(sheet: &Sheet, work: &Workload, build: &Build) -> Result<Bill, Unknown> {
    let delivered = work.delivered();
    let covered = share(delivered, build.coverage);
    let missed = share(share(covered, build.hit.rest()), build.peers.rest());
    let uncovered =
        Count { bytes: delivered.bytes - covered.bytes, requests: delivered.requests - covered.requests };
    let mut bill = Bill { lines: Vec::new(), nodes: 0 };
    machines(sheet, work, build, &mut bill)?;
    if build.hosting == Hosting::Ec2 {
        bill.add("bytes to viewers", sheet.per_byte(EC2_EGRESS)?.total(covered.bytes), &[EC2_EGRESS]);
    }
    fallback(sheet, work, build, uncovered, &mut bill)?;
    fill(sheet, build, uncovered, missed, &mut bill)?;
    let people = sheet.unit_price("ops.fte")?;
    bill.add("people", people.share(build.people.0, Millionths::ONE.0), &["ops.fte"]);
    Ok(bill)
}

fn share(count: Count, share: Millionths) -> Count {
    let of = |amount: u64| narrow(share.of(u128::from(amount)));
    Count { bytes: of(count.bytes), requests: of(count.requests) }
}

fn narrow(amount: u128) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}

/// Machines for the peak, filled to a share of what they can carry, and one spare a site.
fn nodes(peak_mbps: u128, usable_mbps: u64, percent_filled: u64, sites: u64) -> u64 {
    let carried = u128::from((usable_mbps * percent_filled / 100).max(1));
    (narrow(peak_mbps.div_ceil(carried)) + sites).max(2 * sites)
}

fn machines(sheet: &Sheet, work: &Workload, build: &Build, bill: &mut Bill) -> Result<(), Unknown> {
    let peak = PEAK.of(build.coverage.of(work.mean_mbps()));
    let usable = |id: &str| Ok(sheet.price(id)?.terms.usable_mbps.unwrap_or(100_000));
    match build.hosting {
        Hosting::Ec2 => {
            bill.nodes = nodes(peak, 100_000, 60, build.sites);
            bill.add("servers", sheet.unit_price(EC2_NODE)?.times(bill.nodes), &[EC2_NODE]);
        }
        Hosting::Leased => {
            bill.nodes = nodes(peak, usable(LEASE)?, 80, build.sites);
            bill.add("servers", sheet.unit_price(LEASE)?.times(bill.nodes), &[LEASE]);
        }
        Hosting::Colo => halls(sheet, work, build, Millionths::ONE, bill)?,
        Hosting::Isp => {
            halls(sheet, work, build, ISP_SHARE.rest(), bill)?;
            // Each stands at a site of its own; the ISP gives space, power and ports.
            let inside = nodes(ISP_SHARE.of(peak), usable(NODE)?, 60, 0);
            bill.nodes += inside;
            bill.add("servers inside ISPs", written_off(sheet, inside)?, &[NODE]);
            let sites = sheet.unit_price("edge.isp_site.fixed")?.times(inside);
            bill.add("sites inside ISPs", sites, &["edge.isp_site.fixed"]);
        }
    }
    Ok(())
}

/// Own servers in halls that deliver this share of the covered bytes.
fn halls(
    sheet: &Sheet,
    work: &Workload,
    build: &Build,
    part: Millionths,
    bill: &mut Bill,
) -> Result<(), Unknown> {
    let mean = part.of(build.coverage.of(work.mean_mbps()));
    let terms = sheet.price(NODE)?.terms;
    bill.nodes = nodes(PEAK.of(mean), terms.usable_mbps.unwrap_or(80_000), 60, build.sites);
    bill.add("servers", written_off(sheet, bill.nodes)?, &[NODE]);
    let watts = terms.watts.unwrap_or(600).saturating_mul(bill.nodes);
    bill.add("power", sheet.unit_price("edge.colo.kw")?.times(watts).share(1, 1_000), &["edge.colo.kw"]);
    bill.add("sites", sheet.unit_price("edge.site.fixed")?.times(build.sites), &["edge.site.fixed"]);
    let p95 = narrow(P95.of(mean));
    let transit = if p95 >= LARGE_LINK_MBPS { "transit.hub.100g" } else { "transit.hub.10g" };
    bill.add("transit", sheet.unit_price(transit)?.times(p95), &[transit]);
    Ok(())
}

fn written_off(sheet: &Sheet, nodes: u64) -> Result<Dollars, Unknown> {
    let node = sheet.price(NODE)?;
    let monthly = node.ladder.first().share(1, node.terms.amortise_months.unwrap_or(48));
    Ok(monthly.times(nodes).share(UPKEEP.0, Millionths::ONE.0))
}

fn cdn(sheet: &Sheet, count: Count) -> Result<Dollars, Unknown> {
    Ok(sheet.per_byte(CDN)?.total(count.bytes) + sheet.per_request(CDN_REQUESTS)?.total(count.requests))
}

fn fallback(
    sheet: &Sheet,
    work: &Workload,
    build: &Build,
    uncovered: Count,
    bill: &mut Bill,
) -> Result<(), Unknown> {
    let config =
        BaselineConfig { contract_percent_off: work.contract_percent_off, ..BaselineConfig::default() };
    let (usd, prices) = match build.fallback {
        Fallback::List => (cdn(sheet, uncovered)?, vec![CDN, CDN_REQUESTS]),
        Fallback::Flat => {
            let plans = |_| Unknown::Plan(config.flat_plans.clone());
            let baselines = Baselines::new(sheet, &config).map_err(plans)?;
            (baselines.bill(Baseline::Flat, uncovered), vec!["aws.cloudfront.flat.premium.600tb"])
        }
    };
    bill.add("fallback", usd, &prices);
    Ok(())
}

/// What nodes buy: from a replica, or from the cheapest way out of the cloud.
fn fill(
    sheet: &Sheet,
    build: &Build,
    uncovered: Count,
    missed: Count,
    bill: &mut Bill,
) -> Result<(), Unknown> {
    if build.hosting == Hosting::Ec2 {
        // Within the bucket's region bytes are free.
        let gets = sheet.per_request("aws.s3.req.standard.get")?.total(missed.requests);
        bill.add("fill within the region", gets, &["aws.s3.req.standard.get"]);
        return Ok(());
    }
    if build.fill == Fill::Replica {
        let stored = sheet.unit_price("cloudflare.r2.storage")?.times(build.replica_gb);
        let reads = sheet.per_request("cloudflare.r2.req.class_b")?.total(missed.requests);
        bill.add(
            "fill from a replica",
            stored + reads,
            &["cloudflare.r2.storage", "cloudflare.r2.req.class_b"],
        );
        return Ok(());
    }
    let gets = sheet.per_request("aws.s3.req.standard.get")?.total(missed.requests);
    let both =
        Count { bytes: uncovered.bytes + missed.bytes, requests: uncovered.requests + missed.requests };
    // On top of the fallback where that climbs the same tiers.
    let over_cdn = match build.fallback {
        Fallback::List => cdn(sheet, both)? - cdn(sheet, uncovered)?,
        Fallback::Flat => cdn(sheet, missed)?,
    };
    let ports = sheet.unit_price("aws.dx.port.10g")?.times(2 * HOURS_OF_MONTH);
    let direct = sheet.per_byte("aws.dx.egress.us")?.total(missed.bytes) + ports + gets;
    let open = sheet.per_byte(EC2_EGRESS)?.total(missed.bytes) + gets;
    let ways = [
        (Fill::Cdn, "fill through the CDN", over_cdn, vec![CDN, CDN_REQUESTS]),
        (Fill::Direct, "fill over Direct Connect", direct, vec!["aws.dx.egress.us", "aws.dx.port.10g"]),
        (Fill::S3, "fill from S3", open, vec![EC2_EGRESS]),
    ];
    let wanted = ways.iter().filter(|(way, ..)| build.fill == Fill::Auto || build.fill == *way);
    if let Some((_, name, usd, prices)) = wanted.min_by_key(|(_, _, usd, _)| *usd) {
        bill.add(name, *usd, prices);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHEET: &str = include_str!("../../../../deploy/prices.toml");

    fn millionths(text: &str) -> Millionths {
        text.parse().expect(text)
    }

    fn work(viewers: u64) -> Workload {
        Workload {
            viewers,
            hours: millionths("15"),
            mbps: millionths("5"),
            segment_seconds: 6,
            contract_percent_off: 60,
        }
    }

    /// The study's middle columns: coverage 97 %, fallback at list price, fill over a direct line.
    fn middling(hosting: Hosting, hit: &str, sites: u64, people: &str) -> Build {
        Build {
            hosting,
            fill: Fill::Direct,
            fallback: Fallback::List,
            coverage: millionths("0.97"),
            hit: millionths(hit),
            peers: Millionths(0),
            sites,
            people: millionths(people),
            replica_gb: 0,
        }
    }

    /// The study's best column: coverage 99.5 %, hits 99 %, neighbours, a replica, fallback on plans.
    fn best(hosting: Hosting, sites: u64, people: &str) -> Build {
        Build {
            fill: Fill::Replica,
            fallback: Fallback::Flat,
            coverage: millionths("0.995"),
            peers: millionths("0.5"),
            replica_gb: 29_360,
            ..middling(hosting, "0.99", sites, people)
        }
    }

    #[test]
    fn bills_agree_with_the_study_within_a_thousandth() {
        let sheet = Sheet::parse(SHEET).expect("the project's own sheet");
        // In hundreds of dollars, as the study prints them: up to 50 of them are its own rounding.
        for (viewers, build, hundreds) in [
            (100_000, middling(Hosting::Ec2, "0.98", 3, "0.5"), 1_957),
            (1_000_000, middling(Hosting::Leased, "0.80", 8, "2"), 2_406),
            (1_000_000, middling(Hosting::Leased, "0.90", 8, "2"), 1_793),
            (1_000_000, middling(Hosting::Leased, "0.95", 8, "2"), 1_486),
            (1_000_000, middling(Hosting::Leased, "0.98", 8, "2"), 1_302),
            (1_000_000, middling(Hosting::Colo, "0.80", 8, "2"), 2_396),
            (1_000_000, middling(Hosting::Colo, "0.90", 8, "2"), 1_782),
            (1_000_000, middling(Hosting::Colo, "0.95", 8, "2"), 1_476),
            (1_000_000, middling(Hosting::Colo, "0.98", 8, "2"), 1_292),
            (100_000, middling(Hosting::Leased, "0.98", 3, "0.5"), 250),
            (100_000, Build { fill: Fill::Auto, ..middling(Hosting::Leased, "0.995", 3, "0.5") }, 214),
            (100_000, Build { fill: Fill::Auto, ..middling(Hosting::Colo, "0.995", 3, "0.5") }, 292),
            (100_000, best(Hosting::Leased, 3, "0.5"), 152),
            (1_000_000, best(Hosting::Colo, 8, "2"), 803),
            (10_000_000, best(Hosting::Colo, 25, "6"), 4_290),
        ] {
            let bill = with_nodes(&sheet, &work(viewers), &build).expect("known prices");
            let (total, study) = (bill.total(), Dollars::whole(hundreds * 100));
            let off = (total - study).max(study - total);
            let allowed = study.share(1, 1_000) + Dollars::whole(50);
            assert!(off <= allowed, "{viewers}, {build:?}: {total:.2} against {study:.2}\n{bill:#?}");
        }
    }

    /// "to its digits": what the study says of the best build for a million viewers.
    #[test]
    fn the_anatomy_of_the_best_bill() {
        let sheet = Sheet::parse(SHEET).expect("the project's own sheet");
        let bill = with_nodes(&sheet, &work(1_000_000), &best(Hosting::Colo, 8, "2")).expect("known prices");
        let lines: Vec<String> =
            bill.lines.iter().map(|line| format!("{} {:.0}", line.name, line.usd)).collect();
        assert_eq!(bill.nodes, 16);
        assert_eq!(
            lines,
            [
                "servers 9200",
                "power 1824",
                "sites 16000",
                "transit 19300",
                "fallback 3500",
                "fill from a replica 457",
                "people 30000"
            ]
        );
        let delivered = work(1_000_000).delivered();
        assert_eq!((delivered.bytes, delivered.requests), (33_750_000_000_000_000, 9_450_000_000));
    }

    #[test]
    fn nodes_in_the_cloud_cost_more_than_the_cdn() {
        let sheet = Sheet::parse(SHEET).expect("the project's own sheet");
        for viewers in [1_000, 100_000, 1_000_000, 10_000_000] {
            let list = work(viewers).baselines(&sheet).expect("known prices")[0].1;
            let build = Build { people: Millionths(0), ..best(Hosting::Ec2, 1, "0") };
            let bill = with_nodes(&sheet, &work(viewers), &build).expect("known prices");
            assert!(bill.total() > list, "{viewers}");
        }
    }

    #[test]
    fn decimals() {
        for (text, value) in [("0", 0), ("0.995", 995_000), ("15", 15_000_000), ("0.000001", 1)] {
            assert_eq!(text.parse(), Ok(Millionths(value)));
        }
        for bad in ["", "x", "-1", "0.0000001", "1e3", "1000001"] {
            assert!(bad.parse::<Millionths>().is_err(), "{bad}");
        }
    }
}
