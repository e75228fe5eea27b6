//! BLAKE3 digests with verified 16 KiB groups.
//!
//! BLAKE3 is a binary tree over 1 KiB chunks. A group of 16 chunks is a complete subtree, so the chaining
//! values of a segment's groups merge into exactly the segment's ordinary BLAKE3 hash: the signed index
//! holds only the root, the list of group digests may come from anywhere because it is checked against the
//! root, and then every group can be checked alone, in any order, before anybody sees it.
//!
//! Cost: 32 bytes for each 16,384, that is 0.2 %.

use std::fmt;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::range::ByteRange;

/// Bytes in a verified group: 16 BLAKE3 chunks. The last group of a segment may be shorter.
pub const GROUP_LEN: u64 = 16 * 1024;

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The hash of a whole run of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How many groups a run of `len` bytes has; an empty run has one, empty, group.
#[must_use]
pub const fn group_count(len: u64) -> u64 {
    if len == 0 { 1 } else { len.div_ceil(GROUP_LEN) }
}

/// The bytes of group `group` within a run of `len` bytes.
#[must_use]
pub fn group_range(len: u64, group: u64) -> std::ops::Range<u64> {
    let start = (group * GROUP_LEN).min(len);
    start..(start + GROUP_LEN).min(len)
}

/// The groups that a byte range touches, as a half-open range of group numbers.
#[must_use]
pub fn groups_of(range: ByteRange) -> std::ops::Range<u64> {
    range.start() / GROUP_LEN..range.end().div_ceil(GROUP_LEN)
}

/// A list of group digests does not belong to this root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group digests do not merge into the segment's root")]
pub struct RootMismatch;

/// The digests of all groups of one run of bytes, known to merge into its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDigests {
    len: u64,
    root: Digest,
    groups: Vec<ChainingValue>,
}

impl GroupDigests {
    /// Hashes a whole run of bytes (ingest does this once).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let len = bytes.len() as u64;
        let root = Digest::of(bytes);
        if group_count(len) == 1 {
            return Self { len, root, groups: vec![root.0] };
        }
        let chunks = bytes.chunks(GROUP_LEN as usize).enumerate();
        let groups = chunks.map(|(at, chunk)| group_value(at as u64, chunk)).collect();
        Self { len, root, groups }
    }

    /// Accepts a list that somebody sent, if it merges into the root. A run of a single group needs no
    /// list: pass an empty one, or the root itself.
    ///
    /// # Errors
    /// [`RootMismatch`] when the list is of the wrong length or of other bytes.
    pub fn checked(len: u64, root: Digest, groups: Vec<[u8; 32]>) -> Result<Self, RootMismatch> {
        if group_count(len) == 1 {
            let fits = groups.is_empty() || groups == [root.0];
            return if fits { Ok(Self { len, root, groups: vec![root.0] }) } else { Err(RootMismatch) };
        }
        if groups.len() as u64 != group_count(len) || merge_root(&groups) != root {
            return Err(RootMismatch);
        }
        Ok(Self { len, root, groups })
    }

    /// Accepts a list as it lies in a groups object or on the wire: the digests one after another. A run of
    /// a single group needs no list.
    ///
    /// # Errors
    /// [`RootMismatch`] when the bytes are not that list.
    pub fn parse(len: u64, root: Digest, bytes: &[u8]) -> Result<Self, RootMismatch> {
        let (groups, rest) = bytes.as_chunks::<32>();
        // Compared before anything is copied: a list of the wrong length may be of any length.
        let fits = rest.is_empty() && groups.len() as u64 <= group_count(len);
        if fits { Self::checked(len, root, groups.to_vec()) } else { Err(RootMismatch) }
    }

    /// The length of the run in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the run has no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The BLAKE3 hash of the whole run.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The group digests in order, as they go on the wire and into the groups object.
    #[must_use]
    pub fn as_slice(&self) -> &[[u8; 32]] {
        &self.groups
    }

    /// Whether `bytes` are exactly the bytes of group `group`.
    #[must_use]
    pub fn verify(&self, group: u64, bytes: &[u8]) -> bool {
        let range = group_range(self.len, group);
        if group >= self.groups.len() as u64 || bytes.len() as u64 != range.end - range.start {
            return false;
        }
        let expected = self.groups[group as usize];
        if self.groups.len() == 1 {
            Digest::of(bytes).0 == expected
        } else {
            group_value(group, bytes) == expected
        }
    }
}

fn group_value(group: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(group * GROUP_LEN);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

fn merge_root(groups: &[ChainingValue]) -> Digest {
    let (left, right) = groups.split_at(left_len(groups.len()));
    Digest(*merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).as_bytes())
}

fn merge(groups: &[ChainingValue]) -> ChainingValue {
    if let [only] = groups {
        return *only;
    }
    let (left, right) = groups.split_at(left_len(groups.len()));
    merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
}

/// BLAKE3 puts the largest power of two that leaves something for the right on the left.
fn left_len(count: usize) -> usize {
    debug_assert!(count >= 2);
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn groups_merge_into_the_ordinary_hash() {
        for len in [0, 1, 1024, 16_383, 16_384, 16_385, 32_768, 49_153, 1 << 20, (1 << 20) + 7] {
            let data = bytes(len);
            let groups = GroupDigests::of(&data);
            assert_eq!(groups.root().0, *blake3::hash(&data).as_bytes(), "{len}");
            let list = groups.as_slice().to_vec();
            assert_eq!(GroupDigests::checked(len as u64, groups.root(), list), Ok(groups), "{len}");
        }
    }

    #[test]
    fn a_list_of_other_bytes_is_refused() {
        let groups = GroupDigests::of(&bytes(100_000));
        let root = groups.root();
        let mut list = groups.as_slice().to_vec();
        assert_eq!(GroupDigests::checked(100_000, root, list[..6].to_vec()), Err(RootMismatch));
        list.swap(0, 1);
        assert_eq!(GroupDigests::checked(100_000, root, list), Err(RootMismatch));
        assert_eq!(GroupDigests::checked(100_000, root, vec![]), Err(RootMismatch));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_fails_exactly_its_group(len in 1usize..200_000, at in any::<usize>(), bit in 0u8..8) {
            let mut data = bytes(len);
            let groups = GroupDigests::of(&data);
            let at = at % len;
            data[at] ^= 1 << bit;
            for group in 0..group_count(len as u64) {
                let range = group_range(len as u64, group);
                let slice = &data[range.start as usize..range.end as usize];
                prop_assert_eq!(groups.verify(group, slice), !range.contains(&(at as u64)));
            }
        }
    }
}
