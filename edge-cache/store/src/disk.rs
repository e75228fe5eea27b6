//! One disk: which units hold which object, and the work around it.
//!
//! The index decides under one short lock; slabs and log are read and written outside it. `DESIGN.md` tells the
//! order of these steps and what a crash between them leaves.

mod drive;
mod geometry;
mod health;
mod index;
mod journal;
mod log;
mod names;
mod object;
mod recovery;
mod room;
mod scrub;
mod write;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use media::{Digest, GroupDigests, SegmentKey};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

use self::drive::Drive;
use self::geometry::Geometry;
pub(crate) use self::health::Mode;
use self::health::{Health, Operation, Unreadable, is_misconfigured};
pub(crate) use self::index::Offer;
use self::index::{Index, Place};
use self::journal::Journal;
pub use self::object::{DiskObject, ReadFault};
use self::recovery::{Recovery, Wish, recover, write_superblock};
use crate::body::SegmentBody;
use crate::config::DiskConfig;
use crate::device::Device;
use crate::format::Label;
use crate::memory::MemoryTier;
use crate::metrics::Metrics;
use crate::purge::{Epoch, Ledger, PurgeKind, Scope};
use crate::store::{Tier, TierUsage};

/// What the disks of a store share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) memory: Arc<MemoryTier>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    disks: Arc<Mutex<Vec<Weak<DiskTier>>>>,
}

impl Shared {
    pub(crate) fn new(memory: Arc<MemoryTier>, metrics: Arc<Metrics>, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self { memory, metrics, ledger, disks: Arc::default() }
    }

    fn add(&self, tier: &Arc<DiskTier>) {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(tier));
    }

    /// What one disk remembers of purges counts for memory and for the other disks: they may have been away.
    fn learn_purges(&self, purges: &[(Scope, Epoch, PurgeKind)]) {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let disks: Vec<Arc<DiskTier>> = disks.iter().filter_map(Weak::upgrade).collect();
        for (scope, epoch, kind) in purges {
            disks.iter().for_each(|disk| disk.learn_purge(scope, *epoch, *kind));
            self.memory.sweep(scope, *kind);
        }
    }
}

pub(crate) struct DiskTier {
    number: usize,
    config: DiskConfig,
    drive: Drive,
    journal: Journal,
    shared: Shared,
    index: Mutex<Index>,
    health: Mutex<Health>,
    unreadable: Mutex<Unreadable>,
    /// What the gauges say of this disk.
    shown: Mutex<TierUsage>,
    /// Bytes of bodies that may still join those waiting to be written.
    queue: Arc<Semaphore>,
    queue_bytes: u32,
    /// Writes that may run at once.
    turns: Semaphore,
    /// A write ended, one way or the other.
    written: Notify,
    /// Held while the files are being made longer.
    growth: tokio::sync::Mutex<()>,
    /// The file system was full: until then the disk makes do with what it has.
    no_growth_until: Mutex<Option<Instant>>,
    log_is_being_replaced: AtomicBool,
    flush_is_due: AtomicBool,
    runtime: Handle,
}

impl DiskTier {
    /// Recovers what the device holds. A disk that fails now, but may come back, begins offline.
    ///
    /// # Errors
    /// What the operator has to mend: another process holds the disk, or it is not ours to use.
    pub(crate) async fn open(
        number: usize,
        config: &DiskConfig,
        device: Arc<dyn Device>,
        shared: Shared,
    ) -> io::Result<Arc<Self>> {
        let queue_bytes = u32::try_from(config.write_queue.bytes()).unwrap_or(u32::MAX);
        let drive = Drive::new(device, config.read_timeout, config.write_timeout);
        let tier = Arc::new(Self {
            number,
            journal: Journal::new(drive.clone(), config.sync),
            drive,
            index: Mutex::new(Index::new(wished(config), 0, 0)),
            health: Mutex::default(),
            unreadable: Mutex::default(),
            shown: Mutex::default(),
            queue: Arc::new(Semaphore::new(queue_bytes as usize)),
            queue_bytes,
            turns: Semaphore::new(config.writers),
            written: Notify::new(),
            growth: tokio::sync::Mutex::default(),
            no_growth_until: Mutex::default(),
            log_is_being_replaced: AtomicBool::new(false),
            flush_is_due: AtomicBool::new(false),
            runtime: Handle::current(),
            config: config.clone(),
            shared,
        });
        tier.shared.add(&tier);
        tier.show_mode(tier.mode());
        match tier.attach().await {
            Ok(()) => {}
            Err(error) if is_misconfigured(error.kind()) => return Err(error),
            Err(error) => {
                tracing::warn!(disk = number, path = %config.path.display(), %error, "a disk cannot be opened; the node goes on without it and tries again");
            }
        }
        scrub::start(&tier);
        Ok(tier)
    }

