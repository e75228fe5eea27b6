//! Real players play the real film for at least twenty seconds, in real time, without an error.

use std::path::Path;

use super::{fresh, home};
use crate::demo::Playing;
use crate::demo::check::Facts;
use crate::demo::world::SourceKind;
use crate::failure::{Context, Outcome};
use crate::setup::{self, Tool};
use crate::shell::{Call, Finished, root};
use crate::term;

/// What is ingested, and what a player must reach of it.
const FILM_SECONDS: u32 = 30;
const ENOUGH_SECONDS: f64 = 20.0;

type Player = fn(&Playing) -> Outcome<Played>;

pub(super) fn run() -> Outcome {
    setup::install_system_packages(&setup::PLAYERS)?;
    setup::run(&[Tool::Browser])?;
    let playing = fresh("players", SourceKind::Directory, FILM_SECONDS)?;
    let mut facts = Facts::default();
    term::step(format_args!("four players, up to {FILM_SECONDS} s each, in real time"));
    let players: [(&str, Player); 4] = [
        ("ffmpeg", ffmpeg),
        ("GStreamer playbin3", gstreamer),
        ("mpv", mpv),
        ("hls.js in Chromium", chromium),
    ];
    for (name, play) in players {
        let played = play(&playing)?;
        let good = played.seconds >= ENOUGH_SECONDS && played.complaints.is_empty();
        facts.add(good, name, format!("{:.1} s {}", played.seconds, played.complaints));
    }
    playing.world.stop()?;
    facts.finish()
}

/// How far a player came and what it said.
struct Played {
    seconds: f64,
    complaints: String,
}

impl Played {
    /// A player that failed has complained, even when it did so without words.
    fn new(result: &Finished, seconds: Option<f64>, complaints: &str) -> Self {
        let status = if result.good { "" } else { result.status.as_str() };
        let complaints = [status, complaints.trim()].join(" ").trim().to_owned();
        Self { seconds: seconds.unwrap_or(0.0), complaints }
    }
}

/// Reads at the speed of play, every rung at once.
fn ffmpeg(playing: &Playing) -> Outcome<Played> {
    let call =
        Call::new(setup::ffmpeg()).args(["-nostdin", "-v", "error", "-progress", "pipe:1", "-re", "-i"]);
    let call = call.arg(&playing.url).args(["-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "null", "-"]);
    let result = call.finish()?;
    let times = result.out.lines().filter_map(|line| line.strip_prefix("out_time_us="));
    let last = times.filter_map(|time| time.trim().parse::<f64>().ok()).next_back();
    Ok(Played::new(&result, last.map(|time| time / 1e6), &result.err))
}

/// The sinks keep to the clock, so the pipeline's running time is what was played.
fn gstreamer(playing: &Playing) -> Outcome<Played> {
    let call = Call::new("gst-launch-1.0").arg("playbin3").arg(format!("uri={}", playing.url));
    let call = call.args(["video-sink=fakesink sync=true", "audio-sink=fakesink sync=true"]);
    let result = call.env("GST_REGISTRY_FORK", "no").finish()?;
    // "Execution ended after 0:00:30.053"
    let ended = result.out.lines().find_map(|line| line.strip_prefix("Execution ended after "));
    let seconds = ended.and_then(|time| {
        time.split(':')
            .map(|part| part.parse::<f64>().ok())
            .try_fold(0.0, |sum, part| Some(sum * 60.0 + part?))
    });
    let errors: Vec<&str> = result.err.lines().filter(|line| line.starts_with("ERROR")).collect();
    Ok(Played::new(&result, seconds, &errors.join("; ")))
}

fn mpv(playing: &Playing) -> Outcome<Played> {
    let call = Call::new("mpv").args(["--no-config", "--vo=null", "--ao=null", "--msg-level=all=error"]);
    let call = call.args(["--term-status-msg=", "--msg-level=statusline=no"]);
    let call = call.arg(format!("--script={}", script(&home("players"))?)).arg(&playing.url);
    let result = call.finish()?;
    let reached = result.out.lines().chain(result.err.lines()).filter_map(|line| line.split_once("reached "));
    let seconds = reached.filter_map(|(_, time)| time.trim().parse().ok()).next_back();
    // mpv plays one rung and drops the others in mid-segment; its demuxer says so in words of its own.
    Ok(Played::new(&result, seconds, ""))
}

/// Makes mpv tell how far it came: its status line is made for terminals.
fn script(folder: &Path) -> Outcome<String> {
    let path = folder.join("reached.lua");
    let text = "local last = 0\n\
        mp.observe_property('time-pos', 'number', function(_, at) if at then last = at end end)\n\
        mp.register_event('shutdown', function() print('reached ' .. last); io.stdout:write('reached ' .. last .. '\\n') end)\n";
    std::fs::write(&path, text).doing(path.display())?;
    Ok(path.to_string_lossy().into_owned())
}

/// The watch page itself, so that page, player, CORS and gateway are proved together.
fn chromium(playing: &Playing) -> Outcome<Played> {
    let script = setup::browser().join("play.mjs");
    std::fs::copy(root().join("deploy/tools/browser/play.mjs"), &script).doing(script.display())?;
    let page = format!("http://{}/watch#{}", playing.world.api, playing.url);
    let call = Call::new("node").arg(&script).arg(page).arg((ENOUGH_SECONDS + 2.0).to_string());
    let result = call.finish()?;
    let said: serde_json::Value = serde_json::from_str(result.out.trim()).unwrap_or_default();
    let complaints = said["complaints"]
        .as_array()
        .map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    let complaints = complaints.unwrap_or_else(|| format!("{}{}", result.out, result.err));
    Ok(Played::new(&result, said["seconds"].as_f64(), &complaints))
}
