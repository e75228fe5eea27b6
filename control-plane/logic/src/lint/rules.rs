//! The rules, one function each. Numbers come from Roku's streaming specification and certification criteria,
//! from RFC 8216 and from players seen to fail; each constant says which.

use super::measure::{average_bits, duration_us, peak_bits};
use super::{Finding, PackageFacts, PlaylistFacts, Rule, Severity, Track, VideoTrack};
use crate::ladder::MAX_PLAYLIST_ENTRIES;

/// Segment starts may differ by this much between renditions and still be the same, in microseconds: time
/// scales round differently.
const ALIGNMENT_US: u64 = 1_000;
/// A declared rate may be this much below the measured one (percent) before it is an error: HLS authoring
/// practice allows a tenth; what is below but within it is a warning.
const UNDERSTATED_PERCENT: u64 = 10;
/// A declared peak may be so many times the measured one. Encoders that write their settings instead of
/// measurements were seen at 2.9 times.
const OVERSTATED_TIMES: u64 = 2;
/// The largest segment in bytes. A Roku keeps about 47 MB of video and wants to hold more than two segments.
const MAX_SEGMENT_BYTES: u64 = 17_000_000;
/// The largest playlist in bytes; Roku's player refuses some size not far above.
const MAX_PLAYLIST_BYTES: u64 = 1_000_000;
/// Roku certification wants a 400 kb/s rung: the average of its video. One-pass encoders miss their aim by up
/// to a fifth in short or restless films.
const LOW_RUNG_BITS: u64 = 480_000;
/// Films longer than this must have thumbnails (Roku certification 4.7), in milliseconds.
const THUMBNAILS_FROM_MS: u64 = 15 * 60 * 1000;
/// A rendition may be this much longer or shorter than the film, in milliseconds: audio frames do not end on
/// the last picture. What is beyond is a warning (sound often ends before the credits do); a whole segment is
/// an error: something was lost.
const DURATION_SLACK_MS: u64 = 1_000;

type Check = fn(&PackageFacts) -> Vec<Finding>;

/// All of them, in the order in which findings are told.
pub(super) const ALL: [Check; 19] = [
    empty,
    alignment,
    sync_start,
    peak_above_bandwidth,
    bandwidth_far_above_peak,
    average_bandwidth,
    segment_bytes,
    target_duration,
    low_rung,
    aac_stereo,
    demuxed,
    one_codec,
    playlist_entries,
    playlist_bytes,
    end_list,
    duration,
    i_frames,
    thumbnails,
    attributes,
];

fn package(rule: Rule, severity: Severity, text: String) -> Finding {
    Finding { rule, severity, rendition: None, text }
}

fn about(track: &Track, rule: Rule, severity: Severity, text: String) -> Finding {
    Finding { rule, severity, rendition: Some(track.id.clone()), text }
}

fn error(track: &Track, rule: Rule, text: String) -> Finding {
    about(track, rule, Severity::Error, text)
}

fn tracks(facts: &PackageFacts) -> impl Iterator<Item = &Track> {
    facts.video.iter().map(|video| &video.track).chain(facts.audio.iter().map(|audio| &audio.track))
}

/// At most one finding for each track that plays.
fn each_track(facts: &PackageFacts, check: impl Fn(&Track) -> Option<Finding>) -> Vec<Finding> {
    tracks(facts).filter_map(check).collect()
}

/// At most one finding for each video rendition.
fn each_video(facts: &PackageFacts, check: impl Fn(&VideoTrack) -> Option<Finding>) -> Vec<Finding> {
    facts.video.iter().filter_map(check).collect()
}

fn empty(facts: &PackageFacts) -> Vec<Finding> {
    if facts.video.is_empty() {
        return vec![package(Rule::Empty, Severity::Error, "there is no video rendition".into())];
    }
    each_track(facts, |track| {
        if track.segments.is_empty() {
            return Some(error(track, Rule::Empty, "there is no segment".into()));
        }
        let at = track.segments.iter().position(|segment| segment.bytes == 0 || segment.duration_us == 0)?;
        Some(error(track, Rule::Empty, format!("segment {at} has no bytes or no duration")))
    })
}

fn alignment(facts: &PackageFacts) -> Vec<Finding> {
    let Some(first) = facts.video.first().map(|video| &video.track) else { return vec![] };
    each_video(facts, |VideoTrack { track, .. }| {
        let (count, wanted) = (track.segments.len(), first.segments.len());
        let text = if count == wanted {
            let mut pairs = track.segments.iter().zip(&first.segments);
            let at = pairs.position(|(a, b)| a.start_us.abs_diff(b.start_us) > ALIGNMENT_US)?;
            let (starts, wanted) = (track.segments[at].start_us, first.segments[at].start_us);
            format!("segment {at} begins at {starts} us, in {} at {wanted} us", first.id)
        } else {
            format!("there are {count} segments, {} has {wanted}", first.id)
        };
        Some(error(track, Rule::Alignment, text))
    })
}

