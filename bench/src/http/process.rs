//! The server as a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::client::Connection;
use super::server::Ready;
use crate::film::Piece;
use crate::stats::Side;
use crate::{Doing, Fault};

/// Longest wait for a server to have the film in memory.
const START: Duration = Duration::from_secs(60);

/// The kernel's clock ticks in a second as `/proc` counts them, on every Linux there is.
const TICKS: f64 = 100.0;

/// A running server; it ends with this value.
pub(super) struct Process {
    _child: Child,
    id: u32,
    ready: Ready,
}

impl Process {
    pub(super) async fn start(program: &Path, side: Side, seed: u64, tiny: bool) -> Result<Self, Fault> {
        let mut command = Command::new(program);
        command.args(["serve", side.as_str(), "--seed", &seed.to_string()]).args(tiny.then_some("--tiny"));
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().doing("starting a server")?;
        let id = child.id().ok_or_else(|| Fault::new("starting a server", "it is gone already"))?;
        let stdout = child.stdout.take().ok_or_else(|| Fault::new("starting a server", "it says nothing"))?;
        let mut line = String::new();
        let mut said = BufReader::new(stdout);
        timeout(START, said.read_line(&mut line))
            .await
            .doing("starting a server")?
            .doing("hearing a server")?;
        let ready = serde_json::from_str(&line).doing("understanding a server")?;
        Ok(Self { _child: child, id, ready })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.ready.address
    }

    pub(super) fn path(&self, piece: &Piece) -> String {
        format!("{}{}", self.ready.prefix, piece.path)
    }

    pub(super) async fn connect(&self, count: usize) -> Result<Vec<Connection>, Fault> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Connection::open(self.address()).await?);
        }
        Ok(connections)
    }

    /// Processor time it has used so far, its own and the kernel's for it.
    pub(super) fn cpu_seconds(&self) -> Result<f64, Fault> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).doing("reading /proc")?;
        cpu_seconds(&text).ok_or_else(|| Fault::new("reading /proc", text))
    }
}

/// `utime` and `stime` of a `/proc/<pid>/stat` line. The second field is a name in parentheses that may itself
/// hold any character, so fields are counted from the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((f64::from(user) + f64::from(system)) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let rest = "S 1 1 1 0 -1 4194304 100 0 0 0 150 75 9 9 20 0 1 0 100 1000 50";
        for name in ["bench", "a b", "x) R 1 2 (y"] {
            assert_eq!(cpu_seconds(&format!("42 ({name}) {rest}")), Some(2.25), "{name}");
        }
        assert_eq!(cpu_seconds("42 (bench) S 1"), None);
        assert_eq!(cpu_seconds(""), None);
    }
}
