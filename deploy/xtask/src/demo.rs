//! `cargo xtask demo`: a real film goes in, a viewer rents it, and it plays through the gateway.
//!
//! Everything runs on this machine from the embedded example configurations; what is written lies in
//! `target/demo`. The programs are started as children and end with the toolbox, whichever way it ends.

mod captions;
pub(crate) mod check;
mod live;
pub(crate) mod origin;
pub(crate) mod package;
pub(crate) mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{Stopwatch, nap};
use crate::failure::{Context, Failure, Outcome};
use crate::setup::{self, Tool};
use crate::shell::{Call, root};
use crate::term;

use world::{Ports, SourceKind, World};

/// The film's name in URLs.
pub(crate) const TITLE: &str = "big-buck-bunny";
/// Who rents it.
pub(crate) const VIEWER: &str = "demo-viewer";
/// The credit its licence asks for.
const ATTRIBUTION: &str =
    "Big Buck Bunny (c) copyright 2008, Blender Foundation / www.bigbuckbunny.org, CC BY 3.0";
/// How often a running ingest is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How the demonstration runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Take the whole film (10 minutes) instead of its first minute
    #[arg(long)]
    full: bool,
    /// Play everything, verify it, print a summary and exit 0 or 1
    #[arg(long)]
    check: bool,
    /// Keep what an earlier run ingested and cached
    #[arg(long)]
    keep: bool,
    /// Where the gateway buys its bytes
    #[arg(long, value_enum, default_value = "directory")]
    source: SourceKind,
    /// The control plane's port; the gateway takes this + 10 and + 11; 0 takes free ones
    #[arg(long, default_value_t = 8470)]
    port_base: u16,
}

/// A film that can be watched.
#[derive(Debug)]
pub(crate) struct Playing {
    pub(crate) world: World,
    /// The title as `weir titles show` prints it.
    pub(crate) view: serde_json::Value,
    /// The playback URL.
    pub(crate) url: String,
}

/// Runs the demonstration.
///
/// # Errors
/// A tool, a program or a check failed.
pub(crate) fn run(options: &Options) -> Outcome {
    if options.keep && options.source == SourceKind::S3 {
        return Err(Failure::new("--keep: the S3-compatible server forgets everything when it ends"));
    }
    let mut tools = vec![Tool::Media, Tool::Film, Tool::HlsJs];
    if options.source == SourceKind::S3 {
        tools.push(Tool::S3);
    }
    setup::run(&tools)?;
    build()?;
    let home = root().join("target/demo");
    if !options.keep {
        empty(&home)?;
    }
    let length = if options.full { None } else { Some(60) };
    let playing = prepare(&home, options.source, Ports::from_base(options.port_base), length)?;
    if options.check {
        return check::run(playing).map(drop);
    }
    invite(&playing);
    live::watch(playing)
}

/// The three programs in the dev profile, which shares its dependencies with the tests: the wait is short, and
/// the crates that touch every byte are optimised even there.
pub(crate) fn build() -> Outcome {
    term::step("building the programs (the first time takes some minutes)");
    let call = Call::new("cargo").args(["build", "--locked", "--bins"]);
    call.args(["-p", "gateway", "-p", "control-plane", "-p", "cli"]).run()
}

/// Where the test suite's film lies, for the proofs that come after.
pub(crate) fn short_proof_home() -> PathBuf {
    root().join("target/proof")
}

/// The short form for the test suite: twenty seconds of film, every check, on free ports.
pub(crate) fn short_proof() -> Outcome {
    let home = short_proof_home();
    empty(&home)?;
    check::run(prepare(&home, SourceKind::Directory, Ports::from_base(0), Some(20))?).map(drop)
}

/// An empty folder.
pub(crate) fn empty(home: &Path) -> Outcome {
    if home.exists() {
        std::fs::remove_dir_all(home).doing(home.display())?;
    }
    std::fs::create_dir_all(home).doing(home.display())
}

/// Starts everything, ingests the first `seconds` of the film (all of it if none), rents it, opens a session.
pub(crate) fn prepare(
    home: &Path,
    source: SourceKind,
    ports: Ports,
    seconds: Option<u32>,
) -> Outcome<Playing> {
    std::fs::create_dir_all(home.join("data/mezzanine")).doing(home.display())?;
    cut_film(&home.join("data/mezzanine"), seconds)?;
    term::step("starting control plane and gateway");
    let world = World::start(home, source, ports)?;
    term::say(format_args!("    control plane http://{}, gateway http://{}", world.api, world.viewer));
    let view = ingest(&world)?;
    term::step("renting the film and opening a playback session");
    world.weir(&["buy", TITLE, "--viewer", VIEWER, "--kind", "rental"])?;
    let session = world.weir(&["session", TITLE, "--viewer", VIEWER])?;
    let url = session.get("url").and_then(|url| url.as_str());
    let url = url.ok_or_else(|| Failure::new(format!("no URL in {session}")))?.to_owned();
    Ok(Playing { world, view, url })
}

/// A copy without re-encoding: the mezzanine is exactly what the film is.
fn cut_film(mezzanine: &Path, seconds: Option<u32>) -> Outcome {
    let to = mezzanine.join("bbb.mp4");
    let call = Call::new(setup::ffmpeg()).args(["-v", "error", "-y", "-i"]).arg(setup::film());
    let call = match seconds {
        Some(seconds) => call.args(["-t", &seconds.to_string()]),
        None => call,
    };
    call.args(["-c", "copy"]).arg(&to).quiet()?;
    captions::write(&mezzanine.join("bbb.en.vtt"), seconds.unwrap_or(596))
}

/// Takes the film in and shows how far it is; a film that is there already is taken as it is.
fn ingest(world: &World) -> Outcome<serde_json::Value> {
    let watch = Stopwatch::start();
    if world.weir(&["titles", "show", TITLE]).is_err() {
        let add = ["titles", "add", TITLE, "--name", "Big Buck Bunny", "--source", "bbb.mp4"];
        world.weir(&[&add[..], &["--captions", "en=bbb.en.vtt", "--attribution", ATTRIBUTION]].concat())?;
    }
    term::step(format_args!("taking the film in: {ATTRIBUTION}"));
    let mut line = term::LiveLine::new();
    loop {
        let view = world.weir(&["titles", "show", TITLE])?;
        let stage = view.get("stage").and_then(|stage| stage.as_str()).unwrap_or("?").to_owned();
        let percent = view.get("progress_percent").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let shown = format!("    {} {stage:<12} {}", term::bar(percent), term::seconds(watch.elapsed()));
        line.show(&format!("{stage} {}", percent / 10), &shown);
        match stage.as_str() {
            "published" => {
                line.finish();
                return Ok(view);
            }
            "failed" => {
                line.finish();
                let reason =
                    view.get("reason").and_then(|reason| reason.as_str()).unwrap_or("no reason given");
                return Err(Failure::new(format!("the ingest failed: {reason}")));
            }
            _ => nap(LOOK_EVERY),
        }
    }
}

fn invite(playing: &Playing) {
    let (api, url) = (&playing.world.api, &playing.url);
    term::say("");
    term::say("The film is ready. Play this URL in any HLS player (VLC, mpv, ffplay, hls.js):");
    term::say(format_args!("  {url}"));
    term::say("or open this page:");
    term::say(format_args!("  http://{api}/watch#{url}"));
    term::say("");
    term::say(
        "Bytes by where they came from; saved = delivered bytes at CloudFront's list price of 0.085 USD/GB",
    );
    term::say("(first 10 TB a month, US and Europe) less what the sources asked. Ctrl-C ends everything.");
}
