//! Running other programs: shown as typed, with their own output or quietly, and never left behind.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::failure::{Context, Failure, Outcome};

/// How many lines of a failed quiet program are shown.
const TAIL_LINES: usize = 40;

/// The root of the source tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}

/// Where the fetched tools live; ignored by git, kept by nothing but `target`.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The folder cargo put this very program into: the other programs of the workspace lie beside it.
pub(crate) fn built() -> Outcome<PathBuf> {
    let me = std::env::current_exe().doing("finding this program")?;
    me.parent().map(Path::to_path_buf).ok_or_else(|| Failure::new("this program lies in no folder"))
}

/// One call of another program.
#[derive(Debug)]
pub(crate) struct Call {
    program: OsString,
    arguments: Vec<OsString>,
    folder: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Call {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self { program, arguments: Vec::new(), folder: root(), environment: Vec::new() }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub(crate) fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The call as one would type it.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Runs it with our own terminal.
    ///
    /// # Errors
    /// It could not be started, or ended with anything but success.
    pub(crate) fn run(self) -> Outcome {
        let status = self.command().stdin(Stdio::null()).status().doing(self.shown())?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("{}: {status}", self.shown()))) }
    }

    /// Runs it without a sound and returns what it wrote to its standard output.
    ///
    /// # Errors
    /// As [`Call::run`]; the text carries the last lines of its output.
    pub(crate) fn quiet(self) -> Outcome<String> {
        let result = self.finish()?;
        if result.good { Ok(result.out) } else { Err(Failure::new(result.complaint(&self.shown()))) }
    }

    /// Runs it without a sound; its failure is a result like any other.
    pub(crate) fn finish(&self) -> Outcome<Finished> {
        let output = self.command().stdin(Stdio::null()).output().doing(self.shown())?;
        Ok(Finished {
            good: output.status.success(),
            status: output.status.to_string(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Starts it with both outputs in `log`; it ends when the returned value is dropped, and also when the
    /// toolbox itself dies.
    pub(crate) fn start(self, log: &Path) -> Outcome<Running> {
        let out = std::fs::File::create(log).doing(log.display())?;
        let err = out.try_clone().doing(log.display())?;
        // The kernel ends the child with us, however we end: a forgotten server would hold its port.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(&self.program).args(&self.arguments);
        command.current_dir(&self.folder).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().doing(self.shown())?;
        Ok(Running { child, shown: self.shown(), log: log.to_owned() })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// What a quiet call left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) good: bool,
    pub(crate) status: String,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    fn complaint(&self, shown: &str) -> String {
        let both = format!("{}{}", self.out, self.err);
        format!("{shown}: {}\n{}", self.status, tail(&both))
    }
}

/// A program in the background; killed and reaped on drop.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    shown: String,
    log: PathBuf,
}

impl Running {
    /// Fails when the program has ended, with the last lines of its log.
    pub(crate) fn still_there(&mut self) -> Outcome {
        let ended = self.child.try_wait().doing(&self.shown)?;
        match ended {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!("{} ended: {status}\n{}", self.shown, self.log_tail()))),
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub(crate) fn stop(mut self) -> Outcome {
        Call::new("kill").args(["-TERM", &self.child.id().to_string()]).quiet()?;
        let status = self.child.wait().doing(&self.shown)?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("{}: {status}", self.shown))) }
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Whether a program of this name can be found.
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_the_programs_own_words() {
        let failure = Call::new("sh").args(["-c", "echo why >&2; exit 3"]).quiet().expect_err("it exits 3");
        assert!(failure.to_string().contains("why"), "{failure}");
        assert!(failure.to_string().contains("exit status: 3"), "{failure}");
    }

    #[test]
    fn a_background_program_ends_with_its_handle() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut running = Call::new("sleep").arg("60").start(&folder.path().join("log")).expect("started");
        running.still_there().expect("still asleep");
        let pid = running.child.id();
        drop(running);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
