//! A verified segment in memory, or some groups of one.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use media::digest::{group_count, group_range, groups_of};
use media::{ByteRange, GroupSet};

/// The verified groups of one segment in memory: all of them, or some.
///
/// Cloning and slicing share the bytes. Each group is best a buffer of its own: one that is a slice of
/// something larger keeps the larger thing alive, and the memory budget cannot see that.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentBody {
    len: u64,
    /// In a box of its own, so that a weak handle keeps none of it.
    groups: Arc<Box<[Option<Bytes>]>>,
}

/// A body that does not keep itself alive: when a tier gives it up, its groups are gone. A slow reader that
/// holds one costs a cursor and not a segment.
#[derive(Clone)]
pub struct WeakBody(Weak<Box<[Option<Bytes>]>>);

impl WeakBody {
    /// One group, while somebody keeps the body it belongs to.
    #[must_use]
    pub fn group(&self, n: u64) -> Option<Bytes> {
        let groups = self.0.upgrade()?;
        groups.get(usize::try_from(n).ok()?)?.clone()
    }
}

impl SegmentBody {
    /// Puts verified groups together. `None` unless they are exactly the groups of a segment of `len` bytes:
    /// every group [`media::GROUP_LEN`] long, but the last as long as the rest (an empty segment has one
    /// empty group).
    #[must_use]
    pub fn new(len: u64, groups: Vec<Bytes>) -> Option<Self> {
        Self::partial(len, groups.into_iter().map(Some).collect())
    }

    /// The same with groups missing: there is a place for every group of the segment.
    #[must_use]
    pub fn partial(len: u64, groups: Vec<Option<Bytes>>) -> Option<Self> {
        let fits = |(n, group): (u64, &Option<Bytes>)| {
            group.as_ref().is_none_or(|group| group.len() as u64 == size(len, n))
        };
        let fit = groups.len() as u64 == group_count(len) && (0..).zip(&groups).all(fits);
        fit.then(|| Self { len, groups: Arc::new(groups.into()) })
    }

    /// Cuts one verified buffer into its groups without copying.
    #[must_use]
    pub fn of(bytes: &Bytes) -> Self {
        let len = bytes.len() as u64;
        let groups = (0..group_count(len)).map(|group| {
            let range = group_range(len, group);
            Some(bytes.slice(range.start as usize..range.end as usize))
        });
        Self { len, groups: Arc::new(groups.collect()) }
    }

    /// The segment's length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the segment has no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether every group is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.groups.iter().all(Option::is_some)
    }

    /// One group; `None` when it is not here, or past the last.
    #[must_use]
    pub fn group(&self, n: u64) -> Option<&Bytes> {
        self.groups.get(usize::try_from(n).ok()?)?.as_ref()
    }

    /// The groups that are here, in order.
    pub fn groups(&self) -> impl Iterator<Item = &Bytes> {
        self.groups.iter().flatten()
    }

    /// Which groups are here.
    #[must_use]
    pub fn present(&self) -> GroupSet {
        let mut present = GroupSet::none(self.len);
        let here = (0..).zip(self.groups.iter()).filter(|(_, group)| group.is_some());
        here.for_each(|(n, _)| present.insert(n));
        present
    }

    /// The same body for somebody who must not keep it alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakBody {
        WeakBody(Arc::downgrade(&self.groups))
    }

    /// What both have, of the same segment.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        let both = self.groups.iter().zip(other.groups.iter());
        let groups = both.map(|(own, other)| own.as_ref().or(other.as_ref()).cloned());
        Self { len: self.len, groups: Arc::new(groups.collect()) }
    }

    /// The bytes of a range, group by group, without copying, up to the first that is not here.
    pub fn slices(&self, range: ByteRange) -> impl Iterator<Item = Bytes> + Send + use<> {
        let body = self.clone();
        groups_of(range).map_while(move |n| {
            let group = body.group(n)?;
            let base = group_range(body.len, n).start;
            let start = range.start().saturating_sub(base);
            let end = (range.end() - base).min(group.len() as u64);
            (start < end).then(|| group.slice(start as usize..end as usize))
        })
    }
}

impl fmt::Debug for SegmentBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentBody({} bytes)", self.len)
    }
}

fn size(len: u64, group: u64) -> u64 {
    let range = group_range(len, group);
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use media::GROUP_LEN;

    use super::*;

    fn bytes(len: usize) -> Bytes {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn only_the_right_groups_make_a_body() {
        let group = |len: u64| Bytes::from(vec![0; len as usize]);
        let full = || group(GROUP_LEN);
        assert!(SegmentBody::new(0, vec![group(0)]).is_some());
        assert!(SegmentBody::new(GROUP_LEN, vec![full()]).is_some());
        assert!(SegmentBody::new(GROUP_LEN + 1, vec![full(), group(1)]).is_some());
        assert!(SegmentBody::new(0, vec![]).is_none());
        assert!(SegmentBody::new(1, vec![]).is_none());
        assert!(SegmentBody::new(GROUP_LEN, vec![full(), group(0)]).is_none());
        assert!(SegmentBody::new(GROUP_LEN + 1, vec![group(1), full()]).is_none());
        assert!(SegmentBody::new(2 * GROUP_LEN, vec![full(), group(GROUP_LEN - 1)]).is_none());
    }

    #[test]
    fn a_partial_body_knows_what_it_lacks_and_is_completed_by_another() {
        let data = bytes(40_000);
        let whole = SegmentBody::of(&data);
        let pick = |keep: &[u64]| {
            let groups = (0..3).map(|n| keep.contains(&n).then(|| whole.group(n).cloned()).flatten());
            SegmentBody::partial(40_000, groups.collect()).expect("right sizes")
        };
        let (ends, middle) = (pick(&[0, 2]), pick(&[1]));
        assert!(!ends.is_whole() && ends.group(1).is_none() && ends.group(3).is_none());
        assert_eq!(ends.present().runs().collect::<Vec<_>>(), [0..1, 2..3]);
        assert_eq!(ends.union(&middle), whole);
        let range = ByteRange::new(100, 40_000).expect("not empty");
        assert_eq!(ends.slices(range).collect::<Vec<_>>().concat(), &data[100..16_384], "up to the gap");
        assert!(SegmentBody::partial(40_000, vec![None, Some(data.slice(..5)), None]).is_none());
    }

    #[test]
    fn a_weak_body_lasts_as_long_as_somebody_keeps_it() {
        let body = SegmentBody::of(&bytes(20_000));
        let weak = body.downgrade();
        assert_eq!(weak.group(1).as_ref(), body.group(1));
        assert_eq!(weak.group(2), None);
        drop(body);
        assert_eq!(weak.group(1), None);
    }

    #[test]
    fn slices_are_the_range_and_share_the_memory() {
        let data = bytes(40_000);
        let body = SegmentBody::of(&data);
        for (start, end) in
            [(0, 1), (0, 40_000), (16_383, 16_385), (16_384, 32_768), (39_999, 40_000), (5, 90_000)]
        {
            let range = ByteRange::new(start, end).expect("not empty");
            let slices: Vec<Bytes> = body.slices(range).collect();
            let (start, end) = (start as usize, (end as usize).min(data.len()));
            assert_eq!(slices.concat(), &data[start..end]);
            assert_eq!(slices[0].as_ptr(), data[start..].as_ptr(), "no copy");
        }
        let past = ByteRange::new(40_000, 40_001).expect("not empty");
        assert_eq!(body.slices(past).count(), 0);
    }
}
