//! The real gateway as a child process: configured, started, killed, stopped.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::clock::until;
use crate::failure::{Context, Failure, Outcome};
use crate::film::Film;
use crate::origin::Origin;
use crate::viewer::talk;

/// How long the program may take to come up, or to end, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How many lines of its log are shown when it ends by itself.
const TAIL_LINES: usize = 30;

/// How the gateway of a proof differs from the defaults: tables of its configuration.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) memory: &'static str,
    /// `None` is no disk tier.
    pub(crate) disk: Option<Disk>,
    /// Lines of the tables `[front]`, `[engine]`, `[sourcing]` and `[sourcing.breaker]`.
    pub(crate) front: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) sourcing: &'static str,
    pub(crate) breaker: &'static str,
}

/// The disk tier.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// The other lines of its table.
    table: String,
}

impl Disk {
    /// So much in this folder, in files that suit a small tier.
    pub(crate) fn new(folder: &Path, capacity: &str) -> Self {
        let table = format!("capacity_bytes = \"{capacity}\"\nslab_bytes = \"4MiB\"\n");
        Self { folder: folder.to_owned(), table }
    }

    /// The same with one more key.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        let _ = writeln!(self.table, "{key} = \"{value}\"");
        self
    }

    /// A large tier of small things.
    pub(crate) fn of_small_things(folder: &Path, capacity: &str) -> Self {
        let table = format!("capacity_bytes = \"{capacity}\"\nunit_bytes = \"4KiB\"\n");
        Self { folder: folder.to_owned(), table }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self { memory: "64MiB", disk: None, front: "", engine: "", sourcing: "", breaker: "" }
    }
}

impl Setup {
    /// A disk tier in this folder and no memory tier, so that every hit is a read of the disk.
    pub(crate) fn disk_only(disk: Disk) -> Self {
        Self { memory: "0", disk: Some(disk), ..Self::default() }
    }
}

/// A node on disk: its folder, its configuration, its program.
#[derive(Debug)]
pub(crate) struct Node {
    program: PathBuf,
    home: PathBuf,
    setup: Setup,
    /// The tables of the sources, in the order of their prices.
    sources: Vec<String>,
    running: Option<Process>,
    /// Addresses as `host:port`; the same after each restart.
    pub(crate) viewer: String,
    pub(crate) admin: String,
}

impl Node {
    /// Writes keys and configuration below `home` and starts the gateway. The origins are asked in this order.
    pub(crate) async fn start(
        program: &Path,
        home: &Path,
        film: &Film,
        origins: &[&Origin],
        setup: Setup,
    ) -> Outcome<Self> {
        let keys = home.join("data/keys");
        film.write_keys(&keys)?;
        // Origins that are asked like S3 look at no signature.
        for name in ["s3.id", "s3.secret"] {
            fs::write(keys.join(name), "proof\n").doing(name)?;
        }
        let mut node = Self {
            program: program.to_owned(),
            home: home.to_owned(),
            setup,
            sources: origins.iter().enumerate().map(|(n, origin)| origin.source(n)).collect(),
            running: None,
            viewer: "127.0.0.1:0".into(),
            admin: "127.0.0.1:0".into(),
        };
        node.restart().await?;
        Ok(node)
    }

    /// Starts the gateway on the addresses it had before, and waits until viewers are welcome.
    pub(crate) async fn restart(&mut self) -> Outcome {
        let ready = self.home.join("data/ready.json");
        // It may not be there; what counts is that it is not afterwards.
        let _ = fs::remove_file(&ready);
        fs::write(self.config(), self.text()).doing("writing the gateway's configuration")?;
        let mut process = Process::from(self.spawn(&[])?);
        let addresses = self.until_ready(&ready, &mut process).await?;
        self.running = Some(process);
        let address = |name: &str| addresses[name].as_str().map(str::to_owned);
        self.viewer = address("viewer").doing("the viewers' address")?;
        self.admin = address("admin").doing("the admin's address")?;
        Ok(())
    }

    /// Starts another process that takes over, and returns the one that served before.
    pub(crate) async fn take_over(&mut self) -> Outcome<Process> {
        let ready = self.home.join("data/ready.json");
        fs::remove_file(&ready).doing(ready.display())?;
        let mut process = Process::from(self.spawn(&["--takeover"])?);
        self.until_ready(&ready, &mut process).await?;
        self.running.replace(process).doing("the process before")
    }

