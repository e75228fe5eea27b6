//! What a month would cost, all ways compared, and from which volume on nodes pay.

use std::fmt::Write;

use sourcing::meter::Baseline;
use sourcing::tariff::{Dollars, Sheet, Unknown};

use super::model::{Bill, Build, Hosting, Workload, with_nodes};
use super::remarks;
use super::report::{per_tb, percent};
use crate::error::Error;

/// Break-even volumes are looked for among audiences from one to this many times ten per step.
const MOST_VIEWERS: u64 = 10_000_000_000;

fn unknown(problem: &Unknown) -> Error {
    Error::Cost(format!("the price sheet is incomplete: {problem}"))
}

fn baselines(sheet: &Sheet, work: &Workload) -> Result<Vec<(Baseline, Dollars)>, Error> {
    let incomplete = |problems: Vec<String>| {
        Error::Cost(format!("the price sheet is incomplete: {}", problems.join("; ")))
    };
    work.baselines(sheet).map_err(incomplete)
}

const fn name(baseline: Baseline) -> &'static str {
    match baseline {
        Baseline::List => "CloudFront at list price",
        Baseline::Contract => "CloudFront under contract",
        Baseline::Flat => "CloudFront flat-rate plans",
        Baseline::Volume => "a volume CDN",
    }
}

/// The bill now and with nodes.
pub(super) fn simulate(sheet: &Sheet, work: &Workload, build: &Build, now: u64) -> Result<String, Error> {
    let bill = with_nodes(sheet, work, build).map_err(|problem| unknown(&problem))?;
    let baselines = baselines(sheet, work)?;
    let mut text = head("Delivery of a month", work);
    let _ = writeln!(
        text,
        "With {} nodes ({}):\n\n| line | USD |\n|---|---:|",
        bill.nodes,
        build.hosting.as_str()
    );
    for line in &bill.lines {
        let _ = writeln!(text, "| {} | {:.0} |", line.name, line.usd);
    }
    let total = bill.total();
    let _ = writeln!(text, "| **total** | **{total:.0}** |");
    if let Some(per_tb) = per_tb(total, work.delivered().bytes) {
        let _ = writeln!(text, "| for a TB | {per_tb:.2} |");
    }
    text.push_str("\n| instead | USD | saved | |\n|---|---:|---:|---:|\n");
    for (baseline, usd) in &baselines {
        let saved = *usd - total;
        let _ = writeln!(text, "| {} | {usd:.0} | {saved:.0} | {} |", name(*baseline), percent(saved, *usd));
    }
    text.push_str(&doubts(sheet, &[&bill], now));
    Ok(text)
}

/// Everything ranked, the break-even volumes, and a verdict.
pub(super) fn advise(sheet: &Sheet, work: &Workload, build: &Build, now: u64) -> Result<String, Error> {
    let bills = bills(sheet, work, build)?;
    let baselines = baselines(sheet, work)?;
    let mut ranked: Vec<(&str, Dollars, bool)> =
        baselines.iter().map(|(b, usd)| (name(*b), *usd, false)).collect();
    ranked.extend(bills.iter().map(|(hosting, bill)| (hosting.as_str(), bill.total(), true)));
    ranked.sort_by_key(|(_, usd, _)| *usd);
    let mut text = head("Ways to deliver a month", work);
    text.push_str("| | USD | for a TB |\n|---|---:|---:|\n");
    for (name, usd, _) in &ranked {
        let per_tb = per_tb(*usd, work.delivered().bytes).unwrap_or_default();
        let _ = writeln!(text, "| {name} | {usd:.0} | {per_tb:.2} |");
    }
    let _ = writeln!(text, "\n{}", verdict(&ranked));
    text.push_str("\nFrom which volume on nodes cost less (PB a month, everything else as given):\n\n");
    text.push_str("| | list | contract | flat | volume |\n|---|---:|---:|---:|---:|\n");
    for hosting in Hosting::ALL {
        let mut cells = Vec::new();
        for baseline in Baseline::ALL {
            let even = break_even(sheet, work, &Build { hosting, ..*build }, baseline)?;
            cells.push(even.map_or("never".to_owned(), |pb| format!("{pb:.2}")));
        }
        let _ = writeln!(text, "| {} | {} |", hosting.as_str(), cells.join(" | "));
    }
    let bills: Vec<&Bill> = bills.iter().map(|(_, bill)| bill).collect();
    text.push_str(&doubts(sheet, &bills, now));
    Ok(text)
}

fn bills(sheet: &Sheet, work: &Workload, build: &Build) -> Result<Vec<(Hosting, Bill)>, Error> {
    let bill = |hosting| Ok((hosting, with_nodes(sheet, work, &Build { hosting, ..*build })?));
    let bills: Result<Vec<_>, Unknown> = Hosting::ALL.into_iter().map(bill).collect();
    bills.map_err(|problem| unknown(&problem))
}

fn head(title: &str, work: &Workload) -> String {
    let bytes = work.delivered().bytes;
    format!("# {title}\n\n{} viewers, {:.2} PB.\n\n", work.viewers, bytes as f64 / 1e15)
}

