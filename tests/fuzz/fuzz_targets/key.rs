//! The path of a viewer's request below the token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::{RenditionKind, SegmentKey};

const KINDS: [RenditionKind; 7] = [
    RenditionKind::Video,
    RenditionKind::Audio,
    RenditionKind::Subtitles,
    RenditionKind::Images,
    RenditionKind::TrickPlay,
    RenditionKind::Main,
    RenditionKind::TransportStream,
];

fuzz_target!(|path: &str| {
    let Ok((key, _)) = SegmentKey::parse(path) else { return };
    let spellings: Vec<String> = KINDS.iter().map(|kind| key.path(*kind)).collect();
    assert!(
        spellings.iter().any(|spelling| spelling == path),
        "{path:?} is a second spelling of {spellings:?}"
    );
    assert!(!path.contains("..") && !path.contains("//") && !path.contains('%'));
});
