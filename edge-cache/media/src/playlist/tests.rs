use proptest::prelude::*;
use quick_m3u8::config::ParsingOptionsBuilder;
use quick_m3u8::tag::KnownTag;
use quick_m3u8::tag::hls::Tag;
use quick_m3u8::{HlsLine, Reader};

use super::*;
use crate::index::RenditionKind;
use crate::key::Part;
use crate::name::RenditionId;
use crate::range::ByteRange;

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../tests/golden/playlists/", $name, ".m3u8"))
    };
}

const ONE_MAIN: &str = golden!("one-main");
const ONE_VIDEO: &str = golden!("one-v180");
const ONE_IFRAMES: &str = golden!("one-v180-iframes");
const ONE_AUDIO: &str = golden!("one-a-en");
const MANY_VIDEO: &str = golden!("many-v180");
const MANY_IFRAMES: &str = golden!("many-v180-iframes");
const MANY_CAPTIONS: &str = golden!("many-s-en");

fn range(start: u64, end: u64) -> Option<ByteRange> {
    ByteRange::new(start, end)
}

fn name_of(uri: &str) -> Option<(RenditionId, Part)> {
    let file = uri.strip_prefix("cdn/")?.strip_suffix(".m3u8")?;
    let (id, part) = file.strip_suffix("-iframes").map_or((file, Part::Playlist), |id| (id, Part::IFrames));
    Some((id.parse().ok()?, part))
}

/// Each rewriting of a packager's playlist, with the file that holds what must come out.
fn rewritings() -> [(&'static str, String); 7] {
    let iframes = |text, media| {
        let media = parse_media(media).expect("media playlist");
        virtualize_iframes(text, &media, RenditionKind::Video, Some(2)).expect("I-frame playlist")
    };
    let media = |text, kind| virtualize_media(text, kind, Some(6)).expect("media playlist");
    [
        ("virtual-one-main", virtualize_main(ONE_MAIN, name_of).expect("main playlist")),
        ("virtual-one-v180", media(ONE_VIDEO, RenditionKind::Video)),
        ("virtual-one-v180-iframes", iframes(ONE_IFRAMES, ONE_VIDEO)),
        ("virtual-one-a-en", media(ONE_AUDIO, RenditionKind::Audio)),
        ("virtual-many-v180", media(MANY_VIDEO, RenditionKind::Video)),
        ("virtual-many-v180-iframes", iframes(MANY_IFRAMES, MANY_VIDEO)),
        ("virtual-many-s-en", media(MANY_CAPTIONS, RenditionKind::Subtitles)),
    ]
}

#[test]
fn a_packagers_playlists_become_virtual() {
    let expected = [
        golden!("virtual-one-main"),
        golden!("virtual-one-v180"),
        golden!("virtual-one-v180-iframes"),
        golden!("virtual-one-a-en"),
        golden!("virtual-many-v180"),
        golden!("virtual-many-v180-iframes"),
        golden!("virtual-many-s-en"),
    ];
    for ((name, text), expected) in rewritings().into_iter().zip(expected) {
        assert_eq!(text, expected, "{name}");
    }
}

/// After a deliberate change: `cargo test -p media -- --ignored golden_playlists`, then read the difference.
#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_playlists() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/playlists");
    for (name, text) in rewritings() {
        std::fs::write(golden.join(format!("{name}.m3u8")), text).expect("written");
    }
}

#[test]
fn byte_ranges_of_one_file_continue() {
    let playlist = parse_media(ONE_VIDEO).expect("valid");
    let map = Map { uri: "v180.mp4".to_owned(), range: range(0, 833) };
    assert_eq!(
        (playlist.map.as_ref(), playlist.target_duration_s, playlist.longest_s()),
        (Some(&map), 15, 6)
    );
    assert!(playlist.vod && playlist.ended && !playlist.iframes_only);
    assert_eq!(playlist.duration_ms(), 16_500);
    let found: Vec<_> =
        playlist.entries.iter().map(|e| (e.uri.as_str(), e.range, e.duration_ms, e.line)).collect();
    let file = "v180.mp4";
    assert_eq!(
        found,
        [
            (file, range(901, 128_568), 6000, 9),
            (file, range(128_568, 237_823), 6000, 12),
            (file, range(237_823, 322_985), 4500, 15),
        ]
    );
    let audio = parse_media(ONE_AUDIO).expect("valid");
    assert_eq!(audio.entries.iter().map(|e| e.duration_ms).collect::<Vec<_>>(), [6016, 5995, 4489]);
}

