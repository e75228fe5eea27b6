//! Reads everything on a disk again and again, slowly, so that rot is found before a viewer asks.
//!
//! What does not verify is dropped, like any fault of a read; the next request buys it anew.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::DiskTier;
use super::health::Mode;
use super::object::DiskObject;

/// Groups verified in one read: 1 MiB.
const BATCH: u64 = 64;
/// Pause between two passes, and before looking again at a disk that is empty or offline.
const REST: Duration = Duration::from_secs(60);

/// Begins to scrub, if the configuration wants it. The task keeps the tier alive for an object
/// at most.
pub(super) fn start(tier: &Arc<DiskTier>) {
    let rate = tier.config.scrub_bytes_per_second.bytes();
    if rate > 0 {
        tier.runtime.spawn(passes(Arc::downgrade(tier), rate));
    }
}

async fn passes(tier: Weak<DiskTier>, rate: u64) {
    loop {
        sleep(REST).await;
        let mut from = 0;
        let whole = loop {
            let Some(tier) = tier.upgrade() else { return };
            match one(&tier, from, rate).await {
                Step::On(slot) => from = slot,
                Step::End => break true,
                Step::Stop => break false,
            }
        };
        let Some(tier) = tier.upgrade().filter(|_| whole) else { continue };
        tier.shared.metrics.scrubbed_once();
    }
}

/// What comes after an object.
enum Step {
    /// The one at this slot, or the next.
    On(u32),
    /// There is none.
    End,
    /// The disk is not ours to read now.
    Stop,
}

/// Checks the next object.
async fn one(tier: &Arc<DiskTier>, slot: u32, rate: u64) -> Step {
    if !matches!(tier.mode(), Mode::Online | Mode::ReadOnly) {
        return Step::Stop;
    }
    let found = tier.index().next_object(slot);
    let Some((key, place, len)) = found else { return Step::End };
    let next = place.slot.0.checked_add(1).map_or(Step::End, Step::On);
    let Some(object) = DiskObject::found(tier, key, place, len).await else { return next };
    for run in object.present().runs() {
        for batch in batches(run) {
            // A fault has been acted upon; there is nothing more of the object to read.
            let Ok(bytes) = object.check(batch).await else { return next };
            tier.shared.metrics.scrubbed(bytes);
            sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
    }
    next
}

fn batches(run: std::ops::Range<u64>) -> impl Iterator<Item = std::ops::Range<u64>> {
    let end = run.end;
    run.step_by(BATCH as usize).map(move |start| start..(start + BATCH).min(end))
}
