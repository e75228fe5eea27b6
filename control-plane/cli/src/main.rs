//! `weir`: the operator's command line over the control plane's HTTP API.
//!
//! It adds films and watches their ingest, sells rights and opens playback sessions; `token mint` signs a
//! token without the control plane, for tests of a gateway; `cost` reports, simulates and advises on money,
//! from files only. Tables for people, `--json` for programs: the JSON is the API's own. It keeps no state.
//!
//! What can go wrong ends as one text on the standard error that says what to do next, and exit status 1;
//! wrong usage is exit status 2.

mod arguments;
mod client;
mod clock;
mod commands;
mod config;
mod cost;
mod entropy;
mod error;
mod mint;
mod render;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut out = std::io::stdout();
    match commands::perform(arguments::Arguments::parse(), &mut out).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has seen enough (`weir ... | head`).
        Err(error::Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Nobody is left to tell when even the standard error is gone.
            let _ = writeln!(std::io::stderr(), "weir: {error}");
            ExitCode::FAILURE
        }
    }
}