#[test]
fn a_main_playlist_lists_what_a_title_has() {
    let main = parse_main(ONE_MAIN).expect("valid");
    assert!(main.independent_segments);
    let variant = main.of(StreamKind::Variant).next().expect("one");
    let expected = Stream {
        line: 10,
        kind: StreamKind::Variant,
        uri: "cdn/v180.m3u8".to_owned(),
        bandwidth: 300_924,
        average_bandwidth: Some(286_614),
        codecs: Some("avc1.42c00c,mp4a.40.2".to_owned()),
        resolution: Some(Resolution { width: 320, height: 180 }),
        frame_rate_milli: Some(24_000),
        audio: Some("audio".to_owned()),
        subtitles: Some("subs".to_owned()),
    };
    assert_eq!(*variant, expected);
    let iframes = main.of(StreamKind::IFrames).next().expect("one");
    assert_eq!((iframes.uri.as_str(), iframes.bandwidth), ("cdn/v180-iframes.m3u8", 22_720));
    let expected = Media {
        line: 6,
        media_type: MediaType::Audio,
        group: "audio".to_owned(),
        name: "English".to_owned(),
        language: Some("en".to_owned()),
        uri: Some("cdn/a-en.m3u8".to_owned()),
        default: false,
        autoselect: true,
        channels: Some("2".to_owned()),
    };
    assert_eq!(main.media[0], expected);
    assert_eq!(main.media[1].media_type, MediaType::Subtitles);
}

#[test]
fn every_other_line_survives_byte_for_byte() {
    let text = "#EXTM3U\r\n# a comment\r\n\r\n#EXT-X-TARGETDURATION:6\r\n#EXT-X-FUTURE:A=\"b, c\",D=e\r\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://key\"\r\n\
        #EXT-X-MAP:URI=\"a.mp4\",BYTERANGE=\"5@0\",X-OWN=\"1\"\r\n#EXTINF:6.0,A title, with a comma\r\n\
        #EXT-X-BYTERANGE:10@5\r\n#EXT-X-BITRATE:400\r\na.mp4\r\n#EXT-X-GAP\n#EXTINF:5\n#EXT-X-BYTERANGE:10\na.mp4\n\
        #EXT-X-ENDLIST";
    let expected = "#EXTM3U\r\n# a comment\r\n\r\n#EXT-X-TARGETDURATION:6\r\n#EXT-X-FUTURE:A=\"b, c\",D=e\r\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://key\"\r\n\
        #EXT-X-MAP:URI=\"init.mp4\",X-OWN=\"1\"\r\n#EXTINF:6.0,A title, with a comma\r\n\
        #EXT-X-BITRATE:400\r\n0.m4s\r\n#EXT-X-GAP\n#EXTINF:5\n1.m4s\n#EXT-X-ENDLIST";
    assert_eq!(virtualize_media(text, RenditionKind::Video, None).as_deref(), Ok(expected));
}

#[test]
fn image_playlists_and_their_streams_are_rewritten() {
    let main = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\ncdn/v180.m3u8\n\
        #EXT-X-IMAGE-STREAM-INF:BANDWIDTH=2,RESOLUTION=320x180,CODECS=\"jpeg\",URI=\"cdn/thumbs.m3u8\"\n";
    let images = parse_main(main).expect("valid").of(StreamKind::Images).cloned().collect::<Vec<_>>();
    assert_eq!((images.len(), images[0].codecs.as_deref()), (1, Some("jpeg")));
    let rewritten = virtualize_main(main, name_of).expect("valid");
    assert!(rewritten.ends_with("CODECS=\"jpeg\",URI=\"thumbs/index.m3u8\"\n"), "{rewritten}");

    let images = "#EXTM3U\n#EXT-X-TARGETDURATION:200\n#EXT-X-IMAGES-ONLY\n#EXTINF:200,\n\
        #EXT-X-TILES:RESOLUTION=320x180,LAYOUT=5x4,DURATION=10\nthumbs-0.jpg\n#EXT-X-ENDLIST\n";
    assert!(parse_media(images).expect("valid").images_only);
    let rewritten = virtualize_media(images, RenditionKind::Images, None);
    assert_eq!(rewritten, Ok(images.replace("thumbs-0.jpg", "0.jpg")));
}

