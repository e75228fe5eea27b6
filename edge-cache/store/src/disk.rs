//! The disk tier: which file holds which object, and the work around it.
//!
//! The index decides under one short lock; files are written, read and removed outside it. `DESIGN.md` tells
//! the order of these steps and what a crash between them leaves.

mod index;
mod object;
mod pause;
mod recovery;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::{Digest, GroupDigests, SegmentKey};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::index::{Index, Kept};
pub use self::object::{DiskObject, ReadFault};
use self::pause::Pause;
use crate::body::SegmentBody;
use crate::config::DiskConfig;
use crate::device::{Device, FileId};
use crate::format::{Label, encode_header, file_len, footprint};
use crate::memory::MemoryTier;
use crate::metrics::{Metrics, WriteOutcome};
use crate::store::{Tier, TierUsage};

/// A waiting body takes at least so much of the queue, so that small ones cannot make it long.
const LEAST_QUEUED: u64 = 64 * 1024;

pub(crate) struct DiskTier {
    device: Arc<dyn Device>,
    memory: Arc<MemoryTier>,
    metrics: Arc<Metrics>,
    index: Mutex<Index>,
    /// Bytes of bodies that may still join those waiting to be written.
    queue: Arc<Semaphore>,
    queue_bytes: u32,
    /// Writes that may run at once.
    turns: Semaphore,
    /// Held while one doomed file is being removed.
    undertaker: tokio::sync::Mutex<()>,
    write_pause: Pause,
    read_pause: Pause,
    read_timeout: Duration,
    runtime: Handle,
}

