//! A package without a fault, and for each rule one that breaks it.

use super::rules::ALL;
use super::*;

const SEGMENTS: u64 = 200;

fn playlist(entries: usize) -> PlaylistFacts {
    PlaylistFacts { bytes: 40 * entries as u64, entries, target_s: 6, ended: true }
}

/// Segments of six seconds; every tenth of them is half as large again.
fn track(id: &str, bits: u64) -> Track {
    let bytes = |n: u64| bits * 6 / 8 * if n % 10 == 9 { 3 } else { 2 } / 2;
    let segment = |n: u64| SegmentFacts {
        start_us: n * 6_000_000,
        duration_us: 6_000_000,
        bytes: bytes(n),
        sync: true,
    };
    let segments = (0..SEGMENTS).map(segment).collect();
    Track { id: id.parse().expect("valid"), playlist: playlist(SEGMENTS as usize), segments }
}

fn video(id: &str, bits: u64) -> VideoTrack {
    VideoTrack {
        track: track(id, bits),
        // Video and audio at their peaks, which are half as much again.
        bandwidth: (bits + 100_000) * 3 / 2,
        average_bandwidth: Some((bits + 100_000) * 21 / 20),
        codecs: Some("avc1.64001f,mp4a.40.2".into()),
        resolution: Some((1280, 720)),
        frame_rate_milli: Some(24_000),
        has_audio: false,
        iframes: Some(playlist(3 * SEGMENTS as usize)),
    }
}

fn good() -> PackageFacts {
    PackageFacts {
        duration_ms: SEGMENTS * 6_000,
        main_bytes: 2_000,
        video: vec![video("v720", 2_000_000), video("v216", 380_000)],
        audio: vec![AudioTrack { track: track("a-en", 100_000), codec: "mp4a.40.2".into(), channels: 2 }],
        text: vec![TextTrack { id: "s-en".parse().expect("valid"), playlist: playlist(200) }],
        thumbnails: Some(playlist(6)),
        bif: true,
    }
}

#[test]
fn a_good_package_is_not_spoken_of() {
    assert_eq!(lint(&good()), []);
    assert!(publishable(&[]));
}

type Change = fn(&mut PackageFacts);

use Severity::{Error, Warning};

