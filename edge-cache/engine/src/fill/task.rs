//! The task that owns a fill: fetch, verify, publish, store.

use std::sync::Arc;
use std::time::Duration;

use media::digest::group_count;
use prometheus::IntGauge;
use sourcing::{Leg, SourceError, Want};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::Fill;
use super::assembly::{Assembly, WrongGroup};
use crate::config::EngineConfig;
use crate::engine::{Described, Inner};
use crate::error::{Failure, ServeError};
use crate::metrics::End;

/// How many fills may fetch at once and how much they may hold.
pub(crate) struct Admission {
    fills: Arc<Semaphore>,
    /// In groups.
    buffer: Arc<Semaphore>,
    buffer_groups: u32,
    wait: Duration,
    buffered: IntGauge,
}

/// A fill's share of the node. Dropping it gives it back.
struct Admitted {
    _fill: OwnedSemaphorePermit,
    _buffer: OwnedSemaphorePermit,
    len: i64,
    buffered: IntGauge,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.buffered.sub(self.len);
    }
}

impl Admission {
    pub(crate) fn new(config: &EngineConfig, buffered: IntGauge) -> Self {
        let groups = config.fill_buffer_bytes.bytes() / media::GROUP_LEN;
        let buffer_groups = u32::try_from(groups).unwrap_or(u32::MAX);
        Self {
            fills: Arc::new(Semaphore::new(config.max_fills)),
            buffer: Arc::new(Semaphore::new(buffer_groups as usize)),
            buffer_groups,
            wait: config.admission_wait,
            buffered,
        }
    }

