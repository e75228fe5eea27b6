//! `cargo xtask bench NAME`: builds the measurements with the optimiser on and runs one of them.
//!
//! The results go to standard output, one line of JSON each; the table goes to standard error.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::failure::Outcome;
use crate::shell::{Call, built};

/// What can be measured.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Name {
    /// Group verification: hash each 16 KiB on arrival, or the whole segment after it
    Verify,
    /// A memory hit: through the engine and the viewer's edge, or copied out of a map
    Hot,
    /// Months of misses: bought by the real planner, or in a fixed order, both beside the optimum
    Cost,
    /// Policies of the disk under an audience: the real one, three general ones, and what nobody can exceed
    Replay,
}

impl Name {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Hot => "hot",
            Self::Cost => "cost",
            Self::Replay => "replay",
        }
    }
}

/// What to measure and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which measurement
    #[arg(value_enum)]
    name: Name,
    /// Only prove that it works: no optimised build, and figures that mean nothing
    #[arg(long)]
    tiny: bool,
    /// Makes the bytes and the arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fail where a figure misses its goal in bench/goals.toml
    #[arg(long, conflicts_with = "tiny")]
    check: bool,
    /// An access log for `replay`: a gateway's lines, or a standard log of CloudFront
    #[arg(long)]
    log: Option<PathBuf>,
}

/// Builds and runs.
///
/// # Errors
/// It does not build, or the measurement failed.
pub(crate) fn run(options: &Options) -> Outcome {
    let profile = if options.tiny { "dev" } else { "release" };
    Call::new("cargo").args(["build", "--locked", "--quiet", "-p", "bench", "--profile", profile]).run()?;
    // Beside the folder that cargo put this program into.
    let folder = if options.tiny { "../debug" } else { "../release" };
    let call = Call::new(built()?.join(folder).join("bench")).arg(options.name.as_str());
    let call = call.args(["--seed", &options.seed.to_string(), "--revision", &revision()?]);
    let call = call.args(options.tiny.then_some("--tiny")).args(options.check.then_some("--check"));
    call.args(options.log.iter().flat_map(|log| [OsStr::new("--log"), log.as_os_str()])).run()
}

/// The commit, marked when the tree holds more than it.
fn revision() -> Outcome<String> {
    let described = Call::new("git").args(["describe", "--always", "--abbrev=12", "--dirty"]).quiet()?;
    Ok(described.trim().to_owned())
}
