//! What a proof found, one line for each fact. The only home of printing.

use std::fmt::Display;
use std::time::Duration;

use crate::failure::{Failure, Outcome};

/// The facts of one proof.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    bad: usize,
}

impl Facts {
    /// Writes down one fact with its figure.
    pub(crate) fn add(&mut self, good: bool, name: &str, figure: impl Display) {
        say(format_args!("{}  {name}: {figure}", if good { "ok " } else { "BAD" }));
        self.bad += usize::from(!good);
    }

    /// Writes down a figure that nothing is demanded of.
    pub(crate) fn note(&self, name: &str, figure: impl Display) {
        say(format_args!("     {name}: {figure}"));
    }

    /// # Errors
    /// At least one fact is bad.
    pub(crate) fn finish(self) -> Outcome {
        match self.bad {
            0 => Ok(()),
            bad => Err(Failure::new(format!("{bad} facts are bad"))),
        }
    }
}

/// One plain line.
#[expect(clippy::print_stdout, reason = "the proofs talk to a person")]
pub(crate) fn say(text: impl Display) {
    println!("{text}");
}

/// The reason why nothing more happens.
#[expect(clippy::print_stderr, reason = "the proofs talk to a person")]
pub(crate) fn complain(failure: &Failure) {
    eprintln!("error: {failure}");
}

/// Milliseconds with one decimal.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// The largest value that `percent` of all are not above. Zero of none.
pub(crate) fn percentile<T: Copy + Ord + Default>(values: &[T], percent: u32) -> T {
    per_mille(values, percent * 10)
}

/// The same by thousandths.
pub(crate) fn per_mille<T: Copy + Ord + Default>(values: &[T], thousandths: u32) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * thousandths as usize).div_ceil(1_000).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

/// `p50 ..., p99 ..., max ...`
pub(crate) fn spread(times: &[Duration]) -> String {
    let at = |percent| ms(percentile(times, percent));
    format!("p50 {}, p99 {}, max {}", at(50), at(99), at(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let hundred: Vec<u32> = (1..=100).rev().collect();
        for (percent, expected) in [(1, 1), (50, 50), (99, 99), (100, 100)] {
            assert_eq!(percentile(&hundred, percent), expected);
        }
        assert_eq!((per_mille(&hundred, 999), per_mille(&hundred, 990)), (100, 99));
        assert_eq!((percentile(&[7], 50), percentile(&[1, 2], 50), percentile::<u32>(&[], 50)), (7, 1, 0));
    }
}