    /// How much of the buffer is taken.
    pub(crate) fn buffer_percent(&self) -> u32 {
        let free = u32::try_from(self.buffer.available_permits()).unwrap_or(u32::MAX);
        let taken = u64::from(self.buffer_groups.saturating_sub(free)) * 100;
        u32::try_from(taken.checked_div(u64::from(self.buffer_groups)).unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// Waits for its turn, but not for long. A segment larger than the whole buffer gets all of it.
    async fn enter(&self, len: u64) -> Result<Admitted, ServeError> {
        let groups = u32::try_from(group_count(len)).unwrap_or(u32::MAX).min(self.buffer_groups);
        let both = async {
            let fill = Arc::clone(&self.fills).acquire_owned().await.ok()?;
            let buffer = Arc::clone(&self.buffer).acquire_many_owned(groups).await.ok()?;
            Some((fill, buffer))
        };
        let Ok(Some((fill, buffer))) = timeout(self.wait, both).await else {
            let detail = format!("no turn to fetch within {:?}", self.wait);
            return Err(ServeError::new(Failure::Overloaded, detail));
        };
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.buffered.add(len);
        Ok(Admitted { _fill: fill, _buffer: buffer, len, buffered: self.buffered.clone() })
    }
}

/// A fill and its task. However the task ends, the fill leaves the table and its readers hear of it.
pub(crate) struct Task {
    engine: Arc<Inner>,
    described: Described,
    fill: Arc<Fill>,
    started: Instant,
}

impl Task {
    pub(crate) fn new(engine: Arc<Inner>, described: Described, fill: Arc<Fill>) -> Self {
        engine.metrics.running_fills.inc();
        Self { engine, described, fill, started: Instant::now() }
    }

    /// Runs the fill to its end.
    pub(crate) async fn run(self) {
        let deadline = self.started + self.engine.config.fill_deadline;
        let filled = async {
            let filled = timeout_at(deadline, self.fetch_all(deadline)).await;
            filled.unwrap_or_else(|_| Err(ServeError::new(Failure::Deadline, "the fill took too long")))
        };
        let end = tokio::select! {
            biased;
            () = self.forsaken() => End::Abandoned,
            filled = filled => match filled {
                Ok(()) => End::Stored,
                Err(error) => self.failed(error),
            },
        };
        if end == End::Stored {
            self.engine.metrics.fill_seconds.observe(self.started.elapsed().as_secs_f64());
        }
        self.engine.metrics.filled(end);
        tracing::debug!(key = %self.described.key, ?end, "a fill ended");
    }

    /// Returns when nobody reads the fill, it is not worth finishing, and nobody can join it any more.
    async fn forsaken(&self) {
        loop {
            self.fill.forsaken.notified().await;
            let percent = self.engine.config.finish_percent;
            if self.engine.table.give_up(&self.described.key, &self.fill, percent) {
                self.fill.end(Err(ServeError::new(Failure::SourcesExhausted, "nobody was left to read")));
                return;
            }
        }
    }

    fn failed(&self, error: ServeError) -> End {
        let reason = error.reason;
        tracing::info!(key = %self.described.key, reason = reason.as_str(), detail = error.detail, "a fill failed");
        self.close(Err(error));
        End::Failed(reason)
    }

    /// Out of the table first: whoever comes now begins anew.
    fn close(&self, end: Result<(), ServeError>) {
        self.engine.table.leave(&self.described.key, &self.fill);
        self.fill.end(end);
    }

    async fn fetch_all(&self, deadline: Instant) -> Result<(), ServeError> {
        let _admitted = self.engine.admission.enter(self.fill.len).await?;
        let (key, entry) = (&self.described.key, &self.described.entry);
        let want = Want::segment(key, entry);
        let want = want.ok_or_else(|| ServeError::new(Failure::Untrusted, "an empty segment"))?;
        let mut fetch = self.engine.sources.fetch(want, deadline);
        let digests = self.engine.lists.of(&self.described, deadline).await?;
        let mut assembly = Assembly::new(Arc::clone(&digests));
        while !assembly.is_complete() {
            assembly.restart_group();
            let leg = fetch.next_leg(assembly.verified_bytes()).await;
            let leg = leg.map_err(|error| ServeError::exhausted(&entry.object, &error, deadline))?;
            self.drink(leg, &mut assembly).await;
        }
        let body = self.fill.body();
        let body =
            body.ok_or_else(|| ServeError::new(Failure::Changed, "the groups do not make a segment"))?;
        self.engine.store.insert(key, digests, body, &store::Terms::default());
        self.close(Ok(()));
        Ok(())
    }

    /// Takes what a leg delivers until it ends, breaks or lies.
    async fn drink(&self, mut leg: Leg, assembly: &mut Assembly) {
        self.fill.deliver_from(leg.source());
        match self.verify_all(&mut leg, assembly).await {
            Ok(Ok(())) => {}
            Ok(Err(WrongGroup(group))) => {
                let (key, kind) = (&self.described.key, leg.kind());
                tracing::warn!(%key, group, source = %leg.source(), "a source sent wrong bytes; nobody saw them");
                self.engine.metrics.verify_failed(kind);
                leg.corrupt();
            }
            Err(error) => {
                let (key, at) = (&self.described.key, assembly.verified_bytes());
                tracing::debug!(%key, at, source = %leg.source(), %error, "a source broke off; the next goes on");
            }
        }
    }

    async fn verify_all(
        &self,
        leg: &mut Leg,
        assembly: &mut Assembly,
    ) -> Result<Result<(), WrongGroup>, SourceError> {
        while let Some(chunk) = leg.chunk().await? {
            let verified = assembly.push(&chunk, |group, bytes| self.fill.put(group, bytes));
            self.fill.announce(assembly.groups());
            if verified.is_err() {
                return Ok(verified);
            }
        }
        Ok(Ok(()))
    }
}

impl Drop for Task {
    /// A task that is dropped before its end (the runtime stops, or a bug) must not leave readers waiting.
    fn drop(&mut self) {
        self.engine.metrics.running_fills.dec();
        if !self.fill.has_ended() {
            self.close(Err(ServeError::new(Failure::SourcesExhausted, "the fill was stopped")));
            self.engine.metrics.filled(End::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use store::ByteSize;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_segment_larger_than_the_buffer_passes_alone() {
        let config = EngineConfig { fill_buffer_bytes: ByteSize::mib(1), ..EngineConfig::default() };
        let buffered = IntGauge::new("buffered", "in a test").expect("a gauge");
        let admission = Admission::new(&config, buffered.clone());
        let giant = admission.enter(5 << 20).await.expect("alone");
        assert_eq!(buffered.get(), 5 << 20);
        assert_eq!(admission.enter(1).await.err().map(|error| error.reason), Some(Failure::Overloaded));
        drop(giant);
        assert!(admission.enter(1).await.is_ok());
        assert_eq!(buffered.get(), 0);
    }
}