fn sync_start(facts: &PackageFacts) -> Vec<Finding> {
    each_video(facts, |VideoTrack { track, .. }| {
        let at = track.segments.iter().position(|segment| !segment.sync)?;
        Some(error(track, Rule::SyncStart, format!("segment {at} does not begin with an IDR picture")))
    })
}

/// What a variant's declared rates have to cover besides its video: the most demanding audio.
fn audio_bits(facts: &PackageFacts, measure: fn(&Track) -> u64) -> u64 {
    facts.audio.iter().map(|audio| measure(&audio.track)).max().unwrap_or(0)
}

fn peak(track: &Track) -> u64 {
    peak_bits(&track.segments, track.playlist.target_s)
}

fn average(track: &Track) -> u64 {
    average_bits(&track.segments)
}

/// A declared rate below the measured one: a warning, beyond the allowance an error.
fn understated(track: &Track, rule: Rule, name: &str, declared: u64, measured: u64) -> Option<Finding> {
    if measured <= declared {
        return None;
    }
    let within = measured * 100 <= declared * (100 + UNDERSTATED_PERCENT);
    let severity = if within { Severity::Warning } else { Severity::Error };
    let text = format!("{name} is {declared} bit/s, measured with audio were {measured} bit/s");
    Some(about(track, rule, severity, text))
}

fn peak_above_bandwidth(facts: &PackageFacts) -> Vec<Finding> {
    let audio = audio_bits(facts, peak);
    each_video(facts, |video| {
        let measured = peak(&video.track) + audio;
        understated(&video.track, Rule::PeakAboveBandwidth, "BANDWIDTH", video.bandwidth, measured)
    })
}

fn bandwidth_far_above_peak(facts: &PackageFacts) -> Vec<Finding> {
    let audio = audio_bits(facts, peak);
    each_video(facts, |video| {
        let (declared, measured) = (video.bandwidth, peak(&video.track) + audio);
        let text = format!("BANDWIDTH is {declared} bit/s, the measured peak with audio is {measured} bit/s");
        let far = declared > measured * OVERSTATED_TIMES;
        far.then(|| error(&video.track, Rule::BandwidthFarAbovePeak, text))
    })
}

fn average_bandwidth(facts: &PackageFacts) -> Vec<Finding> {
    let audio = audio_bits(facts, average);
    each_video(facts, |VideoTrack { track, average_bandwidth, .. }| {
        let Some(declared) = *average_bandwidth else {
            let text = "AVERAGE-BANDWIDTH is not declared".into();
            return Some(about(track, Rule::AverageBandwidth, Severity::Warning, text));
        };
        understated(track, Rule::AverageBandwidth, "AVERAGE-BANDWIDTH", declared, average(track) + audio)
    })
}

fn segment_bytes(facts: &PackageFacts) -> Vec<Finding> {
    each_track(facts, |track| {
        let at = track.segments.iter().position(|segment| segment.bytes > MAX_SEGMENT_BYTES)?;
        let bytes = track.segments[at].bytes;
        let text = format!("segment {at} has {bytes} bytes, a Roku's buffer allows {MAX_SEGMENT_BYTES}");
        Some(error(track, Rule::SegmentBytes, text))
    })
}

fn target_duration(facts: &PackageFacts) -> Vec<Finding> {
    each_track(facts, |track| {
        let target = track.playlist.target_s;
        // RFC 8216 section 4.3.3.1: rounded to the nearest second.
        let longer = |us: u64| (us + 500_000) / 1_000_000 > u64::from(target);
        let at = track.segments.iter().position(|segment| longer(segment.duration_us))?;
        let us = track.segments[at].duration_us;
        let text = format!("segment {at} plays {us} us, the target duration is {target} s");
        Some(error(track, Rule::TargetDuration, text))
    })
}

fn low_rung(facts: &PackageFacts) -> Vec<Finding> {
    let Some(lowest) = facts.video.iter().map(|video| average(&video.track)).min() else { return vec![] };
    if lowest <= LOW_RUNG_BITS {
        return vec![];
    }
    let text = format!("the lowest rung has {lowest} bit/s of video, there must be one of 400000");
    vec![package(Rule::LowRung, Severity::Error, text)]
}

fn aac_stereo(facts: &PackageFacts) -> Vec<Finding> {
    if facts.audio.iter().any(|audio| audio.codec.starts_with("mp4a.40.") && audio.channels == 2) {
        return vec![];
    }
    let found: Vec<_> =
        facts.audio.iter().map(|audio| format!("{} x {}", audio.codec, audio.channels)).collect();
    let text = format!("there is no AAC stereo track, only [{}]", found.join(", "));
    vec![package(Rule::AacStereo, Severity::Error, text)]
}

fn demuxed(facts: &PackageFacts) -> Vec<Finding> {
    each_video(facts, |video| {
        let text = "the video files carry audio".into();
        video.has_audio.then(|| error(&video.track, Rule::Demuxed, text))
    })
}

/// The video codec's family: `avc1` of `avc1.64001f,mp4a.40.2`.
fn family(codecs: &str) -> Option<&str> {
    let video = codecs.split(',').map(str::trim).find(|codec| !codec.starts_with("mp4a"))?;
    video.split('.').next()
}

