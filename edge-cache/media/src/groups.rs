//! Which groups of a segment somebody has.

use std::fmt;
use std::ops::Range;

use crate::digest::{group_count, group_range};

/// A set of group numbers of one segment: what a partial copy holds, or what is still missing.
///
/// One bit for each group, so 64 bytes for a segment of 8 MiB. Numbers past the last group are in no set.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupSet {
    len: u64,
    words: Box<[u64]>,
}

impl GroupSet {
    /// No group of a segment of `len` bytes.
    #[must_use]
    pub fn none(len: u64) -> Self {
        let words = usize::try_from(group_count(len).div_ceil(64)).unwrap_or(usize::MAX);
        Self { len, words: vec![0; words].into() }
    }

    /// Every group of a segment of `len` bytes.
    #[must_use]
    pub fn all(len: u64) -> Self {
        let mut set = Self::none(len);
        set.insert_all(0..group_count(len));
        set
    }

    /// The set as whole words, lowest group first, as [`GroupSet::words`] gave it. `None` when the number of
    /// words is another or a bit stands for no group.
    #[must_use]
    pub fn from_words(len: u64, words: &[u64]) -> Option<Self> {
        let set = Self { len, words: words.into() };
        let all = Self::all(len);
        let within = set.words.iter().zip(&all.words).all(|(word, all)| word & !all == 0);
        (set.words.len() == all.words.len() && within).then_some(set)
    }

    /// The set as whole words, lowest group first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The length of the segment in bytes.
    #[must_use]
    pub fn segment_len(&self) -> u64 {
        self.len
    }

    /// How many groups the segment has.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        group_count(self.len)
    }

    /// Whether the group is in the set.
    #[must_use]
    pub fn has(&self, group: u64) -> bool {
        let (word, bit) = place(group);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether every group of the range is in the set.
    #[must_use]
    pub fn has_all(&self, groups: Range<u64>) -> bool {
        self.next_missing(groups.start).is_none_or(|missing| missing >= groups.end)
    }

    /// Puts a group in; past the last there is nothing to put.
    pub fn insert(&mut self, group: u64) {
        if group < self.capacity() {
            let (word, bit) = place(group);
            self.words[word] |= bit;
        }
    }

    /// Puts the groups of a range in.
    pub fn insert_all(&mut self, groups: Range<u64>) {
        for group in groups.start..groups.end.min(self.capacity()) {
            self.insert(group);
        }
    }

    /// Takes a group out.
    pub fn remove(&mut self, group: u64) {
        let (word, bit) = place(group);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Puts everything of another set of the same segment in.
    pub fn union(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Takes everything of another set of the same segment out.
    pub fn subtract(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    /// The first group that another set of the same segment lacks.
    #[must_use]
    pub fn first_outside(&self, other: &Self) -> Option<u64> {
        let words = self.words.iter().zip(&other.words).map(|(word, other)| word & !other);
        let (at, word) = (0_u64..).zip(words).find(|(_, word)| *word != 0)?;
        Some(at * 64 + u64::from(word.trailing_zeros()))
    }

    /// How many groups are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many bytes the groups of the set have together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let last = self.capacity() - 1;
        let short = group_range(self.len, last);
        let full = crate::GROUP_LEN;
        let missing_of_last = if self.has(last) { full - (short.end - short.start) } else { 0 };
        self.count() * full - missing_of_last
    }

    /// Whether no group is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether every group is in the set.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count() == self.capacity()
    }

    /// The first group at or after `from` that is not in the set.
    #[must_use]
    pub fn next_missing(&self, from: u64) -> Option<u64> {
        self.next(from, |word| !word).filter(|group| *group < self.capacity())
    }

    /// The first group at or after `from` that is in the set.
    #[must_use]
    pub fn next_present(&self, from: u64) -> Option<u64> {
        self.next(from, |word| word)
    }

    /// The runs of groups in the set, in order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.next_present(from)?;
            let end = self.next_missing(start).unwrap_or(self.capacity());
            from = end;
            Some(start..end)
        })
    }

    fn next(&self, from: u64, select: impl Fn(u64) -> u64) -> Option<u64> {
        let first = usize::try_from(from / 64).ok()?;
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in self.words.iter().enumerate().skip(first) {
            let found = select(*word) & mask;
            if found != 0 {
                return Some(at as u64 * 64 + u64::from(found.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }
}

impl fmt::Debug for GroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupSet({} of {}:", self.count(), self.capacity())?;
        self.runs().try_for_each(|run| write!(f, " {}..{}", run.start, run.end))?;
        f.write_str(")")
    }
}

fn place(group: u64) -> (usize, u64) {
    (usize::try_from(group / 64).unwrap_or(usize::MAX), 1 << (group % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_count_the_short_last_group() {
        for (len, groups, bytes) in [
            (0, vec![0], 0),
            (1, vec![0], 1),
            (16_384, vec![0], 16_384),
            (16_385, vec![0], 16_384),
            (16_385, vec![1], 1),
            (16_385, vec![0, 1], 16_385),
            (100_000, vec![0, 6], 16_384 + 1_696),
            (100_000, vec![], 0),
        ] {
            let mut set = GroupSet::none(len);
            groups.iter().for_each(|group| set.insert(*group));
            assert_eq!(set.bytes(), bytes, "{len} {groups:?}");
        }
        assert_eq!(GroupSet::all(8 << 20).bytes(), 8 << 20);
    }

    #[test]
    fn words_are_checked() {
        let len = 65 * 16_384;
        assert_eq!(GroupSet::from_words(len, &[u64::MAX, 1]), Some(GroupSet::all(len)));
        assert_eq!(GroupSet::from_words(len, &[u64::MAX, 2]), None);
        assert_eq!(GroupSet::from_words(len, &[0]), None);
        assert_eq!(GroupSet::from_words(len, &[0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn a_group_set_is_a_set(len in 0u64..5_000_000, groups in proptest::collection::vec(0u64..400, 0..80), from in 0u64..400) {
            let capacity = group_count(len);
            let mut set = GroupSet::none(len);
            groups.iter().for_each(|group| set.insert(*group));
            let model: BTreeSet<u64> = groups.iter().copied().filter(|group| *group < capacity).collect();
            prop_assert_eq!(set.runs().flatten().collect::<BTreeSet<u64>>(), model.clone());
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.is_full(), model.len() as u64 == capacity);
            prop_assert_eq!(set.next_present(from), model.range(from..).next().copied());
            prop_assert_eq!(set.next_missing(from), (from..capacity).find(|group| !model.contains(group)));
            prop_assert_eq!(GroupSet::from_words(len, set.words()), Some(set.clone()));
            let sizes = model.iter().map(|group| { let range = group_range(len, *group); range.end - range.start });
            prop_assert_eq!(set.bytes(), sizes.sum::<u64>());
            let mut odd = GroupSet::none(len);
            (0..capacity).filter(|group| group % 2 == 1).for_each(|group| odd.insert(group));
            let even = model.iter().find(|group| **group % 2 == 0).copied();
            prop_assert_eq!(set.first_outside(&odd), even);
            let mut evens = set.clone();
            evens.subtract(&odd);
            prop_assert_eq!(evens.next_present(0), even);
            prop_assert_eq!(evens.first_outside(&set), None);
            if let Some(group) = model.first() {
                set.remove(*group);
                prop_assert!(!set.has(*group));
                prop_assert_eq!(set.count(), model.len() as u64 - 1);
            }
        }
    }
}
