//! The program as a process: `init`, the configuration's switches, SIGKILL while it encodes, SIGTERM.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use control_api::keys::OperatorKey;
use media::Digest;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::films::{clip, objects};
use crate::support::{Api, tools, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-control-plane");

pub(crate) async fn run(config: &Path, arguments: &[&str]) -> (ExitStatus, String) {
    let output =
        Command::new(PROGRAM).arg("--config").arg(config).args(arguments).output().await.expect("runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// A running program and its API.
pub(crate) struct Served {
    pub(crate) process: Child,
    pub(crate) api: Api,
}

pub(crate) async fn serve(directory: &Path) -> Served {
    let ready = directory.join("data/ready.json");
    let _stale = std::fs::remove_file(&ready);
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(directory.join("control-plane.toml")).kill_on_drop(true);
    let log = std::fs::File::options().create(true).append(true).open(directory.join("log")).expect("a log");
    let process = command.stderr(log).stdout(Stdio::null()).spawn().expect("started");
    let said = until("the ready file", async || std::fs::read_to_string(&ready).ok()).await;
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let key = std::fs::read_to_string(directory.join("data/keys/operator.key")).expect("a key file");
    let key = OperatorKey::parse(&key).expect("a key").bearer();
    Served { process, api: Api::new(said["api"].as_str().expect("an address"), Some(key)) }
}

async fn view(served: &Served) -> Value {
    served.api.get("/v1/titles/clip").await.json()
}

async fn published(served: &Served) {
    until("the title", async || {
        let view = view(served).await;
        assert_ne!(view["stage"], "failed", "{view}");
        (view["stage"] == "published").then_some(())
    })
    .await;
}

/// Objects by their path below the package: the index is signed by each directory's own key and says when the
/// order came.
fn contents(directory: &Path) -> BTreeMap<String, Digest> {
    let below = |(path, digest): (String, Digest)| Some((path.splitn(3, '/').nth(2)?.to_owned(), digest));
    let mut found: BTreeMap<_, _> =
        objects(&directory.join("data/packages")).into_iter().filter_map(below).collect();
    assert!(found.remove("index.weir").is_some());
    found
}

/// Processes whose command line names this directory.
fn processes_about(directory: &Path) -> Vec<String> {
    let wanted = directory.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let lines = entries.flatten().filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&wanted) && !line.contains("weir-control-plane")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_encodes() {
    let Some(tools) = tools() else { return };
    let root = tempfile::tempdir().expect("a directory");
    let bin = tools.ffmpeg.parent().expect("a directory").canonicalize().expect("there");
    let order = json!({ "title": "clip", "name": "A clip", "source": "clip.mp4",
        "captions": [{ "language": "en", "source": "clip.en.vtt" }] });
    let mut ends = Vec::new();
    for kills in [0, 2] {
        let directory = root.path().join(format!("killed-{kills}-times"));
        clip(&tools, &directory.join("data/mezzanine"), "1280x720", "24", 8).await;
        let config = directory.join("control-plane.toml");
        let text = format!(
            "ready_file = \"ready.json\"\n[api]\nlisten = \"127.0.0.1:0\"\n[transcode]\npreset = \"ultrafast\"\n\
             [tools]\nffmpeg = \"{0}/ffmpeg\"\nffprobe = \"{0}/ffprobe\"\npackager = \"{0}/packager\"\n",
            bin.display()
        );
        std::fs::write(&config, text).expect("written");
        let (status, said) = run(&config, &["init"]).await;
        assert!(status.success(), "{said}");
        let mut served = serve(&directory).await;
        assert_eq!(served.api.post("/v1/titles", &order).await.status, 202);
        for _ in 0..kills {
            until("the encoder", async || (view(&served).await["stage"] == "transcoding").then_some(()))
                .await;
            served.process.kill().await.expect("SIGKILL");
            until("the tools to be gone", async || processes_about(&directory).is_empty().then_some(()))
                .await;
            served = serve(&directory).await;
        }
        published(&served).await;
        let again = served.api.post("/v1/titles", &order).await;
        assert_eq!(
            (again.status, again.json()["stage"].as_str()),
            (202, Some("published")),
            "asked for twice"
        );
        ends.push(contents(&directory));

        let id = served.process.id().expect("running").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("sent").success());
        let status = served.process.wait().await.expect("ends");
        let log = std::fs::read_to_string(directory.join("log")).expect("a log");
        assert!(status.success(), "{log}");
        assert!(!directory.join("data/ready.json").exists());
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "a log line is JSON: {line}");
        }
        assert_eq!(log.matches("title published").count(), 1);
    }
    let differ: Vec<_> = ends[0].iter().filter(|(path, digest)| ends[1].get(*path) != Some(digest)).collect();
    assert!(
        ends[0].len() > 20 && ends[0].len() == ends[1].len() && differ.is_empty(),
        "other bytes: {differ:?}"
    );
}

#[tokio::test]
async fn the_configurations_switches() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("control-plane.toml");
    let (status, said) = run(&config, &["--check-config"]).await;
    assert!(!status.success() && said.contains("control-plane.toml"), "{said}");

    std::fs::write(&config, "[api]\nlisten = 7\n[rentals]\ngrace = \"soon\"\n").expect("written");
    let (status, said) = run(&config, &["--check-config"]).await;
    assert!(!status.success() && said.contains("api.listen") && said.contains("rentals.grace"), "{said}");

    std::fs::write(&config, "").expect("written");
    let (status, said) = run(&config, &["--check-config"]).await;
    assert!(status.success() && said.contains("is usable"), "{said}");
    let (status, printed) = run(&config, &["--print-config"]).await;
    assert!(status.success() && printed.contains("listen = \"127.0.0.1:8470\""), "{printed}");

    let (status, said) = run(&config, &["serve"]).await;
    assert!(!status.success() && said.contains("init"), "{said}");
    let (_, first) = run(&config, &["init"]).await;
    assert!(first.contains("operator.key"), "{first}");
    let key = directory.path().join("data/keys/operator.key");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&key).expect("read");
    let (status, second) = run(&config, &["init"]).await;
    assert!(status.success() && second.is_empty(), "{second}");
    assert_eq!(std::fs::read(&key).expect("read"), before);
}
