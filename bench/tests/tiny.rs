//! No bench rots: each runs in tiny mode, and both sides of each delivered exactly the film.

use std::path::Path;

use bench::Workload;
use bench::film::{Film, witness};
use bench::goals::Goals;
use bench::replay::Plan;
use bench::report::Comparison;
use media::Digest;

const SEED: u64 = 42;

/// Compares with the film itself: two sides that agree on wrong bytes would be no result either.
#[track_caller]
fn check(results: &[Comparison], bench: &str, measures: usize) {
    let workload = Workload::tiny(SEED);
    let film = Film::new(&workload).expect("a film");
    let expected = witness(film.pieces.iter().map(|piece| Digest::of(&piece.bytes))).to_string();
    assert_eq!(results.len(), measures);
    for result in results {
        assert_eq!((result.bench, &result.hash), (bench, &expected), "{result:?}");
        for series in [&result.naive, &result.ours] {
            assert_eq!(series.runs.len(), workload.runs, "{result:?}");
            assert!(series.runs.iter().all(|run| run.is_finite() && *run >= 0.0), "{result:?}");
        }
    }
}

#[test]
fn verify() {
    check(&bench::verify::run(&Workload::tiny(SEED)).expect("results"), "verify", 3);
}

#[tokio::test]
async fn hot() {
    check(&bench::hot::run(&Workload::tiny(SEED)).await.expect("results"), "hot", 4);
}

#[tokio::test]
async fn http() {
    let program = Path::new(env!("CARGO_BIN_EXE_bench"));
    let results = bench::http::run(&Workload::tiny(SEED), program, true).await;
    check(&results.expect("results"), "http", 8);
}

/// One month of the 60, with a link, a partner and a plan: the planner comes near the optimum, a fixed order does not.
#[test]
fn cost() {
    let results = bench::cost::run(&Workload::tiny(7)).expect("results");
    assert_eq!(results.len(), 6);
    let [month, changes, all, worst, far, decision] = &results[..] else { panic!("{results:#?}") };
    for side in [&month.naive, &month.ours] {
        assert!(side.runs.len() == 1 && side.runs[0] > 0.97, "{month:?}");
    }
    assert!(all.ours.median <= 1.05 && worst.ours.median <= 1.05, "{all:?} {worst:?}");
    assert_eq!((far.ours.median, far.naive.median), (0.0, 1.0));
    assert!(all.naive.median > 2.0, "{all:?}");
    assert!(changes.ours.runs[0] < 100.0, "{changes:?}");
    assert_eq!((decision.measure.measure, decision.ours.runs.len()), ("decision_p99", 2));
}

/// Two small audiences: ours is above the general policies and below what nobody can exceed, and every figure that a
/// goal names is there.
#[test]
fn replay() {
    let mut told = 0;
    let count = |_: &bench::replay::Row| {
        told += 1;
        Ok::<_, bench::Fault>(())
    };
    let figures = bench::replay::run(&Plan::tiny(SEED), count).expect("figures");
    assert_eq!(told, 2 * 4 * 6 + 2 * 4, "audiences, sizes, policies; sizes and points of the curve");
    let figure = |name: &str| figures.iter().find(|figure| figure.figure == name).expect(name).value;
    assert!(figure("worst_gain") > 0.0, "{figures:?}");
    assert!((0.0..1.0).contains(&figure("closed_to_belady_at_5_percent")), "{figures:?}");
    let missed = Goals::of_the_project().expect("goals").missed("replay", &figures);
    assert!(!missed.iter().any(|line| line.contains("not measured")), "{missed:?}");
}
