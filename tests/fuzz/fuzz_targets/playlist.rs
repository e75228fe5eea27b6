//! Playlists, as any packager may have written them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::RenditionKind;
use media::key::Part;
use media::playlist::{
    map_uris, parse_main, parse_media, virtualize_iframes, virtualize_main, virtualize_media,
};

/// A playlist whose segments I-frames may lie in.
const MEDIA: &str = include_str!("../../../edge-cache/media/tests/golden/playlists/one-v180.m3u8");

fuzz_target!(|text: &str| {
    if let Ok(same) = map_uris(text, |uri| Some(uri.to_owned())) {
        assert_eq!(same, text, "every line is written as it was read");
    }
    main_playlist(text);
    let Ok(before) = parse_media(text) else { return };
    if let Ok(rewritten) = virtualize_media(text, RenditionKind::Video, None) {
        let after = parse_media(&rewritten).expect("what is written can be read");
        assert_eq!(before.entries.len(), after.entries.len());
        for (n, (before, after)) in before.entries.iter().zip(&after.entries).enumerate() {
            assert_eq!((after.uri.as_str(), after.range), (format!("{n}.m4s").as_str(), None));
            assert_eq!(before.duration_ms, after.duration_ms);
        }
        // Its own segments hold each of its entries.
        let _ = virtualize_iframes(text, &before, RenditionKind::Video, None);
    }
    let media = parse_media(MEDIA).expect("a golden file");
    if let Ok(rewritten) = virtualize_iframes(text, &media, RenditionKind::Video, None) {
        let frames = parse_media(&rewritten).expect("what is written can be read").entries;
        let fits =
            |len: u64| media.entries.iter().filter_map(|entry| entry.range).any(|range| len <= range.len());
        assert!(frames.iter().filter_map(|frame| frame.range).all(|range| fits(range.end())));
    }
});

fn main_playlist(text: &str) {
    let name = |_: &str| Some(("v720".parse().ok()?, Part::Playlist));
    if let Ok(rewritten) = virtualize_main(text, name) {
        let (before, after) = (parse_main(text), parse_main(&rewritten));
        let (before, after) = (before.expect("rewritten"), after.expect("what is written can be read"));
        assert_eq!(before.streams.len(), after.streams.len());
        assert!(after.streams.iter().all(|stream| stream.uri == "v720/index.m3u8"));
    }
}
