//! What the weak part of everything here scores: the price of room.
//!
//! The very weakest is no measure. It is often something that nobody wants any more, and whatever scores a little more
//! would be written in its place only to be the weakest itself a moment later; comparing with that wrote twelve times
//! as much for the same hits.

/// The share of the objects that scores less.
const WEAK: f64 = 0.05;
/// How far one object moves the yardstick.
const STEP: f64 = 0.01;

/// A running quantile: each object that is looked at moves it a little towards where it belongs.
#[derive(Default)]
pub(super) struct Yardstick(f64);

impl Yardstick {
    pub(super) fn saw(&mut self, score: f64) {
        if self.0 <= f64::MIN_POSITIVE {
            self.0 = score;
        }
        self.0 *= if score > self.0 { 1.0 + STEP * WEAK } else { 1.0 - STEP * (1.0 - WEAK) };
    }

    pub(super) fn weak(&self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_scores_less() {
        let mut yardstick = Yardstick::default();
        for from in [1_000, 10] {
            (0..200_000).for_each(|n| yardstick.saw(f64::from(from + n * 7_919 % 1_000)));
            let expected = f64::from(from) + 50.0;
            assert!((yardstick.weak() / expected - 1.0).abs() < 0.2, "{} {expected}", yardstick.weak());
        }
        (0..100_000).for_each(|_| yardstick.saw(0.0));
        assert!(yardstick.weak() < 1e-300, "nothing here is worth anything");
        yardstick.saw(5.0);
        assert!(yardstick.weak() > 4.9, "and again it is");
    }
}
