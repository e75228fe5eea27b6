//! What the store counts. Handles are resolved once; label values come from closed enums.

use prometheus::core::Collector;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::disk::{Mode, ReadFault};
use crate::purge::PurgeKind;
use crate::store::{Tier, TierUsage};

/// How the write of one object to the disk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// It is stored.
    Written,
    /// The same groups were there.
    Present,
    /// The queue had no room; never tried.
    QueueFull,
    /// The disk is not online; never tried.
    Paused,
    /// It does not fit beside what other writers are storing.
    NoRoom,
    /// It was removed or purged while it was being written.
    Removed,
    /// The device was full.
    Full,
    /// The device failed otherwise.
    Failed,
}

impl WriteOutcome {
    const ALL: [Self; 8] = [
        Self::Written,
        Self::Present,
        Self::QueueFull,
        Self::Paused,
        Self::NoRoom,
        Self::Removed,
        Self::Full,
        Self::Failed,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Present => "present",
            Self::QueueFull => "queue-full",
            Self::Paused => "paused",
            Self::NoRoom => "no-room",
            Self::Removed => "removed",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

/// What a start, or the return of a disk, found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovered {
    /// Objects in the index.
    Kept,
    /// Records of the log that make no sense on this disk: what they are about is not found any more.
    Rejected,
    /// Disks that held nothing this version can read, and were emptied.
    Reformatted,
}

impl Recovered {
    pub(crate) const ALL: [Self; 3] = [Self::Kept, Self::Rejected, Self::Reformatted];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Rejected => "rejected",
            Self::Reformatted => "reformatted",
        }
    }
}

pub(crate) struct Metrics {
    bytes: [IntGauge; 2],
    objects: [IntGauge; 2],
    evictions: [IntCounter; 2],
    writes: [IntCounter; 8],
    written_bytes: IntCounter,
    faults: [IntCounter; 4],
    recovered: [IntCounter; 3],
    recovery_seconds: Gauge,
    modes: IntGaugeVec,
    scrubbed_bytes: IntCounter,
    scrub_passes: IntCounter,
    purges: [IntCounter; 2],
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let all = Families { registry };
        let bytes = all.gauges("weir_store_bytes", "Bytes charged to the tier's budget", &["tier"])?;
        let objects =
            all.gauges("weir_store_objects", "Objects in the tier, partial ones included", &["tier"])?;
        let evictions =
            all.counters("weir_store_evictions_total", "Objects that made room for others", "tier")?;
        let writes =
            all.counters("weir_store_disk_writes_total", "Bodies offered to a disk, by outcome", "outcome")?;
        let faults = all.counters(
            "weir_store_disk_read_faults_total",
            "Reads that gave no bytes, by fault; each corrupt group counts",
            "fault",
        )?;
        let recovered = all.counters(
            "weir_store_recovered_total",
            "What starts and returning disks found, by outcome",
            "outcome",
        )?;
        let modes = "1 for the mode a disk is in; disks are counted from 0 in the order of store.disk";
        let purges = all.counters("weir_store_purges_total", "Purges, by kind", "kind")?;
        Ok(Self {
            bytes: Tier::ALL.map(|tier| bytes.with_label_values(&[tier.as_str()])),
            objects: Tier::ALL.map(|tier| objects.with_label_values(&[tier.as_str()])),
            evictions: Tier::ALL.map(|tier| evictions.with_label_values(&[tier.as_str()])),
            writes: WriteOutcome::ALL.map(|outcome| writes.with_label_values(&[outcome.as_str()])),
            written_bytes: all.counter("weir_store_disk_written_bytes_total", "Bytes of objects written")?,
            faults: ReadFault::ALL.map(|fault| faults.with_label_values(&[fault.as_str()])),
            recovered: Recovered::ALL.map(|outcome| recovered.with_label_values(&[outcome.as_str()])),
            recovery_seconds: all.gauge(
                "weir_store_recovery_seconds",
                "From opening a disk to its being online, the last time",
            )?,
            modes: all.gauges("weir_store_disk_mode", modes, &["disk", "mode"])?,
            scrubbed_bytes: all
                .counter("weir_store_scrubbed_bytes_total", "Bytes that a scrub read and verified")?,
            scrub_passes: all.counter("weir_store_scrub_passes_total", "Scrubs of a whole disk")?,
            purges: PurgeKind::ALL.map(|kind| purges.with_label_values(&[kind.as_str()])),
        })
    }

    pub(crate) fn usage(&self, tier: Tier, usage: TierUsage) {
        self.bytes[tier as usize].set(gauge(usage.bytes));
        self.objects[tier as usize].set(gauge(usage.objects));
    }

    /// One part of a tier holds something else now than it did.
    pub(crate) fn usage_changed(&self, tier: Tier, before: TierUsage, now: TierUsage) {
        self.bytes[tier as usize].add(gauge(now.bytes) - gauge(before.bytes));
        self.objects[tier as usize].add(gauge(now.objects) - gauge(before.objects));
    }

    pub(crate) fn evicted(&self, tier: Tier, count: usize) {
        self.evictions[tier as usize].inc_by(count as u64);
    }

    pub(crate) fn write(&self, outcome: WriteOutcome) {
        self.writes[outcome as usize].inc();
    }

    pub(crate) fn written(&self, bytes: u64) {
        self.written_bytes.inc_by(bytes);
    }

    /// A read gave no bytes; of corrupt ones each group counts.
    pub(crate) fn fault(&self, fault: ReadFault, count: usize) {
        self.faults[fault as usize].inc_by(count as u64);
    }

    pub(crate) fn recovered(&self, outcome: Recovered, count: u64) {
        self.recovered[outcome as usize].inc_by(count);
    }

    pub(crate) fn recovery_took(&self, seconds: f64) {
        self.recovery_seconds.set(seconds);
    }

    pub(crate) fn mode(&self, disk: usize, mode: Mode) {
        let disk = disk.to_string();
        for each in Mode::ALL {
            self.modes.with_label_values(&[&disk, each.as_str()]).set(i64::from(each == mode));
        }
    }

    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.scrubbed_bytes.inc_by(bytes);
    }

    pub(crate) fn scrubbed_once(&self) {
        self.scrub_passes.inc();
    }

    pub(crate) fn purged(&self, kind: PurgeKind) {
        self.purges[kind as usize].inc();
    }
}

/// Makes metrics and puts them where they are scraped.
struct Families<'a> {
    registry: &'a Registry,
}

impl Families<'_> {
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), &[label])?)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.registered(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.registered(Gauge::new(name, help)?)
    }

    fn registered<C: Collector + Clone + 'static>(&self, metric: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(metric.clone())).map(|()| metric)
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