impl DiskTier {
    /// Recovers what the device holds.
    pub(crate) async fn open(
        config: &DiskConfig,
        device: Arc<dyn Device>,
        memory: Arc<MemoryTier>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Arc<Self>> {
        let capacity = config.capacity_bytes.bytes();
        let recovered = recovery::recover(&*device, capacity, config.io_threads).await?;
        recovered.report(&metrics);
        let queue_bytes = u32::try_from(config.write_queue.bytes()).unwrap_or(u32::MAX);
        let tier = Self {
            device,
            memory,
            metrics,
            index: Mutex::new(recovered.index),
            queue: Arc::new(Semaphore::new(queue_bytes as usize)),
            queue_bytes,
            turns: Semaphore::new(config.writers),
            undertaker: tokio::sync::Mutex::new(()),
            write_pause: Pause::new(config.offline_for),
            read_pause: Pause::new(config.offline_for),
            read_timeout: config.read_timeout,
            runtime: Handle::current(),
        };
        if let Err(error) = tier.bury().await {
            tier.pause_writes(&error);
        }
        tier.show_usage(&tier.index());
        Ok(Arc::new(tier))
    }

    /// Somebody asked for the key, whichever tier answers.
    pub(crate) fn count_request(&self, key: &SegmentKey) {
        self.index().count_request(key);
    }

    /// Finds an object without counting a request; nothing while reads are paused.
    pub(crate) fn find(self: &Arc<Self>, key: &SegmentKey, len: u64, root: Digest) -> Option<DiskObject> {
        let file = self.index().find(key, len, root)?;
        if self.read_pause.holds(Instant::now()) {
            return None;
        }
        Some(DiskObject::new(self.clone(), Label { key: key.clone(), len, root }, file))
    }

    /// Queues a body to be written. Never waits.
    pub(crate) fn offer(self: &Arc<Self>, key: &SegmentKey, digests: Arc<GroupDigests>, body: SegmentBody) {
        let room = match self.admit(key, digests.root(), body.len()) {
            Ok(room) => room,
            Err(refused) => return self.metrics.write(refused),
        };
        let label = Label { key: key.clone(), len: body.len(), root: digests.root() };
        let tier = self.clone();
        self.runtime.spawn(async move {
            let outcome = tier.store(&label, &digests, &body).await;
            tracing::debug!(key = %label.key, outcome = outcome.as_str(), "offered to the disk");
            tier.metrics.write(outcome);
            // In this order: who sees the place free may count on the body and the tier being let go.
            drop((body, tier, room));
        });
    }

    pub(crate) fn remove(self: &Arc<Self>, key: &SegmentKey) {
        let mut index = self.index();
        index.remove(key);
        self.show_usage(&index);
        self.schedule_burial(&mut index);
    }

    /// Taking the whole queue means that everybody in it has left.
    pub(crate) async fn flush(&self) {
        let _everything = self.queue.acquire_many(self.queue_bytes).await;
        if let Err(error) = self.bury().await {
            self.pause_writes(&error);
        }
    }

    pub(crate) fn usage(&self) -> TierUsage {
        self.index().usage()
    }

    fn admit(&self, key: &SegmentKey, root: Digest, len: u64) -> Result<OwnedSemaphorePermit, WriteOutcome> {
        if self.index().knows(key, root) {
            return Err(WriteOutcome::Present);
        }
        if self.write_pause.holds(Instant::now()) {
            return Err(WriteOutcome::Paused);
        }
        let bytes = u32::try_from(len.max(LEAST_QUEUED)).map_err(|_| WriteOutcome::QueueFull)?;
        self.queue.clone().try_acquire_many_owned(bytes).map_err(|_| WriteOutcome::QueueFull)
    }

    async fn store(
        self: &Arc<Self>,
        label: &Label,
        digests: &GroupDigests,
        body: &SegmentBody,
    ) -> WriteOutcome {
        let Ok(_turn) = self.turns.acquire().await else { return WriteOutcome::Failed };
        if self.write_pause.holds(Instant::now()) {
            return WriteOutcome::Paused;
        }
        if self.write_pause.has_passed(Instant::now()) {
            self.retry_stuck().await;
        }
        let mut claim = match self.claim(label) {
            Ok(claim) => claim,
            Err(refused) => return refused,
        };
        if let Err(error) = self.write(&mut claim, digests, body).await {
            self.pause_writes(&error);
            return if is_full(&error) { WriteOutcome::Full } else { WriteOutcome::Failed };
        }
        if self.write_pause.end() {
            self.metrics.writes_paused(false);
        }
        claim.commit()
    }

    /// Victims go before the new file comes: the files never outgrow the capacity.
    async fn write(
        &self,
        claim: &mut Claim<'_>,
        digests: &GroupDigests,
        body: &SegmentBody,
    ) -> io::Result<()> {
        self.bury().await?;
        let mut parts = Vec::with_capacity(1 + body.groups().count());
        parts.push(encode_header(claim.label, digests));
        parts.extend(body.groups().cloned());
        claim.touched = true;
        self.device.write(claim.file, parts).await?;
        self.metrics.written(claim.bytes);
        Ok(())
    }

    fn claim<'a>(self: &'a Arc<Self>, label: &'a Label) -> Result<Claim<'a>, WriteOutcome> {
        let bytes = file_len(label.len).map(footprint).ok_or(WriteOutcome::NoRoom)?;
        let mut index = self.index();
        let before = index.usage().objects;
        let file = index.claim(&label.key, label.root, bytes)?;
        self.metrics.evicted(Tier::Disk, (before - index.usage().objects) as usize);
        self.show_usage(&index);
        Ok(Claim { tier: self, label, file, bytes, touched: false, kept: false })
    }

    /// Removes every doomed file, one at a time. Ends at the first that cannot be removed and sets it aside.
    async fn bury(&self) -> io::Result<()> {
        loop {
            let _alone = self.undertaker.lock().await;
            let Some(file) = self.index().next_doomed() else { return Ok(()) };
            let removed = self.device.remove(file).await;
            let mut index = self.index();
            match removed {
                Ok(()) => index.buried(),
                Err(error) => {
                    index.set_aside();
                    return Err(error);
                }
            }
        }
    }

    /// After a pause: what could not be removed may go now. What still cannot keeps its room.
    async fn retry_stuck(&self) {
        let stuck = self.index().stuck();
        for file in stuck {
            if self.device.remove(file).await.is_ok() {
                self.index().unstuck(file);
            }
        }
    }

    /// Starts the one background removal unless it runs. It takes a place in the queue, so that a flush waits for
    /// it; where there is none, and where it ends early, the next write goes on.
    fn schedule_burial(self: &Arc<Self>, index: &mut Index) {
        if index.burial_runs || index.next_doomed().is_none() {
            return;
        }
        let Ok(place) = self.queue.clone().try_acquire_owned() else { return };
        index.burial_runs = true;
        let tier = self.clone();
        self.runtime.spawn(async move {
            loop {
                let outcome = tier.bury().await;
                let mut index = tier.index();
                if outcome.is_err() || index.next_doomed().is_none() {
                    index.burial_runs = false;
                    break;
                }
            }
            drop((tier, place));
        });
    }

    fn pause_writes(&self, error: &io::Error) {
        tracing::warn!(%error, "the disk fails to write; it is left alone for store.disk.offline_for");
        self.write_pause.begin(Instant::now());
        self.metrics.writes_paused(true);
    }

    /// What a fault of a read means for the object and the tier.
    fn faulted(self: &Arc<Self>, label: &Label, file: FileId, fault: ReadFault) {
        self.metrics.fault(fault);
        if fault.drops_the_object() {
            let mut index = self.index();
            index.remove_file(&label.key, file);
            self.show_usage(&index);
            self.schedule_burial(&mut index);
        }
        if fault.pauses_reads() {
            self.read_pause.begin(Instant::now());
            self.metrics.reads_paused(true);
        }
    }

    fn read_went_well(&self) {
        if self.read_pause.end() {
            self.metrics.reads_paused(false);
        }
    }

    /// Keeps a body that was just read in memory, unless the object was removed meanwhile. The index stays
    /// locked so that a removal comes before or after as a whole.
    fn promote(&self, label: &Label, file: FileId, digests: Arc<GroupDigests>, body: SegmentBody) {
        let index = self.index();
        if index.holds(&label.key, file) {
            self.memory.insert(&label.key, digests, &body, &Arc::default());
        }
    }

    fn show_usage(&self, index: &Index) {
        self.metrics.usage(Tier::Disk, index.usage());
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room in the index for one file that is being written. Given back on drop unless committed.
struct Claim<'a> {
    tier: &'a Arc<DiskTier>,
    label: &'a Label,
    file: FileId,
    bytes: u64,
    /// The device was asked to write: a failed write may have left something.
    touched: bool,
    kept: bool,
}

impl Claim<'_> {
    fn commit(mut self) -> WriteOutcome {
        self.kept = true;
        let kept = Kept { file: self.file, len: self.label.len, root: self.label.root };
        let mut index = self.tier.index();
        let stands = index.commit(&self.label.key, kept, self.bytes);
        self.tier.show_usage(&index);
        self.tier.schedule_burial(&mut index);
        if stands { WriteOutcome::Written } else { WriteOutcome::Removed }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.tier.index().abandon(&self.label.key, self.file, self.bytes, self.touched);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
