//! The task that owns a fill: it fetches what is wanted and not here, and hands everything to the store.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use media::{GroupDigests, GroupSet};
use store::Terms;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::admission::{Room, Share};
use super::plan::Limits;
use super::strand::{Loom, Strand};
use super::{Fill, Groups};
use crate::completion::{Case, Policy, Verdict, decide};
use crate::engine::{Described, Inner};
use crate::error::{Failure, ServeError};
use crate::metrics::End;

/// A fill and its task. However the task ends, the fill leaves the table and its readers hear of it.
pub(crate) struct Task {
    engine: Arc<Inner>,
    described: Described,
    fill: Arc<Fill>,
    groups: Arc<Groups>,
    started: Instant,
    digests: Option<Arc<GroupDigests>>,
    room: Option<Room>,
    /// Held while the fill goes on although nobody waits for it.
    alone: Option<OwnedSemaphorePermit>,
    /// Somebody left before what was bought for him was here.
    forsaken: bool,
    /// Newcomers there had been when completion was weighed last; others may change the verdict.
    weighed: u64,
}

impl Task {
    pub(crate) fn new(
        engine: Arc<Inner>,
        described: Described,
        (fill, groups): (Arc<Fill>, Arc<Groups>),
    ) -> Self {
        engine.metrics.running_fills.inc();
        let started = Instant::now();
        Self {
            engine,
            described,
            fill,
            groups,
            started,
            digests: None,
            room: None,
            alone: None,
            forsaken: false,
            weighed: 0,
        }
    }

    /// Runs the fill to its end.
    pub(crate) async fn run(mut self) {
        let deadline = self.started + self.engine.config.fill_deadline;
        let worked = timeout_at(deadline, self.work(deadline)).await;
        let late = || Err(ServeError::new(Failure::Deadline, "the fill took too long"));
        let end = worked.unwrap_or_else(|_| late()).unwrap_or_else(|error| self.failed(error));
        if end == End::Stored {
            self.engine.metrics.fill_seconds.observe(self.started.elapsed().as_secs_f64());
        }
        self.engine.metrics.filled(end);
        tracing::debug!(key = %self.described.key, ?end, bytes = self.bytes_here(), "a fill ended");
        if let Some(room) = self.room.take() {
            self.engine.admission.linger(&self.fill, Arc::clone(&self.groups), room);
        }
    }

    async fn work(&mut self, deadline: Instant) -> Result<End, ServeError> {
        let ready = tokio::select! {
            biased;
            () = self.nobody_waits() => return Ok(End::Abandoned),
            ready = self.prepare(deadline) => ready?,
        };
        let (Share { turn: _turn, room }, digests) = ready;
        self.room = Some(room);
        self.digests = Some(Arc::clone(&digests));
        let loom = self.loom(digests, deadline);
        let mut level = self.engine.load.subscribe();
        let mut running = FuturesUnordered::new();
        loop {
            for strand in self.step() {
                running.push(loom.clone().spin(strand));
            }
            if running.is_empty()
                && let Some(end) = self.settle()?
            {
                return Ok(end);
            }
            tokio::select! {
                biased;
                () = self.fill.changed.notified() => {}
                Ok(()) = level.changed() => {}
                Some((strand, end)) = running.next() => self.strand_ended(&strand, end),
            }
        }
    }

    async fn prepare(&self, deadline: Instant) -> Result<(Share, Arc<GroupDigests>), ServeError> {
        let share = self.engine.admission.enter(self.fill.len).await?;
        let digests = self.engine.lists.of(&self.described, deadline).await?;
        Ok((share, digests))
    }

    fn loom(&self, digests: Arc<GroupDigests>, deadline: Instant) -> Loom {
        Loom {
            engine: Arc::clone(&self.engine),
            described: self.described.clone(),
            fill: Arc::clone(&self.fill),
            groups: Arc::clone(&self.groups),
            digests,
            deadline,
        }
    }

    /// Returns when nobody is left who waits, and nobody can join any more.
    async fn nobody_waits(&self) {
        loop {
            self.fill.changed.notified().await;
            if self.engine.table.retire(&self.described.key, &self.fill) {
                self.fill.announce();
                return;
            }
        }
    }

    /// Plans anew and carries it out; the strands to start.
    fn step(&mut self) -> Vec<Arc<Strand>> {
        self.weigh_completion();
        let config = &self.engine.config;
        let near = config.strand_near_bytes.bytes() / media::GROUP_LEN;
        let limits = Limits { strands: config.max_strands, near };
        let mut wants = self.fill.wants();
        let plan = wants.plan(limits);
        for (strand, end) in wants.strands.iter().zip(&plan.ends) {
            self.forsaken |= *end <= strand.run().next && !strand.run().is_over();
            strand.end_at(*end);
        }
        let started: Vec<_> = plan.starts.into_iter().map(Strand::new).collect();
        wants.strands.extend(started.iter().cloned());
        self.engine.metrics.strands.inc_by(started.len() as u64);
        started
    }

