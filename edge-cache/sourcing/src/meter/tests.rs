//! Months of a node in a few steps.

use super::*;
use crate::account::{Deal, Terms};
use crate::price::Price;
use crate::tariff::{Gb, GiB, Rate, Sheet};

const SHEET: &str = include_str!("../../../../deploy/prices.toml");
const GB: u64 = 1_000_000_000;

fn usd(text: &str) -> Dollars {
    text.parse().expect(text)
}

fn november() -> Month {
    "2026-11".parse().expect("a month")
}

/// So many hours into November.
fn hour(hours: u64) -> u64 {
    november().start() + hours * 3_600
}

fn terms(source: &str, bytes: &str, requests: &str, transit: &str) -> Terms {
    let named = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    Terms {
        source: source.parse().expect("a name"),
        fixed: Price { picodollars_per_byte: 3, picodollars_per_request: 1_000_000 },
        deal: Deal { bytes: named(bytes), requests: named(requests), transit: named(transit) },
        partial: false,
    }
}

fn setup(sheet: &str, terms: &[Terms]) -> Setup {
    let sheet = Sheet::parse(sheet).expect("a sheet");
    Setup {
        sources: terms.iter().map(|terms| terms.source.clone()).collect(),
        account: Account::new(&sheet, terms).expect("known prices"),
        baselines: Baselines::new(&sheet, &BaselineConfig::default()).expect("known prices"),
        sheet: sheet.version().to_owned(),
        nodes: 1,
        usd_per_month: Dollars::whole(720),
    }
}

fn ledger() -> Ledger {
    Ledger::new("fra1".to_owned(), "eu".to_owned(), november())
}

const CDN: [&str; 4] = ["cdn", "aws.cloudfront.dto.us", "aws.cloudfront.https_req.us", ""];

fn cdn() -> Terms {
    terms(CDN[0], CDN[1], CDN[2], CDN[3])
}

fn readings(counts: &[(u64, u64)], delivered: u64) -> Readings {
    let count = |(bytes, requests): &(u64, u64)| Count { bytes: *bytes, requests: *requests };
    Readings {
        sources: counts.iter().map(count).collect(),
        delivered: Count { bytes: delivered, requests: delivered / 4_000_000 },
    }
}

#[test]
fn money_is_derived_from_the_months_volume() {
    let mut meter = Meter::new(setup(SHEET, &[cdn(), terms("peer", "", "", "")]), ledger());
    meter.observe(hour(1), &readings(&[(GiB::tib(5).bytes(), 12_000_000), (7 * GB, 10)], 0));
    meter.observe(
        hour(36),
        &readings(&[(GiB::tib(50).bytes(), 13_000_000), (9 * GB, 20)], GiB::tib(60).bytes()),
    );
    let bill = meter.bill(hour(36));
    let line = |id: &str| bill.lines[id];
    assert_eq!(line("aws.cloudfront.dto.us"), usd("4060.16"), "the golden bill of 50 TiB, in two steps");
    assert_eq!(line("aws.cloudfront.https_req.us"), usd("3"), "10 million are free");
    assert_eq!(line("peer"), usd("0.02702"), "a fixed price: 9 GB and 20 requests");
    assert_eq!(line("node"), usd("36"), "36 of 720 hours");
    assert_eq!(bill.total(), usd("4099.18702"));
    assert_eq!(bill.baselines.len(), 4);
    assert_eq!(bill.baselines["volume"], usd("329.8534883328"));
    assert!(bill.baselines["contract"] < bill.baselines["list"]);
}

