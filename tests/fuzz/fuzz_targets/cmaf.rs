//! Boxes: init sections, segment indexes and segments of any origin.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::cmaf::{Init, Sidx, boxes, segment_facts};

fuzz_target!(|bytes: &[u8]| {
    let mut end = 0;
    for item in boxes(bytes).map_while(Result::ok) {
        assert_eq!(item.at, end, "boxes tile the input");
        end = item.end();
        item.children().take_while(Result::is_ok).for_each(drop);
    }
    assert!(end <= bytes.len());

    let alone = segment_facts(bytes);
    if let Ok(facts) = alone {
        assert!(facts.samples > 0 && facts.fragments > 0);
    }
    if let Ok(init) = Init::parse(bytes) {
        assert!(init.timescale > 0);
        if let (Ok(alone), Ok(with)) = (alone, init.segment_facts(bytes)) {
            assert_eq!((alone.duration, alone.samples), (with.duration, with.samples));
        }
    }
    if let Ok(sidx) = Sidx::parse(bytes) {
        assert!(sidx.entries.windows(2).all(|pair| pair[0].range.end() == pair[1].range.start()));
    }
});
