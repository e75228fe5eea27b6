use proptest::prelude::*;

use super::*;
use crate::range::ByteRange;

/// Five seconds of 48x32 video at 5 frames per second and of mono audio, as a packager wrote them: init,
/// sidx, then fragments of two seconds in segments of four.
const VIDEO: &[u8] = include_bytes!("../../tests/golden/cmaf/v.mp4");
const AUDIO: &[u8] = include_bytes!("../../tests/golden/cmaf/a.mp4");

fn segments(file: &[u8]) -> Vec<&[u8]> {
    let sidx = Sidx::parse(file).expect("a sidx");
    sidx.entries.iter().map(|e| &file[e.range.start() as usize..e.range.end() as usize]).collect()
}

/// A box of this type around a payload.
fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32 + 8).to_be_bytes()[..], kind, payload].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A segment of one fragment with these header fields and runs.
fn segment(tfhd: &[u32], base: u32, runs: &[&[u32]]) -> Vec<u8> {
    let mut traf = [boxed(b"tfhd", &words(tfhd)), boxed(b"tfdt", &words(&[0, base]))].concat();
    runs.iter().for_each(|run| traf.extend(boxed(b"trun", &words(run))));
    [boxed(b"moof", &boxed(b"traf", &traf)), boxed(b"mdat", b"data")].concat()
}

const PLAIN: Init = Init {
    track: 1,
    timescale: 1000,
    handler: Handler::Video,
    codec: FourCc(*b"avc1"),
    defaults: SampleDefaults { duration: 40, size: 0, flags: NON_SYNC },
};
const NON_SYNC: u32 = 0x0001_0000;

#[test]
fn an_initialisation_section_tells_the_track() {
    let video = Init::parse(VIDEO).expect("valid");
    assert_eq!((video.handler, video.codec.to_string().as_str()), (Handler::Video, "avc1"));
    assert_eq!((video.track, video.timescale), (1, 10_240));
    let audio = Init::parse(AUDIO).expect("valid");
    assert_eq!((audio.handler, audio.codec.to_string().as_str()), (Handler::Audio, "mp4a"));
    assert_eq!((audio.timescale, audio.defaults.duration), (8000, 1024));
}

#[test]
fn sidx_and_segments_agree() {
    // The encoder's first 1024 audio samples are priming: an edit list hides them from presentation, which is
    // the time of sidx, but not from decoding, which is the time of the fragments.
    for (file, priming) in [(VIDEO, 0), (AUDIO, 1024)] {
        let (init, sidx) = (Init::parse(file).expect("init"), Sidx::parse(file).expect("sidx"));
        assert_eq!(sidx.timescale, init.timescale);
        assert_eq!(sidx.entries.last().map(|entry| entry.range.end()), Some(file.len() as u64));
        let (mut presented, mut decoded) = (sidx.earliest, 0);
        for (entry, bytes) in sidx.entries.iter().zip(segments(file)) {
            let facts = init.segment_facts(bytes).expect("valid");
            assert!(facts.starts_with_sync && facts.contiguous && entry.starts_with_sap);
            assert_eq!(facts.base_time, decoded);
            (presented, decoded) = (presented + u64::from(entry.duration), facts.end_time());
            assert_eq!(decoded, presented + priming);
        }
    }
    let facts = Init::parse(VIDEO).expect("init").segment_facts(segments(VIDEO)[0]).expect("valid");
    assert_eq!((facts.samples, facts.fragments, facts.duration), (20, 2, 4 * 10_240));
    assert_eq!(segment_facts(segments(VIDEO)[0]).map(|facts| facts.timescale), Ok(None));
}

#[test]
fn the_front_of_a_file_is_enough() {
    let first = Sidx::parse(VIDEO).expect("sidx").entries[0].range.start() as usize;
    assert_eq!(Init::parse(&VIDEO[..first]), Init::parse(VIDEO));
    assert_eq!(Sidx::parse(&VIDEO[..first]), Sidx::parse(VIDEO));
}

