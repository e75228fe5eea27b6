//! The planner's order against a brute-force reading of the same sheet: steps of one unit, floats, no shared
//! code beyond the file.

use tokio::time::Instant;

use super::*;
use crate::planner::{Asking, Candidate, Need, plan};
use crate::tariff::{Gb, GiB};

const SHEET: &str = include_str!("../../../../deploy/prices.toml");
const CONTRACT: &str = r#"
[[plan]]
id = "contract.cloudfront"
usd_per_month = "12000"
includes = "102400 GiB"
requests = 100000000
overage = "aws.cloudfront.dto.eu"
source = "a test"
as_of = "2026"
confidence = "assumption"
"#;
/// Bytes of a want.
const SEGMENT: u64 = 4_000_000;

fn sheet_text() -> String {
    format!("{SHEET}{CONTRACT}")
}

fn sheet() -> Sheet {
    Sheet::parse(&sheet_text()).expect("a sheet")
}

/// A source of a node: its bytes, its requests, and a fixed price of a GB for those the sheet does not know.
type Row = (&'static str, &'static str, u64);

const S3_GET: &str = "aws.s3.req.standard.get";

/// What a node can buy from, by where it stands.
const LOCATIONS: &[(&str, &[Row])] = &[
    (
        "in the bucket's region",
        &[
            ("aws.egress.s3_to_ec2_same_region", S3_GET, 0),
            ("aws.cloudfront.dto.us", "aws.cloudfront.https_req.us", 0),
            ("bunny.volume", "", 0),
        ],
    ),
    (
        "in another region of the cloud",
        &[
            ("aws.egress.inter_region.us", S3_GET, 0),
            ("aws.cloudfront.dto.us", "aws.cloudfront.https_req.us", 0),
            ("aws.egress.internet.us", S3_GET, 0),
        ],
    ),
    (
        "a hall in the US",
        &[("aws.egress.internet.us", S3_GET, 0), ("aws.cloudfront.dto.us", "aws.cloudfront.https_req.us", 0)],
    ),
    (
        "a hall with a direct line",
        &[
            ("aws.egress.internet.us", S3_GET, 0),
            ("aws.dx.egress.us", S3_GET, 0),
            ("aws.cloudfront.dto.us", "aws.cloudfront.https_req.us", 0),
        ],
    ),
    (
        "a hall with a replica",
        &[
            ("aws.egress.internet.us", S3_GET, 0),
            ("cloudflare.r2.egress", "cloudflare.r2.req.class_b", 0),
            ("aws.cloudfront.dto.eu", "aws.cloudfront.https_req.eu", 0),
            ("bunny.standard.na_eu", "", 0),
        ],
    ),
    (
        "Europe under contract",
        &[
            ("contract.cloudfront", "aws.cloudfront.https_req.eu", 0),
            ("aws.egress.internet.us", S3_GET, 0),
            ("bunny.volume", "", 0),
        ],
    ),
    (
        "Sao Paulo",
        &[
            ("aws.egress.internet.sa_east_1", S3_GET, 0),
            ("aws.cloudfront.dto.sa", "aws.cloudfront.https_req.sa", 0),
            ("fastly.na_eu", "fastly.na_eu.req", 0),
        ],
    ),
    (
        "Tokyo",
        &[("aws.egress.internet.us", S3_GET, 0), ("aws.cloudfront.dto.jp", "", 0), ("google.cdn.na", "", 0)],
    ),
    ("Sydney", &[("aws.egress.internet.us", S3_GET, 0), ("aws.cloudfront.dto.au", "", 0)]),
    ("Mumbai", &[("aws.egress.internet.us", S3_GET, 0), ("aws.cloudfront.dto.in", "", 0)]),
    ("Singapore", &[("aws.egress.internet.us", S3_GET, 0), ("aws.cloudfront.dto.apac", "", 0)]),
    (
        "inside an ISP, two neighbours",
        &[
            ("", "", 0),
            ("", "", 4),
            ("aws.cloudfront.dto.us", "aws.cloudfront.https_req.us", 0),
            ("bunny.volume", "", 0),
        ],
    ),
    ("a cheap host", &[("hetzner.cloud.egress_overage_eu", "", 0), ("aws.cloudfront.dto.eu", "", 0)]),
];

