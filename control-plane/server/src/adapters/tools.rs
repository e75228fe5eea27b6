//! ffmpeg, ffprobe and Shaka Packager as the transcoder.
//!
//! ffmpeg encodes, the packager packages: ffmpeg's own HLS muxer declares the bandwidth that was asked for
//! instead of the real peak and writes no I-frame ranges; players then choose rungs that are too low and scrub
//! badly. The frame rate is made constant and a key frame stands after every so many frames and nowhere else, so
//! that segments begin with one in every rung at the same instant.
//!
//! Every call is bounded in time, and a dropped call kills its tool. Should this process be killed outright, the
//! kernel kills the tools too if `setpriv` is there to ask for it; without it an orphan burns processor time
//! until it is done, but cannot do harm: each attempt writes to its own directory.

mod probe;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::ladder::{Ladder, SourceFacts, VideoRung};

use self::process::Invocation;
use crate::language::display_name;
use crate::seams::{BoxFuture, PackageJob, Progress, ThumbnailJob, ToolError, TranscodeJob, Transcoder};

/// Tiles of a thumbnail sheet, across and down.
pub const SHEET_TILES: (u32, u32) = (5, 4);
/// Width and height of a thumbnail in pixels.
pub const THUMBNAIL: (u32, u32) = (320, 180);

/// Where the tools are and how they may run.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The ffmpeg program.
    pub ffmpeg: PathBuf,
    /// The ffprobe program.
    pub ffprobe: PathBuf,
    /// The Shaka Packager program.
    pub packager: PathBuf,
    /// The setpriv program, if there is one.
    pub setpriv: Option<PathBuf>,
    /// The x264 preset.
    pub preset: String,
    /// Threads of each encoder.
    pub threads: u32,
    /// The longest a look into a file may take.
    pub probe_timeout: Duration,
    /// The longest a transcoding, packaging or thumbnail run may take.
    pub run_timeout: Duration,
}

impl Tools {
    fn invoke(&self, tool: &'static str, program: &Path) -> Invocation {
        Invocation::new(tool, program, self.setpriv.as_ref(), self.run_timeout)
    }

    fn ffmpeg(&self) -> Invocation {
        let run = self.invoke("ffmpeg", &self.ffmpeg);
        run.args(["-hide_banner", "-nostdin", "-nostats", "-v", "error", "-y", "-bitexact"])
    }

    async fn run_probe(&self, source: &Path) -> Result<SourceFacts, ToolError> {
        let run = Invocation::new("ffprobe", &self.ffprobe, self.setpriv.as_ref(), self.probe_timeout);
        let run = run.args(["-v", "error", "-print_format", "json", "-show_format", "-show_streams", "-i"]);
        let json = run.arg(source).output().await.map_err(|mut error| {
            // ffprobe says no when the file is no film; it will say so again.
            error.permanent = !error.detail.starts_with("cannot be run");
            error
        })?;
        probe::parse(&json)
    }

    async fn run_transcode(&self, job: &TranscodeJob, progress: Progress<'_>) -> Result<(), ToolError> {
        let TranscodeJob { source, facts, ladder, into } = job;
        let mut run = self.ffmpeg().args(["-progress", "pipe:1", "-i"]).arg(source);
        run = run.args(["-filter_complex", &picture_graph(facts, ladder)]);
        for (at, rung) in ladder.video.iter().enumerate() {
            run = run.args(self.video_args(at, rung, ladder.gop_frames));
            run = run.arg(into.join(format!("{}.mp4", rung.id)));
        }
        for rung in &ladder.audio {
            let (track, bitrate) = (format!("0:a:{}", rung.track), rung.bitrate.to_string());
            run = run.args(["-map", &track, "-c:a", "aac", "-b:a", &bitrate, "-ac", "2", "-ar", "48000"]);
            run = run.args(["-map_metadata", "-1"]).arg(into.join(format!("{}.mp4", rung.id)));
        }
        let total_us = facts.duration_ms.max(1) * 1000;
        run.lines(|line| {
            let at = line.strip_prefix("out_time_us=").and_then(|us| us.parse::<u64>().ok());
            if let Some(us) = at {
                progress(u16::try_from(us.saturating_mul(1000) / total_us).unwrap_or(1000).min(1000));
            }
        })
        .await
    }

