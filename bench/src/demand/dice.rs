//! Draws. Each question gets dice of its own, so that one more draw somewhere does not change the rest.

use crate::film::numbers;

pub(super) struct Dice(Box<dyn Iterator<Item = u64>>);

impl Dice {
    /// Dice for the nth of something under a seed.
    pub(super) fn new(seed: u64, what: u64, nth: u64) -> Self {
        let start =
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (what << 56) ^ nth.wrapping_mul(0xd134_2543_de82_ef95);
        Self(Box::new(numbers(start)))
    }

    /// From 0 up to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next().unwrap_or_default() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, of: f64) -> bool {
        self.unit() < of
    }

    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Box and Muller's way, one of the two.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Around a median, `spread` being the deviation of the logarithm.
    pub(super) fn lognormal(&mut self, median: f64, spread: f64) -> f64 {
        median * (spread * self.normal()).exp()
    }

    /// An index by cumulative weights.
    pub(super) fn pick(&mut self, cumulative: &[f64]) -> usize {
        let all = cumulative.last().copied().unwrap_or_default();
        let at = self.unit() * all;
        cumulative.partition_point(|upto| *upto <= at).min(cumulative.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_what_they_say() {
        let mut dice = Dice::new(1, 2, 3);
        let mut mean =
            |draw: fn(&mut Dice) -> f64| (0..20_000).map(|_| draw(&mut dice)).sum::<f64>() / 20_000.0;
        assert!((mean(Dice::unit) - 0.5).abs() < 0.01);
        assert!((mean(|dice| dice.exponential(3.0)) - 3.0).abs() < 0.1);
        assert!(mean(Dice::normal).abs() < 0.03);
        assert!((mean(|dice| dice.normal().powi(2)) - 1.0).abs() < 0.05);
        let mut picked = [0; 3];
        (0..10_000).for_each(|_| picked[dice.pick(&[1.0, 1.0, 4.0])] += 1);
        assert!(picked[1] == 0 && (2_300..2_700).contains(&picked[0]), "{picked:?}");
    }

    #[test]
    fn dice_do_not_know_of_each_other() {
        let first = |seed, what, nth| Dice::new(seed, what, nth).unit();
        let draws = [first(1, 1, 1), first(2, 1, 1), first(1, 2, 1), first(1, 1, 2)];
        assert!((1..4).all(|at| draws[at].to_bits() != draws[0].to_bits()));
        assert_eq!(draws[0].to_bits(), first(1, 1, 1).to_bits());
    }
}
