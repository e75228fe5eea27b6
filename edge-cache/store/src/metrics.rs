//! What the store counts. Handles are resolved once; label values come from closed enums.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::disk::ReadFault;
use crate::store::{Tier, TierUsage};

/// How the write of one object to the disk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// It is stored.
    Written,
    /// The same object was there or on its way.
    Present,
    /// The queue had no room; never tried.
    QueueFull,
    /// The tier is leaving the disk alone after a failure; never tried.
    Paused,
    /// It does not fit beside what other writers are storing.
    NoRoom,
    /// The key was removed while it was being written.
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

/// What became of one file that was found at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovered {
    /// It is in the index.
    Kept,
    /// An unfinished write; cleared away.
    Leftover,
    /// No label, or not the length its label promises; removed.
    Malformed,
    /// Of a format version this program does not read; removed.
    Unsupported,
    /// A newer file of the same key was kept; removed.
    Superseded,
    /// The capacity is smaller than what was there; removed.
    OverCapacity,
    /// It could not be read; removed.
    Unreadable,
    /// Nothing of ours; left alone.
    Stranger,
}

impl Recovered {
    pub(crate) const ALL: [Self; 8] = [
        Self::Kept,
        Self::Leftover,
        Self::Malformed,
        Self::Unsupported,
        Self::Superseded,
        Self::OverCapacity,
        Self::Unreadable,
        Self::Stranger,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Leftover => "leftover",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::Superseded => "superseded",
            Self::OverCapacity => "over-capacity",
            Self::Unreadable => "unreadable",
            Self::Stranger => "stranger",
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
    recovered: [IntCounter; 8],
    writes_paused: IntGauge,
    reads_paused: IntGauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str, label: &str| -> prometheus::Result<IntGaugeVec> {
            let family = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone())).map(|()| family)
        };
        let counters = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone())).map(|()| family)
        };
        let written = IntCounter::new("weir_store_disk_written_bytes_total", "Bytes of object files stored")?;
        registry.register(Box::new(written.clone()))?;
        let bytes = gauges("weir_store_bytes", "Bytes charged to the tier's budget", "tier")?;
        let objects = gauges("weir_store_objects", "Objects in the tier", "tier")?;
        let evictions = counters("weir_store_evictions_total", "Objects that made room for others", "tier")?;
        let writes =
            counters("weir_store_disk_writes_total", "Objects offered to the disk, by outcome", "outcome")?;
        let faults =
            counters("weir_store_disk_read_faults_total", "Reads that gave no bytes, by fault", "fault")?;
        let recovered =
            counters("weir_store_recovered_total", "What was found at start, by outcome", "outcome")?;
        let paused = "1 from a failure of the device until the next success, by operation";
        let paused = gauges("weir_store_disk_paused", paused, "operation")?;
        Ok(Self {
            bytes: Tier::ALL.map(|tier| bytes.with_label_values(&[tier.as_str()])),
            objects: Tier::ALL.map(|tier| objects.with_label_values(&[tier.as_str()])),
            evictions: Tier::ALL.map(|tier| evictions.with_label_values(&[tier.as_str()])),
            writes: WriteOutcome::ALL.map(|outcome| writes.with_label_values(&[outcome.as_str()])),
            written_bytes: written,
            faults: ReadFault::ALL.map(|fault| faults.with_label_values(&[fault.as_str()])),
            recovered: Recovered::ALL.map(|outcome| recovered.with_label_values(&[outcome.as_str()])),
            writes_paused: paused.with_label_values(&["write"]),
            reads_paused: paused.with_label_values(&["read"]),
        })
    }

    pub(crate) fn usage(&self, tier: Tier, usage: TierUsage) {
        self.bytes[tier as usize].set(gauge(usage.bytes));
        self.objects[tier as usize].set(gauge(usage.objects));
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

    pub(crate) fn fault(&self, fault: ReadFault) {
        self.faults[fault as usize].inc();
    }

    pub(crate) fn recovered(&self, outcome: Recovered, count: u64) {
        self.recovered[outcome as usize].inc_by(count);
    }

    pub(crate) fn writes_paused(&self, paused: bool) {
        self.writes_paused.set(i64::from(paused));
    }

    pub(crate) fn reads_paused(&self, paused: bool) {
        self.reads_paused.set(i64::from(paused));
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
