//! Draws without state.

/// A source of draws that is a value: the same seed and names always give the same draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The draws of somebody, or for something.
    pub(super) fn for_(self, name: &str) -> Self {
        let named = name.bytes().fold(self.0, |state, byte| mix(state ^ u64::from(byte)));
        Self(mix(named ^ name.len() as u64))
    }

    /// The draws for one of many.
    pub(super) fn nth(self, n: u64) -> Self {
        Self(mix(self.0.wrapping_add(n)))
    }

    /// A draw of `0..bound`; 0 if `bound` is 0.
    pub(super) fn below(self, bound: u64) -> u64 {
        // The upper half of a wide product: even for every bound, without a loop.
        ((u128::from(mix(self.0)) * u128::from(bound)) >> 64) as u64
    }
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
