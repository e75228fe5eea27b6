//! The way of a body onto a disk: offered, admitted to the queue, given units, written, on record.

use std::io;
use std::pin::pin;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use media::digest::group_range;
use media::{GroupDigests, GroupSet};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::DiskTier;
use super::health::{Operation, is_full};
use super::index::{Claim, Offer, Step};
use crate::body::SegmentBody;
use crate::config::SyncPolicy;
use crate::device::PAGE;
use crate::format::{Label, data_offset, encode_header};
use crate::metrics::WriteOutcome;
use crate::store::Tier;

/// A waiting body takes at least so much of the queue, so that small ones cannot make it long.
const LEAST_QUEUED: u64 = 64 * 1024;
/// Other writers may take the room that was made; so often it is made again.
const TRIES: usize = 16;

impl DiskTier {
    /// Whether something of an object stands here, whole or not.
    pub(crate) fn stands(&self, offer: &Offer) -> bool {
        self.index().find(&offer.key, offer.len, offer.root, false).is_some()
    }

    /// Queues groups to be written. Never waits.
    pub(crate) fn offer(self: &Arc<Self>, offer: Offer, digests: Arc<GroupDigests>, body: SegmentBody) {
        let room = match self.admit(&offer) {
            Ok(room) => room,
            Err(refused) => return self.shared.metrics.write(refused),
        };
        let tier = self.clone();
        self.runtime.spawn(async move {
            let outcome = tier.store(&offer, &digests, &body).await;
            tracing::debug!(key = %offer.key, outcome = outcome.as_str(), "offered to a disk");
            tier.shared.metrics.write(outcome);
            // In this order: who sees the place free may count on the body and the tier being let go.
            drop((body, tier, room));
        });
    }

    fn admit(&self, offer: &Offer) -> Result<OwnedSemaphorePermit, WriteOutcome> {
        if !self.mode().writes() {
            return Err(WriteOutcome::Paused);
        }
        let known = self.index().find(&offer.key, offer.len, offer.root, false);
        if known.is_some_and(|place| offer.groups.runs().all(|run| place.present.has_all(run))) {
            return Err(WriteOutcome::Present);
        }
        // What is longer than the queue has it for itself.
        let bytes = u32::try_from(offer.groups.bytes().max(LEAST_QUEUED)).unwrap_or(u32::MAX);
        let bytes = bytes.min(self.queue_bytes);
        self.queue.clone().try_acquire_many_owned(bytes).map_err(|_| WriteOutcome::QueueFull)
    }

    async fn store(
        self: &Arc<Self>,
        offer: &Offer,
        digests: &GroupDigests,
        body: &SegmentBody,
    ) -> WriteOutcome {
        let Ok(_turn) = self.turns.acquire().await else { return WriteOutcome::Failed };
        if !self.mode().writes() {
            return WriteOutcome::Paused;
        }
        let stored = self.try_to_store(offer, digests, body).await;
        self.show_usage();
        stored.unwrap_or_else(|error| {
            self.failed(Operation::Write, &error);
            if is_full(error.kind()) { WriteOutcome::Full } else { WriteOutcome::Failed }
        })
    }

    async fn try_to_store(
        self: &Arc<Self>,
        offer: &Offer,
        digests: &GroupDigests,
        body: &SegmentBody,
    ) -> io::Result<WriteOutcome> {
        let claimed = match self.claim(offer).await? {
            Ok(claim) => Claimed { tier: self, offer, claim: Some(claim) },
            Err(refused) => return Ok(refused),
        };
        let written = match self.write(offer, claimed.claim.as_ref(), digests, body).await {
            Ok(written) => written,
            Err(error) => {
                claimed.failed(&error);
                return Err(error);
            }
        };
        if !claimed.commit() {
            return Ok(WriteOutcome::Removed);
        }
        self.journal.flush(&self.index, false).await?;
        self.shared.metrics.written(written);
        let objects = self.index().usage().objects;
        if self.journal.is_long(objects).await {
            self.replace_log();
        }
        Ok(WriteOutcome::Written)
    }

    /// Units to write to, made free if need be.
    async fn claim(self: &Arc<Self>, offer: &Offer) -> io::Result<Result<Claim, WriteOutcome>> {
        let mut tries = 0;
        while tries < TRIES {
            let mut written = pin!(self.written.notified());
            // Listening begins before the look, so that nothing falls between them.
            written.as_mut().enable();
            if !self.mode().writes() {
                return Ok(Err(WriteOutcome::Paused));
            }
            match self.next_step(offer) {
                Step::Write(claim) => return Ok(Ok(claim)),
                Step::Refuse(outcome) => return Ok(Err(outcome)),
                // Whoever writes it has a turn and a timeout, so this ends.
                Step::Wait => {
                    written.await;
                    continue;
                }
                Step::Record => self.journal.flush(&self.index, false).await?,
                Step::Grow => self.make_longer().await?,
            }
            tries += 1;
        }
        Ok(Err(WriteOutcome::NoRoom))
    }

