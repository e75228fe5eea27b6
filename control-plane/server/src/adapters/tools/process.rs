//! Runs one tool: bounded in time, killed when dropped, remembered by the end of what it said.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::seams::ToolError;

/// How much of a tool's complaint is kept: its end, where the reason stands.
const COMPLAINT_LEN: usize = 2000;
/// The most a tool may print where its output is wanted whole.
const OUTPUT_LEN: u64 = 16 * 1024 * 1024;

/// A tool about to run.
pub(super) struct Invocation {
    tool: &'static str,
    command: Command,
    timeout: Duration,
}

impl Invocation {
    pub(super) fn new(
        tool: &'static str,
        program: &Path,
        setpriv: Option<&std::path::PathBuf>,
        timeout: Duration,
    ) -> Self {
        // The kernel kills the tool when the thread that started it ends. Runtime threads live as long as the
        // runtime, so that is the end of the process.
        let mut command = match setpriv {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self { tool, command, timeout }
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(super) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(super) fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it and returns what it printed.
    pub(super) async fn output(self) -> Result<Vec<u8>, ToolError> {
        let mut printed = Vec::new();
        self.run(async |stdout| stdout.take(OUTPUT_LEN).read_to_end(&mut printed).await.map(drop)).await?;
        Ok(printed)
    }

    /// Runs it and shows each line it prints as it comes.
    pub(super) async fn lines(self, mut each: impl FnMut(&str)) -> Result<(), ToolError> {
        self.run(async |stdout| {
            let mut lines = BufReader::new(stdout).lines();
            while let Some(line) = lines.next_line().await? {
                each(&line);
            }
            Ok(())
        })
        .await
    }

    async fn run(
        mut self,
        read: impl AsyncFnOnce(tokio::process::ChildStdout) -> std::io::Result<()>,
    ) -> Result<(), ToolError> {
        let tool = self.tool;
        let failed = move |detail: String| ToolError { tool, detail, permanent: false };
        let mut child = self.command.spawn().map_err(|e| failed(format!("cannot be run: {e}")))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed("its output is not connected".to_owned()));
        };
        let work = async {
            let (read, complaint, status) = tokio::join!(read(stdout), tail(stderr), child.wait());
            read.and(status).map(|status| (status, complaint))
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok((status, complaint))) => judge(status, &complaint).map_err(failed),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => {
                kill(child).await;
                Err(failed(format!("took longer than {:?} and was stopped", self.timeout)))
            }
        }
    }
}

/// Waits for the end, so that the next attempt does not race with this one.
async fn kill(mut child: Child) {
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "a tool that took too long could not be stopped");
    }
}

fn judge(status: ExitStatus, complaint: &str) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    let complaint = if complaint.is_empty() { "it gave no reason" } else { complaint };
    Err(format!("{status}: {complaint}"))
}

/// The end of a stream as text.
async fn tail(mut stream: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..len]);
        let surplus = kept.len().saturating_sub(COMPLAINT_LEN);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout_ms: u64) -> Invocation {
        let timeout = Duration::from_millis(timeout_ms);
        Invocation::new("sh", Path::new("/bin/sh"), None, timeout).args(["-c", script])
    }

    #[tokio::test]
    async fn output_lines_and_complaints() {
        assert_eq!(shell("echo yes", 10_000).output().await, Ok(b"yes\n".to_vec()));
        let mut lines = Vec::new();
        shell("echo a; echo b", 10_000).lines(|line| lines.push(line.to_owned())).await.expect("runs");
        assert_eq!(lines, ["a", "b"]);
        let error = shell("echo why >&2; exit 3", 10_000).output().await.expect_err("fails");
        assert_eq!(error.detail, "exit status: 3: why");
        let error = shell("exec sleep 60", 50).output().await.expect_err("is stopped");
        assert!(error.detail.contains("took longer"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_tool_is_named() {
        let missing = Invocation::new("ffmpeg", Path::new("/no/such/tool"), None, Duration::from_secs(1));
        let error = missing.output().await.expect_err("is not there");
        assert!(error.to_string().starts_with("ffmpeg: cannot be run:"), "{error}");
    }

    #[tokio::test]
    async fn only_the_end_of_a_long_complaint_is_kept() {
        let script = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1";
        let error = shell(script, 30_000).output().await.expect_err("fails");
        assert!(error.detail.len() <= COMPLAINT_LEN + 40 && error.detail.ends_with("line 1999"), "{error}");
    }
}