#[test]
fn uris_move_and_nothing_else() {
    let moved = map_uris(ONE_VIDEO, |uri| Some(format!("../{uri}")));
    assert_eq!(moved, Ok(ONE_VIDEO.replace("v180.mp4", "../v180.mp4")));
    assert_eq!(map_uris(ONE_MAIN, |uri| Some(uri.to_owned())).as_deref(), Ok(ONE_MAIN));
    for bad in ["", "#x", "a\"b", "a\nb"] {
        let error = map_uris(ONE_VIDEO, |_| Some(bad.to_owned())).expect_err(bad).to_string();
        assert_eq!(error, "line 6, EXT-X-MAP: the package has no name for \"v180.mp4\"");
    }
}

fn media(body: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n{body}\n#EXT-X-ENDLIST\n")
}

#[test]
fn media_playlists_that_cannot_be_played_are_refused() {
    for (body, expected) in [
        ("a.m4s", "line 3, URI: EXTINF before this URI is missing"),
        ("#EXTINF:6,\n#EXTINF:6,\na", "line 4, EXTINF: this stands twice"),
        ("#EXTINF:,\na", "line 3, EXTINF: \",\" is not a duration in seconds"),
        ("#EXTINF:-1,\na", "line 3, EXTINF: \"-1,\" is not a duration in seconds"),
        ("#EXTINF:1e3,\na", "line 3, EXTINF: \"1e3,\" is not a duration in seconds"),
        ("#EXTINF:4294968,\na", "line 3, EXTINF: \"4294968,\" is not a duration in seconds"),
        ("#EXTINF:6,", "line 4, playlist: the URI of the last segment is missing"),
        ("#EXT-X-BYTERANGE:5@0", "line 4, playlist: the URI of the last segment is missing"),
        ("#EXT-X-BYTERANGE:0@0", "line 3, EXT-X-BYTERANGE: \"0@0\" is not a byte range, length[@offset]"),
        ("#EXT-X-BYTERANGE:5@", "line 3, EXT-X-BYTERANGE: \"5@\" is not a byte range, length[@offset]"),
        ("#EXT-X-BYTERANGE:+5@1", "line 3, EXT-X-BYTERANGE: \"+5@1\" is not a byte range"),
        (
            "#EXT-X-BYTERANGE:1@18446744073709551615",
            "line 3, EXT-X-BYTERANGE: \"1@18446744073709551615\" is not a",
        ),
        (
            "#EXTINF:6,\n#EXT-X-BYTERANGE:5\na",
            "line 5, URI: a byte range without offset must follow one of the same",
        ),
        (
            "#EXTINF:6,\n#EXT-X-BYTERANGE:5@0\na\n#EXTINF:6,\n#EXT-X-BYTERANGE:5\nb",
            "line 8, URI: a byte range without offset must follow one of the same resource",
        ),
        ("#EXT-X-MAP:URI=a", "line 3, EXT-X-MAP: \"a\" is not a text in quotes"),
        ("#EXT-X-MAP:BYTERANGE=\"5@0\"", "line 3, EXT-X-MAP: URI is missing"),
        ("#EXT-X-MAP:URI=\"a\",BYTERANGE=\"5\"", "line 3, EXT-X-MAP: the offset of BYTERANGE is missing"),
        (
            "#EXT-X-MAP:URI=\"a\",URI=\"b\"",
            "line 3, EXT-X-MAP: malformed attribute list at \"URI=\\\"b\\\"\"",
        ),
        ("#EXT-X-MAP:URI=\"a", "line 3, EXT-X-MAP: malformed attribute list at"),
        ("#EXT-X-MAP:URI=\"a\",", "line 3, EXT-X-MAP: malformed attribute list at \"\""),
        ("#EXT-X-MAP:URI=\"a\" ,X=1", "line 3, EXT-X-MAP: malformed attribute list at \" ,X=1\""),
        ("#EXT-X-MAP:URI=\"a\"\n#EXT-X-MAP:URI=\"b\"", "line 4, EXT-X-MAP: another initialisation section"),
        ("#EXTINF:6,\na\n#EXT-X-MAP:URI=\"b\"", "line 5, EXT-X-MAP: another initialisation section"),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1",
            "line 3, EXT-X-STREAM-INF: this tag belongs to a multivariant playlist",
        ),
        ("#EXT-X-TARGETDURATION:6", "line 3, EXT-X-TARGETDURATION: this stands twice"),
        ("#EXT-X-VERSION:six", "line 3, EXT-X-VERSION: \"six\" is not an integer in range"),
        ("#EXTINF:6,\u{7}\na", "line 3, EXTINF: control character '\\u{7}'"),
    ] {
        let error = parse_media(&media(body)).expect_err(body).to_string();
        assert!(error.starts_with(expected), "{error:?} should say {expected:?}");
    }
    for (text, expected) in [
        ("", "line 1, playlist: a playlist begins with #EXTM3U"),
        ("\u{feff}#EXTM3U\n", "line 1, playlist: a playlist begins with #EXTM3U"),
        ("#EXTM3U\n#EXT-X-ENDLIST\n", "line 2, playlist: EXT-X-TARGETDURATION is missing"),
    ] {
        assert_eq!(parse_media(text).expect_err(text).to_string(), expected);
    }
}