    pub(crate) fn mode(&self) -> Mode {
        self.health().mode()
    }

    /// Its place in the configuration.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// How much this disk may hold: the bigger one gets more objects.
    pub(crate) fn capacity(&self) -> u64 {
        self.config.capacity_bytes.bytes()
    }

    /// Somebody asked for the key, whichever tier answers.
    pub(crate) fn count_request(&self, key: &SegmentKey) {
        self.index().count_request(key);
    }

    /// Finds what there is of an object without counting a request; nothing while the disk is offline.
    pub(crate) fn find(
        self: &Arc<Self>,
        key: &SegmentKey,
        len: u64,
        root: Digest,
        stale: bool,
    ) -> Option<DiskObject> {
        if !self.mode().reads() {
            return None;
        }
        let place = self.index().find(key, len, root, stale)?;
        Some(DiskObject::new(self.clone(), Label { key: key.clone(), len, root }, place))
    }

    /// Sweeps what a purge is about; it is on record after [`DiskTier::make_sure`].
    pub(crate) fn purge(&self, scope: &Scope, epoch: Epoch, kind: PurgeKind) -> u64 {
        let swept = self.index().purge(scope, epoch, kind);
        self.show_usage();
        swept
    }

    /// A purge that another disk remembers.
    fn learn_purge(self: &Arc<Self>, scope: &Scope, epoch: Epoch, kind: PurgeKind) {
        let known = self.index().purges().knows(scope, epoch, kind);
        if !known {
            self.purge(scope, epoch, kind);
            self.flush_soon();
        }
    }

    /// Brings everything that happened on record, safe from a loss of power. `false` when the disk cannot now.
    /// Goes on when the caller walks away.
    pub(crate) async fn make_sure(self: &Arc<Self>) -> bool {
        if !self.mode().writes() {
            return false;
        }
        let tier = self.clone();
        let flushed = self.runtime.spawn(async move {
            let flushed = tier.journal.flush(&tier.index, true).await;
            flushed.inspect_err(|error| tier.failed(Operation::Write, error)).is_ok()
        });
        flushed.await.unwrap_or(false)
    }

    /// Taking the whole queue means that everybody in it has left.
    pub(crate) async fn flush(self: &Arc<Self>) {
        let _everything = self.queue.acquire_many(self.queue_bytes).await;
        if self.mode().writes()
            && let Err(error) = self.journal.flush(&self.index, false).await
        {
            self.failed(Operation::Write, &error);
        }
    }

    /// Lets go of the device for another process. What is on its way is written first.
    pub(crate) async fn detach(self: &Arc<Self>) {
        self.flush().await;
        let _nobody_writes = self.all_turns().await;
        self.make_sure().await;
        self.set_mode(Mode::Detached);
        self.journal.stop().await;
        if let Err(error) = self.drive.close().await {
            tracing::warn!(disk = self.number, %error, "a disk could not be let go of");
        }
    }

    /// Takes the device, at first or back, and recovers what it holds now. A disk that fails now is offline and tried again
    /// now and then.
    ///
    /// # Errors
    /// Another process holds the disk.
    pub(crate) async fn attach(self: &Arc<Self>) -> io::Result<()> {
        let _nobody_writes = self.all_turns().await;
        if self.mode() == Mode::Online && !self.journal.is_broken().await {
            return Ok(());
        }
        let Err(error) = self.reopen().await else { return Ok(()) };
        self.set_mode(Mode::Offline);
        self.watch_over();
        if is_misconfigured(error.kind()) {
            return Err(error);
        }
        tracing::warn!(disk = self.number, path = %self.config.path.display(), %error, "a disk cannot be taken back; the node goes on without it and tries again");
        Ok(())
    }

