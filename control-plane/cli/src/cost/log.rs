//! A month's counts from access logs: what viewers got, and what fills brought.
//!
//! The log knows what was handed to viewers, exactly, and what was bought, exactly, where the node has a `[cost]` table: then
//! every few seconds a line says so. Without one a fill stands in it as the first viewer's line, with the bytes that he
//! took; what was bought for nobody, and digest lists, do not.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Deserialize;
use sourcing::SourceId;
use sourcing::meter::{Baseline, BaselineConfig, Baselines, Count, Statement};
use sourcing::tariff::{Dollars, Ladder, Month, Sheet, Unknown};

/// What is looked at in a line.
#[derive(Deserialize)]
struct Line {
    time: u64,
    #[serde(flatten)]
    told: Told,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Bought { bought: BTreeMap<SourceId, Count> },
    Response { bytes: u64, outcome: Option<String>, source: Option<String> },
}

/// Counts of a month.
#[derive(Default)]
struct Counts {
    delivered: Count,
    /// As the node counted.
    bought: BTreeMap<SourceId, Count>,
    /// As far as viewers' lines tell.
    filled: BTreeMap<SourceId, Count>,
}

impl Counts {
    fn sources(&self) -> &BTreeMap<SourceId, Count> {
        if self.bought.is_empty() { &self.filled } else { &self.bought }
    }
}

/// What a source's bytes, and perhaps its requests, are paid by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaidBy {
    pub(super) source: String,
    pub(super) bytes: String,
    pub(super) requests: Option<String>,
}

/// Every month of a log, and how many lines could not be read.
pub(super) fn statements(
    log: impl BufRead,
    sheet: &Sheet,
    prices: &[PaidBy],
) -> Result<(Vec<Statement>, u64), String> {
    let mut months: BTreeMap<Month, Counts> = BTreeMap::new();
    let mut skipped = 0;
    for line in log.lines() {
        let line = line.map_err(|error| error.to_string())?;
        match serde_json::from_str::<Line>(&line) {
            Ok(line) => count(&line, months.entry(Month::of(line.time)).or_default()),
            Err(_) => skipped += 1,
        }
    }
    let baselines =
        Baselines::new(sheet, &BaselineConfig::default()).map_err(|problems| problems.join("; "))?;
    let statement = |(month, counts): (Month, Counts)| {
        let bill =
            |baseline: Baseline| (baseline.as_str().to_owned(), baselines.bill(baseline, counts.delivered));
        Ok(Statement {
            month,
            sheet: sheet.version().to_owned(),
            lines: lines(sheet, counts.sources(), prices)?,
            baselines: Baseline::ALL.into_iter().map(bill).collect(),
            sources: counts.sources().clone(),
            delivered: counts.delivered,
        })
    };
    Ok((months.into_iter().map(statement).collect::<Result<_, String>>()?, skipped))
}

fn count(line: &Line, month: &mut Counts) {
    match &line.told {
        Told::Bought { bought } => {
            for (source, more) in bought {
                add(month.bought.entry(source.clone()).or_default(), *more);
            }
        }
        Told::Response { outcome: None, .. } => {}
        Told::Response { bytes, outcome: Some(outcome), source } => {
            let one = Count { bytes: *bytes, requests: 1 };
            add(&mut month.delivered, one);
            if outcome == "filled"
                && let Some(Ok(source)) = source.as_deref().map(str::parse)
            {
                add(month.filled.entry(source).or_default(), one);
            }
        }
    }
}

fn add(count: &mut Count, more: Count) {
    count.bytes = count.bytes.saturating_add(more.bytes);
    count.requests = count.requests.saturating_add(more.requests);
}

