//! What ffprobe says about a mezzanine file, reduced to what ingest needs.

use serde::Deserialize;

use control::ladder::{FrameRate, SourceAudio, SourceFacts};
use control_api::Language;

use crate::language::shortest;
use crate::seams::ToolError;

/// More audio tracks than any film has languages we would sell.
const MAX_AUDIO: usize = 16;

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<StreamReport>,
    #[serde(default)]
    format: FormatReport,
}

#[derive(Deserialize, Default)]
struct FormatReport {
    duration: Option<String>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct StreamReport {
    codec_type: String,
    width: u32,
    height: u32,
    sample_aspect_ratio: Option<String>,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    duration: Option<String>,
    disposition: Disposition,
    tags: Tags,
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize, Default)]
struct Disposition {
    #[serde(default)]
    attached_pic: u8,
}

#[derive(Deserialize, Default)]
struct Tags {
    language: Option<String>,
}

#[derive(Deserialize, Default)]
struct SideData {
    #[serde(default)]
    rotation: Option<f64>,
}

/// Reads ffprobe's JSON.
///
/// # Errors
/// A permanent [`ToolError`] that names what the file lacks.
pub(super) fn parse(json: &[u8]) -> Result<SourceFacts, ToolError> {
    let fault = |detail: String| ToolError { tool: "ffprobe", detail, permanent: true };
    let report: Report =
        serde_json::from_slice(json).map_err(|e| fault(format!("its report is unreadable: {e}")))?;
    let picture = |s: &&StreamReport| s.codec_type == "video" && s.disposition.attached_pic == 0;
    let video =
        report.streams.iter().find(picture).ok_or_else(|| fault("the file has no video track".to_owned()))?;
    let (width, height) = display_size(video);
    if width < 16 || height < 16 {
        return Err(fault(format!("the picture is {width}x{height}, that is too small to be a film")));
    }
    let frame_rate = [&video.avg_frame_rate, &video.r_frame_rate]
        .into_iter()
        .find_map(|rate| fraction(rate.as_deref()?, '/'));
    let frame_rate =
        frame_rate.ok_or_else(|| fault("the frame rate of the video track is unknown".to_owned()))?;
    let duration = [&report.format.duration, &video.duration]
        .into_iter()
        .find_map(|text| milliseconds(text.as_deref()?));
    let duration_ms = duration.ok_or_else(|| fault("the duration of the film is unknown".to_owned()))?;
    let frame_rate = FrameRate { num: frame_rate.0, den: frame_rate.1 };
    Ok(SourceFacts { width, height, frame_rate, duration_ms, audio: audio_tracks(&report.streams) })
}

/// The size on the screen: samples need not be square, and phones film upright.
fn display_size(video: &StreamReport) -> (u32, u32) {
    let aspect = video.sample_aspect_ratio.as_deref().and_then(|text| fraction(text, ':')).unwrap_or((1, 1));
    let width = u64::from(video.width) * u64::from(aspect.0) / u64::from(aspect.1);
    let width = u32::try_from(width).unwrap_or(video.width);
    let rotation = video.side_data_list.iter().find_map(|side| side.rotation).unwrap_or(0.0);
    let upright = (45.0..135.0).contains(&rotation.abs().rem_euclid(180.0));
    if upright { (video.height, width) } else { (width, video.height) }
}

fn audio_tracks(streams: &[StreamReport]) -> Vec<SourceAudio> {
    let audio = (0..).zip(streams.iter().filter(|s| s.codec_type == "audio")).take(MAX_AUDIO);
    let track = |(track, stream): (u32, &StreamReport)| {
        let language = shortest(stream.tags.language.as_deref().unwrap_or("und"));
        Some(SourceAudio { track, language: language.parse::<Language>().ok()? })
    };
    audio.filter_map(track).collect()
}

/// Two positive numbers, and a quotient that a film may have.
fn fraction(text: &str, separator: char) -> Option<(u32, u32)> {
    let (a, b) = text.split_once(separator)?;
    let (a, b) = (a.parse().ok()?, b.parse().ok()?);
    (a > 0 && b > 0 && u64::from(a) <= 300 * u64::from(b)).then_some((a, b))
}

fn milliseconds(seconds: &str) -> Option<u64> {
    let seconds: f64 = seconds.parse().ok()?;
    // A day bounds what we believe; NaN fails the comparison.
    (seconds > 0.0 && seconds < 86_400.0).then(|| (seconds * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(video: &str, audio: &str) -> String {
        format!(
            r#"{{"streams":[{{"codec_type":"video","width":1280,"height":720{video}}}{audio}],"format":{{"duration":"596.474195"}}}}"#
        )
    }

    #[test]
    fn a_film() {
        let audio = r#",{"codec_type":"audio","tags":{"language":"eng"}},{"codec_type":"audio","tags":{"language":"eng"}},{"codec_type":"audio"},{"codec_type":"audio","tags":{"language":"pt-BR"}}"#;
        let probe = parse(report(r#","avg_frame_rate":"24000/1001""#, audio).as_bytes()).expect("a film");
        assert_eq!(
            (probe.width, probe.height, probe.frame_rate),
            (1280, 720, FrameRate { num: 24_000, den: 1001 })
        );
        assert_eq!(probe.duration_ms, 596_474);
        let audio: Vec<_> = probe.audio.iter().map(|track| (track.track, track.language.as_str())).collect();
        assert_eq!(audio, [(0, "en"), (1, "en"), (2, "und"), (3, "pt")]);
    }

    #[test]
    fn the_size_on_the_screen() {
        for (more, size) in [
            ("", (1280, 720)),
            (r#","sample_aspect_ratio":"4:3""#, (1706, 720)),
            (r#","sample_aspect_ratio":"0:1""#, (1280, 720)),
            (r#","side_data_list":[{"rotation":-90}]"#, (720, 1280)),
            (r#","side_data_list":[{"rotation":180}]"#, (1280, 720)),
        ] {
            let probe =
                parse(report(&format!(r#","r_frame_rate":"25/1"{more}"#), "").as_bytes()).expect(more);
            assert_eq!((probe.width, probe.height), size, "{more}");
        }
    }

    #[test]
    fn what_is_no_film() {
        let cover = r#"{"streams":[{"codec_type":"video","width":600,"height":600,"disposition":{"attached_pic":1}}]}"#;
        for (json, why) in [
            ("", "unreadable"),
            ("{}", "no video track"),
            (cover, "no video track"),
            (&report("", ""), "frame rate"),
            (&report(r#","avg_frame_rate":"0/0""#, ""), "frame rate"),
            (&report(r#","avg_frame_rate":"24/1""#, "").replace("596.474195", "N/A"), "duration"),
            (&report(r#","avg_frame_rate":"24/1""#, "").replace("1280", "8"), "too small"),
        ] {
            let error = parse(json.as_bytes()).expect_err(why);
            assert!(error.permanent && error.detail.contains(why), "{json}: {error}");
        }
    }
}
