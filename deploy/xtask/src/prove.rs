//! `cargo xtask prove NAME`: claims that take longer or need more than the test suite has.
//!
//! One proof needs the whole house, and lives here. The others are the program `proofs` (`tests/proofs`): the real
//! gateway between scripted origins and viewers that check every byte; for those with real players a real film is
//! taken in here first. All print one line for each fact. The folder `target/proof/<name>` stays for whoever wants
//! to look.

mod cinema;
mod sources;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::demo::world::{Ports, SourceKind};
use crate::demo::{self, Playing};
use crate::failure::{Failure, Outcome};
use crate::setup::{self, Tool};
use crate::shell::{Call, built, root};
use crate::term;

/// What can be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proof {
    /// ffmpeg, GStreamer, mpv, VLC, hls.js and Chromium itself each play without an error
    Players,
    /// The cheapest source goes bad in the middle of segments, and no player notices
    FailoverPlayers,
    /// The same film from a directory, an S3-compatible server and an HTTP origin is the same to the byte
    Sources,
    /// Everything goes wrong at once, and no response ends cleanly with a wrong byte
    Faults,
    /// A source dies at any point of a segment, and ten of ten viewers get everything
    Failover,
    /// A dead source is not noticed, and when all are dead nobody waits and nobody storms
    DeadSources,
    /// One answer in a hundred takes a second, and no viewer waits for it
    Hedge,
    /// A bucket that says "slow down" is given its rest, and no viewer hears of it
    Throttle,
    /// A thousand viewers of one cold segment cost one upstream read
    Herd,
    /// Every block of the disk tier is damaged in every way, and no viewer sees it
    Damage,
    /// Killed again and again, the gateway still has what it had stored
    Kill,
    /// The power goes again and again, and what was counted as stored is still there
    Power,
    /// A disk is full or fails, and no viewer notices
    Disk,
    /// A range of a cold segment costs about itself, and the rest costs the rest
    Range,
    /// Ten thousand idle and a thousand slow viewers fit into what is configured
    Memory,
    /// What is purged is gone within 100 ms, for good, and for fills that run
    Purge,
    /// Three times as many viewers as the node is built for: what it is built for is served
    Overload,
    /// A new process takes over under hundreds of downloads, and nobody notices
    Upgrade,
    /// A million objects on disk: two seconds from start to the first hit, a hundred bytes of memory each
    Restart,
}

/// How it is proved.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which; several may be named
    #[arg(value_enum, required = true)]
    proofs: Vec<Proof>,
    /// The form that runs with every change
    #[arg(long)]
    short: bool,
    /// Decides what origins, viewers and accidents do
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs these proofs.
///
/// # Errors
/// The first one that fails.
pub(crate) fn run(options: &Options) -> Outcome {
    let film = |proof: &Proof| matches!(proof, Proof::Players | Proof::FailoverPlayers | Proof::Sources);
    if options.proofs.iter().any(film) {
        setup::run(&[Tool::Media, Tool::Film, Tool::HlsJs])?;
        demo::build()?;
    }
    if options.proofs.iter().any(|proof| matches!(proof, Proof::Power | Proof::Disk)) {
        setup::install_system_packages(&setup::VOLUMES)?;
    }
    if options.proofs.iter().any(|proof| *proof != Proof::Sources) {
        build()?;
    }
    for proof in &options.proofs {
        match proof {
            Proof::Players | Proof::FailoverPlayers => cinema::run(*proof, options)?,
            Proof::Sources => sources::run()?,
            other => call(*other, options)?.run()?,
        }
    }
    Ok(())
}

/// All proofs of the gateway in their short form, for the suite.
///
/// # Errors
/// At least one fact is bad.
pub(crate) fn short() -> Outcome {
    build()?;
    cinema::with_the_suites_film(program()?.args(["--all", "--short"])).run()
}

fn build() -> Outcome {
    term::step("building the gateway and its proofs (the first time takes some minutes)");
    Call::new("cargo").args(["build", "--locked", "--bins", "-p", "gateway", "-p", "proofs"]).run()
}

/// `proofs` with one proof.
fn call(proof: Proof, options: &Options) -> Outcome<Call> {
    let name = proof.to_possible_value().ok_or_else(|| Failure::new("a proof without a name"))?;
    let call = program()?.args([name.get_name(), "--seed", &options.seed.to_string()]);
    Ok(if options.short { call.arg("--short") } else { call })
}

fn program() -> Outcome<Call> {
    let built = built()?;
    let call = Call::new(built.join("proofs")).arg("--gateway").arg(built.join("weir-gateway"));
    Ok(call.arg("--home").arg(root().join("target/proof")))
}

fn home(name: &str) -> PathBuf {
    root().join("target/proof").join(name)
}

/// So many seconds of the film, published, rented and cold, in a folder of this name.
fn fresh(name: &str, source: SourceKind, seconds: u32) -> Outcome<Playing> {
    term::step(format_args!("proof: {name}"));
    demo::empty(&home(name))?;
    demo::prepare(&home(name), source, Ports::from_base(0), Some(seconds))
}
