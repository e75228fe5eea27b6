//! What the node says: log lines on stderr, access lines to their own place.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use front::AccessSink;
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

use crate::config::{AccessLogConfig, AccessLogTarget, LogConfig, LogFormat};

/// Turns the log on, for the rest of the process.
pub(crate) fn start_log(config: &LogConfig) -> Result<(), String> {
    let filter: EnvFilter = config.filter.parse().map_err(|error| format!("log.filter: {error}"))?;
    let builder = SubscriberBuilder::default().with_env_filter(filter).with_writer(io::stderr);
    let started = match config.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    started.map_err(|error| format!("log: {error}"))
}

/// The thread that writes access lines. A full queue costs lines (the front counts them), never a viewer's time.
pub(crate) struct AccessLog {
    written: Option<oneshot::Receiver<()>>,
}

impl AccessLog {
    /// Opens the target and begins to write what the sink is offered. Lines end when every sink is gone.
    pub(crate) fn start(config: &AccessLogConfig) -> io::Result<(Self, Arc<dyn AccessSink>)> {
        let target: Box<dyn Write + Send> = match (config.to, &config.path) {
            (AccessLogTarget::Off, _) => return Ok((Self { written: None }, Arc::new(Nowhere))),
            (AccessLogTarget::File, Some(path)) => {
                Box::new(File::options().create(true).append(true).open(path)?)
            }
            _ => Box::new(io::stderr()),
        };
        let (sink, lines) = mpsc::channel(config.queue_lines);
        let (done, written) = oneshot::channel();
        let writer = std::thread::Builder::new().name("access-log".to_owned());
        writer.spawn(move || {
            write_lines(lines, target);
            // Nobody waits when the node was stopped at once.
            let _ = done.send(());
        })?;
        Ok((Self { written: Some(written) }, Arc::new(sink)))
    }

    /// Waits until every sink is gone and everything is written, at most for `patience`.
    pub(crate) async fn finish(self, patience: Duration) {
        let Some(written) = self.written else { return };
        if !matches!(tokio::time::timeout(patience, written).await, Ok(Ok(()))) {
            tracing::warn!("the last access lines may not be written");
        }
    }
}

struct Nowhere;

impl AccessSink for Nowhere {
    fn offer(&self, _line: String) -> bool {
        true
    }
}

/// Bytes of lines that are written at once.
const MAX_BATCH: usize = 64 * 1024;

/// Writes as lines come, always whole ones at once: while one process takes over from another, both write.
fn write_lines(mut lines: mpsc::Receiver<String>, mut target: Box<dyn Write + Send>) {
    let (mut told, mut batch) = (false, Vec::new());
    while let Some(line) = lines.blocking_recv() {
        batch.clear();
        push_line(&mut batch, &line);
        while batch.len() < MAX_BATCH
            && let Ok(line) = lines.try_recv()
        {
            push_line(&mut batch, &line);
        }
        if let Err(error) = target.write_all(&batch).and_then(|()| target.flush()) {
            // Once is enough: a full disk would otherwise fill the log too.
            if !std::mem::replace(&mut told, true) {
                tracing::error!(%error, "access lines cannot be written");
            }
        }
    }
}

fn push_line(batch: &mut Vec<u8>, line: &str) {
    batch.extend_from_slice(line.as_bytes());
    batch.push(b'\n');
}