/// (the rule, how bad, what breaks it, what is said)
const BAD: &[(Rule, Severity, Change, &str)] = &[
    (Rule::Empty, Error, |p| p.video.clear(), "no video"),
    (Rule::Empty, Error, |p| p.audio[0].track.segments.clear(), "a-en: there is no segment"),
    (Rule::Empty, Error, |p| p.video[1].track.segments[7].bytes = 0, "v216: segment 7"),
    (Rule::Empty, Error, |p| p.video[1].track.segments[7].duration_us = 0, "v216: segment 7"),
    (Rule::Alignment, Error, |p| p.video[1].track.segments[5].start_us += 1_001, "v216: segment 5 begins"),
    (Rule::Alignment, Error, |p| p.video[1].track.segments.truncate(199), "199 segments, v720 has 200"),
    (Rule::SyncStart, Error, |p| p.video[0].track.segments[3].sync = false, "v720: segment 3"),
    (
        Rule::PeakAboveBandwidth,
        Error,
        |p| p.video[0].bandwidth = 2_800_000,
        "measured with audio were 3150000",
    ),
    (Rule::PeakAboveBandwidth, Warning, |p| p.video[0].bandwidth -= 1, "v720: BANDWIDTH is 3149999"),
    (Rule::BandwidthFarAbovePeak, Error, |p| p.video[0].bandwidth = 6_300_001, "v720: BANDWIDTH is 6300001"),
    (Rule::AverageBandwidth, Warning, |p| p.video[0].average_bandwidth = None, "not declared"),
    (Rule::AverageBandwidth, Warning, |p| p.video[0].average_bandwidth = Some(2_204_999), "v720"),
    (Rule::AverageBandwidth, Error, |p| p.video[0].average_bandwidth = Some(2_000_000), "v720"),
    (
        Rule::SegmentBytes,
        Error,
        |p| p.video[0].track.segments[9].bytes = 17_000_001,
        "segment 9 has 17000001",
    ),
    (
        Rule::TargetDuration,
        Error,
        |p| p.audio[0].track.segments[2].duration_us = 6_500_000,
        "a-en: segment 2",
    ),
    (Rule::LowRung, Error, |p| p.video.truncate(1), "2100000 bit/s"),
    (Rule::LowRung, Error, |p| p.video[1] = video("v216", 458_000), "480900 bit/s"),
    (Rule::AacStereo, Error, |p| p.audio[0].channels = 6, "[mp4a.40.2 x 6]"),
    (Rule::AacStereo, Error, |p| p.audio[0].codec = "ec-3".into(), "[ec-3 x 2]"),
    (Rule::AacStereo, Error, |p| p.audio.clear(), "only []"),
    (Rule::Demuxed, Error, |p| p.video[1].has_audio = true, "v216"),
    (
        Rule::OneCodec,
        Error,
        |p| p.video[1].codecs = Some("mp4a.40.2, hvc1.1.6.L93.90".into()),
        "v216: the codec is hvc1, other rungs have avc1",
    ),
    (Rule::PlaylistEntries, Error, |p| p.audio[0].track.playlist.entries = 4000, "a-en lists 4000"),
    (Rule::PlaylistEntries, Error, |p| p.text[0].playlist.entries = 4000, "s-en lists 4000"),
    (Rule::PlaylistEntries, Error, |p| p.thumbnails = Some(playlist(4000)), "thumbs lists 4000"),
    (
        Rule::PlaylistEntries,
        Warning,
        |p| p.video[0].iframes = Some(playlist(4000)),
        "I-frame playlist of v720",
    ),
    (Rule::PlaylistBytes, Error, |p| p.main_bytes = 1_000_000, "main has 1000000"),
    (Rule::PlaylistBytes, Error, |p| p.text[0].playlist.bytes = 1_000_000, "s-en has 1000000"),
    (Rule::EndList, Error, |p| p.video[1].track.playlist.ended = false, "v216 has no EXT-X-ENDLIST"),
    (Rule::Duration, Warning, |p| p.duration_ms += 1_001, "it plays 1200000 ms, the film 1201001 ms"),
    (Rule::Duration, Error, |p| p.duration_ms -= 6_000, "it plays 1200000 ms, the film 1194000 ms"),
    (Rule::IFrames, Warning, |p| p.video[1].iframes = None, "v216: there is no I-frame playlist"),
    (Rule::IFrames, Warning, |p| p.video[1].iframes = Some(playlist(0)), "v216"),
    (Rule::Thumbnails, Error, |p| (p.thumbnails, p.bif) = (None, false), "15 minutes"),
    (
        Rule::Attributes,
        Error,
        |p| p.video[0].codecs = None,
        "v720: the multivariant playlist does not state CODECS",
    ),
    (Rule::Attributes, Error, |p| p.video[0].resolution = None, "not state RESOLUTION"),
    (Rule::Attributes, Error, |p| p.video[0].frame_rate_milli = None, "not state FRAME-RATE"),
];

#[test]
fn every_rule_has_a_package_that_breaks_it() {
    for (rule, severity, change, expected) in BAD {
        let mut facts = good();
        change(&mut facts);
        let findings = lint(&facts);
        let found = findings.iter().find(|finding| (finding.rule, finding.severity) == (*rule, *severity));
        let text = found.unwrap_or_else(|| panic!("{rule:?} is silent among {findings:?}")).to_string();
        assert!(text.contains(expected), "{text:?} should say {expected:?}");
        if *severity == Error {
            assert!(!publishable(&findings));
        }
    }
    for rule in Rule::ALL {
        assert!(BAD.iter().any(|(broken, ..)| broken == rule), "{rule:?} has no bad sample");
    }
    assert_eq!(ALL.len(), Rule::ALL.len());
}

