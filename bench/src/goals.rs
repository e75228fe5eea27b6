//! The goals that figures are held against: `bench/goals.toml`.

use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::report::Comparison;

const GOALS: &str = include_str!("../goals.toml");

/// A figure that a bench gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Its name.
    pub figure: String,
    /// How much.
    pub value: f64,
}

impl Figure {
    /// A figure by its name.
    pub fn new(figure: impl Into<String>, value: f64) -> Self {
        Self { figure: figure.into(), value }
    }

    /// The figures of a comparison: ours, and `<measure>_by_naive` where there is a ratio.
    #[must_use]
    pub fn of(comparison: &Comparison) -> Vec<Self> {
        let name = comparison.measure.measure;
        let ours = Self::new(name, comparison.ours.median);
        let ratio = comparison.ours_by_naive.map(|ratio| Self::new(format!("{name}_by_naive"), ratio));
        std::iter::once(ours).chain(ratio).collect()
    }
}

/// All goals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goals {
    goal: Vec<Goal>,
}

/// One of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    bench: String,
    figure: String,
    least: Option<f64>,
    most: Option<f64>,
    why: String,
}

impl Goals {
    /// The goals of this project.
    ///
    /// # Errors
    /// The file is malformed, or a goal has no bound or no reason.
    pub fn of_the_project() -> Result<Self, Fault> {
        Self::parse(GOALS)
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let goals: Self =
            toml::from_str(text).map_err(|error| Fault::new("reading bench/goals.toml", error))?;
        let lacks = |goal: &&Goal| (goal.least.is_none() && goal.most.is_none()) || goal.why.is_empty();
        match goals.goal.iter().find(lacks) {
            Some(goal) => Err(Fault::new(
                "reading bench/goals.toml",
                format_args!("{} needs a bound and a reason", goal.figure),
            )),
            None => Ok(goals),
        }
    }

    /// Says which goals of a bench were missed, one line each. A figure that was not given is a miss.
    #[must_use]
    pub fn missed(&self, bench: &str, figures: &[Figure]) -> Vec<String> {
        let of_bench = self.goal.iter().filter(|goal| goal.bench == bench);
        of_bench.filter_map(|goal| goal.missed_by(figures)).collect()
    }
}

impl Goal {
    fn missed_by(&self, figures: &[Figure]) -> Option<String> {
        let Self { bench, figure, why, .. } = self;
        let Some(found) = figures.iter().find(|other| other.figure == *figure) else {
            return Some(format!("{bench}: {figure} was not measured ({why})"));
        };
        let value = found.value;
        // A figure that is no number misses, too.
        let low = self
            .least
            .filter(|least| value.is_nan() || value < *least)
            .map(|least| format!("at least {least}"));
        let high =
            self.most.filter(|most| value.is_nan() || value > *most).map(|most| format!("at most {most}"));
        let bound = low.or(high)?;
        Some(format!("{bench}: {figure} is {value:.4}, the goal is {bound} ({why})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "[[goal]]\nbench = \"b\"\nfigure = \"x\"\nleast = 2.0\nwhy = \"so\"\n\
                       [[goal]]\nbench = \"b\"\nfigure = \"y\"\nmost = 1.0\nwhy = \"so\"\n";

    #[test]
    fn goals_are_met_or_named() {
        let goals = Goals::parse(TWO).expect("goals");
        for (x, y, expected) in [
            (2.0, 1.0, vec![]),
            (1.9, 1.0, vec!["b: x is 1.9000, the goal is at least 2 (so)"]),
            (3.0, 1.5, vec!["b: y is 1.5000, the goal is at most 1 (so)"]),
            (f64::NAN, 0.0, vec!["b: x is NaN, the goal is at least 2 (so)"]),
        ] {
            assert_eq!(goals.missed("b", &[Figure::new("x", x), Figure::new("y", y)]), expected);
        }
        assert_eq!(goals.missed("b", &[Figure::new("x", 2.0)]), ["b: y was not measured (so)"]);
        assert!(goals.missed("other", &[]).is_empty());
    }

    #[test]
    fn a_goal_has_a_bound_and_a_reason() {
        Goals::of_the_project().expect("ours are sound");
        assert!(Goals::parse("[[goal]]\nbench = \"b\"\nfigure = \"x\"\nwhy = \"so\"\n").is_err());
        assert!(Goals::parse(&TWO.replace("why = \"so\"", "why = \"\"")).is_err());
        assert!(Goals::parse(&TWO.replace("least", "lest")).is_err());
    }
}
