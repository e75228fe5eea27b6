//! Which node of a region fills what: pure arithmetic over the members of a region view, the same on every node.
//!
//! The unit is a *stretch*: 64 consecutive segments of one rendition, about six minutes. Finer units tear the runs
//! that disks and have-maps live on, coarser ones load the nodes unevenly. A stretch belongs to the member with the best
//! lot, by weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005): a member
//! that comes or goes moves its own share and no more. Popular stretches would still load their owners unevenly, so a
//! member takes no more than [`BOUND_PERCENT`] of its fair share (Mirrokni, Thorup and Zadimoghaddam, 2016); what exceeds it
//! goes to the member with the next best lot.
//!
//! Lots are integers all the way, logarithm included, so that no library's rounding can make two nodes disagree.

use media::{Digest, Part, SegmentKey};

/// Segments of a stretch.
pub const STRETCH_SEGMENTS: u32 = 64;

/// How much of its fair share a member takes at most.
pub const BOUND_PERCENT: u64 = 125;

/// A run of segments with one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stretch(u64);

impl Stretch {
    /// The stretch that a segment lies in. What is not a media segment lies in the first of its rendition.
    #[must_use]
    pub fn of(key: &SegmentKey) -> Self {
        let number = match key.part {
            Part::Media(n) => n / STRETCH_SEGMENTS,
            Part::Playlist | Part::IFrames | Part::Init => 0,
        };
        Self(hash(&format!("{}/{}/{number}", key.title, key.rendition)))
    }
}

/// Who shares the work, and with what weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    members: Vec<Member>,
    total_weight: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    name: u64,
    weight: u32,
}

impl Owners {
    /// Members by name and weight. One of weight 0 owns nothing.
    pub fn new<'a>(members: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let member = |(name, weight): (&str, u32)| Member { name: hash(name), weight };
        let members: Vec<Member> = members.into_iter().map(member).collect();
        let total_weight = members.iter().map(|member| u64::from(member.weight)).sum();
        Self { members, total_weight }
    }

    /// Who owns a stretch when nobody is overloaded: an index into the members. `None` when nobody has any weight.
    #[must_use]
    pub fn owner(&self, stretch: Stretch) -> Option<usize> {
        self.lots(stretch).min().map(|(_, _, at)| at)
    }

    /// The members by their lots, the owner first, at most `count` of them.
    #[must_use]
    pub fn ranked(&self, stretch: Stretch, count: usize) -> Vec<usize> {
        let mut lots: Vec<_> = self.lots(stretch).collect();
        lots.sort_unstable();
        lots.into_iter().take(count).map(|(_, _, at)| at).collect()
    }

    /// Who is to serve `len` more bytes of a stretch, given how many each member served lately: the first by lot
    /// who stays within its bound. Within `floor` bytes nobody counts as loaded. `loads` are in the members' order; one that is
    /// missing counts as 0.
    #[must_use]
    pub fn bounded(&self, stretch: Stretch, loads: &[u64], len: u64, floor: u64) -> Option<usize> {
        let load = |at: usize| loads.get(at).copied().unwrap_or_default();
        let total = loads.iter().fold(len, |sum, load| sum.saturating_add(*load));
        let fits = |at: usize| {
            let after = load(at).saturating_add(len);
            let share = u128::from(total) * u128::from(self.members[at].weight)
                / u128::from(self.total_weight.max(1));
            after <= floor || u128::from(after) * 100 <= share * u128::from(BOUND_PERCENT)
        };
        let ranked = self.ranked(stretch, self.members.len());
        ranked.iter().copied().find(|at| fits(*at)).or(ranked.first().copied())
    }

    /// Each member's lot: the least wins. Equal lots go by the name's hash.
    fn lots(&self, stretch: Stretch) -> impl Iterator<Item = (u64, u64, usize)> + '_ {
        let weighty = self.members.iter().enumerate().filter(|(_, member)| member.weight > 0);
        weighty.map(move |(at, member)| (lot(stretch, *member), member.name, at))
    }
}

/// An exponentially distributed draw whose rate is the weight: `-log2(u) / weight`, u uniform between 0 and 1.
fn lot(stretch: Stretch, member: Member) -> u64 {
    let drawn = mix(mix(stretch.0) ^ member.name);
    // Less than 2^38, so that the shift loses nothing.
    (negative_log2(drawn) << 24) / u64::from(member.weight.max(1))
}

/// `-log2((drawn + 1) / 2^64)` with 32 bits behind the point: the whole part from the leading zeros, the rest bit by
/// bit by squaring.
fn negative_log2(drawn: u64) -> u64 {
    let value = u128::from(drawn) + 1;
    let whole = 64 - u64::from(value.ilog2());
    // Between 1 and 2, with 63 bits behind the point.
    let mut rest = (value << 63) >> value.ilog2();
    let mut fraction = 0_u64;
    for bit in (0..32).rev() {
        rest = (rest * rest) >> 63;
        if rest >> 64 != 0 {
            rest >>= 1;
            fraction |= 1 << bit;
        }
    }
    (whole << 32) - fraction
}

fn hash(text: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Digest::of(text.as_bytes()).0[..8]);
    u64::from_le_bytes(first)
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