fn verdict(ranked: &[(&str, Dollars, bool)]) -> String {
    let best = |nodes: bool| ranked.iter().find(|(_, _, is_nodes)| *is_nodes == nodes);
    match (best(true), best(false)) {
        (Some((nodes, ours, _)), Some((other, theirs, _))) if ours < theirs => {
            let less = percent(*theirs - *ours, *theirs);
            format!("**Deploy edges: {nodes}.** {less} less than {other}, the best of the others.")
        }
        (Some((_, ours, _)), Some((other, theirs, _))) => {
            let more = *ours - *theirs;
            format!(
                "**Do not deploy edges.** {other} costs {more:.0} USD a month less than the best of them."
            )
        }
        _ => "Nothing to compare.".to_owned(),
    }
}

/// The smallest volume, in PB, at which nodes cost less than a baseline and go on doing so for ten times as
/// much; `None` when there is none.
fn break_even(
    sheet: &Sheet,
    work: &Workload,
    build: &Build,
    baseline: Baseline,
) -> Result<Option<f64>, Error> {
    let cheaper = |viewers: u64| -> Result<bool, Error> {
        let work = Workload { viewers, ..*work };
        let ours = with_nodes(sheet, &work, build).map_err(|problem| unknown(&problem))?.total();
        let theirs = baselines(sheet, &work)?.into_iter().find(|(named, _)| *named == baseline);
        Ok(theirs.is_some_and(|(_, usd)| ours < usd))
    };
    let mut dearer_at = 0;
    let mut viewers = 1;
    while viewers <= MOST_VIEWERS {
        if cheaper(viewers)? && cheaper(viewers * 2)? && cheaper(viewers * 10)? {
            let (mut low, mut high) = (dearer_at, viewers);
            while high - low > high / 1_000 + 1 {
                let middle = low + (high - low) / 2;
                if cheaper(middle)? { high = middle } else { low = middle }
            }
            let work = Workload { viewers: high, ..*work };
            return Ok(Some(work.delivered().bytes as f64 / 1e15));
        }
        dearer_at = viewers;
        viewers += viewers / 4 + 1;
    }
    Ok(None)
}

/// The figures that should be looked at before anybody signs anything.
fn doubts(sheet: &Sheet, bills: &[&Bill], now: u64) -> String {
    let ids = bills.iter().flat_map(|bill| &bill.lines).flat_map(|line| line.prices.iter().copied());
    let list = remarks(sheet, ids, now);
    if list.is_empty() {
        list
    } else {
        format!("\nBefore you rely on it (price sheet {}):\n\n{list}", sheet.version())
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Fallback, Fill, Millionths};
    use super::*;

    const NOW: u64 = 1_795_564_800;

    fn millionths(text: &str) -> Millionths {
        text.parse().expect(text)
    }

    fn asked(viewers: u64) -> (Workload, Build) {
        let work = Workload {
            viewers,
            hours: millionths("15"),
            mbps: millionths("5"),
            segment_seconds: 6,
            contract_percent_off: 50,
        };
        let build = Build {
            hosting: Hosting::Leased,
            fill: Fill::Replica,
            fallback: Fallback::Flat,
            coverage: millionths("0.995"),
            hit: millionths("0.99"),
            peers: millionths("0.5"),
            sites: 1,
            people: millionths("0.25"),
            replica_gb: 29_360,
        };
        (work, build)
    }

    #[test]
    fn small_platforms_are_told_not_to_deploy() {
        let sheet = Sheet::parse(super::super::SHEET).expect("the project's own sheet");
        for (viewers, deploy) in [(1_000, false), (30_000, false), (3_000_000, true)] {
            let (work, build) = asked(viewers);
            let text = advise(&sheet, &work, &build, NOW).expect("known prices");
            assert_eq!(text.contains("**Deploy edges"), deploy, "{text}");
            assert_eq!(text.contains("**Do not deploy edges.**"), !deploy, "{text}");
            assert!(text.contains("ops.fte is an assumption"), "{text}");
        }
    }

    #[test]
    fn nodes_pay_from_some_volume_on_and_in_the_cloud_never() {
        let sheet = Sheet::parse(super::super::SHEET).expect("the project's own sheet");
        let (work, build) = asked(1);
        let even = |hosting, baseline| {
            break_even(&sheet, &work, &Build { hosting, ..build }, baseline).expect("known prices")
        };
        let leased = Baseline::ALL.map(|baseline| even(Hosting::Leased, baseline).expect("some volume"));
        // The study: about 0.11 against list, 0.30 against a contract, 0.35 against plans, 3 to 4 against a volume CDN.
        for (found, (least, most)) in leased.iter().zip([(0.05, 0.2), (0.1, 0.4), (0.2, 0.5), (1.5, 4.5)]) {
            assert!((least..most).contains(found), "{leased:?}");
        }
        assert_eq!(even(Hosting::Ec2, Baseline::List), None);
    }
}