    /// When nobody waits any more: whether the rest is bought all the same.
    fn weigh_completion(&mut self) {
        let (awaited, alone, newcomers) = {
            let wants = self.fill.wants();
            (wants.is_awaited() || wants.failure().is_some(), wants.goes_on_alone(), wants.newcomers())
        };
        if alone && !self.engine.load.allows_disk() {
            return self.give_up_completion(Verdict::Overloaded);
        }
        if awaited || self.alone.is_some() || self.weighed == newcomers {
            return;
        }
        self.weighed = newcomers;
        let lacks = self.lacks();
        if lacks.is_empty() {
            return;
        }
        let mut verdict = decide(&self.case(&lacks), &self.policy());
        if verdict == Verdict::Worth {
            self.alone = Arc::clone(&self.engine.completions).try_acquire_owned().ok();
            verdict = if self.alone.is_some() { Verdict::Worth } else { Verdict::Busy };
        }
        self.engine.metrics.completion(verdict);
        let (key, left) = (&self.described.key, lacks.bytes());
        tracing::debug!(%key, left, verdict = verdict.as_str(), "nobody waits for the rest");
        if verdict == Verdict::Worth {
            self.fill.wants().set_own(Some(lacks));
        }
    }

    fn give_up_completion(&mut self, verdict: Verdict) {
        self.fill.wants().set_own(None);
        self.engine.metrics.completion(verdict);
    }

    /// What neither this fill nor a tier has.
    fn lacks(&self) -> GroupSet {
        let mut lacks = GroupSet::all(self.fill.len);
        lacks.subtract(self.fill.wants().here());
        if lacks.is_empty() {
            return lacks;
        }
        let held = self.engine.store.lookup(&self.described.key, self.fill.len, self.fill.root);
        if let Some(held) = held.groups() {
            lacks.subtract(&held);
        }
        lacks
    }

    fn case(&self, lacks: &GroupSet) -> Case {
        let (store, key) = (&self.engine.store, &self.described.key);
        Case {
            left: lacks.bytes(),
            len: self.fill.len,
            price: self.engine.price_of(self.fill.source().as_ref()),
            viewers: self.fill.wants().newcomers(),
            title_requests: self.engine.heat.of(&key.title, Instant::now()),
            purged: store.purged_since(self.fill.born, key, &self.described.tags()).is_some(),
            level: self.engine.load.level(),
        }
    }

    fn policy(&self) -> Policy {
        let config = &self.engine.config;
        Policy {
            finish_percent: config.finish_percent,
            wait_price: config.completion_wait_picodollars,
            own_price: config.completion_own_picodollars,
        }
    }

    fn strand_ended(&mut self, strand: &Arc<Strand>, end: Result<(), ServeError>) {
        self.fill.wants().strands.retain(|known| !Arc::ptr_eq(known, strand));
        if let Err(error) = end {
            self.hand_over();
            // Nobody new joins; those whose groups are on another strand still get them.
            self.engine.table.leave(&self.described.key, &self.fill);
            self.fill.wants().fail(error);
            self.fill.announce();
        }
    }

    /// Nothing runs. Everything wanted is here, or the fill failed, or somebody came just now.
    fn settle(&mut self) -> Result<Option<End>, ServeError> {
        let failure = self.fill.wants().failure().cloned();
        if let Some(error) = failure {
            return Err(error);
        }
        if !self.fill.wants().is_idle() {
            return Ok(None);
        }
        self.hand_over();
        if !self.engine.table.retire(&self.described.key, &self.fill) {
            return Ok(None);
        }
        self.fill.announce();
        let whole = self.fill.wants().here().is_full();
        Ok(Some(match (whole, self.forsaken) {
            (true, _) => End::Stored,
            (false, true) => End::Abandoned,
            (false, false) => End::Part,
        }))
    }

    /// Nothing that was bought is thrown away. The body is in the store before the fill leaves the table, so
    /// that nobody finds it in neither.
    fn hand_over(&self) {
        let (Some(digests), Some(body)) = (&self.digests, self.groups.body(self.fill.len)) else { return };
        let terms =
            Terms { born: self.fill.born, tags: self.described.tags(), disk: self.engine.load.allows_disk() };
        self.engine.store.insert(&self.described.key, Arc::clone(digests), body, &terms);
    }

    fn failed(&self, error: ServeError) -> End {
        let (key, reason) = (&self.described.key, error.reason);
        tracing::info!(%key, reason = reason.as_str(), detail = error.detail, "a fill failed");
        self.hand_over();
        self.engine.table.leave(key, &self.fill);
        self.fill.close(Some(error));
        End::Failed(reason)
    }

    fn bytes_here(&self) -> u64 {
        self.fill.wants().here().bytes()
    }
}

impl Drop for Task {
    /// A task that is dropped before its end (the runtime stops, or a bug) must not leave readers waiting.
    fn drop(&mut self) {
        self.engine.metrics.running_fills.dec();
        if !self.fill.wants().is_closed() {
            self.engine.table.leave(&self.described.key, &self.fill);
            self.fill.close(Some(ServeError::new(Failure::SourcesExhausted, "the fill was stopped")));
            self.engine.metrics.filled(End::Stopped);
        }
    }
}