#[test]
fn a_ledger_survives_a_restart_and_counters_begin_at_nothing() {
    let mut first = Meter::new(setup(SHEET, &[cdn()]), ledger());
    first.observe(hour(1), &readings(&[(100 * GB, 100)], 50 * GB));
    let written = first.ledger(hour(1));
    assert_eq!(written.statements()[0].total(), first.bill(hour(1)).total());
    let mut second = Meter::new(setup(SHEET, &[cdn()]), written);
    second.observe(hour(2), &readings(&[(20 * GB, 7)], 30 * GB));
    second.observe(hour(3), &readings(&[(20 * GB, 7)], 30 * GB));
    assert_eq!(second.counts().bought(), Count { bytes: 120 * GB, requests: 107 });
    assert_eq!(second.counts().delivered.bytes, 80 * GB);
    assert_eq!(second.counts().demand.len(), 37, "slots of three hours");
    assert_eq!((second.counts().demand[12], second.counts().demand[24]), (100 * GB, 20 * GB));
}

/// "Changes derivations, never history": 20 TiB at the old price, 5 TiB at the new one.
#[test]
fn a_new_sheet_prices_what_comes_after_it() {
    let flat = |price: &str| {
        SHEET.replace(
            "id = \"bunny.standard.na_eu\"\nunit = \"GB\"\nusd = \"0.01\"",
            &format!("id = \"bunny.standard.na_eu\"\nunit = \"GB\"\nusd = \"{price}\""),
        )
    };
    let terms = [terms("cdn", "bunny.standard.na_eu", "", "")];
    let mut old = Meter::new(setup(&flat("0.01"), &terms), ledger());
    old.observe(hour(1), &readings(&[(20_000 * GB, 0)], 0));
    let bought = |meter: &Meter| meter.bill(hour(9)).lines["bunny.standard.na_eu"];
    assert_eq!(bought(&old), usd("200"));
    let mut new = Meter::new(setup(&flat("0.02"), &terms), old.ledger(hour(1)));
    assert_eq!(bought(&new), usd("200"));
    new.observe(hour(2), &readings(&[(5_000 * GB, 0)], 0));
    assert_eq!(bought(&new), usd("300"));
    let third = Meter::new(setup(&flat("0.03"), &terms), new.ledger(hour(2)));
    assert_eq!(bought(&third), usd("300"), "and once more");
    let gone = Meter::new(setup(SHEET, &[cdn()]), third.ledger(hour(3)));
    assert_eq!(bought(&gone), usd("300"), "a line that nobody uses any more");
}

#[test]
fn a_month_is_closed_at_its_end_and_the_next_begins_empty() {
    let mut meter = Meter::new(setup(SHEET, &[cdn()]), ledger());
    meter.observe(hour(1), &readings(&[(GiB::tib(10).bytes(), 0)], GiB::tib(10).bytes()));
    let december = november().next().start();
    meter.observe(december + 5, &readings(&[(GiB::tib(11).bytes(), 0)], GiB::tib(11).bytes()));
    let counts = meter.counts();
    assert_eq!((counts.month, counts.bought().bytes), (november().next(), GiB::tib(1).bytes()));
    let past = &counts.past[0];
    assert_eq!((past.month, past.lines["aws.cloudfront.dto.us"]), (november(), usd("783.36")));
    assert_eq!((past.lines["node"], past.baselines["list"]), (usd("720"), usd("783.36")));
    meter.observe(december - 60, &readings(&[(GiB::tib(12).bytes(), 0)], 0));
    assert_eq!(meter.counts().month, november().next(), "a clock that was set back reopens nothing");
    let mut later = december;
    for _ in 0..MAX_PAST + 5 {
        later = Month::of(later).next().start();
        meter.observe(later, &readings(&[(GiB::tib(12).bytes(), 0)], 0));
    }
    assert_eq!(meter.counts().past.len(), MAX_PAST);
}

