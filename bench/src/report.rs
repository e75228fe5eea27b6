//! Results as values: one JSON line each, and a table for people.

use std::fmt::Write;

use media::Digest;
use serde::Serialize;

use crate::Fault;
use crate::stats::{Side, median};

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// Its name.
    pub measure: &'static str,
    /// In what.
    pub unit: &'static str,
    /// Whether more of it is better. The ratio is always ours by naive.
    pub more_is_better: bool,
}

impl Measure {
    pub(crate) const fn more(measure: &'static str, unit: &'static str) -> Self {
        Self { measure, unit, more_is_better: true }
    }

    pub(crate) const fn less(measure: &'static str, unit: &'static str) -> Self {
        Self { measure, unit, more_is_better: false }
    }
}

/// What one run of one side gave: a figure for each measure, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Whose run.
    pub side: Side,
    /// The figures.
    pub figures: Vec<f64>,
}

/// All runs of one side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The middle of them.
    pub median: f64,
    /// In the order in which they ran.
    pub runs: Vec<f64>,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Which bench.
    pub bench: &'static str,
    /// What was measured.
    #[serde(flatten)]
    pub measure: Measure,
    /// The naive side.
    pub naive: Series,
    /// The real room.
    pub ours: Series,
    /// The median of ours by the median of naive; nothing when the latter is 0.
    pub ours_by_naive: Option<f64>,
    /// BLAKE3 of what both sides delivered.
    pub hash: String,
}

/// Where, of what and how the results came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Processors that this process may use.
    pub cores: usize,
    /// The processor's name, as the kernel tells it.
    pub cpu: String,
    /// The revision of the sources, as the caller says.
    pub revision: String,
    /// Makes the bytes and the arrivals.
    pub seed: u64,
    /// A tiny run proves that the bench works; its figures mean nothing.
    pub tiny: bool,
    /// Whether the compiler optimised; without it the figures mean nothing.
    pub optimised: bool,
}

impl Session {
    /// This machine and this build.
    #[must_use]
    pub fn here(revision: String, seed: u64, tiny: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cpu = cpu_model(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()).to_owned();
        Self { cores, cpu, revision, seed, tiny, optimised: !cfg!(debug_assertions) }
    }
}

/// A result with everything one has to know to believe it.
#[derive(Serialize)]
struct Line<'a, R> {
    #[serde(flatten)]
    result: &'a R,
    #[serde(flatten)]
    session: &'a Session,
}

/// A result as one line of JSON.
///
/// # Errors
/// A figure that is no number: a bench divided by nothing.
pub fn json_line(session: &Session, result: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(&Line { result, session }).map_err(|error| Fault::new("writing a result", error))
}

/// Compares the sides, measure by measure.
///
/// # Errors
/// The sides did not deliver the same bytes, or one of them has no run.
pub fn compare(
    bench: &'static str,
    measures: &[Measure],
    samples: &[Sample],
    delivered: [Digest; 2],
) -> Result<Vec<Comparison>, Fault> {
    let [naive, ours] = delivered;
    if naive != ours {
        return Err(Fault::new(bench, format_args!("naive delivered {naive}, ours {ours}")));
    }
    let result = |(at, measure): (usize, &Measure)| {
        let naive = series(samples, Side::Naive, at)?;
        let ours = series(samples, Side::Ours, at)?;
        let ours_by_naive = Some(ours.median / naive.median).filter(|ratio| ratio.is_finite());
        let hash = delivered[0].to_string();
        Some(Comparison { bench, measure: *measure, naive, ours, ours_by_naive, hash })
    };
    let results: Option<Vec<_>> = measures.iter().enumerate().map(result).collect();
    results.ok_or_else(|| Fault::new(bench, "a side has no run"))
}

fn series(samples: &[Sample], side: Side, at: usize) -> Option<Series> {
    let of_side = samples.iter().filter(|sample| sample.side == side);
    let runs: Vec<f64> = of_side.filter_map(|sample| sample.figures.get(at).copied()).collect();
    Some(Series { median: median(&runs)?, runs })
}

