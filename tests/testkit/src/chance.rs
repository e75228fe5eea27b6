//! Draws without state.

/// A source of draws that is a value: the same seed and names always give the same draw, and drawing changes
/// nothing. Every draw therefore needs a name of its own: two draws from one `Chance` are the same draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// The root of all draws of a story.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The draws of somebody, or for something.
    #[must_use]
    pub fn for_(self, name: &str) -> Self {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        let named = name.bytes().fold(self.0, |state, byte| mix(state ^ u64::from(byte)));
        Self(mix(named ^ name.len() as u64))
    }

    /// The draws for one of many: a viewer by number, an offset.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self(mix(mix(self.0).wrapping_add(n)))
    }

    /// The draw itself, any 64 bits.
    #[must_use]
    pub fn bits(self) -> u64 {
        mix(self.0)
    }

    /// A draw of `0..bound`; 0 if `bound` is 0.
    #[must_use]
    pub fn below(self, bound: u64) -> u64 {
        // The upper half of a wide product: even for every bound, without a loop.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A draw of `low..high`; `low` if there is nothing between them.
    #[must_use]
    pub fn between(self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// Whether it happens, `percent` times of a hundred.
    #[must_use]
    pub fn happens(self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_draw_depends_on_its_names_and_on_nothing_else() {
        let root = Chance::new(7);
        let draw = root.for_("source").for_("v720.mp4").nth(16_384).bits();
        assert_eq!(draw, Chance::new(7).for_("source").for_("v720.mp4").nth(16_384).bits());
        let others = [
            Chance::new(8).for_("source").for_("v720.mp4").nth(16_384),
            root.for_("source").for_("v720.mp4").nth(16_385),
            root.for_("sourcev").for_("720.mp4").nth(16_384),
            root.for_("v720.mp4").for_("source").nth(16_384),
            root.for_("source").for_("v720.mp4"),
        ];
        assert!(others.iter().all(|other| other.bits() != draw));
    }

    #[test]
    fn draws_stay_in_bounds_and_reach_all_of_them() {
        let draws: HashSet<u64> = (0..1_000).map(|n| Chance::new(1).nth(n).below(10)).collect();
        assert_eq!(draws.len(), 10);
        assert!(draws.iter().all(|draw| *draw < 10));
        let chance = Chance::new(1);
        assert_eq!(
            (chance.below(0), chance.below(1), chance.between(5, 5), chance.between(5, 6)),
            (0, 0, 5, 5)
        );
        let happened = (0..10_000).filter(|n| chance.nth(*n).happens(25)).count();
        assert!((2_300..2_700).contains(&happened), "{happened}");
        assert!(!chance.happens(0) && chance.happens(100));
    }
}
