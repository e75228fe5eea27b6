//! Which renditions to encode of a source: the ladder Roku recommends, never larger than the source.
//!
//! One H.264 rung per height, closed groups of pictures of two seconds aligned across the rungs, segments of
//! three such groups, AAC stereo for each language. The bottom rung of 400 kb/s is there for every source: it
//! is what a player falls back to, and Roku's certification asks for it.

use control_api::Language;
use media::RenditionId;
use serde::{Deserialize, Serialize};

/// Counts the changes to what this module decides. Part of a package's name, so that a new way to encode
/// makes a new package and a running ingest keeps the way it began with.
pub const PROFILE: u32 = 1;

/// The rungs: the box a picture is fitted into, and the average bits per second of its video. Roku's
/// minimum ladder.
const RUNGS: [(&str, u32, u32, u32); 5] = [
    ("v1080", 1920, 1080, 4_300_000),
    ("v720", 1280, 720, 2_650_000),
    ("v404", 720, 404, 1_500_000),
    ("v288", 512, 288, 800_000),
    ("v216", 384, 216, 400_000),
];

/// Average bits per second of an AAC stereo track.
const AUDIO_BITRATE: u32 = 128_000;

/// Seconds from one key frame to the next.
const GOP_S: u32 = 2;
/// Groups of pictures in a segment: six seconds.
const GOPS_PER_SEGMENT: u32 = 3;

/// More entries than this make a playlist that Roku's player refuses; players fail somewhere above 4000.
pub const MAX_PLAYLIST_ENTRIES: usize = 4000;

/// What was measured of a mezzanine file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// Display width in pixels, after rotation and sample aspect.
    pub width: u32,
    /// Display height in pixels.
    pub height: u32,
    /// Frames per second.
    pub frame_rate: FrameRate,
    /// How long it plays, in milliseconds.
    pub duration_ms: u64,
    /// Its audio tracks in the file's order.
    pub audio: Vec<SourceAudio>,
}

/// One audio track of a mezzanine file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAudio {
    /// Its number among the file's audio tracks, from 0.
    pub track: u32,
    /// Its language; `und` if the file does not say.
    pub language: Language,
}

/// Frames per second as a fraction: 24000/1001 has no exact decimal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRate {
    /// Frames.
    pub num: u32,
    /// In so many seconds.
    pub den: u32,
}

impl FrameRate {
    /// How many frames fit into `seconds`, to the nearest.
    fn frames_in(self, seconds: u32) -> u32 {
        let (num, den) = (u64::from(self.num) * u64::from(seconds), u64::from(self.den));
        u32::try_from((num + den / 2) / den).unwrap_or(u32::MAX)
    }

    /// From one to 120 frames per second.
    fn plausible(self) -> bool {
        let (num, den) = (u64::from(self.num), u64::from(self.den));
        den > 0 && num >= den && num <= 120 * den
    }
}

/// What to encode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    /// Video rungs, the best first. Never empty.
    pub video: Vec<VideoRung>,
    /// Audio tracks, the default first. Never empty.
    pub audio: Vec<AudioRung>,
    /// Frames from one key frame to the next, the same in all rungs; no key frame in between.
    pub gop_frames: u32,
    /// How long a segment is to be, in microseconds: three whole groups of pictures.
    pub segment_us: u64,
}

/// One video rendition to encode, as H.264.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoRung {
    /// Its name.
    pub id: RenditionId,
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Average bits per second to aim at.
    pub bitrate: u32,
    /// Peak bits per second: one and a half times the average, Roku's limit.
    pub max_bitrate: u32,
    /// The rate control buffer in bits: two seconds of the average, one group of pictures.
    pub buffer_bits: u32,
    /// The H.264 profile, as encoders spell it.
    pub profile: &'static str,
    /// The H.264 level, as encoders spell it: `4.0`.
    pub level: &'static str,
}

/// One audio rendition to encode, as AAC-LC stereo at 48 kHz.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioRung {
    /// Its name: `a-en`.
    pub id: RenditionId,
    /// Its language.
    pub language: Language,
    /// Which of the source's audio tracks.
    pub track: u32,
    /// Average bits per second to aim at.
    pub bitrate: u32,
}

