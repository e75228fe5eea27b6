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
    let (tail, rejected) = replay(drive, &files, &mut index).await?;
    index.forget_unused_names();
    index.record_from_now_on();
    if !tail.is_complete() {
        // Its names may not be in the log yet.
        index.retell();
    }
    for (scope, epoch, kind) in purges.purges() {
        if !index.purges().knows(scope, epoch, kind) {
            index.purge(scope, epoch, kind);
        }
    }
    counts.extend([(Recovered::Kept, index.usage().objects), (Recovered::Rejected, rejected)]);
    Ok(Recovery { index, tail, counts })
}

/// The geometry of a disk of ours, or why there is none: nothing was ever there, or nothing we can read.
async fn superblock(
    drive: &Drive,
    files: &[(FileName, u64)],
) -> io::Result<Result<Geometry, Option<SuperblockError>>> {
    let len = files.iter().find(|(name, _)| *name == FileName::Superblock).map(|(_, len)| *len);
    let Some(len) = len else {
        return Ok(Err((!files.is_empty()).then_some(SuperblockError::Malformed)));
    };
    for at in [0, PAGE] {
        if at + PAGE > len {
            break;
        }
        let page = drive.read(FileName::Superblock, at, PAGE).await?;
        match Geometry::decode(&page) {
            Err(SuperblockError::Malformed) => {}
            Ok(geometry) if at > 0 => {
                tracing::warn!(
                    "the superblock of a disk is damaged; its second copy is used and the first mended"
                );
                write_superblock(drive, geometry).await?;
                return Ok(Ok(geometry));
            }
            known => return Ok(known.map_err(Some)),
        }
    }
    Ok(Err(Some(SuperblockError::Malformed)))
}

/// Two copies: a page that rots must not cost everything on the disk.
pub(super) async fn write_superblock(drive: &Drive, geometry: Geometry) -> io::Result<()> {
    drive.write(FileName::Superblock, 0, vec![geometry.encode(), geometry.encode()]).await?;
    drive.sync(FileName::Superblock).await
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
    write_superblock(drive, geometry).await
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

/// Reads the logs in order, from the newest one that is complete on. Gives the place to go on at, and how many
/// records made no sense.
async fn replay(drive: &Drive, files: &[(FileName, u64)], index: &mut Index) -> io::Result<(Tail, u64)> {
    let logs = logs(files);
    let mut read = Vec::new();
    for generation in logs.iter().rev() {
        let log = read_log(drive, *generation, files).await?;
        // Where there is one log only, nothing depends on the answer.
        let enough = logs.len() > 1 && is_complete(&log, *generation);
        read.push((*generation, log));
        if enough {
            break;
        }
    }
    let (mut rejected, mut newest) = (0, None);
    for (generation, log) in read.iter().rev() {
        let replayed = replay_log(log, *generation, index).await;
        rejected += replayed.rejected;
        newest = Some((*generation, log.len() as u64, replayed));
    }
    match newest {
        // Not even its header was written: it is begun anew.
        None | Some((_, _, Replayed { end: 0, .. })) => Ok((Tail::after(logs), rejected)),
        Some((generation, len, Replayed { end, complete, .. })) => {
            if end < len {
                cut_off(drive, generation, end, len).await?;
            }
            let mut older: Vec<u64> = logs.into_iter().filter(|log| *log != generation).collect();
            if complete {
                for log in std::mem::take(&mut older) {
                    drive.resize(FileName::Log(log), 0).await?;
                }
            }
            Ok((Tail::of(generation, end, complete, older), rejected))
        }
    }
}

/// What comes behind the last good frame goes, for good, before anything is written there.
async fn cut_off(drive: &Drive, generation: u64, end: u64, len: u64) -> io::Result<()> {
    tracing::info!(
        generation,
        torn = len - end,
        "the end of a log was not whole; what came before it stands"
    );
    drive.resize(FileName::Log(generation), end).await?;
    drive.sync(FileName::Log(generation)).await
}

/// What one log gave.
struct Replayed {
    rejected: u64,
    /// Where its last good frame ended; 0 when it is no log.
    end: u64,
    complete: bool,
}

/// Bytes of a log replayed between two looks at the other tasks of the thread: some milliseconds.
const REPLAYED_AT_ONCE: usize = 256 * 1024;

async fn replay_log(log: &Bytes, generation: u64, index: &mut Index) -> Replayed {
    let mut replayed = Replayed { rejected: 0, end: 0, complete: false };
    let Some(mut frames) = Frames::of(log, generation) else { return replayed };
    let mut since = 0;
    for frame in frames.by_ref() {
        let rejected = Records::of(frame.records).map(|record| u64::from(!index.replay(record)));
        replayed.rejected += rejected.sum::<u64>();
        replayed.complete |= frame.complete;
        since += frame.records.len();
        if since >= REPLAYED_AT_ONCE {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    Replayed { end: frames.end(), ..replayed }
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