#[test]
fn nodes_of_one_account_climb_its_tiers_together() {
    let mut ten = Meter::new(Setup { nodes: 10, ..setup(SHEET, &[cdn()]) }, ledger());
    ten.observe(hour(1), &readings(&[(GiB::tib(5).bytes(), 0)], GiB::tib(15).bytes()));
    assert_eq!(
        ten.bill(hour(1)).lines["aws.cloudfront.dto.us"],
        usd("406.016"),
        "a tenth of the bill of 50 TiB"
    );
    let list = ten.bill(hour(1)).baselines["list"];
    assert_eq!(list, usd("1023.539168"), "a tenth of 150 TiB and 41 million requests");
    // 50 TiB in an hour: if the month goes on so, nearly all of it will cost 0.02 dollars a GiB.
    ten.observe(hour(2), &readings(&[(GiB(5_121).bytes(), 0)], 0));
    let (asked, cheapest) = (ten.quotes(hour(2)).prices[0].byte, Rate::average(usd("0.02"), GiB(1).bytes()));
    assert!(asked > cheapest && asked < Rate::average(usd("0.0225"), GiB(1).bytes()), "{asked:?}");
}

/// A link beside a cheap CDN: eight days, and it is known what to fill the link to.
#[test]
fn a_link_is_filled_to_the_level_that_pays() {
    let terms = [terms("parent", "", "", "transit.hub.10g"), terms("cdn", "bunny.volume", "", "")];
    let mut meter = Meter::new(setup(SHEET, &terms), ledger());
    let (mut now, mut link, mut cdn) = (november().start(), 0, 0);
    // A day has 20 crowded slots of 5 GB, 220 busy ones of 2 GB and 48 quiet ones of 1 GB.
    for slot in 0..288 * 8 {
        meter.observe(now, &readings(&[(link, 0), (cdn, 0)], 0));
        let demand = [5, 2, 1][usize::from(slot % 288 >= 20) + usize::from(slot % 288 >= 240)] * GB;
        let carried = demand.min(2 * GB);
        (link, cdn, now) = (link + carried, cdn + demand - carried, now + SLOT_SECONDS);
        meter.observe(now - 1, &readings(&[(link, 0), (cdn, 0)], 0));
    }
    // One GB of level costs 4.53 dollars. Up to 2 GB it saves 0.005 in each of 6,600 slots; from there to 5 GB
    // only in the crowded ones that are not thrown away.
    meter.observe(now, &readings(&[(link, 0), (cdn, 0)], 0));
    assert_eq!(meter.quotes(now).allowances, [2 * GB]);
    assert_eq!(meter.link_level("transit.hub.10g"), 2 * GB);
    let bill = meter.bill(now).lines["transit.hub.10g"];
    assert_eq!(format!("{bill:.2}"), "9.07", "53.3 Mbit/s");
    meter.observe(now + 1, &readings(&[(link + GB / 2, 0), (cdn, 0)], 0));
    assert_eq!(meter.quotes(now + 1).allowances, [3 * GB / 2], "what is left of the slot");
    meter.observe(now + 240, &readings(&[(link + 2 * GB, 0), (cdn, 0)], 0));
    assert_eq!(meter.quotes(now + 240).allowances, [0], "full, and it promises 2.5 GB");
    meter.observe(now + 240, &readings(&[(link + 2 * GB, 0), (cdn + 2 * GB, 0)], 0));
    assert_eq!(meter.quotes(now + 240).allowances, [u64::MAX], "a crowded slot is thrown away");
    let next = now + SLOT_SECONDS;
    meter.observe(next, &readings(&[(link + 2 * GB, 0), (cdn + 3 * GB, 0)], 0));
    assert_eq!(meter.quotes(next).allowances, [2 * GB], "the next one is not crowded yet");
}

#[test]
fn a_link_without_an_alternative_takes_what_comes() {
    let mut meter = Meter::new(setup(SHEET, &[terms("parent", "", "", "transit.hub.10g")]), ledger());
    meter.observe(hour(30), &readings(&[(GB, 0)], 0));
    assert_eq!(meter.quotes(hour(30)).allowances, [u64::MAX]);
}

#[test]
fn gb_and_gib_do_not_mix() {
    let volume = terms("cdn", "bunny.volume", "", "");
    let mut meter = Meter::new(setup(SHEET, &[volume]), ledger());
    meter.observe(hour(1), &readings(&[(Gb::tb(500).bytes(), 0)], 0));
    assert_eq!(meter.bill(hour(1)).lines["bunny.volume"], Dollars::whole(2_500));
}