    pub(crate) fn usage(&self) -> TierUsage {
        self.index().usage()
    }

    /// Whoever has all turns decides alone about the disk as a whole.
    async fn all_turns(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire_many(self.config.writers as u32).await.ok()
    }

    /// Opens the device and puts what it holds in the place of what was known. The caller has all turns, so
    /// writers wait meanwhile; readers of what was known find that it is gone. What was begun and has not ended,
    /// a write that hangs above all, comes first: it must not land on units that somebody else has by then.
    async fn reopen(self: &Arc<Self>) -> io::Result<()> {
        let begun = Instant::now();
        let trust = self.journal.stop().await;
        self.drive.close().await?;
        let wish = Wish { geometry: wished(&self.config), capacity: self.config.capacity_bytes.bytes() };
        let purges = self.ledger().clone();
        let first_serial = self.index().next_serial();
        let Recovery { index, tail, counts } =
            recover(&self.drive, wish, &purges, first_serial, trust).await?;
        let (objects, seconds) = (index.usage().objects, begun.elapsed().as_secs_f64());
        let learned = self.take_up(index);
        self.journal.restart(tail).await;
        counts.iter().for_each(|(outcome, count)| self.shared.metrics.recovered(*outcome, *count));
        self.shared.metrics.recovery_took(seconds);
        tracing::info!(disk = self.number, path = %self.config.path.display(), objects, seconds, "a disk is open");
        self.show_usage();
        self.set_mode(Mode::Online);
        // What the log said and is not so any more is on record before anybody writes in its place.
        if let Err(error) = self.journal.flush(&self.index, false).await {
            self.failed(Operation::Write, &error);
        }
        self.shared.learn_purges(&learned);
        if self.journal.is_incomplete().await {
            self.replace_log();
        }
        Ok(())
    }

    /// Puts what was found in the place of what was known; a purge comes before that or after it as a whole.
    /// Gives the purges that only this disk remembers.
    fn take_up(&self, mut found: Index) -> Vec<(Scope, Epoch, PurgeKind)> {
        let mut ledger = self.ledger();
        // Those that came while it was being read.
        for (scope, epoch, kind) in found.unknown(&ledger) {
            found.purge(&scope, epoch, kind);
        }
        let unknown = |(scope, epoch, kind): &(&Scope, Epoch, PurgeKind)| !ledger.knows(scope, *epoch, *kind);
        let learned = found.purges().purges().filter(unknown);
        let learned: Vec<_> = learned.map(|(scope, epoch, kind)| (scope.clone(), epoch, kind)).collect();
        for (scope, epoch, kind) in &learned {
            ledger.note(scope.clone(), *epoch, *kind);
        }
        let known = std::mem::replace(&mut *self.index(), found);
        drop(ledger);
        // A large one takes its time to go, and holds up nobody.
        drop(known);
        learned
    }

    /// What an operation's failure means for the disk.
    fn failed(self: &Arc<Self>, operation: Operation, error: &io::Error) {
        let changed = {
            let mut health = self.health();
            health.failed(operation, error.kind()).inspect(|mode| self.show_mode(*mode))
        };
        let Some(mode) = changed else { return };
        let (operation, mode) = (operation.as_str(), mode.as_str());
        tracing::warn!(disk = self.number, path = %self.config.path.display(), %error, operation, mode, "a disk fails; viewers are served without it, and it is tried again after store.disk.offline_for");
        self.watch_over();
    }

