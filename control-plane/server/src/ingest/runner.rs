//! One ingest from its order to its end.

use std::sync::atomic::Ordering;

use control::ingest::{Effect, Event, Failure, Order, Phase, State, replay, step};
use tokio::time::Instant;

use super::effects::Effects;
use super::{Fault, Inner, Watch, World};
use crate::seams::{BoxFuture, CatalogEntry, StateError};

/// Runs an ingest until it settles. Dropped at any point, it can be run again.
pub(super) async fn run(inner: &Inner, entry: CatalogEntry, watch: &Watch) {
    let (title, package) = (entry.title.clone(), entry.ingest.package);
    inner.world.metrics.waiting.inc();
    let turn = scopeguard(|| inner.world.metrics.waiting.dec(), inner.turns.acquire()).await;
    // The semaphore is never closed.
    let Ok(_turn) = turn else { return };
    inner.world.metrics.running.inc();
    let outcome = scopeguard(|| inner.world.metrics.running.dec(), Run { inner, watch }.all(entry)).await;
    if let Err(error) = outcome {
        tracing::error!(%title, %package, %error, "an ingest rests until the next start: its records failed");
    }
}

/// Does `after` when the future ends or is dropped.
async fn scopeguard<T>(after: impl FnMut(), future: impl Future<Output = T>) -> T {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let _guard = Guard(after);
    future.await
}

/// Changes the catalogue's record of a title as long as `entry`'s ingest is its newest. Other writers are the
/// API's: at most one at a time, and only for a failed ingest.
pub(super) async fn amend(
    world: &World,
    entry: &CatalogEntry,
    change: impl Fn(&mut CatalogEntry) + Send + Sync,
) -> Result<(), StateError> {
    const RACES: usize = 8;
    for _ in 0..RACES {
        let Some(mut standing) = world.catalog.get(&entry.title).await? else { return Ok(()) };
        if standing.ingest.package != entry.ingest.package {
            return Ok(());
        }
        let before = standing.clone();
        change(&mut standing);
        if standing == before {
            return Ok(());
        }
        match world.catalog.put(&standing).await {
            Err(StateError::Conflict(_)) => {}
            outcome => return outcome.map(drop),
        }
    }
    Err(StateError::Conflict(format!("title {}", entry.title)))
}

struct Run<'a> {
    inner: &'a Inner,
    watch: &'a Watch,
}

/// The journal as far as it is written, and what follows from it.
struct Log {
    written: u64,
    state: State,
}

