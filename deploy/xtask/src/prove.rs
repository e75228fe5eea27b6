//! `cargo xtask prove NAME`: claims that take longer or need more than the test suite has.
//!
//! Each proof starts the real programs on free ports with the real film, does what its name says, and prints
//! one line for each fact. Its folder `target/proof/<name>` stays for whoever wants to look.

mod herd;
mod kill;
mod players;
mod sources;

use std::path::PathBuf;

use crate::demo::world::{Ports, SourceKind};
use crate::demo::{self, Playing};
use crate::failure::Outcome;
use crate::setup::{self, Tool};
use crate::shell::root;
use crate::term;

/// What can be proved.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Proof {
    /// ffmpeg, GStreamer, mpv and hls.js in Chromium each play without an error
    Players,
    /// A thousand viewers of one cold segment cost one upstream fetch
    Herd,
    /// The same film from a directory, an S3-compatible server and an HTTP origin is the same to the byte
    Sources,
    /// Killed in mid-fill and restarted, the gateway serves what it had without upstream reads
    Kill,
}

/// Runs these proofs.
///
/// # Errors
/// The first one that fails.
pub(crate) fn run(proofs: &[Proof]) -> Outcome {
    setup::run(&[Tool::Media, Tool::Film, Tool::HlsJs])?;
    demo::build()?;
    for proof in proofs {
        match proof {
            Proof::Players => players::run()?,
            Proof::Herd => herd::run()?,
            Proof::Kill => kill::run()?,
            Proof::Sources => sources::run()?,
        }
    }
    Ok(())
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