    fn video_args(&self, at: usize, rung: &VideoRung, gop_frames: u32) -> Vec<String> {
        let (threads, gop) = (self.threads.to_string(), gop_frames.to_string());
        let (rate, peak) = (rung.bitrate.to_string(), rung.max_bitrate.to_string());
        let (buffer, map) = (rung.buffer_bits.to_string(), format!("[o{at}]"));
        let args = [
            ["-map", &map],
            ["-c:v", "libx264"],
            ["-preset", &self.preset],
            ["-profile:v", rung.profile],
            ["-level", rung.level],
            ["-threads", &threads],
            ["-b:v", &rate],
            ["-maxrate", &peak],
            ["-bufsize", &buffer],
            ["-g", &gop],
            ["-keyint_min", &gop],
            ["-sc_threshold", "0"],
            ["-x264-params", "open-gop=0"],
            ["-map_metadata", "-1"],
        ];
        args.concat().into_iter().map(str::to_owned).collect()
    }

    async fn run_package(&self, job: &PackageJob) -> Result<(), ToolError> {
        let from = job.from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let video = job.video.iter().map(|name| {
            format!(
                "in=../{from}/{name}.mp4,stream=video,output={name}.mp4,playlist_name={name}.m3u8,\
                 iframe_playlist_name={name}-iframes.m3u8"
            )
        });
        let audio = job.audio.iter().map(|(name, language)| {
            format!(
                "in=../{from}/{name}.mp4,stream=audio,output={name}.mp4,playlist_name={name}.m3u8,\
                 hls_group_id=audio,hls_name={},language={language}",
                display_name(language)
            )
        });
        let captions = job.captions.iter().map(|(name, language)| {
            format!(
                "in=../{from}/{name}.vtt,stream=text,output={name}.vtt,playlist_name={name}.m3u8,\
                 hls_group_id=captions,hls_name={},language={language}",
                display_name(language)
            )
        });
        // Relative names only: a path of the machine could hold the comma that separates fields.
        let run = self.invoke("packager", &self.packager).current_dir(&job.into);
        let run = run.args(video.chain(audio).chain(captions));
        let run = run.args(["--segment_duration", &seconds(job.segment_us)]);
        let run = run.args(["--fragment_duration", &seconds(job.fragment_us)]);
        let run = run.args(["--hls_master_playlist_output", "main.m3u8", "--hls_playlist_type", "VOD"]);
        let first = job.audio.first().map(|(_, language)| language.as_str());
        let default = first.map(|language| ["--default_language", language]);
        // No captions unless the viewer asks: `zxx` is the code of no language at all.
        let run = run.args(["--default_text_language", "zxx"]);
        run.args(default.into_iter().flatten()).arg("--quiet").output().await.map(drop)
    }

    async fn run_thumbnails(&self, job: &ThumbnailJob) -> Result<(), ToolError> {
        let (width, height) = THUMBNAIL;
        let (across, down) = SHEET_TILES;
        let graph = format!(
            "[0:V:0]select='isnan(prev_selected_t)+gte(t-prev_selected_t\\,{})',\
             scale={width}:{height}:force_original_aspect_ratio=decrease,\
             pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,format=yuvj420p,split[stills][tiles];\
             [tiles]tile={across}x{down}[sheets]",
            job.every_s
        );
        // Key frames alone are decoded: they are what the filter would choose anyway.
        let run = self.ffmpeg().args(["-skip_frame", "nokey", "-i"]).arg(&job.source);
        let run = run.args(["-filter_complex", &graph]);
        let image = ["-c:v", "mjpeg", "-q:v", "5", "-fps_mode", "passthrough", "-start_number", "0"];
        let run = run.args(["-map", "[sheets]"]).args(image).arg(job.into.join("sheet-%d.jpg"));
        let run = run.args(["-map", "[stills]"]).args(image).arg(job.into.join("still-%d.jpg"));
        run.output().await.map(drop)
    }
}

impl Transcoder for Tools {
    fn probe<'a>(&'a self, source: &'a Path) -> BoxFuture<'a, Result<SourceFacts, ToolError>> {
        Box::pin(self.run_probe(source))
    }

    fn transcode<'a>(
        &'a self,
        job: &'a TranscodeJob,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(self.run_transcode(job, progress))
    }

    fn package<'a>(&'a self, job: &'a PackageJob) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(self.run_package(job))
    }

    fn thumbnails<'a>(&'a self, job: &'a ThumbnailJob) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(self.run_thumbnails(job))
    }
}

/// One decode, one scaler for each rung. Interlaced frames are woven into whole ones, variable frame rates made
/// constant; both leave other films as they are. `V` skips cover art.
fn picture_graph(facts: &SourceFacts, ladder: &Ladder) -> String {
    let (rate, count) = (facts.frame_rate, ladder.video.len());
    let mut graph =
        format!("[0:V:0]bwdif=mode=send_frame:deint=interlaced,fps={}/{},split={count}", rate.num, rate.den);
    graph.extend((0..count).map(|at| format!("[s{at}]")));
    graph.extend(ladder.video.iter().enumerate().map(|(at, VideoRung { width, height, .. })| {
        format!(";[s{at}]scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p[o{at}]")
    }));
    graph
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
