//! One strand of a fill: a run of groups, fetched in order from one source after another.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use media::digest::group_range;
use media::{ByteRange, GroupDigests};
use sourcing::{Leg, SourceError, Want};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::assembly::{Assembly, WrongGroup};
use super::plan::Run;
use super::{Fill, Groups};
use crate::engine::{Described, Inner};
use crate::error::{Failure, ServeError};

/// Where a strand stands.
pub(crate) struct Strand {
    next: AtomicU64,
    end: AtomicU64,
    stopped: CancellationToken,
}

impl Strand {
    pub(super) fn new(run: Range<u64>) -> Arc<Self> {
        let (next, end) = (AtomicU64::new(run.start), AtomicU64::new(run.end));
        Arc::new(Self { next, end, stopped: CancellationToken::new() })
    }

    pub(super) fn run(&self) -> Run {
        Run { next: self.next.load(Ordering::Relaxed), end: self.end.load(Ordering::Relaxed) }
    }

    pub(super) fn will_reach(&self, n: u64) -> bool {
        let run = self.run();
        run.next <= n && n < run.end
    }

    /// Ends it before group `end`; at once when that is where it stands.
    pub(super) fn end_at(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
        if end <= self.next.load(Ordering::Relaxed) {
            self.stopped.cancel();
        }
    }
}

/// What a strand works with.
#[derive(Clone)]
pub(super) struct Loom {
    pub(super) engine: Arc<Inner>,
    pub(super) described: Described,
    pub(super) fill: Arc<Fill>,
    pub(super) groups: Arc<Groups>,
    pub(super) digests: Arc<GroupDigests>,
    pub(super) deadline: Instant,
}

impl Loom {
    /// Fetches the strand's groups, or as many of them as are still wanted.
    pub(super) async fn spin(self, strand: Arc<Strand>) -> (Arc<Strand>, Result<(), ServeError>) {
        let end = tokio::select! {
            biased;
            () = strand.stopped.cancelled() => Ok(()),
            end = self.fetch(&strand) => end,
        };
        (strand, end)
    }

    async fn fetch(&self, strand: &Strand) -> Result<(), ServeError> {
        let (entry, run) = (&self.described.entry, strand.run());
        let (first, last) = (group_range(self.fill.len, run.next), group_range(self.fill.len, run.end - 1));
        let want = ByteRange::new(first.start, last.end);
        let want = want.and_then(|range| Want::part(&self.described.key, entry, range));
        let want = want.ok_or_else(|| ServeError::new(Failure::Untrusted, "a segment out of its object"))?;
        let mut fetch = self.engine.sources.fetch(want, self.deadline);
        let alive = self.engine.metrics.group_bytes.clone();
        let mut assembly = Assembly::new(Arc::clone(&self.digests), run.next..run.end, alive);
        while assembly.next() < strand.run().end {
            assembly.restart_group();
            fetch.needed_by(self.fill.needed_by());
            let leg = fetch.next_leg(assembly.verified_bytes()).await;
            let leg = leg.map_err(|error| ServeError::exhausted(&entry.object, &error, self.deadline))?;
            self.drink(leg, strand, &mut assembly).await;
        }
        Ok(())
    }

    /// Takes what a leg delivers until it ends, breaks, lies, or is not wanted any more.
    async fn drink(&self, mut leg: Leg, strand: &Strand, assembly: &mut Assembly) {
        self.fill.deliver_from(leg.source());
        match self.verify_all(&mut leg, strand, assembly).await {
            Ok(Ok(())) => {}
            Ok(Err(WrongGroup(group))) => {
                let (key, kind) = (&self.described.key, leg.kind());
                tracing::warn!(%key, group, source = %leg.source(), "a source sent wrong bytes; nobody saw them");
                self.engine.metrics.verify_failed(kind);
                leg.corrupt();
            }
            Err(error) => {
                let (key, at) = (&self.described.key, assembly.next());
                tracing::debug!(%key, at, source = %leg.source(), %error, "a source broke off; the next goes on");
            }
        }
    }

    async fn verify_all(
        &self,
        leg: &mut Leg,
        strand: &Strand,
        assembly: &mut Assembly,
    ) -> Result<Result<(), WrongGroup>, SourceError> {
        while let Some(chunk) = leg.chunk().await? {
            let before = assembly.next();
            let verified = assembly.push(&chunk, |group, bytes| self.publish(strand, group, bytes));
            if assembly.next() > before {
                self.fill.announce();
            }
            // Trimmed: another strand, or nobody, takes the rest.
            let trimmed = !assembly.is_complete() && assembly.next() >= strand.run().end;
            if verified.is_err() || trimmed {
                return Ok(verified);
            }
        }
        Ok(Ok(()))
    }

    /// What comes after the strand's end in the same chunk belongs to another strand.
    fn publish(&self, strand: &Strand, group: u64, bytes: bytes::Bytes) {
        if strand.will_reach(group) {
            self.fill.put(&self.groups, group, bytes);
            strand.next.store(group + 1, Ordering::Relaxed);
        }
    }
}