impl Run<'_> {
    async fn all(&self, entry: CatalogEntry) -> Result<(), StateError> {
        let mut log = self.open(&entry).await?;
        let effects = Effects::new(&self.inner.world, &self.inner.options, self.watch, entry);
        while let Some(effect) = log.state.pending().cloned() {
            tokio::time::sleep(effect.delay).await;
            let event = self.carry_out(&effects, &log.state, &effect).await;
            self.record(&mut log, &effects.entry, event).await?;
        }
        self.settle(&log.state, &effects).await
    }

    /// Loads the journal, or begins it. A failed ingest that is started again is tried again.
    async fn open(&self, entry: &CatalogEntry) -> Result<Log, StateError> {
        let package = entry.ingest.package;
        let events = self.patiently(|| self.inner.world.journal.load(package)).await?;
        let written = events.len() as u64;
        let retried = events.iter().filter(|event| **event == Event::Retried).count();
        let corrupt = |e| StateError::Corrupt(format!("the journal of package {package}: {e}"));
        let state = replay(events).map_err(corrupt)?;
        let mut log = Log { written, state };
        self.watch.state().clone_from(&log.state);
        match log.state.phase() {
            Phase::Waiting => {
                let order = Order {
                    title: entry.title.clone(),
                    package,
                    source: entry.source.clone(),
                    captions: entry.captions.clone(),
                    tags: entry.tags.clone(),
                    retry: self.inner.options.retry,
                };
                self.record(&mut log, entry, Event::Received(order)).await?;
            }
            Phase::Failed(_) if retried < entry.ingest.retries as usize => {
                self.record(&mut log, entry, Event::Retried).await?;
            }
            _ => {}
        }
        Ok(log)
    }

    async fn carry_out(&self, effects: &Effects<'_>, state: &State, effect: &Effect) -> Event {
        let (kind, started) = (effect.job.kind().as_str(), Instant::now());
        let (title, package) = (&effects.entry.title, effects.entry.ingest.package);
        tracing::info!(%title, %package, effect = kind, attempt = effect.attempt, "effect begins");
        self.watch.permille.store(0, Ordering::Relaxed);
        let outcome = effects.carry_out(state, &effect.job).await;
        let elapsed = started.elapsed();
        let metrics = &self.inner.world.metrics;
        metrics.effect_seconds.with_label_values(&[kind]).observe(elapsed.as_secs_f64());
        let word = if outcome.is_ok() { "done" } else { "failed" };
        metrics.effects.with_label_values(&[kind, word]).inc();
        match outcome {
            Ok(done) => {
                let elapsed_ms = elapsed.as_millis() as u64;
                tracing::info!(%title, %package, effect = kind, elapsed_ms, "effect done");
                Event::Done { effect: effect.id, done }
            }
            Err(Fault { permanent, detail }) => {
                tracing::warn!(%title, %package, effect = kind, permanent, detail, "effect failed");
                Event::Failed { effect: effect.id, failure: Failure::from(Fault { permanent, detail }) }
            }
        }
    }

    /// Writes an event, then lets it count.
    async fn record(&self, log: &mut Log, entry: &CatalogEntry, event: Event) -> Result<(), StateError> {
        let package = entry.ingest.package;
        let corrupt = |e| StateError::Corrupt(format!("the journal of package {package}: {e}"));
        let (state, _) = step(&log.state, event.clone()).map_err(corrupt)?;
        self.patiently(|| self.inner.world.journal.append(package, log.written, &event)).await?;
        *log = Log { written: log.written + 1, state };
        self.watch.permille.store(0, Ordering::Relaxed);
        self.watch.state().clone_from(&log.state);
        if log.state.settled() { Ok(()) } else { self.show(&log.state, entry).await }
    }

    /// Cleans up, and only then shows the end: whoever sees it finds nothing left over.
    async fn settle(&self, state: &State, effects: &Effects<'_>) -> Result<(), StateError> {
        let failed = matches!(state.phase(), Phase::Failed(_));
        if let Err(fault) = effects.clean_up(failed).await {
            tracing::warn!(title = %effects.entry.title, %fault, "an ingest left something behind");
        }
        let metrics = &self.inner.world.metrics;
        metrics.ingests.with_label_values(&[if failed { "failed" } else { "published" }]).inc();
        let (title, package) = (&effects.entry.title, effects.entry.ingest.package);
        match state.reason() {
            Some(reason) => tracing::error!(%title, %package, reason, "ingest failed"),
            None => {
                let since =
                    self.inner.world.clock.now_unix().saturating_sub(effects.entry.ingest.received_at);
                metrics.publish_seconds.observe(since as f64);
                tracing::info!(%title, %package, "title published");
            }
        }
        self.watch.ended.store(true, Ordering::Release);
        self.show(state, &effects.entry).await
    }

    /// Brings the catalogue up to the state, unless a newer ingest stands there.
    async fn show(&self, state: &State, entry: &CatalogEntry) -> Result<(), StateError> {
        let world = &self.inner.world;
        self.patiently(|| {
            Box::pin(amend(world, entry, |standing| {
                standing.ingest.stage = state.progress(0).stage;
                standing.ingest.reason = state.reason();
                standing.ingest.lint = state.findings().iter().map(ToString::to_string).collect();
            }))
        })
        .await
    }

    /// Tries again what failed because the store was away. A conflict is not such a failure.
    async fn patiently<'f, T>(
        &self,
        attempt: impl Fn() -> BoxFuture<'f, Result<T, StateError>>,
    ) -> Result<T, StateError> {
        let mut left = self.inner.options.state_attempts;
        loop {
            match attempt().await {
                Err(StateError::Unavailable(why)) if left > 1 => {
                    left -= 1;
                    tracing::warn!(why, "the records are away, trying again");
                    tokio::time::sleep(self.inner.options.state_delay).await;
                }
                outcome => return outcome,
            }
        }
    }
}
