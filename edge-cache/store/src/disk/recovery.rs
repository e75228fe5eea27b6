//! What a start, or the return of a disk, finds: reads the logs and rebuilds the index.
//!
//! No segment is read, so the cost is that of the log. Whether the bytes that the index points to are still
//! right shows when they are read; until then nothing depends on them.

use std::collections::HashMap;
use std::io;

use bytes::{Bytes, BytesMut};

use super::drive::Drive;
use super::geometry::{Geometry, SuperblockError};
use super::index::Index;
use super::journal::Tail;
use super::log::{Frames, Records};
use crate::device::{FileName, PAGE};
use crate::metrics::Recovered;
use crate::purge::Ledger;

/// The log is read in pieces of this length.
const READ: u64 = 8 << 20;

/// What was found.
pub(crate) struct Recovery {
    pub(crate) index: Index,
    pub(crate) tail: Tail,
    pub(crate) counts: Vec<(Recovered, u64)>,
}

/// What a disk is to become when there is nothing on it yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) geometry: Geometry,
    pub(crate) capacity: u64,
}

/// Opens the device and reads what it holds. Purges that others remember are applied to it.
pub(crate) async fn recover(
    drive: &Drive,
    wish: Wish,
    purges: &Ledger,
    first_serial: u32,
) -> io::Result<Recovery> {
    let mut files = drive.open().await?;
    let mut counts = Vec::new();
    let geometry = match superblock(drive, &files).await? {
        Ok(geometry) => geometry,
        Err(reason) => {
            format(drive, wish.geometry, &files, reason).await?;
            counts.extend(reason.map(|_| (Recovered::Reformatted, 1)));
            files.clear();
            wish.geometry
        }
    };
    let limit = geometry.units_of(wish.capacity);
    let mut index = Index::new(geometry, limit, first_serial);
    let units = fit_slabs(drive, geometry, limit, &files).await?;
    index.grown_to(units);
    let logs = logs(&files);
    let rejected = replay(drive, &logs, &files, &mut index).await?;
    index.forget_unused_names();
    // What is said from here on goes into a new log, and its names first.
    index.record_from_now_on();
    index.retell();
    for (scope, epoch, kind) in purges.purges() {
        if !index.purges().knows(scope, epoch, kind) {
            index.purge(scope, epoch, kind);
        }
    }
    counts.extend([(Recovered::Kept, index.usage().objects), (Recovered::Rejected, rejected)]);
    let tail = Tail::after(logs);
    Ok(Recovery { index, tail, counts })
}

/// The geometry of a disk of ours, or why there is none: nothing was ever there, or nothing we can read.
async fn superblock(
    drive: &Drive,
    files: &[(FileName, u64)],
) -> io::Result<Result<Geometry, Option<SuperblockError>>> {
    let len = files.iter().find(|(name, _)| *name == FileName::Superblock).map(|(_, len)| *len);
    match len {
        None if files.is_empty() => Ok(Err(None)),
        None => Ok(Err(Some(SuperblockError::Malformed))),
        Some(len) if len < PAGE => Ok(Err(Some(SuperblockError::Malformed))),
        Some(_) => {
            let page = drive.read(FileName::Superblock, 0, PAGE).await?;
            Ok(Geometry::decode(&page).map_err(Some))
        }
    }
}

/// Makes an empty disk of whatever was there: it is a cache.
async fn format(
    drive: &Drive,
    geometry: Geometry,
    files: &[(FileName, u64)],
    reason: Option<SuperblockError>,
) -> io::Result<()> {
    if let Some(reason) = reason {
        tracing::warn!(?reason, "a disk holds nothing this version can read; it is emptied");
    }
    for (name, _) in files {
        drive.resize(*name, 0).await?;
    }
    drive.write(FileName::Superblock, 0, vec![geometry.encode()]).await?;
    drive.sync(FileName::Superblock).await
}

/// Cuts off what the capacity does not allow any more; tells how many units there are.
async fn fit_slabs(
    drive: &Drive,
    geometry: Geometry,
    limit: u32,
    files: &[(FileName, u64)],
) -> io::Result<u32> {
    let slab = |(name, len): &(FileName, u64)| match name {
        FileName::Slab(number) => Some((*number, *len)),
        FileName::Log(_) | FileName::Superblock => None,
    };
    let slabs: HashMap<u32, u64> = files.iter().filter_map(slab).collect();
    let units = geometry.units_in(|number| slabs.get(&number).copied()).min(limit);
    let wanted: HashMap<FileName, u64> = geometry.slabs(units).collect();
    for (number, len) in slabs {
        let name = FileName::Slab(number);
        let keep = wanted.get(&name).copied().unwrap_or(0);
        if len > keep {
            drive.resize(name, keep).await?;
        }
    }
    Ok(units)
}

fn logs(files: &[(FileName, u64)]) -> Vec<u64> {
    let generation = |(name, _): &(FileName, u64)| match name {
        FileName::Log(generation) => Some(*generation),
        FileName::Superblock | FileName::Slab(_) => None,
    };
    let mut logs: Vec<u64> = files.iter().filter_map(generation).collect();
    logs.sort_unstable();
    logs
}

/// Reads the logs in order, from the newest one that is complete on. Tells how many records made no sense.
async fn replay(
    drive: &Drive,
    logs: &[u64],
    files: &[(FileName, u64)],
    index: &mut Index,
) -> io::Result<u64> {
    let mut read = Vec::new();
    for generation in logs.iter().rev() {
        let log = read_log(drive, *generation, files).await?;
        // A single log is taken as it is, complete or not.
        let complete = logs.len() > 1 && is_complete(&log, *generation);
        read.push((*generation, log));
        if complete {
            break;
        }
    }
    let mut rejected = 0;
    for (generation, log) in read.iter().rev() {
        rejected += replay_log(log, *generation, index).await;
    }
    Ok(rejected)
}

async fn replay_log(log: &Bytes, generation: u64, index: &mut Index) -> u64 {
    let Some(mut frames) = Frames::of(log, generation) else { return 0 };
    let mut rejected = 0;
    for frame in frames.by_ref() {
        rejected += Records::of(frame.records).map(|record| u64::from(!index.replay(record))).sum::<u64>();
        // A long log must not hold a thread of the runtime for long.
        tokio::task::yield_now().await;
    }
    let torn = log.len() as u64 - frames.end();
    if torn > 0 {
        tracing::info!(generation, torn, "the end of a log was not whole; what came before it stands");
    }
    rejected
}

fn is_complete(log: &Bytes, generation: u64) -> bool {
    Frames::of(log, generation).into_iter().flatten().any(|frame| frame.complete)
}

async fn read_log(drive: &Drive, generation: u64, files: &[(FileName, u64)]) -> io::Result<Bytes> {
    let file = FileName::Log(generation);
    let len = files.iter().find(|(name, _)| *name == file).map_or(0, |(_, len)| *len);
    let mut log = BytesMut::new();
    while (log.len() as u64) < len {
        let at = log.len() as u64;
        log.extend_from_slice(&drive.read(file, at, READ.min(len - at)).await?);
    }
    Ok(log.freeze())
}
