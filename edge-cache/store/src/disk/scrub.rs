//! Reads everything on a disk again and again, slowly, so that rot is found before a viewer asks.
//!
//! What does not verify is dropped, like any fault of a read; the next request buys it anew.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::DiskTier;
use super::object::DiskObject;

/// Groups verified in one read: 1 MiB.
const BATCH: u64 = 64;
/// Pause between two passes, and before looking again at a disk that is empty or offline.
const REST: Duration = Duration::from_secs(60);

/// Begins to scrub, if the configuration wants it. The task does not keep the tier alive.
pub(super) fn start(tier: &Arc<DiskTier>) {
    let rate = tier.config.scrub_bytes_per_second.bytes();
    if rate > 0 {
        tier.runtime.spawn(passes(Arc::downgrade(tier), rate));
    }
}

async fn passes(tier: Weak<DiskTier>, rate: u64) {
    loop {
        sleep(REST).await;
        let mut from = Some(0);
        while let Some(slot) = from {
            let Some(tier) = tier.upgrade() else { return };
            from = one(&tier, slot, rate).await;
        }
        let Some(tier) = tier.upgrade() else { return };
        tier.shared.metrics.scrubbed_once();
    }
}

/// Checks the next object. Gives the slot to go on from; `None` at the end of the pass.
async fn one(tier: &Arc<DiskTier>, slot: u32, rate: u64) -> Option<u32> {
    if !tier.mode().reads() {
        return None;
    }
    let (key, place, len) = tier.index().next_object(slot)?;
    let next = place.slot.0.checked_add(1);
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