#[test]
fn what_cannot_be_renamed_is_refused() {
    let refused = |body: &str, expected: &str| {
        let error =
            virtualize_media(&media(body), RenditionKind::Video, Some(6)).expect_err(body).to_string();
        assert!(error.starts_with(expected), "{error:?} should say {expected:?}");
    };
    refused(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k/1\"",
        "line 3, EXT-X-KEY: the package has no name for \"k/1\"",
    );
    refused("#EXT-X-PART:DURATION=1,URI=\"1:2/3\"", "line 3, EXT-X-PART: the package has no name for");
    refused(
        "#EXTINF:6.5,\na",
        "line 5, playlist: a target duration of 6 s is shorter than the longest segment, 7 s",
    );
    let live = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na\n";
    let error = virtualize_media(live, RenditionKind::Video, None).expect_err("live").to_string();
    assert_eq!(error, "line 4, playlist: the playlist has no EXT-X-ENDLIST, it is not finished");

    let video = parse_media(ONE_VIDEO).expect("valid");
    let frames =
        |text: &str| virtualize_iframes(text, &video, RenditionKind::Video, None).map_err(|e| e.to_string());
    assert!(frames(ONE_IFRAMES).is_ok());
    for (from, to, expected) in [
        (
            "5680@901",
            "5680@900",
            "line 10, URI: v180.mp4 bytes 900-6579 lies in no segment of the media playlist",
        ),
        ("3383@310983", "12003@310983", "line 34, URI: v180.mp4 bytes 310983-322985 lies in no segment"),
        ("4223@128568", "4223@128567", "line 19, URI: v180.mp4 bytes 128567-132789 lies in no segment"),
        ("833@0", "832@0", "line 35, playlist: another initialisation section"),
        ("#EXT-X-I-FRAMES-ONLY", "#", "line 35, playlist: EXT-X-I-FRAMES-ONLY is missing"),
        ("#EXT-X-BYTERANGE:5680@901", "#", "line 10, URI: v180.mp4 lies in no segment"),
    ] {
        let error = frames(&ONE_IFRAMES.replace(from, to)).expect_err(to);
        assert!(error.starts_with(expected), "{error:?} should say {expected:?}");
    }
}