/// Why a source cannot be encoded. The operator has to bring another file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// No picture, or one that no encoder takes.
    #[error("the picture is {width} x {height} pixels; wanted are 2 x 2 to 8192 x 8192")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A frame rate outside of 1 to 120.
    #[error("the frame rate is {num}/{den}; wanted are 1 to 120 frames per second")]
    FrameRate {
        /// Frames.
        num: u32,
        /// In so many seconds.
        den: u32,
    },
    /// Nothing to play, or more than a playlist may list.
    #[error("the film lasts {duration_ms} ms; wanted are 1 ms to {max_ms} ms")]
    Duration {
        /// How long the source plays.
        duration_ms: u64,
        /// How long it may play.
        max_ms: u64,
    },
    /// No sound. Roku wants an AAC stereo track in every film.
    #[error("the source has no audio track")]
    NoAudio,
    /// A picture so narrow, or an audio language, that no rendition can be named or sized for it.
    #[error("no rendition can be made for {0}")]
    Rendition(String),
}

/// Decides what to encode.
///
/// # Errors
/// [`LadderError`] when the source cannot become a film.
pub fn ladder(source: &SourceFacts) -> Result<Ladder, LadderError> {
    check(source)?;
    let gop_frames = source.frame_rate.frames_in(GOP_S).max(1);
    let video = RUNGS.into_iter().filter_map(|rung| fit(rung, source));
    Ok(Ladder {
        video: video.collect::<Result<_, _>>()?,
        audio: audio(source)?,
        gop_frames,
        segment_us: segment_us(source.frame_rate, gop_frames),
    })
}

fn check(source: &SourceFacts) -> Result<(), LadderError> {
    let SourceFacts { width, height, frame_rate: FrameRate { num, den }, duration_ms, .. } = *source;
    if !(2..=8192).contains(&width) || !(2..=8192).contains(&height) {
        return Err(LadderError::Size { width, height });
    }
    if !source.frame_rate.plausible() {
        return Err(LadderError::FrameRate { num, den });
    }
    // A segment may come out one group of pictures short, so count with the shorter ones.
    let shortest_ms = u64::from(GOP_S * (GOPS_PER_SEGMENT - 1)) * 1000;
    let max_ms = shortest_ms * MAX_PLAYLIST_ENTRIES as u64;
    if !(1..=max_ms).contains(&duration_ms) {
        return Err(LadderError::Duration { duration_ms, max_ms });
    }
    if source.audio.is_empty() { Err(LadderError::NoAudio) } else { Ok(()) }
}

/// A rung for this source: its picture fitted into the rung's box. `None` if it would have to grow, except
/// for the bottom rung, which then keeps the source's size.
fn fit(rung: (&str, u32, u32, u32), source: &SourceFacts) -> Option<Result<VideoRung, LadderError>> {
    let (name, box_width, box_height, bitrate) = rung;
    let (width, height) = (u64::from(source.width), u64::from(source.height));
    // The box is reached first in width or first in height; compare the two scales as fractions.
    let by_width = u64::from(box_width) * height <= u64::from(box_height) * width;
    let (side, limit) = if by_width { (width, box_width) } else { (height, box_height) };
    let grows = u64::from(limit) > side;
    if grows && name != RUNGS[RUNGS.len() - 1].0 {
        return None;
    }
    let (num, den) = if grows { (1, 1) } else { (u64::from(limit), side) };
    Some(video_rung(name, even(width * num, den), even(height * num, den), bitrate, source.frame_rate))
}

/// A fraction of pixels to the nearest even number, at least 2: chroma is stored for pairs.
fn even(num: u64, den: u64) -> u32 {
    let pairs = (num + den) / (2 * den);
    u32::try_from(2 * pairs.max(1)).unwrap_or(u32::MAX)
}

fn video_rung(
    name: &str,
    width: u32,
    height: u32,
    bitrate: u32,
    rate: FrameRate,
) -> Result<VideoRung, LadderError> {
    Ok(VideoRung {
        id: name.parse().map_err(|_| LadderError::Rendition(name.to_owned()))?,
        width,
        height,
        bitrate,
        max_bitrate: bitrate / 2 * 3,
        buffer_bits: bitrate * GOP_S,
        profile: "high",
        level: level(width, height, rate),
    })
}

