//! Real players as child processes: they play in real time, and say how far they came.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::failure::{Context, Outcome};
use crate::film::Film;
use crate::gateway::run;

/// How much of a film's end a player may owe: what is shorter than a frame of the last segment, and rounding.
const SLACK_SECONDS: f64 = 1.0;
/// How long a player may take to start and to end beside the film, on a busy machine.
const AROUND_IT: Duration = Duration::from_secs(90);

/// A film, and what plays it.
#[derive(Debug)]
pub(crate) struct Cinema {
    pub(crate) film: Film,
    /// The folder of the pinned tools.
    pub(crate) tools: PathBuf,
    /// The control plane's page that plays the URL behind its `#`.
    pub(crate) page: Option<String>,
}

/// Who plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Player {
    /// Reads at the speed of play, every rung at once.
    Ffmpeg,
    /// Its sinks keep to the clock, so the pipeline's running time is what was played.
    Gstreamer,
    Mpv,
    /// Plays and records; the record says how far it came.
    Vlc,
    /// The watch page itself, so that page, player, CORS and gateway are proved together.
    WatchPage,
    /// hls.js in Chromium, with a buffer of 12 s.
    HlsJs,
    /// Chromium's own HLS player.
    Native,
}

/// How far a player came, how often it stood still, and what it said.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) seconds: f64,
    pub(crate) stalls: Vec<String>,
    pub(crate) complaints: String,
}

impl Played {
    /// A player that failed has complained, even when it did so without words.
    fn new(result: &Finished, seconds: Option<f64>, complaints: &str) -> Self {
        let status = if result.good { "" } else { result.status.as_str() };
        let complaints = [status, complaints.trim()].join(" ").trim().to_owned();
        Self { seconds: seconds.unwrap_or(0.0), stalls: Vec::new(), complaints }
    }

    /// Whether it came so far without a stall and without a complaint.
    pub(crate) fn is_smooth(&self, seconds: f64) -> bool {
        self.seconds + SLACK_SECONDS >= seconds && self.stalls.is_empty() && self.complaints.is_empty()
    }
}

impl std::fmt::Display for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} s, {} stalls {:?} {}", self.seconds, self.stalls.len(), self.stalls, self.complaints)
    }
}

impl Player {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ffmpeg => "ffmpeg",
            Self::Gstreamer => "GStreamer playbin3",
            Self::Mpv => "mpv",
            Self::Vlc => "VLC",
            Self::WatchPage => "hls.js in Chromium, the watch page",
            Self::HlsJs => "hls.js in Chromium",
            Self::Native => "Chromium's own player",
        }
    }

    /// Plays so many seconds of the film; those that count no seconds play it all. `scratch` is a folder for it alone.
    pub(crate) async fn play(
        self,
        cinema: &Cinema,
        scratch: &Path,
        url: &str,
        seconds: f64,
    ) -> Outcome<Played> {
        std::fs::create_dir_all(scratch).doing(scratch.display())?;
        let seconds_shown = seconds.to_string();
        let hls_js = cinema.tools.join("hls.js/hls.min.js").display().to_string();
        match self {
            Self::Ffmpeg => ffmpeg(cinema, url).await,
            Self::Gstreamer => gstreamer(cinema, url).await,
            Self::Mpv => mpv(cinema, scratch, url).await,
            Self::Vlc => vlc(cinema, scratch, url).await,
            Self::WatchPage => {
                let page = cinema.page.as_deref().doing("--page")?;
                chromium(cinema, &["page", &format!("{page}#{url}"), &seconds_shown]).await
            }
            Self::HlsJs => chromium(cinema, &["hls.js", url, &seconds_shown, &hls_js]).await,
            Self::Native => chromium(cinema, &["native", url, &seconds_shown]).await,
        }
    }
}