#[test]
fn main_playlists_that_cannot_be_used_are_refused() {
    for (body, expected) in [
        ("", "line 1, playlist: EXT-X-STREAM-INF is missing"),
        ("v/main.m3u8", "line 2, URI: EXT-X-STREAM-INF before this URI is missing"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1", "line 2, EXT-X-STREAM-INF: the URI of this variant is missing"),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-X\nv",
            "line 2, EXT-X-STREAM-INF: the URI of this variant is missing",
        ),
        ("#EXT-X-STREAM-INF:CODECS=\"a\"\nv", "line 2, EXT-X-STREAM-INF: BANDWIDTH is missing"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=x\nv", "line 2, EXT-X-STREAM-INF: \"x\" is not an integer in range"),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=4294967296\nv",
            "line 2, EXT-X-STREAM-INF: \"4294967296\" is not an integer",
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=\"1\"\nv",
            "line 2, EXT-X-STREAM-INF: \"\\\"1\\\"\" is not a value without",
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1\nv",
            "line 2, EXT-X-STREAM-INF: \"1\" is not a resolution",
        ),
        (
            "#EXT-X-STREAM-INF:BANDWIDTH=1,FRAME-RATE=.x\nv",
            "line 2, EXT-X-STREAM-INF: \".x\" is not a frame rate",
        ),
        ("#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1", "line 2, EXT-X-I-FRAME-STREAM-INF: URI is missing"),
        ("#EXT-X-MEDIA:GROUP-ID=\"a\",NAME=\"b\"", "line 2, EXT-X-MEDIA: TYPE is missing"),
        (
            "#EXT-X-MEDIA:TYPE=SMELL,GROUP-ID=\"a\",NAME=\"b\"",
            "line 2, EXT-X-MEDIA: \"SMELL\" is not a media type",
        ),
        ("#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"b\"", "line 2, EXT-X-MEDIA: GROUP-ID is missing"),
        (
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"b\",DEFAULT=1",
            "line 2, EXT-X-MEDIA: \"1\" is not YES or NO",
        ),
        ("#EXTINF:6,\nv", "line 2, EXTINF: this tag belongs to a media playlist"),
    ] {
        let error = parse_main(&format!("#EXTM3U\n{body}")).expect_err(body).to_string();
        assert!(error.starts_with(expected), "{error:?} should say {expected:?}");
    }
    let unknown = virtualize_main(&ONE_MAIN.replace("cdn/a-en", "elsewhere/a-en"), name_of);
    let expected = "line 6, EXT-X-MEDIA: the package has no name for \"elsewhere/a-en.m3u8\"";
    assert_eq!(unknown.expect_err("unknown").to_string(), expected);
}

#[test]
fn size_is_bounded() {
    let long = format!("#EXTM3U\n{}", "#".repeat(MAX_PLAYLIST_LEN));
    assert!(matches!(parse_media(&long), Err(PlaylistError { fault: Fault::TooLong(_), .. })));
    let tall = format!("#EXTM3U\n{}", "\n".repeat(MAX_LINES));
    assert!(matches!(parse_media(&tall), Err(PlaylistError { fault: Fault::TooManyLines, .. })));
}

/// What another parser reads: URI, byte range as written (length and offset), duration in seconds.
type Read = (String, Option<(u64, Option<u64>)>, f64);

fn oracle(text: &str) -> Vec<Read> {
    let options = ParsingOptionsBuilder::new().with_parsing_for_all_tags().build();
    let mut reader = Reader::from_str(text, options);
    let (mut found, mut range, mut duration) = (vec![], None, 0.0);
    while let Some(line) = reader.read_line().expect("valid") {
        match line {
            HlsLine::KnownTag(KnownTag::Hls(Tag::Inf(inf))) => duration = inf.duration(),
            HlsLine::KnownTag(KnownTag::Hls(Tag::Byterange(tag))) => {
                range = Some((tag.length(), tag.offset()));
            }
            HlsLine::Uri(uri) => found.push((uri.into_owned(), range.take(), duration)),
            _ => {}
        }
    }
    found
}

fn agrees_with_oracle(text: &str) {
    let ours = parse_media(text).expect("valid").entries;
    let theirs = oracle(text);
    assert_eq!(ours.len(), theirs.len());
    let mut end = 0;
    for (entry, (uri, range, seconds)) in ours.iter().zip(theirs) {
        assert_eq!(entry.uri, uri);
        let placed = range.map(|(len, offset)| (offset.unwrap_or(end), len));
        assert_eq!(entry.range.map(|range| (range.start(), range.len())), placed);
        assert!(
            (seconds * 1000.0 - f64::from(entry.duration_ms)).abs() < 0.501,
            "{seconds} {}",
            entry.duration_ms
        );
        end = entry.range.map_or(0, ByteRange::end);
    }
}

