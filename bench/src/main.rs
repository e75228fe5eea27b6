//! `bench NAME`: runs a measurement, writes one line of JSON for each result to standard output and a table to
//! standard error.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bench::goals::{Figure, Goals};
use bench::replay::{self, Plan};
use bench::report::{Comparison, Session, json_line, table};
use bench::stats::Side;
use bench::{Fault, Workload, trace};
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures the real rooms beside the naive way")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Group verification: hash each 16 KiB on arrival, or the whole segment after it
    Verify(Options),
    /// A memory hit: through the engine and the viewer's edge, or copied out of a map
    Hot(Options),
    /// Months of misses: bought by the real planner, or in a fixed order, both beside the optimum
    Cost(Options),
    /// Policies of the disk under an audience: the real one, three general ones, and what nobody can exceed
    Replay {
        /// An access log to replay instead: a gateway's lines, or a standard log of CloudFront
        #[arg(long)]
        log: Option<PathBuf>,
        #[command(flatten)]
        options: Options,
    },
    /// One of the servers of `hot`, until standard input ends
    #[command(hide = true)]
    Serve {
        /// Which
        #[arg(value_parser = side)]
        side: Side,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// Only prove that the bench works: the figures mean nothing
    #[arg(long)]
    tiny: bool,
    /// Makes the bytes and the arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The revision of the sources, to stand with the results
    #[arg(long, default_value = "unknown")]
    revision: String,
    /// Fail where a figure misses its goal in bench/goals.toml
    #[arg(long, conflicts_with = "tiny")]
    check: bool,
}

impl Options {
    fn workload(&self) -> Workload {
        if self.tiny { Workload::tiny(self.seed) } else { Workload::real(self.seed) }
    }

    fn session(&self) -> Session {
        Session::here(self.revision.clone(), self.seed, self.tiny)
    }
}

fn side(text: &str) -> Result<Side, String> {
    let named = Side::ALL.into_iter().find(|side| side.as_str() == text);
    named.ok_or_else(|| "naive or ours".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    match perform(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&format!("error: {fault}"));
            ExitCode::FAILURE
        }
    }
}

async fn perform(command: Command) -> Result<(), Fault> {
    match command {
        Command::Verify(options) => report(&options, "verify", &bench::verify::run(&options.workload())?),
        Command::Cost(options) => report(&options, "cost", &bench::cost::run(&options.workload())?),
        Command::Replay { log: Some(log), options } => replay_log(&options, &log),
        Command::Replay { log: None, options } => replay_audiences(&options),
        Command::Hot(options) => {
            let mut results = bench::hot::run(&options.workload()).await?;
            let program =
                std::env::current_exe().map_err(|error| Fault::new("finding this program", error))?;
            results.extend(bench::http::run(&options.workload(), &program, options.tiny).await?);
            report(&options, "hot", &results)
        }
        Command::Serve { side, options } => bench::http::serve(side, &options.workload(), say).await,
    }
}

fn report(options: &Options, bench: &str, results: &[Comparison]) -> Result<(), Fault> {
    let session = options.session();
    for result in results {
        say(&json_line(&session, result)?);
    }
    complain(&table(results));
    let figures: Vec<Figure> = results.iter().flat_map(Figure::of).collect();
    check(options, bench, &figures)
}

/// Draws the audiences one after another and replays them.
fn replay_audiences(options: &Options) -> Result<(), Fault> {
    let plan = if options.tiny { Plan::tiny(options.seed) } else { Plan::real(options.seed) };
    let (session, mut rows) = (options.session(), Vec::new());
    let figures = replay::run(&plan, |row| {
        rows.push(row.clone());
        json_line(&session, row).map(|line| say(&line))
    })?;
    complain(&replay::table(&rows));
    tell_figures(&session, &figures)?;
    check(options, "replay", &figures)
}

/// Replays an operator's own traffic. Goals are about the drawn audiences, so nothing is checked.
fn replay_log(options: &Options, path: &Path) -> Result<(), Fault> {
    let file = File::open(path).map_err(|error| Fault::new("opening the log", error))?;
    let log = trace::read_log(BufReader::new(file), replay::WARM_SHARE);
    let log = log.map_err(|error| Fault::new("reading the log", error))?;
    complain(&format!("{} requests for segments, {} other lines", log.used, log.skipped));
    let session = options.session();
    let mut tell = |row: &replay::Row| json_line(&session, row).map(|line| say(&line));
    let rows = replay::replay(&log.trace, "log", &mut tell, true)?;
    complain(&replay::table(&rows));
    tell_figures(&session, &replay::figures(&rows))
}

fn tell_figures(session: &Session, figures: &[Figure]) -> Result<(), Fault> {
    for figure in figures {
        say(&json_line(session, figure)?);
        complain(&format!("{:<36} {:>10.4}", figure.figure, figure.value));
    }
    Ok(())
}

fn check(options: &Options, bench: &str, figures: &[Figure]) -> Result<(), Fault> {
    if !options.check {
        return Ok(());
    }
    let missed = Goals::of_the_project()?.missed(bench, figures);
    if missed.is_empty() { Ok(()) } else { Err(Fault::new("goals missed", missed.join("\n"))) }
}

#[expect(clippy::print_stdout, reason = "results are this program's output")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "the table and complaints are for the person who started it")]
fn complain(text: &str) {
    eprintln!("{text}");
}