fn terms(rows: &[Row]) -> Vec<Terms> {
    let named = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    let terms = rows.iter().enumerate().map(|(at, (bytes, requests, per_gb))| Terms {
        source: format!("s{at}").parse().expect("a name"),
        fixed: Price { picodollars_per_byte: *per_gb, picodollars_per_request: 0 },
        deal: Deal { bytes: named(bytes), requests: named(requests), transit: None },
        partial: false,
    });
    terms.collect()
}

/// The sheet as plain TOML.
struct Brute(toml::Table);

impl Brute {
    fn find(&self, kind: &str, id: &str) -> Option<&toml::Value> {
        self.0[kind].as_array().expect("entries").iter().find(|entry| entry["id"].as_str() == Some(id))
    }

    fn number(value: &toml::Value) -> f64 {
        let text = value.as_str().expect("text");
        text.split(' ').next().expect("a number").parse().expect("a number")
    }

    fn size(unit: &str) -> f64 {
        match unit {
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            "GB" => 1e9,
            "TB" => 1e12,
            _ => 1.0,
        }
    }

    /// Up to where which price holds, in counts and dollars for one.
    fn schedule(&self, id: &str) -> Vec<(f64, f64)> {
        if let Some(plan) = self.find("plan", id) {
            let unit = plan["includes"].as_str().and_then(|text| text.split(' ').nth(1)).expect("a unit");
            let included = Self::number(&plan["includes"]) * Self::size(unit);
            let overage = self.schedule(plan["overage"].as_str().expect("an id"));
            let shifted = overage.iter().map(|(upto, price)| (included + upto, *price));
            return std::iter::once((included, 0.0)).chain(shifted).collect();
        }
        let entry = self.find("price", id).expect(id);
        let size = Self::size(entry["unit"].as_str().expect("a unit"));
        let free = entry.get("free").map(|free| (Self::number(free) * size, 0.0));
        let step = |upto: Option<&toml::Value>, usd: &toml::Value| {
            (upto.map_or(f64::INFINITY, |upto| Self::number(upto) * size), Self::number(usd) / size)
        };
        let steps = match entry.get("tiers").and_then(toml::Value::as_array) {
            Some(tiers) => tiers.iter().map(|tier| step(tier.get("upto"), &tier["usd"])).collect(),
            None => vec![step(None, &entry["usd"])],
        };
        free.into_iter().chain(steps).collect()
    }

    /// What one costs on average when `ahead` more are bought, in steps that meet every end of a tier.
    fn average(&self, id: &str, used: u64, ahead: u64, step: u64) -> f64 {
        let schedule = self.schedule(id);
        let price = |at: f64| schedule.iter().find(|(upto, _)| at < *upto).expect("the last has no end").1;
        // What is free is used first, whatever comes after it.
        let lasts = schedule[0].1 == 0.0 && (used as f64) < schedule[0].0;
        if ahead == 0 || lasts {
            return price(used as f64);
        }
        let steps = (ahead / step).max(1);
        let step = ahead as f64 / steps as f64;
        let sum: f64 = (0..steps).map(|nth| price(used as f64 + (nth as f64 + 0.5) * step)).sum();
        sum / steps as f64
    }

    fn cost(&self, row: &Row, used: u64, ahead: u64) -> f64 {
        let (bytes, requests, per_gb) = row;
        let byte =
            if bytes.is_empty() { *per_gb as f64 / 1e12 } else { self.average(bytes, used, ahead, 4 << 30) };
        // A plan covers requests too, as long as it lasts.
        let covered = self.find("plan", bytes).is_some() && used / SEGMENT < 100_000_000;
        let request = if requests.is_empty() || covered {
            0.0
        } else {
            self.average(requests, used / SEGMENT, ahead / SEGMENT, 10_000)
        };
        byte * SEGMENT as f64 + request
    }
}

/// What the account says at this point: every line has seen the same volume.
fn volume(account: &Account, used: u64, ahead: u64) -> Volume {
    let requests = |line: &Line| match &line.pricing {
        Pricing::Ladder(ladder) => ladder.unit() == Unit::Request,
        Pricing::Plan { .. } => line.id.ends_with("#requests"),
        Pricing::Transit(_) => false,
    };
    let count = |line: &Line| if requests(line) { used / SEGMENT } else { used };
    let used = account.lines.iter().map(count).collect();
    Volume { used, bytes_ahead: ahead, beyond_links: ahead, requests_ahead: ahead / SEGMENT, saving: false }
}

