//! What the tests share: tools if they are there, a clock that stands, a small HTTP client.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use control_plane::adapters::tools::Tools;
use control_plane::config::{self, Config};
use control_plane::seams::{Entropy, EntropyError, WallClock};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Where the toolbox puts programs.
pub(crate) fn toolbox() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools")
}

/// The media tools; `None`, with a word on why a test does nothing, if they were not fetched.
pub(crate) fn tools() -> Option<Tools> {
    let program = |name: &str| Some(toolbox().join("bin").join(name)).filter(|path| path.is_file());
    let found = (program("ffmpeg"), program("ffprobe"), program("packager"));
    let (Some(ffmpeg), Some(ffprobe), Some(packager)) = found else {
        skip("ffmpeg, ffprobe and packager are not in target/tools/bin");
        return None;
    };
    Some(Tools {
        ffmpeg,
        ffprobe,
        packager,
        setpriv: Some(PathBuf::from("/usr/bin/setpriv")).filter(|path| path.is_file()),
        preset: "ultrafast".to_owned(),
        threads: 1,
        probe_timeout: Duration::from_secs(30),
        run_timeout: Duration::from_secs(120),
    })
}

pub(crate) fn skip(why: &str) {
    skip_until(why, "cargo xtask test");
}

/// The command fetches what is missing.
#[expect(clippy::print_stderr, reason = "whoever reads the test log must see that nothing was tested")]
pub(crate) fn skip_until(why: &str, command: &str) {
    eprintln!("SKIPPED: {why}; `{command}` fetches what is missing");
}

/// A clock that moves when told to.
#[derive(Debug)]
pub(crate) struct StandingClock(AtomicU64);

impl StandingClock {
    pub(crate) fn at(now: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(now)))
    }

    pub(crate) fn set(&self, now: u64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl WallClock for StandingClock {
    fn now_unix(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts instead of drawing: every run of a test is the same.
#[derive(Debug, Default)]
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        let count = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        for (at, byte) in bytes.iter_mut().rev().enumerate() {
            *byte = count.len().checked_sub(at + 1).map_or(0, |at| count[at]);
        }
        Ok(())
    }
}

/// A configuration whose files lie in `directory`, on a free port, with these lines besides.
pub(crate) fn config(directory: &Path, more: &str) -> Config {
    let text = format!("[api]\nlisten = \"127.0.0.1:0\"\n{more}");
    config::parse(&text, directory).expect("a valid configuration")
}

/// Waits for a state, with an end.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unreachable!("waited a minute for {what}")
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `code` of a problem document.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Talks to one API.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    key: Option<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Api {
    pub(crate) fn new(address: &str, key: Option<String>) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { base: format!("http://{address}"), key, client }
    }

    pub(crate) fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    /// `None` if there is no whole answer: the server is not there, or dies meanwhile.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let mut request = hyper::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        let response = self.client.request(request).await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some(Answer { status, headers, body })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], &body.to_string()).await
    }

    pub(crate) async fn buy(&self, key: &str, body: &serde_json::Value) -> Answer {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
        self.send("POST", "/v1/purchases", &headers, &body.to_string()).await
    }
}
