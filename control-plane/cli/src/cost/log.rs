//! A month's counts from access logs: what viewers got, and what fills brought.
//!
//! The log knows what was handed to viewers, exactly. Of what was bought it knows less: a fill stands in it as
//! the first viewer's line, with the bytes that he took; what was bought for nobody, and digest lists, do not.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Deserialize;
use sourcing::SourceId;
use sourcing::meter::{Baseline, BaselineConfig, Baselines, Count, Statement};
use sourcing::tariff::{Dollars, Month, Sheet};

/// What is looked at in a line.
#[derive(Deserialize)]
struct Line {
    time: u64,
    bytes: u64,
    outcome: Option<String>,
    source: Option<String>,
}

/// Counts of a month.
#[derive(Default)]
struct Counts {
    delivered: Count,
    sources: BTreeMap<SourceId, Count>,
}

/// Every month of a log, and how many lines could not be read.
pub(super) fn statements(
    log: impl BufRead,
    sheet: &Sheet,
    prices: &[(String, String)],
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
            lines: lines(sheet, &counts.sources, prices)?,
            baselines: Baseline::ALL.into_iter().map(bill).collect(),
            sources: counts.sources,
            delivered: counts.delivered,
        })
    };
    Ok((months.into_iter().map(statement).collect::<Result<_, String>>()?, skipped))
}

fn count(line: &Line, month: &mut Counts) {
    let Some(outcome) = &line.outcome else { return };
    let add = |count: &mut Count| {
        count.bytes = count.bytes.saturating_add(line.bytes);
        count.requests += 1;
    };
    add(&mut month.delivered);
    if outcome == "filled"
        && let Some(Ok(source)) = line.source.as_deref().map(str::parse)
    {
        add(month.sources.entry(source).or_default());
    }
}

/// Sources of one price climb its tiers together.
fn lines(
    sheet: &Sheet,
    sources: &BTreeMap<SourceId, Count>,
    prices: &[(String, String)],
) -> Result<BTreeMap<String, Dollars>, String> {
    let mut volumes: BTreeMap<&str, u64> = BTreeMap::new();
    for (source, price) in prices {
        let bought = sources.iter().find(|(name, _)| name.as_str() == source);
        *volumes.entry(price).or_default() += bought.map_or(0, |(_, count)| count.bytes);
    }
    let line = |(price, volume): (&str, u64)| {
        let ladder = sheet.per_byte(price).map_err(|error| error.to_string())?;
        Ok((price.to_owned(), ladder.total(volume)))
    };
    volumes.into_iter().map(line).collect()
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
        let prices = [("s3".to_owned(), "bunny.standard.na_eu".to_owned())];
        let (months, skipped) = statements(log.as_bytes(), &sheet, &prices).expect("a good price");
        assert_eq!((months.len(), skipped), (2, 1));
        let november = &months[1];
        assert_eq!(november.month.to_string(), "2026-11");
        assert_eq!(november.delivered, Count { bytes: 1_500_000_000_000, requests: 3 });
        assert_eq!(november.lines["bunny.standard.na_eu"], Dollars::whole(12));
        assert_eq!(november.baselines["volume"], "7.5".parse().expect("dollars"));
        let unknown = [("s3".to_owned(), "nobody".to_owned())];
        assert!(statements(&b"{\"time\":1,\"bytes\":1}"[..], &sheet, &unknown).is_err());
    }
}
