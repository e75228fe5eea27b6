//! `SIGHUP`: a new process of this node, which reads the configuration anew and takes over.

use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

/// How long the check of a configuration may take.
const CHECK_WAIT: Duration = Duration::from_secs(30);

/// Lines of a failed check that are logged.
const MAX_LINES: usize = 50;

/// Starts the next process and watches it until it has taken over or ended.
pub(crate) struct Heir {
    /// This program as it was named at the start: by now another one may have that name.
    program: PathBuf,
    config: PathBuf,
    /// How long it may take to come and ask, and to serve.
    patience: Duration,
    child: Option<(Child, Instant)>,
}

impl Heir {
    pub(crate) fn new(program: PathBuf, config: PathBuf, patience: Duration) -> Self {
        Self { program, config, patience, child: None }
    }

    /// Lets the program check the configuration, and starts it if that is good. Every problem is logged, and
    /// then nothing changes.
    pub(crate) async fn start(&mut self) {
        if self.child.is_some() {
            return tracing::warn!("reload: another process is on its way already");
        }
        if std::process::id() == 1 {
            return tracing::error!(
                "reload: this is the container's first process and cannot be replaced in it"
            );
        }
        if !self.check().await {
            return tracing::error!("reload: nothing has changed");
        }
        let mut command = self.command("--takeover");
        // A group of its own: what a terminal or a supervisor sends to ours is not for it.
        command.process_group(0);
        match command.spawn() {
            Ok(child) => {
                tracing::info!(process = child.id(), "reload: a new process is on its way");
                // To come and to serve may each take as long as a takeover.
                self.child = Some((child, Instant::now() + self.patience * 2));
            }
            Err(error) => {
                tracing::error!(program = %self.program.display(), %error, "reload: the program does not start");
            }
        }
    }

    /// Waits until the new process ends without having taken over; for ever when there is none.
    pub(crate) async fn ended(&mut self) {
        let Some((child, deadline)) = &mut self.child else { return std::future::pending().await };
        let ended = match timeout_at(*deadline, child.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::error!("reload: the new process took too long and is stopped");
                // It fails only if it has ended meanwhile.
                let _ = child.start_kill();
                child.wait().await
            }
        };
        self.child = None;
        let status = ended.map(|status: ExitStatus| status.to_string()).unwrap_or_default();
        tracing::error!(status, "reload: the new process has ended; nothing has changed");
    }

    fn command(&self, flag: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).arg(flag).stdin(Stdio::null());
        command
    }

    async fn check(&self) -> bool {
        let mut command = self.command("--check-config");
        match timeout(CHECK_WAIT, command.kill_on_drop(true).output()).await {
            Ok(Ok(Output { status, .. })) if status.success() => true,
            Ok(Ok(Output { stderr, .. })) => {
                let text = String::from_utf8_lossy(&stderr);
                let problems = text.lines().filter(|line| !line.trim().is_empty()).take(MAX_LINES);
                problems.for_each(|problem| tracing::error!(problem, "reload: the configuration is bad"));
                false
            }
            Ok(Err(error)) => {
                tracing::error!(program = %self.program.display(), %error, "reload: the program does not start");
                false
            }
            Err(_) => {
                tracing::error!("reload: the check of the configuration took too long");
                false
            }
        }
    }
}
