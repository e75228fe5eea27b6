//! Months of synthetic demand through the real meter, policy and planner, beside a fixed order of sources, and
//! both beside the best that could have been done with all of the month known.
//!
//! A month is drawn from a seed: how much is missed when, premieres, which sources there are (a link billed at
//! the 95th percentile, a contract or a flat plan, a partner, S3, a CDN in one of four price regions), what
//! fails for how long, and a price that changes. Fees that are due in any case are left out, so that the
//! ratios are of what can be chosen. Nothing depends on the machine but the time of a decision.

mod month;
mod optimum;
mod side;

use std::hint::black_box;

use media::Digest;
use sourcing::planner::{Asking, Candidate, Need, Plan};
use sourcing::tariff::Rate;
use tokio::time::Instant;

use self::month::draw;
use self::side::{Outcome, run_month};
use crate::film::witness;
use crate::report::{Comparison, Measure, Sample, compare};
use crate::stats::{Side, interleaved, percentile};
use crate::{Fault, Workload};

const MEASURES: [Measure; 2] =
    [Measure::less("month_by_optimum", "ratio"), Measure::less("order_changes", "count")];
const OVERALL: [Measure; 3] = [
    Measure::less("all_months_by_optimum", "ratio"),
    Measure::less("worst_month_by_optimum", "ratio"),
    Measure::less("months_over_1.05_of_optimum", "count"),
];
const DECISION: [Measure; 1] = [Measure::less("decision_p99", "us")];

/// Runs every month on both sides, and times decisions.
///
/// # Errors
/// A month cannot be drawn, or the sides delivered different demand.
pub fn run(workload: &Workload) -> Result<Vec<Comparison>, Fault> {
    let mut samples = Vec::new();
    let mut spent = Spent::default();
    let mut delivered = [Vec::new(), Vec::new()];
    for seed in (workload.seed..).take(workload.months) {
        let month = draw(seed, workload.month_slots)?;
        let best = optimum::cost(&month)?;
        spent.best += best;
        for side in Side::ALL {
            let outcome = run_month(side, &month)?;
            spent.by_side[side as usize] += outcome.usd;
            samples.push(sample(side, &outcome, best));
            delivered[side as usize].push(Digest::of(&outcome.bought.to_le_bytes()));
        }
    }
    let hash = delivered.map(witness);
    let mut results = compare("cost", &MEASURES, &samples, hash)?;
    let overall = |side| {
        let all = spent.by_side[side as usize] / spent.best;
        Sample { side, figures: vec![all, worst(&samples, side), far(&samples, side)] }
    };
    results.extend(compare("cost", &OVERALL, &Side::ALL.map(overall), hash)?);
    let decisions: Vec<Sample> = interleaved(workload.runs).into_iter().map(decisions).collect();
    results.extend(compare("cost", &DECISION, &decisions, hash)?);
    Ok(results)
}

/// Dollars over all months.
#[derive(Debug, Default)]
struct Spent {
    best: f64,
    by_side: [f64; 2],
}

fn sample(side: Side, outcome: &Outcome, best: f64) -> Sample {
    Sample { side, figures: vec![outcome.usd / best, f64::from(outcome.order_changes)] }
}

fn worst(samples: &[Sample], side: Side) -> f64 {
    let ratios = samples.iter().filter(|sample| sample.side == side).map(|sample| sample.figures[0]);
    ratios.fold(0.0, f64::max)
}

/// How many months cost more than a twentieth over the optimum.
fn far(samples: &[Sample], side: Side) -> f64 {
    samples.iter().filter(|sample| sample.side == side && sample.figures[0] > 1.05).count() as f64
}

/// Sources that a decision is made among.
const CANDIDATES: usize = 8;
const DECISIONS: usize = 20_000;

/// The 99th percentile of the time of a decision: a plan that keeps its buffers, or a fresh sort by price.
fn decisions(side: Side) -> Sample {
    let now = Instant::now();
    let candidate = |at: usize| Candidate {
        first_byte: Some(std::time::Duration::from_millis((at as u64 * 53) % 300)),
        slow: at == 4,
        favourite: at == 1,
        ..Candidate::new(Asking {
            byte: Rate::picodollars((at as u64 * 37) % 11 * 9),
            request: Rate::picodollars(400_000),
        })
    };
    let candidates: Vec<Candidate> = (0..CANDIDATES).map(candidate).collect();
    let mut plan = Plan::with_capacity(CANDIDATES);
    let mut decide = |len: u64| {
        let begun = Instant::now();
        match side {
            Side::Naive => {
                let mut order: Vec<&Candidate> = candidates.iter().collect();
                order.sort_by_key(|candidate| candidate.asking.byte);
                black_box(&order);
            }
            Side::Ours => {
                plan.decide(now, black_box(&candidates), Need::bytes(len));
                black_box(plan.choices());
            }
        }
        begun.elapsed().as_secs_f64() * 1e6
    };
    let took: Vec<f64> = (0..DECISIONS).map(|nth| decide(1_000_000 + nth as u64)).collect();
    Sample { side, figures: vec![percentile(&took, 990).unwrap_or_default()] }
}
