//! `proofs NAME`: what the house promises, proved on the real program.
//!
//! Each proof starts the gateway as a process of its own between scripted origins on real sockets and viewers that
//! know every byte of the film. It prints one line for each fact and exits 0 if all of them are good. `--short` is
//! the form that runs with every change; what needs root says so and is left out otherwise. The seed decides what
//! origins, viewers and accidents do; what the machine's scheduler makes of it is its own.
//!
//! `cargo xtask prove` builds the gateway and runs this program.

mod clock;
mod crowd;
mod facts;
mod failure;
mod film;
mod gateway;
mod origin;
mod pane;
mod players;
mod proof;
#[cfg(test)]
mod tests;
mod trouble;
mod viewer;
mod volume;
mod wreck;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::time::Instant;

use crate::facts::{Facts, complain, say};
use crate::failure::{Context, Failure, Outcome};
use crate::film::Film;
use crate::players::Cinema;
use crate::proof::Proof;

/// Connections of ten thousand viewers, and some.
const OPEN_FILES: u64 = 65_536;

#[derive(Debug, Parser)]
#[command(name = "proofs", about = "Proves on the real gateway what the house promises")]
struct Arguments {
    /// Which; several may be named
    #[arg(value_enum, required_unless_present = "all")]
    proofs: Vec<Proof>,
    /// All of them, one after the other
    #[arg(long)]
    all: bool,
    /// The form that runs with every change
    #[arg(long)]
    short: bool,
    /// Decides what origins, viewers and accidents do
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The gateway's program
    #[arg(long)]
    gateway: PathBuf,
    /// Where each proof gets a folder
    #[arg(long)]
    home: PathBuf,
    #[command(flatten)]
    cinema: CinemaArguments,
}

/// For proofs with real players: `cargo xtask prove` provides all of it.
#[derive(Debug, Clone, clap::Args)]
struct CinemaArguments {
    /// The data folder of a control plane that has published one film
    #[arg(long, requires = "tools")]
    film: Option<PathBuf>,
    /// The folder of the pinned tools
    #[arg(long)]
    tools: Option<PathBuf>,
    /// The page that plays the URL behind its #
    #[arg(long)]
    page: Option<String>,
}

/// What a proof works with.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) gateway: PathBuf,
    /// A folder of its own, empty.
    pub(crate) home: PathBuf,
    pub(crate) short: bool,
    pub(crate) seed: u64,
    cinema: CinemaArguments,
}

impl Stage {
    /// What it takes to let real players play.
    pub(crate) fn cinema(&self) -> Outcome<Cinema> {
        let CinemaArguments { film, tools, page } = self.cinema.clone();
        let (film, tools) = (film.doing("--film")?, tools.doing("--tools")?);
        let film = Film::published(&film)?;
        Ok(Cinema { film, tools: tools.canonicalize().doing(tools.display())?, page })
    }

    /// The figure for this form of the proof.
    pub(crate) fn pick<T>(&self, short: T, long: T) -> T {
        if self.short { short } else { long }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let proofs = if arguments.all { Proof::all(arguments.short) } else { arguments.proofs.clone() };
    let mut failed = Vec::new();
    for proof in proofs {
        if let Err(failure) = perform(proof, &arguments).await {
            complain(&Failure::new(format!("{}: {failure}", proof.name())));
            failed.push(proof.name());
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    complain(&Failure::new(format!("not proved: {} (seed {})", failed.join(", "), arguments.seed)));
    ExitCode::FAILURE
}

async fn perform(proof: Proof, arguments: &Arguments) -> Outcome {
    let form = if arguments.short { ", short form" } else { "" };
    say(format_args!("==> {}{form}, --seed {}: {}", proof.name(), arguments.seed, proof.claim()));
    // As many as the machine lets us have; a proof that needs more says so itself.
    let _ = rlimit::increase_nofile_limit(OPEN_FILES);
    let home = arguments.home.join(proof.name());
    if home.exists() {
        fs::remove_dir_all(&home).doing(home.display())?;
    }
    fs::create_dir_all(&home).doing(home.display())?;
    let home = home.canonicalize().doing(home.display())?;
    let gateway = arguments.gateway.canonicalize().doing(arguments.gateway.display())?;
    let Arguments { short, seed, cinema, .. } = arguments;
    let stage = Stage { gateway, home, short: *short, seed: *seed, cinema: cinema.clone() };
    let (begun, mut facts) = (Instant::now(), Facts::default());
    proof.run(&stage, &mut facts).await?;
    facts.note("took", format_args!("{:.1} s", begun.elapsed().as_secs_f64()));
    facts.finish()
}