/// Where the flags of the first sample come from: run, sample, fragment, initialisation section.
#[test]
fn the_first_samples_flags_decide() {
    let sync = |tfhd: &[u32], run: &[u32]| {
        let facts = PLAIN.segment_facts(&segment(tfhd, 0, &[run])).expect("valid");
        facts.starts_with_sync
    };
    assert!(!sync(&[0, 1], &[0, 2]), "the initialisation section says no");
    assert!(sync(&[0x20, 1, 0], &[0, 2]), "the fragment says yes");
    assert!(sync(&[0x20, 1, NON_SYNC], &[0x4, 2, 0]), "the run says yes for its first");
    assert!(sync(&[0x20, 1, NON_SYNC], &[0x400, 2, 0, NON_SYNC]), "the sample says yes");
    assert!(!sync(&[0x20, 1, 0], &[0x400, 2, NON_SYNC, 0]), "the sample says no");
    assert!(sync(&[0x3b, 1, 0, 0, 1, 40, 9, 0], &[0x5, 2, 8, 0]), "every optional field is skipped");
}

#[test]
fn durations_come_from_the_nearest() {
    let duration = |tfhd: &[u32], runs: &[&[u32]]| {
        let facts = PLAIN.segment_facts(&segment(tfhd, 100, runs)).expect("valid");
        (facts.base_time, facts.duration, facts.samples)
    };
    assert_eq!(duration(&[0, 1], &[&[0, 3]]), (100, 120, 3));
    assert_eq!(duration(&[0x8, 1, 50], &[&[0, 3]]), (100, 150, 3));
    assert_eq!(duration(&[0x8, 1, 50], &[&[0x100, 2, 7, 8]]), (100, 15, 2));
    assert_eq!(duration(&[0, 1], &[&[0xf00, 1, 9, 1, 0, 0], &[0, 0], &[0x200, 2, 5, 5]]), (100, 89, 3));
}

#[test]
fn gaps_between_fragments_show() {
    let pair = |second: u32| [segment(&[0, 1], 0, &[&[0, 3]]), segment(&[0, 1], second, &[&[0, 3]])].concat();
    let facts = PLAIN.segment_facts(&pair(120)).expect("valid");
    assert!(facts.contiguous && facts.fragments == 2 && facts.end_time() == 240);
    assert!(!PLAIN.segment_facts(&pair(121)).expect("valid").contiguous);
}

#[test]
fn large_and_open_sizes_are_understood() {
    let mut bytes = [&1u32.to_be_bytes()[..], b"free", &20u64.to_be_bytes(), b"1234"].concat();
    bytes.extend([&0u32.to_be_bytes()[..], b"mdat", b"to the end"].concat());
    let found: Vec<_> = boxes(&bytes).map(|b| b.map(|b| (b.kind.to_string(), b.payload))).collect();
    assert_eq!(found, [Ok(("free".to_owned(), &b"1234"[..])), Ok(("mdat".to_owned(), &b"to the end"[..]))]);
}

