//! Quantiles of durations that were seen lately, in a fixed amount of memory: a histogram whose buckets are a
//! quarter of an octave wide and whose counts fade. Time is an input.

use std::time::Duration;

use tokio::time::Instant;

/// After so long an observation counts half.
const HALF_LIFE: Duration = Duration::from_secs(30);

/// The shortest duration with a bucket of its own is 4 microseconds, the longest about 134 seconds.
const FIRST_OCTAVE: u32 = 2;
const OCTAVES: u32 = 25;
const BUCKETS: usize = OCTAVES as usize * 4;

/// Durations seen lately.
#[derive(Debug, Clone)]
pub struct Quantiles {
    counts: [u32; BUCKETS],
    total: u32,
    faded: Option<Instant>,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0, faded: None }
    }
}

impl Quantiles {
    /// Takes one observation.
    pub fn see(&mut self, now: Instant, took: Duration) {
        self.fade(now);
        let count = &mut self.counts[bucket(took)];
        *count = count.saturating_add(1);
        self.total = self.total.saturating_add(1);
    }

    /// The duration that so many of a thousand observations did not exceed, rounded up to a bucket's end (at most
    /// 25 % more); `None` when there is no observation left.
    #[must_use]
    pub fn per_mille(&self, share: u32) -> Option<Duration> {
        let rank = (u64::from(self.total) * u64::from(share.min(1_000))).div_ceil(1_000).max(1);
        let mut seen = 0;
        let reaches = |count: &u32| {
            seen += u64::from(*count);
            seen >= rank
        };
        self.counts.iter().position(reaches).map(end_of)
    }

    /// How many observations still count.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.total
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn fade(&mut self, now: Instant) {
        let faded = *self.faded.get_or_insert(now);
        let halvings = now.saturating_duration_since(faded).as_secs() / HALF_LIFE.as_secs();
        if halvings == 0 {
            return;
        }
        self.faded = Some(now);
        let shift = u32::try_from(halvings).unwrap_or(u32::MAX).min(31);
        self.counts.iter_mut().for_each(|count| *count >>= shift);
        self.total = self.counts.iter().sum();
    }
}

/// Which quarter of which octave a duration lies in.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1 << FIRST_OCTAVE);
    let octave = micros.ilog2();
    let quarter = (micros >> (octave - FIRST_OCTAVE)) & 3;
    let at = u64::from(octave - FIRST_OCTAVE) * 4 + quarter;
    usize::try_from(at).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The shortest duration that lies beyond a bucket.
fn end_of(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket as u64 / 4, bucket as u64 % 4);
    Duration::from_micros((4 + quarter + 1) << octave)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn quantiles_of_a_known_crowd() {
        let (now, mut seen) = (Instant::now(), Quantiles::default());
        assert_eq!((seen.per_mille(500), seen.is_empty()), (None, true));
        (0..98).for_each(|_| seen.see(now, millis(10)));
        (0..2).for_each(|_| seen.see(now, millis(1_000)));
        let within = |share, least, most| {
            let found = seen.per_mille(share).expect("there are observations");
            assert!((millis(least)..=millis(most)).contains(&found), "{share}: {found:?}");
        };
        within(0, 10, 13);
        within(500, 10, 13);
        within(980, 10, 13);
        within(990, 1_000, 1_250);
        within(1_000, 1_000, 1_250);
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn the_old_fades() {
        let (now, mut seen) = (Instant::now(), Quantiles::default());
        (0..64).for_each(|_| seen.see(now, millis(1_000)));
        (0..8).for_each(|nth| seen.see(now + HALF_LIFE * 4 + millis(nth), millis(1)));
        assert!(seen.per_mille(500).is_some_and(|half| half < millis(2)), "64 have become 4");
        seen.see(now + HALF_LIFE * 1_000_000, millis(1));
        assert_eq!(seen.len(), 1);
    }

    proptest! {
        #[test]
        fn a_bucket_ends_a_quarter_beyond_what_it_holds_at_most(micros in 4u64..100_000_000) {
            let took = Duration::from_micros(micros);
            let end = end_of(bucket(took));
            prop_assert!(end > took && end <= took + took / 4 + Duration::from_micros(1), "{:?}", end);
        }

        #[test]
        fn any_duration_has_a_bucket(took in any::<Duration>(), share in any::<u32>()) {
            let mut seen = Quantiles::default();
            seen.see(Instant::now(), took);
            prop_assert!(seen.per_mille(share).is_some());
        }
    }
}
