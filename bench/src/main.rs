//! `bench NAME`: runs a measurement, writes one line of JSON for each result to standard output and a table to
//! standard error.

use std::process::ExitCode;

use bench::report::{Comparison, Session, json_line, table};
use bench::stats::Side;
use bench::{Fault, Workload};
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
}

impl Options {
    fn workload(&self) -> Workload {
        if self.tiny { Workload::tiny(self.seed) } else { Workload::real(self.seed) }
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
        Command::Verify(options) => report(&options, &bench::verify::run(&options.workload())?),
        Command::Cost(options) => report(&options, &bench::cost::run(&options.workload())?),
        Command::Hot(options) => {
            let mut results = bench::hot::run(&options.workload()).await?;
            let program =
                std::env::current_exe().map_err(|error| Fault::new("finding this program", error))?;
            results.extend(bench::http::run(&options.workload(), &program, options.tiny).await?);
            report(&options, &results)
        }
        Command::Serve { side, options } => bench::http::serve(side, &options.workload(), say).await,
    }
}

fn report(options: &Options, results: &[Comparison]) -> Result<(), Fault> {
    let session = Session::here(options.revision.clone(), options.seed, options.tiny);
    for result in results {
        say(&json_line(&session, result)?);
    }
    complain(&table(results));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "results are this program's output")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "the table and complaints are for the person who started it")]
fn complain(text: &str) {
    eprintln!("{text}");
}