async fn ffmpeg(cinema: &Cinema, url: &str) -> Outcome<Played> {
    let mut command = Command::new(cinema.tools.join("bin/ffmpeg"));
    command.args(["-nostdin", "-v", "error", "-progress", "pipe:1", "-re", "-i", url]);
    command.args(["-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "null", "-"]);
    let result = finish(command, cinema).await?;
    let text = result.text();
    let times = text.lines().filter_map(|line| line.strip_prefix("out_time_us="));
    let last = times.filter_map(|time| time.trim().parse::<f64>().ok()).next_back();
    Ok(Played::new(&result, last.map(|time| time / 1e6), &result.err))
}

async fn gstreamer(cinema: &Cinema, url: &str) -> Outcome<Played> {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("playbin3").arg(format!("uri={url}")).env("GST_REGISTRY_FORK", "no");
    command.args(["video-sink=fakesink sync=true", "audio-sink=fakesink sync=true"]);
    let result = finish(command, cinema).await?;
    let errors: Vec<&str> = result.err.lines().filter(|line| line.starts_with("ERROR")).collect();
    Ok(Played::new(&result, running_time(&result.text()), &errors.join("; ")))
}

/// `Execution ended after 0:00:30.053`
fn running_time(text: &str) -> Option<f64> {
    let ended = text.lines().find_map(|line| line.strip_prefix("Execution ended after "))?;
    let mut parts = ended.split(':').map(|part| part.trim().parse::<f64>().ok());
    parts.try_fold(0.0, |sum, part| Some(sum * 60.0 + part?))
}

async fn mpv(cinema: &Cinema, scratch: &Path, url: &str) -> Outcome<Played> {
    // Its status line is made for terminals; a script tells how far it came.
    let script = scratch.join("reached.lua");
    let text = "local last = 0\n\
        mp.observe_property('time-pos', 'number', function(_, at) if at then last = at end end)\n\
        mp.register_event('shutdown', function() io.stdout:write('reached ' .. last .. '\\n') end)\n";
    std::fs::write(&script, text).doing(script.display())?;
    let mut command = Command::new("mpv");
    command.args(["--no-config", "--vo=null", "--ao=null", "--msg-level=all=error", "--term-status-msg="]);
    command.arg(format!("--script={}", script.display())).arg(url);
    let result = finish(command, cinema).await?;
    let text = result.text();
    let reached = text.lines().filter_map(|line| line.split_once("reached "));
    let seconds = reached.filter_map(|(_, time)| time.trim().parse().ok()).next_back();
    // mpv plays one rung and drops the others in mid-segment; its demuxer says so in words of its own.
    Ok(Played::new(&result, seconds, ""))
}

async fn vlc(cinema: &Cinema, scratch: &Path, url: &str) -> Outcome<Played> {
    // It does not run as root; where we are root somebody else runs it, who need not be let into our folders.
    let mut command = Command::new("setpriv");
    if run("id", &["-u"]).await?.trim() == "0" {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--", "cvlc", "-I", "dummy", "--play-and-exit"]);
    command.args(["--vout", "vdummy", "--aout", "adummy", "--sout"]);
    command.arg("#duplicate{dst=display,dst=standard{access=file,mux=ts,dst=-}}").arg(url).arg("vlc://quit");
    let record = scratch.join("record.ts");
    let result = finish(command, cinema).await?;
    std::fs::write(&record, &result.out).doing(record.display())?;
    let ffprobe = cinema.tools.join("bin/ffprobe").display().to_string();
    let record = record.display().to_string();
    let duration = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", &record];
    let duration = run(&ffprobe, &duration).await.unwrap_or_default();
    // What its dummy display has to say about frames is about the display.
    Ok(Played::new(&result, duration.trim().parse().ok(), ""))
}

async fn chromium(cinema: &Cinema, arguments: &[&str]) -> Outcome<Played> {
    let mut command = Command::new("node");
    command.arg(cinema.tools.join("browser/play.mjs")).args(arguments);
    let result = finish(command, cinema).await?;
    let said: serde_json::Value = serde_json::from_slice(&result.out).unwrap_or_default();
    let list = |name: &str| {
        let list = said[name].as_array()?;
        Some(list.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>())
    };
    let complaints = list("complaints").map(|list| list.join("; "));
    let complaints = complaints.unwrap_or_else(|| format!("{}{}", result.text(), result.err));
    let stalls = list("stalls").unwrap_or_default();
    Ok(Played { stalls, ..Played::new(&result, said["seconds"].as_f64(), &complaints) })
}

/// What a player left behind.
struct Finished {
    good: bool,
    status: String,
    out: Vec<u8>,
    err: String,
}

impl Finished {
    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.out)
    }
}

/// Runs it to its end, or to where it has hung itself up.
async fn finish(mut command: Command, cinema: &Cinema) -> Outcome<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown = command.as_std().get_program().display().to_string();
    let limit = Duration::from_secs_f64(cinema.film.seconds() * 2.0) + AROUND_IT;
    let Ok(output) = timeout(limit, command.output()).await else {
        let status = format!("{shown} did not end within {} s", limit.as_secs());
        return Ok(Finished { good: false, status, out: Vec::new(), err: String::new() });
    };
    let output = output.doing(&shown)?;
    Ok(Finished {
        good: output.status.success(),
        status: output.status.to_string(),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_times() {
        assert_eq!(running_time("x\nExecution ended after 0:01:30.250\ny"), Some(90.25));
        assert_eq!(running_time("Execution ended after a while"), None);
        assert_eq!(running_time(""), None);
    }

    #[test]
    fn smooth_is_whole_and_quiet() {
        let played = |seconds, stalls: &[&str], complaints: &str| Played {
            seconds,
            stalls: stalls.iter().map(|stall| (*stall).to_owned()).collect(),
            complaints: complaints.to_owned(),
        };
        for (played, expected) in [
            (played(29.5, &[], ""), true),
            (played(28.5, &[], ""), false),
            (played(30.0, &["waiting at 3 s"], ""), false),
            (played(30.0, &[], "exit status: 1"), false),
        ] {
            assert_eq!(played.is_smooth(30.0), expected, "{played}");
        }
    }
}