    fn next_step(&self, offer: &Offer) -> Step {
        let may_grow = self.may_grow();
        let mut index = self.index();
        let before = index.usage().objects;
        let step = index.claim(offer, may_grow);
        let evicted = before.saturating_sub(index.usage().objects);
        self.shared.metrics.evicted(Tier::Disk, evicted as usize);
        step
    }

    fn may_grow(&self) -> bool {
        let until = *self.no_growth_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| until <= Instant::now())
    }

    /// Makes the files one slab longer. A file system without room for it is no failure of the disk: it makes do
    /// with the slabs it has, and asks again later.
    async fn make_longer(&self) -> io::Result<()> {
        let _alone = self.growth.lock().await;
        let (geometry, (units, limit)) = {
            let index = self.index();
            (index.geometry(), index.units())
        };
        if units >= limit || !self.may_grow() {
            return Ok(());
        }
        let (file, len, end) = geometry.next_slab(units, limit);
        match self.drive.resize(file, len).await {
            Ok(()) => self.index().grown_to(end),
            Err(error) if is_full(error.kind()) => {
                let have = u64::from(units) * geometry.unit;
                tracing::warn!(disk = self.number, have, %error, "the file system has no room for store.disk.capacity_bytes; the disk makes do with what it has");
                let until = Instant::now().checked_add(self.config.offline_for);
                *self.no_growth_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
                if units == 0 {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes header and groups into the claimed units; tells how many bytes.
    async fn write(
        &self,
        offer: &Offer,
        claim: Option<&Claim>,
        digests: &GroupDigests,
        body: &SegmentBody,
    ) -> io::Result<u64> {
        let Some(claim) = claim else { return Ok(0) };
        let label = Label { key: offer.key.clone(), len: offer.len, root: offer.root };
        let header = claim.is_new().then(|| encode_header(&label, digests));
        let geometry = self.index().geometry();
        let (mut written, mut touched) = (0, Vec::new());
        for (at, parts) in runs(offer.len, &claim.groups, header, body) {
            written += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            touched.extend(self.drive.write_object(geometry, &claim.extents, at, parts).await?);
        }
        if self.config.sync == SyncPolicy::Data {
            touched.dedup();
            for file in touched {
                self.drive.sync(file).await?;
            }
        }
        Ok(written)
    }
}

/// A claim on its way to one of three ends.
struct Claimed<'a> {
    tier: &'a Arc<DiskTier>,
    offer: &'a Offer,
    claim: Option<Claim>,
}

impl Claimed<'_> {
    fn commit(mut self) -> bool {
        self.claim.take().is_some_and(|claim| self.tier.index().commit(self.offer, &claim))
    }

    /// Gives the claim back. Not when the device did not answer: what it was asked may still take place.
    fn failed(mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::TimedOut
            && let Some(claim) = self.claim.take()
        {
            self.tier.index().abandon(&self.offer.key, &claim);
            self.tier.flush_soon();
        }
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if self.claim.is_some() {
            self.tier.index().withhold(&self.offer.key);
        }
        self.tier.written.notify_waiters();
    }
}

/// What is written where in an object: each run of groups in whole pages, the header with the first run where
/// they touch.
fn runs(len: u64, groups: &GroupSet, header: Option<Bytes>, body: &SegmentBody) -> Vec<(u64, Vec<Bytes>)> {
    let data = data_offset(len);
    let mut runs: Vec<(u64, Vec<Bytes>)> = header.into_iter().map(|header| (0, vec![header])).collect();
    for run in groups.runs() {
        let parts = (run.start..run.end).filter_map(|group| body.group(group).cloned());
        let (start, end) = (group_range(len, run.start).start, group_range(len, run.end - 1).end);
        let padding = (end.next_multiple_of(PAGE) - end) as usize;
        let parts = parts.chain((padding > 0).then(|| Bytes::from(vec![0; padding])));
        match runs.last_mut() {
            // A header that ends where the first group begins.
            Some((0, first)) if run.start == 0 => first.extend(parts),
            _ => runs.push((data + start, parts.collect())),
        }
    }
    runs
}