    /// Tells the gateway to read its configuration anew (SIGHUP); it starts its successor itself.
    pub(crate) async fn reload(&mut self) -> Outcome<Process> {
        let before = self.id();
        signal("HUP", before).await?;
        let pid_file = self.home.join("data/gateway.pid");
        let next = until("the reload", START_LIMIT, async || {
            let next = fs::read_to_string(&pid_file).ok()?.trim().parse().ok()?;
            (Some(next) != before).then_some(next)
        });
        self.running.replace(Process::Grandchild(next.await?)).doing("the process before")
    }

    async fn until_ready(&self, ready: &Path, process: &mut Process) -> Outcome<serde_json::Value> {
        let addresses = until("the gateway is ready", START_LIMIT, async || {
            if process.is_there() {
                serde_json::from_slice(&fs::read(ready).ok()?).ok().map(Some)
            } else {
                Some(None)
            }
        });
        let addresses = addresses.await?;
        addresses.ok_or_else(|| Failure::new(format!("the gateway ended\n{}", self.log_tail())))
    }

    fn spawn(&self, more: &[&str]) -> Outcome<Child> {
        let log =
            fs::File::options().create(true).append(true).open(self.log()).doing("the gateway's log")?;
        // The kernel ends the child with us, however we end: a forgotten server would hold its port.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
        command.arg("--config").arg(self.config()).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        command.spawn().doing("starting the gateway")
    }

    fn config(&self) -> PathBuf {
        self.home.join("gateway.toml")
    }

    fn log(&self) -> PathBuf {
        self.home.join("gateway.log")
    }

    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn text(&self) -> String {
        let Self { viewer, admin, setup, .. } = self;
        let Setup { memory, front, engine, sourcing, breaker, .. } = setup;
        let mut text = format!(
            "ready_file = \"ready.json\"\npid_file = \"gateway.pid\"\nlog.filter = \"warn\"\naccess_log = {{ to = \"file\", path = \"access.log\" }}\n\
             [trust]\ntoken_keys = [\"keys/token.pub\"]\nindex_keys = [\"keys/index.pub\"]\n\
             [front]\nplain = [\"{viewer}\"]\n{front}\n[admin]\nlisten = \"{admin}\"\n[shelf]\n\
             [engine]\n{engine}\n[sourcing]\n{sourcing}\n[sourcing.breaker]\n{breaker}\n\
             [store]\nmemory_bytes = \"{memory}\"\n"
        );
        if let Some(Disk { folder, table }) = &setup.disk {
            let _ = write!(
                text,
                "[[store.disk]]
path = \"{}\"
{table}",
                folder.display()
            );
        }
        text.extend(self.sources.iter().map(String::as_str));
        text
    }

    /// The configuration that the program makes of ours: with every default that it knows.
    pub(crate) async fn effective_config(&self) -> Outcome<String> {
        let (program, config) = (self.program.display().to_string(), self.config().display().to_string());
        run(&program, &["--config", &config, "--print-config"]).await
    }

    /// Ends it without a warning (SIGKILL).
    pub(crate) async fn kill(&mut self) -> Outcome {
        match self.running.take() {
            // That it did not end well is what was wanted.
            Some(process) => process.end("KILL").await.or(Ok(())),
            None => Ok(()),
        }
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub(crate) async fn stop(&mut self) -> Outcome {
        match self.running.take() {
            Some(process) => process.end("TERM").await,
            None => Ok(()),
        }
    }

    /// Fails when the gateway has ended by itself.
    pub(crate) fn still_there(&mut self) -> Outcome {
        if self.running.as_mut().is_some_and(Process::is_there) {
            return Ok(());
        }
        Err(Failure::new(format!("the gateway ended\n{}", self.log_tail())))
    }

    /// The process, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.running.as_ref().and_then(Process::id)
    }

    /// What it says about itself.
    pub(crate) async fn metrics(&self) -> Outcome<Metrics> {
        let answer = talk(&self.admin, "GET", "/metrics", "").await.doing("reading /metrics")?;
        Ok(Metrics(answer.1))
    }

    /// Waits until what was filled has been written: as long as the count of bytes written still moves, it has not.
    pub(crate) async fn settle(&self) -> Outcome {
        let mut last = None;
        let same = until("the disk tier comes to rest", START_LIMIT, async || {
            let now = self.work().await;
            let Ok(now) = now else { return now.err().map(Err) };
            let rests = last.replace(now) == Some(now) && now.2 == 0;
            tokio::time::sleep(Duration::from_millis(150)).await;
            rests.then_some(Ok(()))
        });
        same.await?
    }

