//! weir-control-plane: takes films in, keeps who may watch what, opens playback sessions.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use control_plane::config::{self, Config};
use control_plane::entropy::SystemEntropy;
use control_plane::{init, serve, telemetry};
use tokio::signal::unix::{SignalKind, signal};

/// Takes films in, keeps who may watch what, opens playback sessions.
#[derive(Parser)]
#[command(name = "weir-control-plane", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and end: 0 if it is usable.
    #[arg(long)]
    check_config: bool,
    /// Print the effective configuration, defaults included, and end.
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make the keys, the directories and the table that are absent. Safe to repeat.
    Init,
    /// Serve. The default.
    Serve,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[expect(clippy::print_stderr, reason = "the log may not be set up when the program fails to start")]
fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-control-plane: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "these answers are for the person at the terminal")]
fn run(arguments: &Arguments) -> Outcome {
    let config = config::load(&arguments.config)?;
    if arguments.print_config {
        print!("{}", toml::to_string(&config)?);
        return Ok(());
    }
    if arguments.check_config {
        println!("{} is usable", arguments.config.display());
        return Ok(());
    }
    match arguments.command {
        Some(Command::Init) => {
            for path in init::init(&config, &SystemEntropy::new())? {
                println!("made {}", path.display());
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            if runtime.block_on(init::init_table(&config, Arc::new(SystemEntropy::new())))? {
                println!("made table {}", config.state.table);
            }
            Ok(())
        }
        Some(Command::Serve) | None => serve(&config),
    }
}

fn serve(config: &Config) -> Outcome {
    telemetry::start_log(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        Ok(serve::run(config, stop).await?)
    });
    // Hashing a long film does not stop on request; its result is not needed any more.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}
