//! The project's own sheet, its golden bills, and everything a loader must refuse.

use super::*;

const SHEET: &str = include_str!("../../../../deploy/prices.toml");
/// 2026-11-25.
const NOW: u64 = 1_795_564_800;

fn sheet() -> Sheet {
    Sheet::parse(SHEET).expect("the project's own sheet")
}

fn usd(text: &str) -> Dollars {
    text.parse().expect(text)
}

/// Bills to the cent for a month's volume: CloudFront to viewers, and S3 straight to the Internet.
#[test]
fn golden_tiers() {
    let sheet = sheet();
    let bill = |id: &str, tib| format!("{:.2}", sheet.per_byte(id).expect(id).total(GiB::tib(tib).bytes()));
    for (tib, cloudfront, s3) in [
        (1, "0.00", "83.16"),
        (10, "783.36", "912.60"),
        (50, "4060.16", "4394.20"),
        (150, "10204.16", "11562.20"),
        (500, "24540.16", "29482.20"),
        (1_024, "40637.44", "56311.00"),
        (5_120, "145495.04", "266026.20"),
        (10_240, "250352.64", "528170.20"),
    ] {
        assert_eq!(bill("aws.cloudfront.dto.us", tib), cloudfront, "CloudFront, {tib} TiB");
        assert_eq!(bill("aws.egress.internet.us", tib), s3, "S3, {tib} TiB");
    }
    let requests = sheet.per_request("aws.cloudfront.https_req.us").expect("a price").total(945_000_000);
    assert_eq!(requests, usd("935"));
    let volume_cdn = sheet.per_byte("bunny.volume").expect("a price").total(Gb::tb(3_375).bytes());
    assert_eq!(volume_cdn, usd("11625"));
}

#[test]
fn plans_and_single_prices() {
    let sheet = sheet();
    let premium = sheet.plans("aws.cloudfront.flat.premium.");
    let levels: Vec<_> = premium.iter().map(|(_, plan)| (plan.bytes / 1_000_000_000_000, plan.fee)).collect();
    let expected = [(50, 1_000), (75, 1_450), (125, 2_250), (200, 3_500), (350, 6_000), (600, 10_000)];
    assert_eq!(levels, expected.map(|(tb, fee)| (tb, Dollars::whole(fee))));
    assert_eq!(premium[5].1.requests, Some(6_000_000_000));
    assert_eq!(sheet.plan("aws.cloudfront.flat.free").expect("a plan").bytes, 100_000_000_000);
    assert_eq!(sheet.unit_price("transit.hub.100g"), Ok(usd("0.08")));
    let node = sheet.price("edge.node.capex").expect("a price");
    assert_eq!((node.terms.usable_mbps, node.terms.watts), (Some(80_000), Some(600)));
    let private = sheet.discount("aws.cloudfront.private_pricing.over_2m_year").expect("a discount");
    assert_eq!((private.least_percent, private.most_percent), (50, 70));
    assert!(matches!(sheet.per_byte("aws.s3.storage.standard"), Err(Unknown::Unit { .. })));
    assert!(matches!(sheet.per_byte("aws.s3"), Err(Unknown::Price(_))));
}

#[test]
fn doubtful_figures_in_use_are_named() {
    let sheet = sheet();
    let review = |ids: &[&str]| -> Vec<String> {
        sheet.review(ids.iter().copied(), NOW, 365).iter().map(ToString::to_string).collect()
    };
    assert_eq!(review(&["bunny.volume", "aws.cloudfront.dto.us"]), Vec::<String>::new());
    assert_eq!(
        review(&["transit.hub.100g", "ops.fte", "aws.ec2.im4gn_16xlarge", "aws.egress.internet.us"]),
        [
            "transit.hub.100g is remembered: check it",
            "transit.hub.100g was seen 1059 days ago: check it",
            "ops.fte is an assumption: put your own figure",
            "aws.ec2.im4gn_16xlarge has a source without a date: check it",
            "aws.egress.internet.us was seen 815 days ago: check it",
        ]
    );
    let unread = sheet.review(sheet.ids(), NOW, u64::MAX);
    let unread = unread.iter().filter(|remark| matches!(remark.doubt, Doubt::Unread(_))).count();
    assert_eq!(unread, 20, "14 remembered, 6 assumed");
    assert_eq!(sheet.age_days(["bunny.volume", "aws.egress.internet.us"], NOW), Some(815));
    assert_eq!(sheet.age_days(["aws.ec2.im4gn_16xlarge"], NOW), None);
}

/// The smallest sheet, with other lines put into its one price.
fn with(lines: &str) -> String {
    format!(
        "schema = 1\ncurrency = 'USD'\n\n[[price]]\nid = 'p'\n{lines}\nsource = 's'\nas_of = '2026'\nconfidence = 'read'\n"
    )
}

