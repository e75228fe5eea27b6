//! A whole verified segment in memory.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use media::ByteRange;
use media::digest::{group_count, group_range, groups_of};

/// A whole verified segment in memory: its groups in order.
///
/// Cloning and slicing share the bytes. Each group is best a buffer of its own, or all are slices of one
/// buffer of the segment's length: a group that is a slice of something larger keeps the larger thing alive,
/// and the memory budget cannot see that.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentBody {
    len: u64,
    groups: Arc<[Bytes]>,
}

impl SegmentBody {
    /// Puts verified groups together. `None` unless they are exactly the groups of a segment of `len` bytes:
    /// every group [`media::GROUP_LEN`] long, but the last as long as the rest (an empty segment has one
    /// empty group).
    #[must_use]
    pub fn new(len: u64, groups: Vec<Bytes>) -> Option<Self> {
        let sizes = (0..group_count(len)).map(|group| size(len, group));
        let fits = sizes.eq(groups.iter().map(|group| group.len() as u64));
        fits.then(|| Self { len, groups: groups.into() })
    }

    /// Cuts one verified buffer into its groups without copying.
    #[must_use]
    pub fn of(bytes: &Bytes) -> Self {
        let len = bytes.len() as u64;
        let groups = (0..group_count(len)).map(|group| {
            let range = group_range(len, group);
            bytes.slice(range.start as usize..range.end as usize)
        });
        Self { len, groups: groups.collect() }
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

    /// One group; `None` past the last.
    #[must_use]
    pub fn group(&self, n: u64) -> Option<&Bytes> {
        usize::try_from(n).ok().and_then(|n| self.groups.get(n))
    }

    /// All groups in order.
    #[must_use]
    pub fn groups(&self) -> &[Bytes] {
        &self.groups
    }

    /// The bytes of a range, group by group, without copying. What lies past the end is not there.
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
