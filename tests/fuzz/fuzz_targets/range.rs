//! Request headers that select bytes: `Range`, and the conditional ones.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::Digest;
use media::range::{MAX_RANGES, Selection, select};
use media::validator::{Conditional, ETag};

fuzz_target!(|input: (u64, &str)| {
    let (total, header) = input;
    if let Selection::Ranges(ranges) = select(Some(header), total) {
        assert!(!ranges.is_empty() && ranges.len() <= MAX_RANGES);
        assert!(ranges.iter().all(|range| range.start() < range.end() && range.end() <= total));
        let mut sorted = ranges.clone();
        sorted.sort_by_key(|range| range.start());
        assert!(sorted.windows(2).all(|pair| pair[0].end() <= pair[1].start()), "overlapping: {ranges:?}");
        for range in ranges {
            assert_eq!(select(Some(&range.header()), total), Selection::Ranges(vec![range]));
        }
    }

    let etag = ETag::of(&Digest::of(b""));
    let header = Some(header);
    let conditional = Conditional { if_match: header, if_none_match: header, if_range: header };
    let _ = conditional.evaluate(&etag);
    if conditional.if_range_matches(&etag) {
        assert_eq!(header.map(|header| header.trim_matches([' ', '\t'])), Some(etag.to_string().as_str()));
    }
});