    /// Objects that the disk tier has taken so far, each on record.
    pub(crate) async fn written(&self) -> Outcome<u64> {
        self.metrics().await?.of("weir_store_disk_writes_total", "outcome=\"written\"")
    }

    /// Waits until it has taken so many.
    pub(crate) async fn until_written(&self, count: u64) -> Outcome {
        until("the disk tier has taken everything", START_LIMIT, async || {
            (self.written().await.ok()? >= count).then_some(())
        })
        .await
    }

    /// Writes offered, objects held, fills running.
    async fn work(&self) -> Outcome<(u64, u64, u64)> {
        let metrics = self.metrics().await?;
        let writes = metrics.sum("weir_store_disk_writes_total")?;
        Ok((writes, metrics.sum("weir_store_objects")?, metrics.sum("weir_engine_running_fills")?))
    }
}

/// One process of the gateway; it is killed with its value.
#[derive(Debug)]
pub(crate) enum Process {
    /// One that we started.
    Child(Box<Child>),
    /// One that a gateway started.
    Grandchild(u32),
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self::Child(Box::new(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child is killed by its own drop.
        if let Self::Grandchild(id) = self
            && lives(*id)
        {
            let _ = std::process::Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    }
}

impl Process {
    fn id(&self) -> Option<u32> {
        match self {
            Self::Child(child) => child.id(),
            Self::Grandchild(id) => Some(*id),
        }
    }

    fn is_there(&mut self) -> bool {
        match self {
            Self::Child(child) => matches!(child.try_wait(), Ok(None)),
            Self::Grandchild(id) => lives(*id),
        }
    }

    async fn end(self, how: &str) -> Outcome {
        signal(how, self.id()).await?;
        self.gone().await
    }

    /// Waits until it has ended, and fails unless it ended well.
    pub(crate) async fn gone(mut self) -> Outcome {
        match &mut self {
            Self::Child(child) => {
                let status = tokio::time::timeout(STOP_LIMIT, child.wait()).await;
                let status = status.doing("the gateway's end")?.doing("the gateway's end")?;
                if status.success() { Ok(()) } else { Err(Failure::new(format!("the gateway: {status}"))) }
            }
            // Nobody but its parent hears how it ended.
            Self::Grandchild(id) => {
                until("the gateway's end", STOP_LIMIT, async || (!lives(*id)).then_some(())).await
            }
        }
    }
}

/// Whether a process runs; one that is dead and not yet waited for does not.
fn lives(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Sends a signal by the name that `kill` knows.
pub(crate) async fn signal(name: &str, id: Option<u32>) -> Outcome {
    let id = id.doing("the gateway's process")?.to_string();
    run("kill", &[&format!("-{name}"), &id]).await.map(drop)
}

/// Resident bytes of the gateway.
pub(crate) fn resident(node: &Node) -> Outcome<u64> {
    let path = format!("/proc/{}/status", node.id().doing("the gateway's process")?);
    let status = fs::read_to_string(&path).doing(&path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.doing("VmRSS")? * 1_024)
}

/// Runs a program of the system quietly and returns what it wrote.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await.doing(&shown)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!("{shown}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))))
}

/// One reading of `/metrics`.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of a metric over the series whose labels contain `label`, such as `tier="disk"`.
    ///
    /// # Errors
    /// There is no such metric: a misspelt or renamed one must not read as 0.
    pub(crate) fn of(&self, name: &str, label: &str) -> Outcome<u64> {
        let ours = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let mut series = self.0.lines().filter(ours).peekable();
        series.peek().doing(format_args!("the metric {name}"))?;
        let value = |line: &str| {
            let (labels, value) = line.rsplit_once(' ')?;
            labels.contains(label).then(|| value.parse::<f64>().ok())?
        };
        Ok(series.filter_map(value).sum::<f64>() as u64)
    }

    /// The sum over all series.
    ///
    /// # Errors
    /// As [`Metrics::of`].
    pub(crate) fn sum(&self, name: &str) -> Outcome<u64> {
        self.of(name, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let page = "# TYPE a_total counter\na_total{tier=\"disk\"} 3\na_total{tier=\"memory\"} 4\na_total_x 9\nb 1\n";
        let metrics = Metrics(page.to_owned());
        for (name, label, expected) in [
            ("a_total", "", Some(7)),
            ("a_total", "tier=\"disk\"", Some(3)),
            ("b", "", Some(1)),
            ("c", "", None),
        ] {
            assert_eq!(metrics.of(name, label).ok(), expected, "{name} {label}");
        }
    }
}