/// The lowest H.264 level (from 3.0) whose limits on macroblocks in a frame and in a second hold this picture:
/// ITU-T H.264 table A-1. The ladder's bitrates are far below every level's limit.
fn level(width: u32, height: u32, rate: FrameRate) -> &'static str {
    const LEVELS: [(&str, u64, u64); 5] = [
        ("3.0", 1620, 40_500),
        ("3.1", 3600, 108_000),
        ("3.2", 5120, 216_000),
        ("4.0", 8192, 245_760),
        ("4.2", 8704, 522_240),
    ];
    let frame = u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16));
    let second = (frame * u64::from(rate.num)).div_ceil(u64::from(rate.den.max(1)));
    let holds = |&&(_, frames, seconds): &&(&str, u64, u64)| frame <= frames && second <= seconds;
    LEVELS.iter().find(holds).map_or("5.2", |(name, ..)| name)
}

/// One rendition for each language: the first track that has it.
fn audio(source: &SourceFacts) -> Result<Vec<AudioRung>, LadderError> {
    let mut rungs: Vec<AudioRung> = Vec::new();
    for SourceAudio { track, language } in &source.audio {
        if rungs.iter().any(|rung| rung.language == *language) {
            continue;
        }
        let name = format!("a-{language}");
        let id = name.parse().map_err(|_| LadderError::Rendition(name))?;
        rungs.push(AudioRung { id, language: language.clone(), track: *track, bitrate: AUDIO_BITRATE });
    }
    Ok(rungs)
}