/// Sources of one price climb its tiers together.
fn lines(
    sheet: &Sheet,
    sources: &BTreeMap<SourceId, Count>,
    prices: &[PaidBy],
) -> Result<BTreeMap<String, Dollars>, String> {
    let (mut bytes, mut requests) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
    for paid in prices {
        let bought = sources.iter().find(|(name, _)| name.as_str() == paid.source);
        let bought = bought.map(|(_, count)| *count).unwrap_or_default();
        *bytes.entry(&paid.bytes).or_default() += bought.bytes;
        if let Some(price) = &paid.requests {
            *requests.entry(price).or_default() += bought.requests;
        }
    }
    let total = |ladder: Result<&Ladder, Unknown>, volume| {
        ladder.map(|ladder| ladder.total(volume)).map_err(|error| error.to_string())
    };
    let bytes = bytes.into_iter().map(|(id, volume)| Ok((id.to_owned(), total(sheet.per_byte(id), volume)?)));
    let requests =
        requests.into_iter().map(|(id, volume)| Ok((id.to_owned(), total(sheet.per_request(id), volume)?)));
    bytes.chain(requests).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_counted_by_month() {
        let line =
            |time: u64, bytes: u64, rest: &str| format!("{{\"time\":{time},\"bytes\":{bytes}{rest}}}\n");
        let filled = r#","outcome":"filled","source":"s3","node":"a""#;
        let november = 1_793_491_200;
        let log = [
            line(november, 500_000_000_000, filled),
            line(november + 60, 700_000_000_000, filled),
            line(november + 61, 300_000_000_000, r#","outcome":"memory""#),
            line(november + 62, 99, r#","status":403"#),
            "half a li\n".to_owned(),
            line(november - 1, 1_000, r#","outcome":"disk""#),
        ]
        .concat();
        let sheet = Sheet::parse(super::super::SHEET).expect("the project's own sheet");
        let prices = [paid("bunny.standard.na_eu", None)];
        let (months, skipped) = statements(log.as_bytes(), &sheet, &prices).expect("a good price");
        assert_eq!((months.len(), skipped), (2, 1));
        let november = &months[1];
        assert_eq!(november.month.to_string(), "2026-11");
        assert_eq!(november.delivered, Count { bytes: 1_500_000_000_000, requests: 3 });
        assert_eq!(november.lines["bunny.standard.na_eu"], Dollars::whole(12));
        assert_eq!(november.baselines["volume"], "7.5".parse().expect("dollars"));
        let unknown = [paid("nobody", None)];
        assert!(statements(&b"{\"time\":1,\"bytes\":1}"[..], &sheet, &unknown).is_err());
    }

    fn paid(bytes: &str, requests: Option<&str>) -> PaidBy {
        PaidBy { source: "s3".to_owned(), bytes: bytes.to_owned(), requests: requests.map(str::to_owned) }
    }

    #[test]
    fn what_the_node_counted_goes_before_what_viewers_saw() {
        let log = [
            r#"{"time":1793491200,"bytes":1000,"outcome":"filled","source":"s3"}"#,
            r#"{"time":1793491205,"node":"a","bought":{"s3":{"bytes":600000000000,"requests":900000}}}"#,
            r#"{"time":1793491215,"node":"a","bought":{"s3":{"bytes":400000000000,"requests":100000}}}"#,
        ]
        .join("\n");
        let sheet = Sheet::parse(super::super::SHEET).expect("the project's own sheet");
        let prices = [paid("bunny.standard.na_eu", Some("aws.s3.req.standard.get"))];
        let (months, skipped) = statements(log.as_bytes(), &sheet, &prices).expect("good prices");
        assert_eq!((months.len(), skipped), (1, 0));
        let bought = months[0].sources.values().next().copied();
        assert_eq!(bought, Some(Count { bytes: 1_000_000_000_000, requests: 1_000_000 }));
        assert_eq!(months[0].lines["bunny.standard.na_eu"], Dollars::whole(10));
        assert_eq!(months[0].lines["aws.s3.req.standard.get"], "0.4".parse().expect("dollars"));
        assert_eq!(months[0].delivered, Count { bytes: 1_000, requests: 1 });
    }
}