fn refusal(text: &str) -> String {
    Sheet::parse(text).expect_err(text).to_string()
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    for (lines, line, told) in [
        ("usd = '1'", 4, "missing field `unit`"),
        ("unit = 'GiB'", 4, "p.usd, tiers: exactly one of them"),
        ("unit = 'GiB'\nusd = '1'\ntiers = [{ usd = '1' }]", 4, "p.usd, tiers: exactly one of them"),
        ("unit = 'TiB'\nusd = '1'", 6, "p.unit: \"TiB\" is no unit"),
        ("unit = 'GiB'\nusd = 0.085", 7, "invalid type: floating point"),
        ("unit = 'GiB'\nusd = '0,085'", 7, "p.usd: \"0,085\" is no amount of dollars"),
        ("unit = 'GiB'\nusd = '-1'", 7, "p.usd: must not be negative"),
        ("unit = 'GiB'\nusd = '1'\nfree = '100 GB'", 8, "p.free: \"100 GB\" mixes units"),
        ("unit = 'GiB'\nusd = '1'\nfree = '100'", 8, "p.free: \"100\" lacks a unit"),
        ("unit = 'GiB'\nusd = '1'\nprice = '1'", 8, "unknown field `price`"),
        ("unit = 'GiB'\nusd = '1'\nterms = { minimum_days = 3 }", 8, "unknown field `minimum_days`"),
        ("unit = 'GiB'\nusd = '1'\nrange = ['2', '1']", 8, "p.range: the least comes first"),
        ("unit = 'GiB'\ntiers = []", 7, "p.tiers: at least one"),
        (
            "unit = 'GiB'\ntiers = [\n{ upto = '10 GiB', usd = '2' },\n{ upto = '5 GiB', usd = '1' },\n{ usd = '1' }]",
            9,
            "p.tiers[1]: overlaps the tier before it",
        ),
        (
            "unit = 'GiB'\ntiers = [\n{ usd = '2' },\n{ usd = '1' }]",
            9,
            "p.tiers[1]: overlaps the tier before it",
        ),
        (
            "unit = 'GiB'\ntiers = [\n{ upto = '10 GiB', usd = '2' },\n{ upto = '50 GiB', usd = '1' }]",
            9,
            "p.tiers[1].upto: a gap follows",
        ),
        (
            "unit = 'GiB'\ntiers = [\n{ upto = '10 GB', usd = '2' },\n{ usd = '1' }]",
            8,
            "p.tiers[0].upto: \"10 GB\" mixes units: the price is for one GiB",
        ),
    ] {
        let told_is = refusal(&with(lines));
        assert!(told_is.contains(told), "{lines}\n{told_is}");
        assert!(told_is.contains(&format!("line {line}")), "{lines}\n{told_is}");
    }
}

#[test]
fn all_problems_are_told_together() {
    let twice = format!(
        "{}\n{}",
        with("unit = 'GiB'\nusd = '1'"),
        "[[price]]\nid = 'p'\nunit = 'GB'\nusd = '2'\nsource = ''\nas_of = 'May'\nconfidence = 'read'\n"
    );
    let plan = "[[plan]]\nid = 'q'\nusd_per_month = '1'\nincludes = '5 request'\noverage = 'nobody'\nsource = 's'\nas_of = 'undated'\nconfidence = 'read'\n";
    let discount = "[[discount]]\nid = 'd'\nleast = '0.5'\nmost = '1.5'\nsource = 's'\nas_of = '2026'\nconfidence = 'read'\n";
    let text =
        format!("{twice}{plan}{discount}").replace("schema = 1", "schema = 2").replace("'USD'", "'EUR'");
    let refused = refusal(&text);
    for told in [
        "line 1: schema: this program reads schema 1",
        "line 2: currency: must be \"USD\"",
        "p.as_of: write 2026, 2026-09, 2026-09-05 or undated",
        "q.includes: \"5 request\" is no amount of bytes",
        "overage: the price sheet has no price \"nobody\"",
        "d.most: \"1.5\" is no share of a price",
    ] {
        assert!(refused.contains(told), "{told} in\n{refused}");
    }
    assert!(
        refusal(&with("unit = 'GiB'\nusd = '1'").replace("'read'", "'guessed'"))
            .contains("unknown variant `guessed`")
    );
    let good = with("unit = 'GiB'\nusd = '1'");
    let again = good.split_once("\n\n").expect("a price").1;
    assert!(refusal(&format!("{good}\n{again}")).contains("p.id: stands there twice"));
}

#[test]
fn two_sheets_have_two_versions() {
    let sheet = sheet();
    let changed = Sheet::parse(&SHEET.replacen("\"0.085\"", "\"0.084\"", 1)).expect("a sheet");
    assert_eq!((sheet.version().len(), sheet.version() == changed.version()), (16, false));
}
