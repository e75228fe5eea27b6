//! Byte ranges: RFC 9110 section 14, parsed against a known length into ranges that lie inside the object.

use std::fmt;

/// The most ranges one request may ask for. RFC 9110 section 14.2 lets a server ignore abusive lists;
/// beyond this the header is ignored and the whole representation is sent.
pub const MAX_RANGES: usize = 16;

/// A non-empty run of bytes, half-open: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// The bytes `start..end`; `None` if that is empty.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start < end { Some(Self { start, end }) } else { None }
    }

    /// All of an object of `len` bytes; `None` if it has none.
    #[must_use]
    pub const fn whole(len: u64) -> Option<Self> {
        Self::new(0, len)
    }

    /// The first byte.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Never true: an empty range cannot be built.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The same bytes seen from an object in which this one begins at `offset`; `None` past 2^64.
    #[must_use]
    pub fn shifted(self, offset: u64) -> Option<Self> {
        Self::new(self.start.checked_add(offset)?, self.end.checked_add(offset)?)
    }

    /// The `Content-Range` value. The full length is always stated: players freeze on `/*`.
    #[must_use]
    pub fn content_range(self, total: u64) -> String {
        format!("bytes {}-{}/{total}", self.start, self.end - 1)
    }

    /// The `Range` request header value for exactly these bytes.
    #[must_use]
    pub fn header(self) -> String {
        format!("bytes={}-{}", self.start, self.end - 1)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end - 1)
    }
}

/// What a `Range` header means for an object of known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// No header, another unit, or a header that cannot be read: send everything, as RFC 9110 says.
    Whole,
    /// These ranges, in the order asked, none overlapping another.
    Ranges(Vec<ByteRange>),
    /// Well-formed, but no range touches the object: 416.
    Unsatisfiable,
}

/// Reads a `Range` header against an object of `total` bytes.
#[must_use]
pub fn select(header: Option<&str>, total: u64) -> Selection {
    let Some(specs) = header.and_then(byte_specs) else { return Selection::Whole };
    let mut ranges = Vec::new();
    for (count, spec) in specs.split(',').map(trim).filter(|spec| !spec.is_empty()).enumerate() {
        let Some(spec) = Spec::parse(spec) else { return Selection::Whole };
        if count == MAX_RANGES {
            return Selection::Whole;
        }
        ranges.extend(spec.within(total));
    }
    match ranges.len() {
        // An empty list is malformed; a list that misses the object is unsatisfiable.
        0 if specs.split(',').all(|spec| trim(spec).is_empty()) => Selection::Whole,
        0 => Selection::Unsatisfiable,
        _ if overlapping(&ranges) => Selection::Whole,
        _ => Selection::Ranges(ranges),
    }
}

/// What follows `bytes=`; range units are case-insensitive.
fn byte_specs(header: &str) -> Option<&str> {
    let (unit, specs) = header.split_once('=')?;
    trim(unit).eq_ignore_ascii_case("bytes").then_some(specs)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Overlaps are how a small request asks for a large answer; one look at the sorted list finds them.
fn overlapping(ranges: &[ByteRange]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    sorted.windows(2).any(|pair| pair[0].end > pair[1].start)
}

enum Spec {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        match (trim(first), trim(last)) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    fn within(self, total: u64) -> Option<ByteRange> {
        match self {
            Self::Between(first, last) => ByteRange::new(first, total.min(last.saturating_add(1))),
            Self::From(first) => ByteRange::new(first, total),
            Self::Last(count) => ByteRange::new(total.saturating_sub(count), total),
        }
    }
}

/// Digits only (`+5` is no number here). A number beyond 2^64 is a valid one that lies past every object.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Selection {
        Selection::Ranges(list.iter().map(|&(a, b)| ByteRange::new(a, b).expect("not empty")).collect())
    }

    #[test]
    fn rfc_9110_section_14() {
        let check = |header: &str, expected: Selection| {
            assert_eq!(select(Some(header), 1000), expected, "{header:?}");
        };
        check("bytes=0-0", ranges(&[(0, 1)]));
        check("bytes=0-499", ranges(&[(0, 500)]));
        check("BYTES=500-999", ranges(&[(500, 1000)]));
        check("bytes=500-5000", ranges(&[(500, 1000)]));
        check("bytes=999-", ranges(&[(999, 1000)]));
        check("bytes=-1", ranges(&[(999, 1000)]));
        check("bytes=-5000", ranges(&[(0, 1000)]));
        check("bytes= 0-1 , 5-6", ranges(&[(0, 2), (5, 7)]));
        check("bytes=5-6,,0-1", ranges(&[(5, 7), (0, 2)]));
        check("bytes=0-1,2000-", ranges(&[(0, 2)]));
        check("bytes=0-99999999999999999999999", ranges(&[(0, 1000)]));
        check("bytes=1000-", Selection::Unsatisfiable);
        check("bytes=1000-2000", Selection::Unsatisfiable);
        check("bytes=-0", Selection::Unsatisfiable);
        check("bytes=99999999999999999999999-", Selection::Unsatisfiable);
        for malformed in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=+1-2",
            "items=0-1",
            "bytes=0-1,x",
            "bytes=1-2-3",
            "bytes=0x1-2",
            "bytes=0-5,3-8",
        ] {
            check(malformed, Selection::Whole);
        }
        assert_eq!(select(None, 1000), Selection::Whole);
        assert_eq!(select(Some("bytes=0-"), 0), Selection::Unsatisfiable);
    }

    #[test]
    fn too_many_ranges_are_ignored() {
        let list: Vec<String> = (0..=MAX_RANGES).map(|i| format!("{}-{}", i * 2, i * 2)).collect();
        assert_eq!(select(Some(&format!("bytes={}", list.join(","))), 1000), Selection::Whole);
        assert!(matches!(
            select(Some(&format!("bytes={}", list[1..].join(","))), 1000),
            Selection::Ranges(_)
        ));
    }

    #[test]
    fn the_total_is_always_stated() {
        assert_eq!(ByteRange::new(5, 10).expect("not empty").content_range(20), "bytes 5-9/20");
    }

    proptest! {
        #[test]
        fn whatever_comes_lies_inside(header in "bytes=[0-9, -]{0,40}", total in 0u64..2000) {
            if let Selection::Ranges(list) = select(Some(&header), total) {
                prop_assert!(!list.is_empty() && list.len() <= MAX_RANGES);
                prop_assert!(list.iter().all(|range| range.end() <= total));
                prop_assert!(list.iter().map(|range| range.len()).sum::<u64>() <= total);
            }
        }

        #[test]
        fn no_header_makes_us_panic(header in ".{0,60}", total in any::<u64>()) {
            let _ = select(Some(&header), total);
        }
    }
}
