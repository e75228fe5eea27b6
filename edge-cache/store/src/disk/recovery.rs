//! What a start finds: reads the label of every file and rebuilds the index.
//!
//! Only labels are read, so the cost is one small read for each file. Whether the bytes behind a label are
//! still right shows when they are read; until then nothing depends on them.

use std::io;

use futures_util::{StreamExt, stream};

use super::index::{Index, Kept};
use crate::device::{Device, FileId};
use crate::format::{LABEL_LEN, Label, LabelError, decode_label, file_len, footprint};
use crate::metrics::{Metrics, Recovered};

/// The index as found, and how often each thing happened.
pub(super) struct Recovery {
    pub(super) index: Index,
    counts: [u64; Recovered::ALL.len()],
}

impl Recovery {
    fn new(index: Index) -> Self {
        Self { index, counts: [0; Recovered::ALL.len()] }
    }

    fn count(&mut self, outcome: Recovered, count: u64) {
        self.counts[outcome as usize] += count;
    }

    pub(super) fn report(&self, metrics: &Metrics) {
        for outcome in Recovered::ALL {
            let count = self.counts[outcome as usize];
            metrics.recovered(outcome, count);
            if count > 0 {
                tracing::info!(outcome = outcome.as_str(), count, "found on the disk");
            }
        }
    }
}

/// Reads all labels, `at_once` of them at a time, in the order in which the files were written: the order of
/// eviction survives, and of two files of one key the newer stands.
pub(super) async fn recover(device: &dyn Device, capacity: u64, at_once: usize) -> io::Result<Recovery> {
    let mut listing = device.list().await?;
    listing.files.sort_unstable();
    let next_file = listing.files.last().map_or(0, |(file, _)| file.0.saturating_add(1));
    let mut recovery = Recovery::new(Index::new(capacity, next_file));
    recovery.count(Recovered::Leftover, listing.leftovers);
    recovery.count(Recovered::Stranger, listing.strangers);
    let inspect = |(file, len)| async move { (file, len, inspect(device, file, len).await) };
    let labels = stream::iter(listing.files).map(inspect);
    let mut labels = labels.buffered(at_once);
    while let Some((file, len, found)) = labels.next().await {
        settle(&mut recovery, file, len, found);
    }
    let kept = recovery.index.usage().objects;
    recovery.count(Recovered::Kept, kept);
    Ok(recovery)
}

async fn inspect(device: &dyn Device, file: FileId, len: u64) -> Result<Label, Recovered> {
    if len < LABEL_LEN {
        return Err(Recovered::Malformed);
    }
    let bytes = device.read(file, 0..LABEL_LEN).await.map_err(|_| Recovered::Unreadable)?;
    let label = decode_label(&bytes).map_err(|error| match error {
        LabelError::Version => Recovered::Unsupported,
        LabelError::Malformed => Recovered::Malformed,
    })?;
    if file_len(label.len) == Some(len) { Ok(label) } else { Err(Recovered::Malformed) }
}

fn settle(recovery: &mut Recovery, file: FileId, len: u64, found: Result<Label, Recovered>) {
    let label = match found {
        Ok(label) => label,
        Err(outcome) => {
            recovery.index.doom(file, footprint(len));
            return recovery.count(outcome, 1);
        }
    };
    let kept = Kept { file, len: label.len, root: label.root };
    let adopted = recovery.index.adopt(&label.key, kept, footprint(len));
    recovery.count(Recovered::Superseded, u64::from(adopted.superseded));
    recovery.count(Recovered::OverCapacity, adopted.evicted);
}
