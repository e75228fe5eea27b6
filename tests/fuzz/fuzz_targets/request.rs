//! A viewer's request: the door, the router, conditions and ranges.
#![no_main]

use std::sync::LazyLock;

use front::examine::{Seen, examine};
use libfuzzer_sys::fuzz_target;
use media::validator::ETag;
use media::Digest;

const LEN: u64 = 100_000;

static TAG: LazyLock<ETag> = LazyLock::new(|| ETag::of(&Digest::of(b"a segment")));

fuzz_target!(|text: &str| {
    match examine(text, &TAG, LEN) {
        Seen::NoRequest | Seen::Other => {}
        Seen::Refused(status) => assert!((400..600).contains(&status)),
        Seen::Media(key, ranges) => {
            // What is served has one spelling, and it stands in the request as it is.
            let place = key.rsplit_once('/').expect("a key").0;
            assert!(text.contains(place) || key.ends_with("main/playlist"), "{key} is not in the request");
            let fields = text.split('\n').skip(1).map(str::to_ascii_lowercase);
            let hosts = fields.clone().filter(|line| line.starts_with("host:")).count();
            assert!(hosts == 1, "one host");
            for banned in ["transfer-encoding:", "upgrade:"] {
                assert!(!fields.clone().any(|line| line.starts_with(banned)), "{banned}");
            }
            for range in ranges.into_iter().flatten() {
                assert!(range.start() < range.end() && range.end() <= LEN);
            }
        }
    }
});
