//! The toolbox behind `cargo xtask`: sets up the tools, runs every check, shows the film playing.
//!
//! It knows none of the rooms; it starts the programs as a person would and looks at what they do.

mod bench;
mod clock;
mod demo;
mod digest;
mod failure;
mod http;
mod layers;
mod licences;
mod metadata;
mod metrics;
mod prove;
mod setup;
mod shell;
mod suite;
mod term;
mod tidy;

use clap::{Parser, Subcommand};

use failure::Outcome;
use metadata::Metadata;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The toolbox: set up, check, demonstrate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch the pinned tools into target/tools (the other commands do it by themselves)
    Setup {
        /// Fetch AWS's DynamoDB Local, too; the tests of the records then use it. Its licence asks for an AWS account
        #[arg(long)]
        dynamodb_local: bool,
    },
    /// Run every check; the last line counts what passed and failed
    Test {
        /// Leave out docs, fuzzing and the proofs
        #[arg(long)]
        quick: bool,
    },
    /// Take a real film in, rent it, and play it through the gateway
    Demo(demo::Options),
    /// Prove a claim that the test suite has no time for
    Prove(prove::Options),
    /// Measure the real rooms beside the naive way
    Bench(bench::Options),
    /// Compare the crates with the table of allowed arrows
    Layers,
    /// Check small habits: file lengths, reasons, leftovers
    Tidy,
    /// Check licences, bans and origins of every crate in the build
    Licences,
}

fn main() -> std::process::ExitCode {
    match perform(Arguments::parse().command) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                term::complain(&failure);
            }
            std::process::ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Outcome {
    match command {
        Command::Setup { dynamodb_local } => {
            let more = dynamodb_local.then_some(setup::Tool::DynamoDbLocal);
            setup::run(&setup::Tool::ALL.into_iter().chain(more).collect::<Vec<_>>())
        }
        Command::Test { quick } => suite::run(quick),
        Command::Demo(options) => demo::run(&options),
        Command::Prove(options) => prove::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Layers => layers::run(&Metadata::read()?),
        Command::Tidy => tidy::run(&Metadata::read()?),
        Command::Licences => licences::run(&Metadata::read()?),
    }
}
