//! When requests arrive: on their own schedule, made before the run.

use std::time::Duration;

use crate::Workload;
use crate::film::numbers;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// When, from the start of the run.
    pub(super) at: Duration,
    /// Which segment of the film.
    pub(super) piece: usize,
}

/// Poisson arrivals: gaps are exponential, segments equally likely.
pub(super) fn arrivals(workload: &Workload) -> Vec<Arrival> {
    let mut numbers = numbers(workload.seed ^ 0xa771_7a15);
    let mut draw = || numbers.next().unwrap_or_default();
    let mut seconds = 0.0;
    let mut next = |_| {
        // 53 bits make a number in (0, 1].
        let uniform = ((draw() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        seconds -= uniform.ln() / f64::from(workload.rate.max(1));
        let piece = (draw() % u64::from(workload.segments.max(1))) as usize;
        Arrival { at: Duration::from_secs_f64(seconds), piece }
    };
    (0..workload.requests).map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_rate_and_follow_from_the_seed() {
        let workload = Workload { requests: 20_000, rate: 500, segments: 8, ..Workload::tiny(1) };
        let all = arrivals(&workload);
        assert_eq!(all, arrivals(&workload));
        assert_ne!(all, arrivals(&Workload { seed: 2, ..workload }));
        assert!(all.is_sorted_by_key(|arrival| arrival.at));
        let seconds = all.last().expect("many").at.as_secs_f64();
        assert!((38.0..42.0).contains(&seconds), "{seconds}");
        for piece in 0..8 {
            let count = all.iter().filter(|arrival| arrival.piece == piece).count();
            assert!((2_200..2_800).contains(&count), "{piece}: {count}");
        }
    }
}
