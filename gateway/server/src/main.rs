//! weir-gateway: wires one node together.
//!
//! A node serves viewers from its own memory and disk, and buys what it lacks from the cheapest healthy
//! source: a directory, S3, an HTTP origin such as CloudFront, or a neighbour over QUIC. This program reads
//! the one configuration file, loads what it names, starts the rooms and stops them in order; every decision
//! lies in a room below.
//!
//! Signals: `SIGTERM` and `SIGINT` drain and stop; a second one stops at once. `SIGHUP` reloads: a new process
//! of this program reads the configuration and takes over, and no connection is refused or cut for it.
//!
//! Exit codes: 0 stopped as asked, 1 could not start or a check failed, 2 the command line is wrong.

mod clock;
mod config;
mod cost;
mod entropy;
mod explainer;
mod heir;
mod life;
mod materials;
mod node;
mod purger;
mod sources;
mod supervisor;
mod takeover;
mod telemetry;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Runtime;

use crate::config::Config;
use crate::heir::Heir;
use crate::life::Setup;
use crate::materials::Materials;

/// One node of Weir: the read-through cache between players and the sources of a film.
#[derive(Parser)]
#[command(name = "weir-gateway", version)]
struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Take over from the process that serves with this configuration's `takeover_socket`; without one, just
    /// start.
    #[arg(long)]
    takeover: bool,
    #[command(flatten)]
    instead: Instead,
}

/// What to do instead of serving.
#[derive(Parser)]
#[group(multiple = false)]
struct Instead {
    /// Read everything, open every file it names, report every problem, and exit.
    #[arg(long)]
    check_config: bool,
    /// Print the configuration with all defaults, and exit. Secrets are paths.
    #[arg(long)]
    print_config: bool,
    /// Print the fingerprint that neighbours pin for this node, and exit.
    #[arg(long)]
    peer_id: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            problems.iter().for_each(|problem| tell(problem));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Vec<String>> {
    let config = Config::load(&args.config).map_err(one)?;
    if args.instead.print_config {
        answer(toml::to_string(&config).map_err(one)?.trim_end());
        return Ok(());
    }
    if args.instead.peer_id {
        let peer = config.peer.as_ref().ok_or_else(|| one("peer: the configuration has no such table"))?;
        answer(&materials::identity(peer).map_err(one)?.fingerprint().to_string());
        return Ok(());
    }
    let runtime = Runtime::new().map_err(one)?;
    let materials = check(&config, &runtime)?;
    if args.instead.check_config {
        answer("the configuration is good");
        return Ok(());
    }
    telemetry::start_log(&config.log).map_err(one)?;
    let served = runtime.block_on(serve(&config, materials, args));
    // What still runs is told to end; a disk that hangs must not keep the process.
    runtime.shutdown_timeout(LAST_WAIT);
    served
}

/// How long the process waits for its threads when everything is done or a second signal came.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// All problems of the values and of the files, together.
fn check(config: &Config, runtime: &Runtime) -> Result<Materials, Vec<String>> {
    let mut problems = config.problems();
    match runtime.block_on(Materials::load(config)) {
        Ok(materials) if problems.is_empty() => Ok(materials),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

async fn serve(config: &Config, materials: Materials, args: &Args) -> Result<(), Vec<String>> {
    let version = env!("CARGO_PKG_VERSION");
    let open_files = rlimit::increase_nofile_limit(config.open_files).unwrap_or_default();
    tracing::info!(version, node = config.node, config = digest(config), open_files, "starting");
    if open_files < config.open_files {
        tracing::warn!(
            wanted = config.open_files,
            got = open_files,
            "the hard limit allows fewer open files"
        );
    }
    let heir = Heir::new(program(), args.config.clone(), config.takeover_timeout);
    let supervisor = std::env::var_os("NOTIFY_SOCKET");
    life::live(config, materials, Setup { takeover: args.takeover, supervisor, heir }).await.map_err(one)
}

/// This program as it was named at the start.
fn program() -> PathBuf {
    let named = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    // A bare name was found by the search path, and will be again.
    let bare = named.components().count() == 1 && !named.has_root();
    if bare { named } else { std::path::absolute(&named).unwrap_or(named) }
}

/// Tells two starts with different configurations apart.
fn digest(config: &Config) -> String {
    let text = toml::to_string(config).unwrap_or_default();
    media::Digest::of(text.as_bytes()).to_string()[..16].to_owned()
}

fn one(problem: impl std::fmt::Display) -> Vec<String> {
    vec![problem.to_string()]
}

#[expect(clippy::print_stdout, reason = "what was asked for on the command line")]
fn answer(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "why the program stops; the log may not be on yet")]
fn tell(problem: &str) {
    eprintln!("weir-gateway: {problem}");
}