fn order(prices: &[SourcePrice]) -> Vec<usize> {
    let candidates: Vec<Candidate> = prices
        .iter()
        .map(|price| Candidate::new(Asking { byte: price.byte, request: price.request }))
        .collect();
    plan(Instant::now(), &candidates, Need::bytes(SEGMENT)).iter().map(|choice| choice.index).collect()
}

#[test]
fn the_order_is_that_of_brute_force_wherever_a_node_stands() {
    let (sheet, brute) = (sheet(), Brute(sheet_text().parse().expect("TOML")));
    let mut compared = 0;
    for (location, rows) in LOCATIONS {
        let account = Account::new(&sheet, &terms(rows)).expect(location);
        for used_tib in [0, 2, 9, 40, 120, 400, 900, 3_000, 8_000] {
            for ahead_tib in [0, 1, 60] {
                let (used, ahead) = (GiB::tib(used_tib).bytes(), GiB::tib(ahead_tib).bytes());
                let prices = account.prices(&volume(&account, used, ahead));
                let cost: Vec<f64> = rows.iter().map(|row| brute.cost(row, used, ahead)).collect();
                let mut expected: Vec<usize> = (0..rows.len()).collect();
                expected.sort_by(|a, b| cost[*a].total_cmp(&cost[*b]));
                let decided = order(&prices);
                let same = |a: &usize, b: &usize| a == b || (cost[*a] - cost[*b]).abs() <= cost[*a] * 1e-6;
                let agree = decided.iter().zip(&expected).all(|(a, b)| same(a, b));
                assert!(agree, "{location}, {used_tib} + {ahead_tib} TiB: {decided:?}, brute force {cost:?}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, LOCATIONS.len() * 27);
}

#[test]
fn a_plan_is_used_before_anything_that_costs_and_after_what_expires_sooner() {
    let rows: &[Row] = &[("contract.cloudfront", "aws.cloudfront.https_req.eu", 0), ("", "", 0), ("", "", 1)];
    let account = Account::new(&sheet(), &terms(rows)).expect("an account");
    let prices = |used| account.prices(&volume(&account, used, 0));
    assert_eq!(order(&prices(0)), [1, 0, 2]);
    assert_eq!(order(&prices(GiB(102_399).bytes())), [1, 0, 2]);
    assert_eq!(order(&prices(GiB(102_400 + 1_024).bytes())), [1, 2, 0], "used up, its free part too");
    let line = account.lines.iter().find(|line| line.id == "contract.cloudfront").expect("the plan");
    assert_eq!(line.bill(0), Dollars::whole(12_000), "paid whether used or not");
    assert_eq!(line.bill(GiB(102_400 + 1_024 + 100).bytes()), "12008.5".parse().expect("dollars"));
}

/// A partner at 0.006 dollars for a GB beside a contract of 100 TiB: 60 GB in 100 of what is ahead are free, so the
/// contract waits, ready for the day on which the partner fails; towards the end it is spent.
#[test]
fn free_bytes_are_kept_for_worse_times() {
    let rows: &[Row] = &[("", "", 6_000), ("contract.cloudfront", "", 0), ("aws.egress.internet.us", "", 0)];
    let mut terms = terms(rows);
    terms[0].fixed = Price { picodollars_per_byte: 6, picodollars_per_request: 0 };
    let account = Account::new(&sheet(), &terms).expect("an account");
    let free = GiB(102_400 + 1_024 + 100).bytes();
    let at = |ahead_percent: u64, saving| {
        let ahead = free / 100 * ahead_percent;
        let volume = Volume { saving, ..volume(&account, 0, ahead) };
        let saving = account.worth_saving(&volume);
        (saving, order(&account.prices(&Volume { saving, ..volume })))
    };
    assert_eq!(at(90, false), (false, vec![1, 2, 0]), "it would be lost at the end of the month");
    assert_eq!(at(167, false), (true, vec![0, 1, 2]), "behind the partner, and before its own overage");
    assert_eq!(at(110, false), (false, vec![1, 2, 0]), "hardly scarce");
    assert_eq!(at(110, true), (true, vec![0, 1, 2]), "and so it stays as it was");
    assert_eq!(at(104, true), (false, vec![1, 2, 0]));
    // Without a dear alternative there is nothing to be afraid of.
    let rows: &[Row] =
        &[("bunny.volume", "", 0), ("contract.cloudfront", "", 0), ("bunny.standard.na_eu", "", 0)];
    let account = Account::new(&sheet(), &self::terms(rows)).expect("an account");
    assert!(!account.worth_saving(&volume(&account, 0, free * 3)));
}

#[test]
fn a_neighbour_is_nobody_to_rely_on() {
    let mut terms = terms(&[("", "", 0), ("bunny.volume", "", 0)]);
    terms[0].partial = true;
    let account = Account::new(&sheet(), &terms).expect("an account");
    let at = volume(&account, 0, 0);
    assert_eq!(account.elsewhere(&at, Gb::tb(100).bytes()), Some(Dollars::whole(500)), "it has what it has");
    let alone = Account::new(&sheet(), &terms[..1]).expect("an account");
    assert_eq!(alone.elsewhere(&volume(&alone, 0, 0), 1), None);
    assert_eq!(order(&account.prices(&at)), [0, 1], "but it is asked first");
}

#[test]
fn a_link_is_free_until_its_allowance_is_used_up() {
    let deal = |bytes: Option<&str>| Deal {
        bytes: bytes.map(str::to_owned),
        requests: None,
        transit: Some("transit.hub.10g".to_owned()),
    };
    let terms = [("parent", deal(None)), ("store", deal(Some("bunny.volume")))];
    let terms: Vec<Terms> = terms
        .map(|(id, deal)| Terms {
            source: id.parse().expect("a name"),
            fixed: Price::default(),
            deal,
            partial: false,
        })
        .into();
    let account = Account::new(&sheet(), &terms).expect("an account");
    assert_eq!(
        (account.links.len(), account.charges[0].link, account.charges[1].link),
        (1, Some(0), Some(0))
    );
    let prices = account.prices(&volume(&account, 0, 0));
    // One Mbit/s more for a month, 0.17 dollars, is 37.5 MB in one slot.
    let beyond = Rate::attodollars(170_000_000_000_000_000 / 37_500_000);
    assert_eq!(prices[0], SourcePrice { byte: Rate::ZERO, request: Rate::ZERO, link: Some((0, beyond)) });
    let store = Rate::picodollars(5);
    assert_eq!((prices[1].byte, prices[1].link), (store, Some((0, store.plus(beyond)))));
    assert_eq!(account.elsewhere(&volume(&account, 0, 0), 1_000), None, "nobody without a link");
}

#[test]
fn elsewhere_fills_plans_and_then_the_cheapest() {
    let rows: &[Row] =
        &[("contract.cloudfront", "aws.cloudfront.https_req.eu", 0), ("bunny.volume", "", 0), ("", "", 90)];
    let account = Account::new(&sheet(), &terms(rows)).expect("an account");
    let included = GiB(102_400 + 1_024).bytes();
    let at = volume(&account, 0, 0);
    assert_eq!(account.elsewhere(&at, included), Some(Dollars::ZERO));
    let more = Gb::tb(100).bytes();
    assert_eq!(account.elsewhere(&at, included + more), Some(Dollars::whole(500)), "at 0.005 for a GB");
}

#[test]
fn deals_that_the_sheet_does_not_know_are_told_together() {
    let deal = |bytes: &str, requests: &str, transit: &str| {
        let named = |id: &str| (!id.is_empty()).then(|| id.to_owned());
        Deal { bytes: named(bytes), requests: named(requests), transit: named(transit) }
    };
    let terms: Vec<Terms> = [
        ("a", deal("nobody", "", "")),
        ("b", deal("aws.s3.storage.standard", "", "")),
        ("c", deal("", "bunny.volume", "")),
        ("d", deal("", "", "bunny.volume")),
        ("e", deal("bunny.volume", S3_GET, "transit.hub.10g")),
    ]
    .map(|(id, deal)| Terms {
        source: id.parse().expect("a name"),
        fixed: Price::default(),
        deal,
        partial: false,
    })
    .into();
    assert_eq!(
        Account::new(&sheet(), &terms),
        Err(vec![
            "source.a.tariff.bytes: the price sheet has no price \"nobody\"".to_owned(),
            "source.b.tariff.bytes: the price \"aws.s3.storage.standard\" is for one GiB-month, wanted is one for transferred bytes (GiB, GB, TB)".to_owned(),
            "source.c.tariff.requests: the price \"bunny.volume\" is for one GB, wanted is one for requests".to_owned(),
            "source.d.tariff.transit: the price \"bunny.volume\" is for one GB, wanted is one for bandwidth (Mbps-p95-month)".to_owned(),
        ])
    );
}