fn segment_us(rate: FrameRate, gop_frames: u32) -> u64 {
    let frames = u64::from(gop_frames) * u64::from(GOPS_PER_SEGMENT);
    frames * u64::from(rate.den) * 1_000_000 / u64::from(rate.num.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(width: u32, height: u32, num: u32, den: u32) -> SourceFacts {
        let audio = vec![SourceAudio { track: 0, language: "en".parse().expect("valid") }];
        SourceFacts { width, height, frame_rate: FrameRate { num, den }, duration_ms: 596_474, audio }
    }

    /// `v720 1280x720 3.1` for each rung.
    fn rungs(width: u32, height: u32, num: u32, den: u32) -> Vec<String> {
        let ladder = ladder(&source(width, height, num, den)).expect("a film");
        let row = |rung: &VideoRung| format!("{} {}x{} {}", rung.id, rung.width, rung.height, rung.level);
        ladder.video.iter().map(row).collect()
    }

    #[test]
    fn pictures_fit_the_boxes_and_never_grow() {
        let check = |size: (u32, u32), expected: &[&str]| assert_eq!(rungs(size.0, size.1, 24, 1), expected);
        let small = ["v404 718x404 3.0", "v288 512x288 3.0", "v216 384x216 3.0"];
        let hd = [&["v720 1280x720 3.1"][..], &small].concat();
        check((1280, 720), &hd);
        check((1920, 1080), &[&["v1080 1920x1080 4.0"][..], &hd].concat());
        check((3840, 2160), &[&["v1080 1920x1080 4.0"][..], &hd].concat());
        check((1279, 719), &small);
        // Wide screen fills the width, portrait and 4:3 the height.
        check(
            (1920, 804),
            &[
                "v1080 1920x804 4.0",
                "v720 1280x536 3.1",
                "v404 720x302 3.0",
                "v288 512x214 3.0",
                "v216 384x160 3.0",
            ],
        );
        check((640, 480), &["v404 538x404 3.0", "v288 384x288 3.0", "v216 288x216 3.0"]);
        check(
            (1080, 1920),
            &[
                "v1080 608x1080 3.1",
                "v720 406x720 3.0",
                "v404 228x404 3.0",
                "v288 162x288 3.0",
                "v216 122x216 3.0",
            ],
        );
        // The bottom rung is there for every source, at most at the source's size.
        check((320, 180), &["v216 320x180 3.0"]);
        check((3, 2), &["v216 4x2 3.0"]);
    }

    #[test]
    fn levels_follow_the_frame_rate() {
        assert_eq!(rungs(1920, 1080, 60, 1)[..2], ["v1080 1920x1080 4.2", "v720 1280x720 3.2"]);
        assert_eq!(rungs(1920, 1080, 120, 1)[0], "v1080 1920x1080 5.2");
        assert_eq!(rungs(1280, 720, 30_000, 1001)[0], "v720 1280x720 3.1");
    }

    #[test]
    fn groups_of_pictures_are_two_seconds_of_whole_frames() {
        let check = |num, den, gop, segment| {
            let ladder = ladder(&source(1280, 720, num, den)).expect("a film");
            assert_eq!((ladder.gop_frames, ladder.segment_us), (gop, segment), "{num}/{den}");
        };
        check(24, 1, 48, 6_000_000);
        check(24_000, 1001, 48, 6_006_000);
        check(25, 1, 50, 6_000_000);
        check(30_000, 1001, 60, 6_006_000);
        check(60_000, 1001, 120, 6_006_000);
        check(15, 2, 15, 6_000_000);
        check(1, 1, 2, 6_000_000);
    }

    #[test]
    fn rates_keep_to_rokus_limits() {
        let ladder = ladder(&source(1920, 1080, 24, 1)).expect("a film");
        let of = |rung: &VideoRung| (rung.bitrate, rung.max_bitrate, rung.buffer_bits, rung.profile);
        assert_eq!(of(&ladder.video[0]), (4_300_000, 6_450_000, 8_600_000, "high"));
        assert_eq!(of(&ladder.video[4]), (400_000, 600_000, 800_000, "high"));
    }

    #[test]
    fn each_language_has_one_track() {
        let mut film = source(1280, 720, 24, 1);
        let track = |track, language: &str| SourceAudio { track, language: language.parse().expect("valid") };
        film.audio = vec![track(0, "en"), track(1, "pt-br"), track(2, "en"), track(3, "und")];
        let ladder = ladder(&film).expect("a film");
        let found: Vec<_> = ladder.audio.iter().map(|rung| (rung.id.as_str(), rung.track)).collect();
        assert_eq!(found, [("a-en", 0), ("a-pt-br", 1), ("a-und", 3)]);
    }

    #[test]
    fn what_is_no_film_is_refused() {
        let check = |change: fn(&mut SourceFacts), expected: &str| {
            let mut film = source(1280, 720, 24, 1);
            change(&mut film);
            let error = ladder(&film).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        };
        check(|film| film.width = 0, "0 x 720");
        check(|film| film.height = 1, "1280 x 1");
        check(|film| film.height = 8193, "1280 x 8193");
        check(|film| film.frame_rate.den = 0, "24/0");
        check(|film| film.frame_rate.num = 0, "0/1");
        check(|film| film.frame_rate.num = 121, "121/1");
        check(|film| film.duration_ms = 0, "0 ms");
        check(|film| film.duration_ms = 16_000_001, "16000001 ms");
        check(|film| film.audio.clear(), "no audio");
    }

    proptest! {
        #[test]
        fn any_source_gives_rungs_that_fit_and_share_the_shape(
            width in 2u32..8192, height in 2u32..8192, num in 1u32..200_000, den in 1u32..5000,
        ) {
            let film = source(width, height, num, den);
            prop_assume!(film.frame_rate.plausible());
            let ladder = ladder(&film).expect("a film");
            prop_assert_eq!(ladder.video.last().expect("a rung").id.as_str(), "v216");
            for rung in &ladder.video {
                prop_assert!(rung.width % 2 == 0 && rung.height % 2 == 0);
                prop_assert!(rung.width <= width.next_multiple_of(2) && rung.height <= height.next_multiple_of(2));
                prop_assert!(rung.max_bitrate * 2 <= rung.bitrate * 3);
                // The same shape, to the pixel: rounding moves a side by one at most.
                let scale = f64::from(rung.width) / f64::from(width);
                let other = f64::from(height) * scale;
                prop_assert!((other - f64::from(rung.height)).abs() <= 2.0 + f64::from(height) / f64::from(width) * 2.0);
            }
            let apart = (i64::from(ladder.gop_frames) * i64::from(den) * 2 - i64::from(num) * 4).abs();
            prop_assert!(apart <= i64::from(den), "a group of pictures is two seconds to half a frame");
        }
    }
}
