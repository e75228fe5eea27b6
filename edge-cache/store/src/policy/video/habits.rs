//! What viewers do in general, learned over all titles: how far they get, and how likely they go on.
//!
//! The first is the share of those who begin a title that ask for its nth segment. People leave quickly at first
//! and slowly later, so the places are two to each doubling of the distance. The second counts steps from one segment to
//! the next, and viewers who were not heard of any more.

/// Places of the curve: the last begins at segment 4096, seven hours into a film.
const BINS: usize = 25;
/// Beginnings that the first guess counts for.
const GUESS: f64 = 20.0;
/// After so many beginnings all counts are halved, so that habits may change.
const MOST: f64 = 20_000.0;

/// Steps and departures of the first guess.
const FIRST_STEPS: f64 = 2_000.0;
const FIRST_GONE: f64 = 10.0;
/// After so many steps both are halved.
const MOST_STEPS: f64 = 100_000.0;

/// The share of those who are not heard of that do not come to the segments ahead: the others pause for long, or
/// jump and come back to them.
const FOR_GOOD: f64 = 0.6;

/// What was learned.
pub(super) struct Habits {
    asked: [f64; BINS],
    /// Beginnings of titles long enough, times the segments of the bin.
    offered: [f64; BINS],
    share: [f64; BINS],
    steps: f64,
    gone: f64,
}

impl Habits {
    /// A guess to start with: a half is left after three quarters of an hour.
    pub(super) fn new() -> Self {
        let width = |bin: usize| f64::from(first(bin + 1) - first(bin));
        let share = std::array::from_fn(|bin| 1.0 / (1.0 + f64::from(first(bin)) / 450.0));
        let offered = std::array::from_fn(|bin| GUESS * width(bin));
        let asked = std::array::from_fn(|bin| offered[bin] * share[bin]);
        Self { asked, offered, share, steps: FIRST_STEPS, gone: FIRST_GONE }
    }

    /// The share of viewers who get to a segment.
    pub(super) fn reach(&self, position: u32) -> f64 {
        self.share[bin(position)]
    }

    /// How likely a viewer is still there after so many segments.
    pub(super) fn stays(&self, segments: f64) -> f64 {
        (-FOR_GOOD * self.gone / self.steps * segments).exp()
    }

    /// Somebody went on from one segment to the next.
    pub(super) fn stepped(&mut self) {
        self.steps += 1.0;
        if self.steps > MOST_STEPS {
            (self.steps, self.gone) = (self.steps / 2.0, self.gone / 2.0);
        }
    }

    /// So many were not heard of any more.
    pub(super) fn gone(&mut self, viewers: u32) {
        self.gone += f64::from(viewers);
    }

    /// Somebody asked for a segment.
    pub(super) fn asked(&mut self, position: u32) {
        let bin = bin(position);
        self.asked[bin] += 1.0;
        self.share[bin] = (self.asked[bin] / self.offered[bin]).clamp(0.01, 1.0);
    }

    /// Somebody began a title of so many segments.
    pub(super) fn begun(&mut self, segments: u32) {
        for (bin, offered) in self.offered.iter_mut().enumerate() {
            let (from, to) = (first(bin), first(bin + 1).min(segments));
            *offered += f64::from(to.saturating_sub(from));
        }
        if self.offered[0] > MOST {
            self.asked.iter_mut().chain(&mut self.offered).for_each(|count| *count /= 2.0);
        }
    }
}

fn bin(position: u32) -> usize {
    if position < 2 {
        return position as usize;
    }
    let doublings = position.ilog2();
    let upper_half = position >> (doublings - 1) & 1;
    ((2 * doublings + upper_half) as usize).min(BINS - 1)
}

/// The first segment of a bin.
fn first(bin: usize) -> u32 {
    match bin as u32 {
        0 | 1 => bin as u32,
        bin => (2 + bin % 2) << (bin / 2 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_halves_of_doublings() {
        assert!((0..BINS).all(|at| bin(first(at)) == at));
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12].map(bin), [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7]);
        assert_eq!((bin(u32::MAX), first(BINS - 1)), (BINS - 1, 4096));
        assert!((2..100_000).all(|n| bin(n) >= bin(n - 1)));
    }

    #[test]
    fn how_far_they_get_is_learned() {
        let mut habits = Habits::new();
        assert!(habits.reach(0) > 0.99 && habits.reach(450) > 0.4 && habits.reach(450) < 0.6);
        for viewer in 0..1_000 {
            habits.begun(1_000);
            (0..if viewer % 4 == 0 { 1_000 } else { 10 }).for_each(|n| habits.asked(n));
        }
        for (position, expected) in [(0, 1.0), (7, 1.0), (20, 0.25), (600, 0.25), (900, 0.25)] {
            assert!(
                (habits.reach(position) - expected).abs() < 0.05,
                "{position}: {}",
                habits.reach(position)
            );
        }
    }

    #[test]
    fn whether_they_stay_is_learned() {
        let mut habits = Habits::new();
        for _ in 0..300_000 {
            habits.stepped();
        }
        assert!(habits.stays(100.0) > 0.99, "nobody leaves");
        for _ in 0..100_000 {
            habits.stepped();
            habits.gone(u32::from((habits.steps as u64).is_multiple_of(100)));
        }
        let stays = habits.stays(100.0);
        assert!((0.45..0.75).contains(&stays), "one in a hundred leaves at each step: {stays}");
    }
}
