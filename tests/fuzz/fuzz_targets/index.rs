//! `index.weir`: once as a stranger may send it, once signed, so that the parser behind the signature is
//! reached as well.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use media::Index;
use media::index::{PublicKey, SigningKey};

static KEY: LazyLock<(SigningKey, PublicKey)> = LazyLock::new(|| {
    let key = SigningKey::from_seed([7; 32]);
    let public = key.public();
    (key, public)
});

/// Signed by that key, which is also the one of the seeds.
const GOLDEN: &[u8] = include_bytes!("../../../edge-cache/media/tests/golden/index-v2.bin");

fuzz_target!(|bytes: &[u8]| {
    let (key, public) = &*KEY;
    if Index::open(bytes, &[*public]).is_ok() {
        assert_eq!(bytes, GOLDEN, "nobody but the key can sign");
    }
    let sealed = key.seal(bytes);
    let Ok(index) = Index::open(&sealed, &[*public]) else { return };
    assert_eq!(index.sign(key), sealed, "an index has one encoding");
    let mut groups_end = 0;
    for (key, segment) in index.segments() {
        let entry = index.resolve(&key).expect("every segment has a key");
        assert_eq!(entry.segment, *segment);
        assert!(entry.segment.range().expect("not empty").end() <= entry.object_len);
        if let Some(want) = entry.groups_want() {
            assert_eq!(want.start(), groups_end);
            groups_end = want.end();
        }
    }
    assert_eq!(groups_end, index.groups_len());
});