#[test]
fn another_parser_reads_the_same() {
    for text in [ONE_VIDEO, ONE_IFRAMES, ONE_AUDIO, MANY_VIDEO, MANY_IFRAMES, MANY_CAPTIONS] {
        agrees_with_oracle(text);
    }
    for (_, text) in &rewritings()[1..] {
        agrees_with_oracle(text);
    }
    let options = ParsingOptionsBuilder::new().with_parsing_for_all_tags().build();
    let mut reader = Reader::from_str(ONE_MAIN, options);
    let main = parse_main(ONE_MAIN).expect("valid");
    while let Some(line) = reader.read_line().expect("valid") {
        if let HlsLine::KnownTag(KnownTag::Hls(Tag::StreamInf(tag))) = line {
            let ours = main.of(StreamKind::Variant).next().expect("one");
            assert_eq!(tag.bandwidth(), u64::from(ours.bandwidth));
            assert_eq!(tag.codecs(), ours.codecs.as_deref());
            assert_eq!((tag.audio(), tag.subtitles()), (ours.audio.as_deref(), ours.subtitles.as_deref()));
        }
    }
}

/// Playlists of every shape a package may have: files, ranges with and without offsets.
fn any_playlist() -> impl Strategy<Value = String> {
    let entry = (0u32..20_000_000, 1u64..1 << 30, prop::option::of(0u64..1 << 40), any::<bool>());
    prop::collection::vec(entry, 0..20).prop_map(|entries| {
        let mut text =
            "#EXTM3U\n#EXT-X-TARGETDURATION:20000\n#EXT-X-MAP:URI=\"f\",BYTERANGE=\"1@0\"\n".to_owned();
        let mut follows = false;
        for (n, (micros, len, offset, ranged)) in entries.into_iter().enumerate() {
            text += &format!("#EXTINF:{}.{:06},\n", micros / 1_000_000, micros % 1_000_000);
            let offset = if follows { offset } else { Some(offset.unwrap_or(7)) };
            let offset = offset.map_or(String::new(), |offset| format!("@{offset}"));
            let (span, uri) = if ranged {
                (format!("#EXT-X-BYTERANGE:{len}{offset}\n"), "f".to_owned())
            } else {
                (String::new(), n.to_string())
            };
            text += &format!("{span}{uri}\n");
            follows = ranged;
        }
        text + "#EXT-X-ENDLIST\n"
    })
}

proptest! {
    #[test]
    fn any_playlist_is_read_like_another_parser_reads_it(text in any_playlist()) {
        agrees_with_oracle(&text);
    }

    #[test]
    fn rewriting_keeps_the_order_and_the_durations(text in any_playlist()) {
        let before = parse_media(&text).expect("valid");
        let rewritten = virtualize_media(&text, RenditionKind::Video, None).expect("valid");
        let after = parse_media(&rewritten).expect("valid");
        prop_assert_eq!(before.entries.len(), after.entries.len());
        for (n, (before, after)) in before.entries.iter().zip(&after.entries).enumerate() {
            prop_assert_eq!(&after.uri, &format!("{n}.m4s"));
            prop_assert_eq!((after.range, after.duration_ms), (None, before.duration_ms));
        }
        let again = virtualize_media(&rewritten, RenditionKind::Video, None);
        prop_assert_eq!(again.as_deref(), Ok(rewritten.as_str()), "rewriting twice changes nothing");
    }

    #[test]
    fn no_changed_playlist_makes_us_panic(
        sample in prop::sample::select(vec![ONE_MAIN, ONE_VIDEO, ONE_IFRAMES, MANY_IFRAMES]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\\n\\r]{0,3}"), 1..6),
    ) {
        let mut text = sample.to_owned();
        for (at, new) in changes {
            let at = at.index(text.len());
            text.replace_range(at..=at, &new);
            if text.is_empty() { break; }
        }
        let _ = parse_main(&text);
        let _ = virtualize_main(&text, name_of);
        if let Ok(media) = parse_media(ONE_VIDEO) {
            let _ = virtualize_iframes(&text, &media, RenditionKind::Video, None);
        }
        if let Ok(rewritten) = virtualize_media(&text, RenditionKind::Video, None) {
            prop_assert!(parse_media(&rewritten).is_ok(), "what we write we can read");
        }
    }
}
