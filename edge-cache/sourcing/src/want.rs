//! What is to be bought.

use media::index::Entry;
use media::{ByteRange, Digest, SegmentKey};

/// The same bytes named twice: by object for stores of objects, by key for nodes that speak segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The full path of the object: `title/package/v720.mp4`.
    pub object: String,
    /// The object's full length in bytes, where somebody vouches for it.
    pub object_len: Option<u64>,
    /// Which bytes of the object; `None` is all of them.
    pub range: Option<ByteRange>,
    /// The segment that these bytes are of, if they are of one.
    pub segment: Option<SegmentWant>,
}

/// Bytes of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentWant {
    /// Which segment.
    pub key: SegmentKey,
    /// Which bytes of it.
    pub range: ByteRange,
    /// The segment's full length in bytes.
    pub len: u64,
    /// The BLAKE3 hash of the whole segment.
    pub root: Digest,
}

impl Want {
    /// A whole object whose length nobody knows yet.
    #[must_use]
    pub fn object(path: String) -> Self {
        Self { object: path, object_len: None, range: None, segment: None }
    }

    /// A whole segment. `None` only for an entry that no checked index holds.
    #[must_use]
    pub fn segment(key: &SegmentKey, entry: &Entry) -> Option<Self> {
        Self::part(key, entry, ByteRange::whole(u64::from(entry.segment.len))?)
    }

    /// Some bytes of a segment. `None` when they do not lie within it.
    #[must_use]
    pub fn part(key: &SegmentKey, entry: &Entry, range: ByteRange) -> Option<Self> {
        let len = u64::from(entry.segment.len);
        if range.end() > len {
            return None;
        }
        Some(Self {
            object: entry.object.clone(),
            object_len: Some(entry.object_len),
            range: Some(range.shifted(entry.segment.offset)?),
            segment: Some(SegmentWant { key: key.clone(), range, len, root: entry.segment.root }),
        })
    }

    /// How many bytes, where that is known.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        self.range.map(ByteRange::len).or(self.object_len)
    }

    /// Whether it is known that there is nothing to buy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The first `len` bytes of it. `None` for what is not a known range of a segment.
    #[must_use]
    pub fn head(&self, len: u64) -> Option<Self> {
        let cut = |range: ByteRange| ByteRange::new(range.start(), range.end().min(range.start() + len));
        let segment = self.segment.as_ref()?;
        let segment = SegmentWant { range: cut(segment.range)?, ..segment.clone() };
        Some(Self { range: Some(cut(self.range?)?), segment: Some(segment), ..self.clone() })
    }

    /// The same want without its first `from` bytes. `None` when nothing would be left, or when the end is
    /// not known (a range cannot say "the rest").
    #[must_use]
    pub fn tail(&self, from: u64) -> Option<Self> {
        if from == 0 {
            return Some(self.clone());
        }
        let whole = self.range.or(ByteRange::whole(self.object_len?))?;
        let segment = match &self.segment {
            Some(segment) => Some(SegmentWant { range: without(segment.range, from)?, ..segment.clone() }),
            None => None,
        };
        Some(Self { range: Some(without(whole, from)?), segment, ..self.clone() })
    }
}

fn without(range: ByteRange, from: u64) -> Option<ByteRange> {
    ByteRange::new(range.start().checked_add(from)?, range.end())
}

#[cfg(test)]
mod tests {
    use media::{RenditionKind, Segment};

    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).expect("not empty")
    }

    fn segment_want() -> Want {
        let (key, _) = SegmentKey::parse("bbb/00000000000000ff/v720/3.m4s").expect("a key");
        let segment = SegmentWant { key, range: range(0, 500), len: 500, root: Digest::of(b"") };
        Want {
            object: "bbb/00000000000000ff/v720.mp4".to_owned(),
            object_len: Some(9_000),
            range: Some(range(1_000, 1_500)),
            segment: Some(segment),
        }
    }

    #[test]
    fn a_tail_moves_both_names_alike() {
        let want = segment_want();
        assert_eq!(want.tail(0), Some(want.clone()));
        let tail = want.tail(100).expect("something is left");
        assert_eq!((tail.range, tail.len()), (Some(range(1_100, 1_500)), Some(400)));
        let segment = tail.segment.expect("still of a segment");
        assert_eq!((segment.range, segment.len), (range(100, 500), 500));
    }

    #[test]
    fn a_head_is_named_by_object_and_by_segment() {
        let head = segment_want().tail(100).and_then(|want| want.head(50)).expect("something");
        assert_eq!((head.range, head.len()), (Some(range(1_100, 1_150)), Some(50)));
        assert_eq!(head.segment.map(|of| of.range), Some(range(100, 150)));
        assert_eq!(segment_want().head(9_999).and_then(|want| want.len()), Some(500));
        assert_eq!(Want::object("bbb/index.weir".to_owned()).head(50), None);
    }

    #[test]
    fn a_part_is_named_by_object_and_by_segment() {
        let whole = segment_want();
        let wanted = whole.segment.clone().expect("of a segment");
        let segment = Segment { object: 0, offset: 1_000, len: 500, duration_ms: 0, root: wanted.root };
        let (object, object_len) = (whole.object.clone(), 9_000);
        let entry = Entry { kind: RenditionKind::Video, segment, object, object_len, groups_offset: 0 };
        assert_eq!(Want::segment(&wanted.key, &entry), Some(whole));
        let part = Want::part(&wanted.key, &entry, range(100, 200)).expect("within");
        assert_eq!((part.range, part.len()), (Some(range(1_100, 1_200)), Some(100)));
        assert_eq!(part.segment.map(|of| (of.range, of.len)), Some((range(100, 200), 500)));
        assert_eq!(Want::part(&wanted.key, &entry, range(400, 501)), None);
    }

    #[test]
    fn nothing_is_left_at_or_past_the_end() {
        let want = segment_want();
        assert!(want.tail(499).is_some());
        for from in [500, 501, u64::MAX] {
            assert_eq!(want.tail(from), None, "{from}");
        }
    }

    #[test]
    fn a_whole_object_has_a_tail_once_its_length_is_known() {
        let mut want = Want::object("bbb/index.weir".to_owned());
        assert_eq!((want.len(), want.tail(1)), (None, None));
        want.object_len = Some(10);
        assert_eq!(want.tail(4).and_then(|tail| tail.range), Some(range(4, 10)));
    }
}