fn one_codec(facts: &PackageFacts) -> Vec<Finding> {
    let of = |video: &VideoTrack| video.codecs.as_deref().and_then(family).map(ToOwned::to_owned);
    let Some(first) = facts.video.iter().find_map(of) else { return vec![] };
    each_video(facts, |video| {
        let found = of(video).filter(|found| *found != first)?;
        Some(error(&video.track, Rule::OneCodec, format!("the codec is {found}, other rungs have {first}")))
    })
}

/// Every playlist that lists segments, with the name it is told under.
fn playlists(facts: &PackageFacts) -> impl Iterator<Item = (String, PlaylistFacts)> {
    let media = tracks(facts).map(|track| (track.id.to_string(), track.playlist));
    let text = facts.text.iter().map(|text| (text.id.to_string(), text.playlist));
    let images = facts.thumbnails.iter().map(|playlist| ("thumbs".to_owned(), *playlist));
    media.chain(text).chain(images)
}

fn iframe_playlists(facts: &PackageFacts) -> impl Iterator<Item = (String, PlaylistFacts)> {
    let with_iframes = facts.video.iter().filter_map(|video| Some((&video.track.id, video.iframes?)));
    with_iframes.map(|(id, playlist)| (format!("I-frame playlist of {id}"), playlist))
}

/// The limit is an error for what every player loads. I-frame playlists list three times as much and Roku
/// leaves them alone: there it is a warning.
fn playlist_entries(facts: &PackageFacts) -> Vec<Finding> {
    let check = |severity: Severity| {
        move |(name, playlist): (String, PlaylistFacts)| {
            let entries = playlist.entries;
            let text =
                format!("{name} lists {entries} segments, players fail from {MAX_PLAYLIST_ENTRIES} on");
            (entries >= MAX_PLAYLIST_ENTRIES).then(|| package(Rule::PlaylistEntries, severity, text))
        }
    };
    let media = playlists(facts).filter_map(check(Severity::Error));
    media.chain(iframe_playlists(facts).filter_map(check(Severity::Warning))).collect()
}

fn playlist_bytes(facts: &PackageFacts) -> Vec<Finding> {
    let listed = playlists(facts).chain(iframe_playlists(facts));
    let sizes = listed.map(|(name, playlist)| (name, playlist.bytes));
    let large = |(name, bytes): (String, u64)| {
        let text = format!("{name} has {bytes} bytes, players fail from {MAX_PLAYLIST_BYTES} on");
        (bytes >= MAX_PLAYLIST_BYTES).then(|| package(Rule::PlaylistBytes, Severity::Error, text))
    };
    sizes.chain([("main".to_owned(), facts.main_bytes)]).filter_map(large).collect()
}

fn end_list(facts: &PackageFacts) -> Vec<Finding> {
    let open = playlists(facts).chain(iframe_playlists(facts)).filter(|(_, playlist)| !playlist.ended);
    let text = |name| format!("{name} has no EXT-X-ENDLIST: players would take it for a live stream");
    open.map(|(name, _)| package(Rule::EndList, Severity::Error, text(name))).collect()
}

fn duration(facts: &PackageFacts) -> Vec<Finding> {
    each_track(facts, |track| {
        let found = duration_us(&track.segments) / 1000;
        let apart = found.abs_diff(facts.duration_ms);
        let text = format!("it plays {found} ms, the film {} ms", facts.duration_ms);
        let lost = apart >= u64::from(track.playlist.target_s) * 1000;
        let severity = if lost { Severity::Error } else { Severity::Warning };
        (apart > DURATION_SLACK_MS).then(|| about(track, Rule::Duration, severity, text))
    })
}

fn i_frames(facts: &PackageFacts) -> Vec<Finding> {
    each_video(facts, |video| {
        let missing = video.iframes.is_none_or(|playlist| playlist.entries == 0);
        let text =
            "there is no I-frame playlist: no pictures while seeking in players other than Roku's".into();
        missing.then(|| about(&video.track, Rule::IFrames, Severity::Warning, text))
    })
}

fn thumbnails(facts: &PackageFacts) -> Vec<Finding> {
    let listed = facts.thumbnails.is_some_and(|playlist| playlist.entries > 0);
    if facts.duration_ms <= THUMBNAILS_FROM_MS || listed || facts.bif {
        return vec![];
    }
    let text = "a film of more than 15 minutes needs thumbnails or a BIF archive".into();
    vec![package(Rule::Thumbnails, Severity::Error, text)]
}

fn attributes(facts: &PackageFacts) -> Vec<Finding> {
    each_video(facts, |video| {
        let states = [
            ("CODECS", video.codecs.is_some()),
            ("RESOLUTION", video.resolution.is_some()),
            ("FRAME-RATE", video.frame_rate_milli.is_some()),
        ];
        let missing: Vec<_> =
            states.into_iter().filter(|(_, stated)| !stated).map(|(name, _)| name).collect();
        let text = format!("the multivariant playlist does not state {}", missing.join(", "));
        (!missing.is_empty()).then(|| error(&video.track, Rule::Attributes, text))
    })
}