#[test]
fn warnings_alone_do_not_stop_a_package() {
    let mut facts = good();
    facts.video[0].iframes = None;
    let findings = lint(&facts);
    assert_eq!((findings.len(), publishable(&findings)), (1, true));
}

#[test]
fn the_limits_themselves_are_kept() {
    let check = |change: fn(&mut PackageFacts)| {
        let mut facts = good();
        change(&mut facts);
        assert_eq!(lint(&facts), []);
    };
    check(|p| p.video[1].track.segments[5].start_us += 1_000);
    check(|p| p.video[0].bandwidth = 6_300_000);
    check(|p| p.video[1] = video("v216", 457_000));
    check(|p| p.video[0].average_bandwidth = Some(2_205_000));
    check(|p| p.duration_ms += 1_000);
    check(|p| p.main_bytes = 999_999);
    check(|p| p.text[0].playlist.entries = 3_999);
    check(|p| p.video[0].iframes = Some(playlist(3_999)));
    check(|p| p.audio[0].track.segments[199].duration_us = 6_499_999);
    check(|p| p.thumbnails = None);
    check(|p| p.bif = false);
    check(|p| p.text.clear());
    // Dolby may stand beside AAC stereo.
    check(|p| p.audio.push(AudioTrack { codec: "ec-3".into(), channels: 6, ..p.audio[0].clone() }));
}

#[test]
fn a_short_film_needs_no_thumbnails() {
    let mut facts = good();
    let shorten = |track: &mut Track| track.segments.truncate(150);
    facts.video.iter_mut().for_each(|video| shorten(&mut video.track));
    facts.audio.iter_mut().for_each(|audio| shorten(&mut audio.track));
    (facts.duration_ms, facts.thumbnails, facts.bif) = (900_000, None, false);
    assert_eq!(lint(&facts), []);
}

/// ffmpeg writes its settings into the multivariant playlist: 3.06 Mb/s stood over a rung that peaked at 1.05.
#[test]
fn a_declared_rate_that_was_never_measured_is_found() {
    let mut facts = good();
    facts.video[0].track = track("v720", 600_000);
    facts.video[0].bandwidth = 3_060_000;
    let rules: Vec<_> = lint(&facts).iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::BandwidthFarAbovePeak]);
}

#[test]
fn peaks_are_those_of_rfc_8216() {
    let segment = |seconds: u64, bytes: u64| SegmentFacts {
        start_us: 0,
        duration_us: seconds * 1_000_000,
        bytes,
        sync: true,
    };
    let check = |segments: &[(u64, u64)], expected: u64| {
        let segments: Vec<_> = segments.iter().map(|(seconds, bytes)| segment(*seconds, *bytes)).collect();
        assert_eq!(peak_bits(&segments, 6), expected, "{segments:?}");
    };
    check(&[(6, 600), (6, 1200), (6, 600)], 1600);
    // A last segment of one second does not stand alone, but it counts together with the one before.
    check(&[(6, 600), (1, 1000)], 1829);
    check(&[(6, 600), (1, 10)], 800);
    // Three seconds do stand alone; two do not, four together do.
    check(&[(6, 600), (3, 600)], 1600);
    check(&[(2, 100), (2, 600), (2, 600), (2, 100)], 2400);
    // A film shorter than any run.
    check(&[(1, 100)], 800);
    check(&[], 0);
    // A run is at most one and a half targets long.
    check(&[(12, 2400), (6, 600)], 800);
}

#[test]
fn words_are_the_same_everywhere() {
    for rule in Rule::ALL {
        assert_eq!(serde_json::to_string(rule).expect("serialisable"), format!("\"{}\"", rule.as_str()));
    }
    let finding =
        Finding { rule: Rule::LowRung, severity: Severity::Error, rendition: None, text: "none".into() };
    assert_eq!(finding.to_string(), "error low-rung: none");
}
