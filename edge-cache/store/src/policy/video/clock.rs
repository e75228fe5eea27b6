//! Counts that fade, without touching them while time passes.
//!
//! A count that halves every so often is kept as if counting had become more generous instead: what happens now
//! counts for more than what happened a day ago.

/// Half-lives of the two counts, in seconds: this evening, and this week.
const SHORT: f64 = 12.0 * 3_600.0;
const LONG: f64 = 96.0 * 3_600.0;
/// How much of a rate is taken from the short count.
const SHORT_WEIGHT: f64 = 0.2;
/// Half-lives after which all counts are told anew, long before they grow beyond what a number holds.
const RETOLD_AFTER: f64 = 500.0;

/// How often something happened, by the short and by the long half-life.
pub(super) type Counts = [f64; 2];

pub(super) struct Clock {
    origin: f64,
    now: f64,
    /// What an event counts for now.
    worth: Counts,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { origin: 0.0, now: 0.0, worth: [1.0; 2] }
    }

    /// Time that runs backwards stands still.
    pub(super) fn set(&mut self, now: f64) {
        self.now = self.now.max(now);
        let since = self.now - self.origin;
        self.worth = [(since / SHORT).exp2(), (since / LONG).exp2()];
    }

    /// Tenths of a second since the beginning: enough for 13 years.
    pub(super) fn tenths(&self) -> u32 {
        (self.now * 10.0) as u32
    }

    pub(super) fn worth(&self) -> Counts {
        self.worth
    }

    /// What an event counts for now in the long count.
    pub(super) fn long(&self) -> f64 {
        self.worth[1]
    }

    /// Events a second.
    pub(super) fn rate(&self, counts: Counts) -> f64 {
        let rate =
            |at: usize, half_life: f64| counts[at] / self.worth[at] * std::f64::consts::LN_2 / half_life;
        rate(0, SHORT) * SHORT_WEIGHT + rate(1, LONG) * (1.0 - SHORT_WEIGHT)
    }

    /// By what all counts have to be divided now, if it is time for that: once in 250 days.
    pub(super) fn retell(&mut self) -> Option<Counts> {
        if (self.now - self.origin) / SHORT < RETOLD_AFTER {
            return None;
        }
        self.origin = self.now;
        Some(std::mem::replace(&mut self.worth, [1.0; 2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fade_and_survive_being_told_anew() {
        let mut clock = Clock::new();
        let mut counts = [0.0; 2];
        let mut rates = Vec::new();
        // Four a day for three years.
        for quarter in 0..4 * 365 * 3 {
            clock.set(f64::from(quarter) * 21_600.0);
            if let Some(by) = clock.retell() {
                counts = [counts[0] / by[0], counts[1] / by[1]];
            }
            counts = [counts[0] + clock.worth()[0], counts[1] + clock.worth()[1]];
            rates.push(clock.rate(counts) * 86_400.0);
        }
        assert!(rates[200..].iter().all(|rate| (4.0..4.4).contains(rate)), "{rates:?}");
        clock.set(clock.now + LONG);
        let left = clock.rate(counts) * 86_400.0;
        assert!((1.5..1.8).contains(&left), "half of the long count: {left}");
        clock.set(0.0);
        assert!((clock.rate(counts) * 86_400.0 - left).abs() < 1e-9, "time does not run backwards");
    }
}