/// The results as a table.
#[must_use]
pub fn table(results: &[Comparison]) -> String {
    let mut text =
        format!("{:<8} {:<26} {:>12} {:>12} {:>11}\n", "bench", "measure", "naive", "ours", "ours/naive");
    for result in results {
        let name = format!("{} [{}]", result.measure.measure, result.measure.unit);
        let ratio = result.ours_by_naive.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let (naive, ours) = (result.naive.median, result.ours.median);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<8} {name:<26} {naive:>12.3} {ours:>12.3} {ratio:>11}", result.bench);
    }
    text
}

/// The processor's name within `/proc/cpuinfo`.
fn cpu_model(cpuinfo: &str) -> &str {
    let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let mut names = fields.filter(|(name, _)| name.trim() == "model name");
    names.next().map_or("unknown", |(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURES: [Measure; 2] = [Measure::more("throughput", "GB/s"), Measure::less("wait", "us")];

    fn samples(rows: &[(Side, [f64; 2])]) -> Vec<Sample> {
        rows.iter().map(|(side, figures)| Sample { side: *side, figures: figures.to_vec() }).collect()
    }

    #[test]
    fn results_are_medians_by_measure() {
        let [naive, ours] = Side::ALL;
        let rows = [
            (naive, [2.0, 0.0]),
            (ours, [8.0, 5.0]),
            (ours, [6.0, 7.0]),
            (naive, [4.0, 0.0]),
            (naive, [90.0, 0.0]),
            (ours, [7.0, 6.0]),
        ];
        let same = Digest::of(b"same");
        let results = compare("b", &MEASURES, &samples(&rows), [same; 2]).expect("comparable");
        assert_eq!(results[0].naive, Series { median: 4.0, runs: vec![2.0, 4.0, 90.0] });
        assert_eq!(results[0].ours_by_naive, Some(1.75));
        assert_eq!(results[1].ours, Series { median: 6.0, runs: vec![5.0, 7.0, 6.0] });
        assert_eq!(results[1].ours_by_naive, None, "nothing can be compared with 0");
        assert!(table(&results).contains("throughput [GB/s]                 4.000        7.000       1.750"));
    }

    #[test]
    fn sides_that_differ_or_never_ran_are_no_result() {
        let [naive, ours] = Side::ALL;
        let both = samples(&[(naive, [1.0; 2]), (ours, [1.0; 2])]);
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert!(compare("b", &MEASURES, &both, [a, b]).is_err());
        assert!(compare("b", &MEASURES, &both[..1], [a, a]).is_err());
        assert!(compare("b", &MEASURES, &both, [a, a]).is_ok());
    }

    #[test]
    fn a_line_carries_the_session() {
        let session = Session {
            cores: 2,
            cpu: "Example CPU".to_owned(),
            revision: "abc".to_owned(),
            seed: 1,
            tiny: true,
            optimised: false,
        };
        let series = |figure| Series { median: figure, runs: vec![figure] };
        let result = Comparison {
            bench: "b",
            measure: MEASURES[0],
            naive: series(2.0),
            ours: series(3.0),
            ours_by_naive: Some(1.5),
            hash: "00".to_owned(),
        };
        let expected = concat!(
            r#"{"bench":"b","measure":"throughput","unit":"GB/s","more_is_better":true,"#,
            r#""naive":{"median":2.0,"runs":[2.0]},"ours":{"median":3.0,"runs":[3.0]},"ours_by_naive":1.5,"#,
            r#""hash":"00","cores":2,"cpu":"Example CPU","revision":"abc","seed":1,"tiny":true,"#,
            r#""optimised":false}"#,
        );
        assert_eq!(json_line(&session, &result).expect("JSON"), expected);
    }

    #[test]
    fn cpu_names() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: A: B @ 2 GHz\nmodel name\t: C\n"),
            "A: B @ 2 GHz"
        );
        assert_eq!(cpu_model("processor : 0\n"), "unknown");
    }
}