#[test]
fn broken_boxes_are_named() {
    let facts = |bytes: &[u8]| PLAIN.segment_facts(bytes).expect_err("broken").to_string();
    let good = segment(&[0, 1], 0, &[&[0, 3]]);
    assert_eq!(facts(b""), "file at byte 0: it holds no moof");
    assert_eq!(facts(b"1234"), "???? at byte 0: it is cut off");
    assert_eq!(facts(&good[..good.len() - 1]), "mdat at byte 64: it is cut off");
    assert_eq!(facts(&good[..64]), "moof at byte 0: it holds no mdat");
    assert_eq!(facts(&[&good[..64], &good].concat()), "moof at byte 0: it holds no mdat");
    assert_eq!(facts(&boxed(b"moof", b"")), "moof at byte 0: it holds no traf");
    assert_eq!(
        facts(&[0, 0, 0, 7, b'm', b'o', b'o', b'f']),
        "moof at byte 0: its size is less than its header"
    );
    assert_eq!(
        facts(&[0, 0, 0, 1, b'm', b'o', b'o', b'f', 0, 0, 0, 0, 0, 0, 0, 15]).as_str(),
        "moof at byte 0: its size is less than its header"
    );
    assert_eq!(
        facts(&segment(&[0, 2], 0, &[&[0, 3]])),
        "tfhd at byte 16: track has a value that means nothing"
    );
    assert_eq!(
        facts(&segment(&[0x0200_0000, 1], 0, &[])),
        "tfhd at byte 16: version has a value that means nothing"
    );
    assert_eq!(facts(&segment(&[0x8, 1], 0, &[])), "tfhd at byte 16: it is cut off");
    assert_eq!(facts(&segment(&[0, 1], 0, &[])), "moof at byte 0: it holds no trun");
    assert_eq!(facts(&segment(&[0, 1], 0, &[&[0, 0]])), "moof at byte 0: it holds no trun");
    assert_eq!(facts(&segment(&[0, 1], 0, &[&[0x100, u32::MAX, 1]])), "trun at byte 48: it is cut off");
    let two = boxed(b"moof", &[boxed(b"traf", b""), boxed(b"traf", b"")].concat());
    assert_eq!(facts(&two), "traf at byte 16: it holds more than one traf");
    let bare = segment_facts(&segment(&[0, 1], 0, &[&[0, 3]])).expect_err("no init").to_string();
    assert_eq!(bare, "trun at byte 48: the sample duration stands only in the initialisation section");
}

#[test]
fn a_sidx_that_makes_no_sense_is_refused() {
    let sidx = |fields: &[u32]| Sidx::parse(&boxed(b"sidx", &words(fields))).map_err(|e| e.to_string());
    let good = sidx(&[0, 1, 1000, 5, 2, 1, 10, 4000, 0x9000_0000]).expect("valid");
    let entry = SidxEntry {
        range: ByteRange::new(46, 56).expect("not empty"),
        duration: 4000,
        starts_with_sap: true,
        sap_type: 1,
    };
    assert_eq!((good.earliest, good.entries), (5, vec![entry]));
    for (fields, expected) in [
        (&[0, 1, 0, 0, 0, 0][..], "sidx at byte 0: time scale has a value that means nothing"),
        (&[0, 1, 1, 0, 0, 2, 10, 4000, 0], "sidx at byte 0: it is cut off"),
        (
            &[0, 1, 1, 0, 0, 1, 0x8000_000a, 1, 0],
            "sidx at byte 0: reference type has a value that means nothing",
        ),
        (&[0, 1, 1, 0, 0, 1, 0, 1, 0], "sidx at byte 0: referenced size has a value that means nothing"),
        (&[1 << 24, 1, 1, 0, 0, !0, !0, 1, 10, 1, 0], "sidx at byte 0: its times overflow"),
    ] {
        assert_eq!(sidx(fields), Err(expected.to_owned()), "{fields:?}");
    }
}

proptest! {
    #[test]
    fn no_changed_file_makes_us_panic(
        file in prop::sample::select(vec![VIDEO, AUDIO]),
        changes in prop::collection::vec((0usize..2000, any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = file.to_vec();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.truncate(end.index(bytes.len()).max(600));
        let _ = Sidx::parse(&bytes);
        let _ = segment_facts(&bytes);
        if let Ok(init) = Init::parse(&bytes) {
            let _ = init.segment_facts(&bytes);
        }
    }

    #[test]
    fn boxes_tile_the_input(payloads in prop::collection::vec((any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..30)), 0..10)) {
        let bytes: Vec<u8> = payloads.iter().flat_map(|(kind, payload)| boxed(kind, payload)).collect();
        let found: Vec<_> = boxes(&bytes).collect::<Result<_, _>>().expect("well-formed");
        prop_assert_eq!(found.iter().map(|b| (b.kind.0, b.payload.to_vec())).collect::<Vec<_>>(), payloads);
        prop_assert_eq!(found.last().map_or(0, IsoBox::end), bytes.len());
    }
}
