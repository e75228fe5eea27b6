//! `cargo xtask test`: everything that must hold before a change is handed over, as a list of timed steps.
//!
//! The same package selection (`--workspace --all-targets`) everywhere, so that cargo builds each crate once.
//! A failed step does not hide the next: all are run and the list at the end tells which failed.

use std::path::Path;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::failure::{Context, Failure, Outcome};
use crate::metadata::Metadata;
use crate::setup::{self, Tool};
use crate::shell::{Call, root};
use crate::{demo, layers, licences, prove, term, tidy};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u64 = 8;

type Work = fn() -> Outcome;

/// The steps in order: cheap complaints first.
const QUICK: &[(&str, Work)] = &[
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("tidy", || tidy::run(&Metadata::read()?)),
    ("layers", || layers::run(&Metadata::read()?)),
    ("licences", || licences::run(&Metadata::read()?)),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])),
    ("tests", || cargo(&["test", "--workspace", "--all-targets", "--locked", "--quiet"])),
];

/// What a hurried author may leave to the machine that checks again.
const THOROUGH: &[(&str, Work)] = &[
    ("doc tests", || cargo(&["test", "--workspace", "--doc", "--locked", "--quiet"])),
    ("docs", docs),
    ("fuzz", fuzz),
    ("programs", || cargo(&["build", "--workspace", "--all-targets", "--locked"])),
    ("proof: a film plays", demo::short_proof),
    ("proofs, short", prove::short),
];

struct Done {
    name: &'static str,
    took: Duration,
    failure: Option<Failure>,
}

/// Runs the steps and prints the list.
///
/// # Errors
/// At least one step failed.
pub(crate) fn run(quick: bool) -> Outcome {
    setup::run(&needed(quick))?;
    let steps = QUICK.iter().chain(if quick { &[] } else { THOROUGH });
    let done: Vec<Done> = steps.map(|(name, work)| perform(name, *work)).collect();
    term::say("");
    done.iter().for_each(report);
    let failed = done.iter().filter(|done| done.failure.is_some()).count();
    term::say(format_args!("{} passed, {failed} failed", done.len() - failed));
    if failed == 0 { Ok(()) } else { Err(Failure::told()) }
}

/// The tests run real tools; only the long proof needs the film.
fn needed(quick: bool) -> Vec<Tool> {
    let mut tools = vec![Tool::Media, Tool::S3];
    if !quick {
        tools.extend([Tool::Film, Tool::HlsJs]);
    }
    tools
}

fn perform(name: &'static str, work: Work) -> Done {
    term::step(name);
    let watch = Stopwatch::start();
    let failure = work().err();
    if let Some(failure) = &failure {
        term::say(failure);
    }
    Done { name, took: watch.elapsed(), failure }
}

fn report(done: &Done) {
    let verdict = if done.failure.is_none() { "ok    " } else { "FAILED" };
    term::say(format_args!("{verdict}  {:<22} {:>12}", done.name, term::seconds(done.took)));
}

fn cargo(arguments: &[&str]) -> Outcome {
    Call::new("cargo").args(arguments).run()
}

fn docs() -> Outcome {
    let call = Call::new("cargo").args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    call.env("RUSTDOCFLAGS", "-D warnings").run()
}

/// The targets are found by their files, so that a new one is run from its first day. What the fuzzer finds
/// stays in `target`, so that the next run goes on from there.
fn fuzz() -> Outcome {
    let home = root().join("tests/fuzz");
    let targets = fuzz_targets(&home.join("fuzz_targets"))?;
    let cargo =
        |what: &str| Call::new("cargo").args([what, "--release", "--locked", "--quiet"]).folder(&home);
    cargo("build").run()?;
    for target in &targets {
        term::say(format_args!("    {target}: {FUZZ_SECONDS} s"));
        let found = root().join("target/fuzz/corpus").join(target);
        std::fs::create_dir_all(&found).doing(found.display())?;
        let seeds = Some(home.join("corpus").join(target)).filter(|seeds| seeds.is_dir());
        let call = cargo("run").args(["--bin", target, "--"]).arg(&found).args(seeds);
        call.arg(format!("-max_total_time={FUZZ_SECONDS}")).quiet()?;
    }
    term::say(format_args!("fuzz: {} targets", targets.len()));
    Ok(())
}

fn fuzz_targets(folder: &Path) -> Outcome<Vec<String>> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(folder).doing(folder.display())? {
        let path = entry.doing(folder.display())?.path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        targets.extend(name.filter(|_| path.extension().is_some_and(|extension| extension == "rs")));
    }
    targets.sort();
    Ok(targets)
}
