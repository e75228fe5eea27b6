//! Medians, percentiles and the order of runs: pure functions.

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What one would write in an hour.
    Naive,
    /// The real room.
    Ours,
}

impl Side {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Naive, Self::Ours];

    /// The word used in reports and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::Ours => "ours",
        }
    }
}

/// Interleaves `runs` of each side. Who goes first changes from pair to pair, so that a machine that warms up
/// or slows down favours nobody.
#[must_use]
pub fn interleaved(runs: usize) -> Vec<Side> {
    let [naive, ours] = Side::ALL;
    (0..runs).flat_map(|pair| if pair % 2 == 0 { [naive, ours] } else { [ours, naive] }).collect()
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[sorted.len() / 2 - 1], upper) })
}

/// The smallest value that at least `per_mille` of 1000 values do not exceed (nearest rank); `None` of
/// nothing. 500 is the median's lower neighbour, 1000 the maximum.
#[must_use]
pub fn percentile(values: &[f64], per_mille: usize) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (per_mille * sorted.len()).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[4.0, 1.0], Some(2.5)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 100.0, 2.0], Some(3.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (values, per_mille, expected) in [
            (&[][..], 500, None),
            (&[7.0], 0, Some(7.0)),
            (&[7.0], 999, Some(7.0)),
            (&hundred, 0, Some(1.0)),
            (&hundred, 500, Some(50.0)),
            (&hundred, 501, Some(51.0)),
            (&hundred, 990, Some(99.0)),
            (&hundred, 991, Some(100.0)),
            (&hundred, 1000, Some(100.0)),
        ] {
            assert_eq!(percentile(values, per_mille), expected, "{per_mille}");
        }
    }

    #[test]
    fn runs_take_turns_in_going_first() {
        let [naive, ours] = Side::ALL;
        assert_eq!(interleaved(0), []);
        assert_eq!(interleaved(3), [naive, ours, ours, naive, naive, ours]);
    }
}