    /// Whether an object that the device failed to read is to blame itself: it failed before, and the disk was
    /// opened since.
    fn is_bad_sector(&self, key: &SegmentKey) -> bool {
        // Who read it together with the one that took the disk off says nothing new.
        self.mode().reads() && self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).again(key)
    }

    /// Tries now and then whether a disk that is not well can be again. One such task at a time; it does not
    /// keep the tier alive.
    fn watch_over(self: &Arc<Self>) {
        if !self.health().begin_watch() {
            return;
        }
        let (tier, pause) = (Arc::downgrade(self), self.config.offline_for);
        self.runtime.spawn(async move {
            while let Some(tier) = after(pause, &tier).await {
                tier.try_again().await;
                if tier.health().end_watch() {
                    break;
                }
            }
        });
    }

    async fn try_again(self: &Arc<Self>) {
        let _nobody_writes = self.all_turns().await;
        let mode = self.mode();
        // Somebody gave it away, or took it back, meanwhile.
        if mode.is_well() {
            return;
        }
        match self.come_back(mode).await {
            Ok(()) => tracing::info!(disk = self.number, "a disk is back"),
            Err(error) => tracing::debug!(disk = self.number, %error, "a disk still fails"),
        }
    }

    async fn come_back(self: &Arc<Self>, mode: Mode) -> io::Result<()> {
        if mode == Mode::ReadOnly {
            self.probe().await?;
        }
        if mode == Mode::Offline || self.journal.is_broken().await {
            return self.reopen().await;
        }
        self.set_mode(Mode::Online);
        self.flush_soon();
        Ok(())
    }

    /// A disk that was full or read-only is tried with the two pages that are always there, and with a little
    /// more of the log.
    async fn probe(&self) -> io::Result<()> {
        let geometry = self.index().geometry();
        write_superblock(&self.drive, geometry).await?;
        self.journal.has_room().await
    }

    /// A short log comes in the place of a long one, in the background.
    fn replace_log(self: &Arc<Self>) {
        if self.log_is_being_replaced.swap(true, Ordering::AcqRel) {
            return;
        }
        let tier = self.clone();
        self.runtime.spawn(async move {
            let replaced = tier.tell_again().await;
            tier.log_is_being_replaced.store(false, Ordering::Release);
            if let Err(error) = replaced {
                tier.failed(Operation::Write, &error);
            }
        });
    }

    async fn tell_again(&self) -> io::Result<()> {
        if !self.journal.is_incomplete().await {
            self.journal.replace(&self.index).await?;
        }
        while !self.journal.retell(&self.index).await? {}
        Ok(())
    }

    /// Brings what happened on record without anybody waiting for it.
    fn flush_soon(self: &Arc<Self>) {
        if !self.mode().writes() || self.flush_is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let tier = self.clone();
        self.runtime.spawn(async move {
            tier.flush_is_due.store(false, Ordering::Release);
            if let Err(error) = tier.journal.flush(&tier.index, false).await {
                tier.failed(Operation::Write, &error);
            }
        });
    }

    /// Keeps a body that was just read in memory, unless the object was removed meanwhile. The index stays
    /// locked so that a removal comes before or after as a whole.
    fn promote(&self, label: &Label, place: &Place, digests: Arc<GroupDigests>, body: &SegmentBody) {
        let index = self.index();
        if index.find(&label.key, label.len, label.root, false).is_some_and(|now| now.serial == place.serial)
        {
            self.shared.memory.insert(&label.key, digests, body, &place.tags);
        }
    }

    fn set_mode(&self, mode: Mode) {
        let mut health = self.health();
        health.set(mode);
        self.show_mode(mode);
    }

    fn show_mode(&self, mode: Mode) {
        self.shared.metrics.mode(self.number, mode);
    }

    fn show_usage(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.index().usage();
        self.shared.metrics.usage_changed(Tier::Disk, *shown, now);
        *shown = now;
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the disk would be cut up if it were new.
fn wished(config: &DiskConfig) -> Geometry {
    let unit = config.unit_bytes.bytes();
    let slab_units = u32::try_from(config.slab_bytes.bytes() / unit).unwrap_or(u32::MAX);
    Geometry { unit, slab_units }
}

/// The tier after a pause, if it still exists.
async fn after(pause: std::time::Duration, tier: &Weak<DiskTier>) -> Option<Arc<DiskTier>> {
    sleep(pause).await;
    tier.upgrade()
}
