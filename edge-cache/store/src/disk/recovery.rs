//! What a start, or the return of a disk, finds: reads the logs and rebuilds the index.
//!
//! No segment is read, so the cost is that of the log. Whether the bytes that the index points to are still
//! right shows when they are read; until then nothing depends on them.

use std::collections::HashMap;
use std::io;

use super::drive::Drive;
use super::geometry::{Geometry, SuperblockError};
use super::index::Index;
use super::journal::{Tail, Trust};
use super::log::{Reader, Records};
use crate::device::{FileName, PAGE};
use crate::metrics::Recovered;
use crate::purge::Ledger;

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
    trust: Trust,
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
    let (tail, rejected) = replay(drive, &logs, &mut index).await?;
    let tail = if trust == Trust::Read { Tail::after(generations(&logs)) } else { tail };
    index.replayed();
    if !tail.is_complete() {
        // Its names may not be in the log yet.
        index.retell();
    }
    for (scope, epoch, kind) in index.unknown(purges) {
        index.purge(&scope, epoch, kind);
        tokio::task::yield_now().await;
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
    let mut unreadable = None;
    for at in [0, PAGE].into_iter().take_while(|at| at + PAGE <= len) {
        let page = match drive.read(FileName::Superblock, at, PAGE).await {
            // A bad sector, maybe; the second copy lies on another.
            Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                unreadable = unreadable.or(Some(error));
                continue;
            }
            page => page?,
        };
        match Geometry::decode(&page) {
            Err(SuperblockError::Malformed) => {}
            Ok(geometry) if at > 0 => {
                mend_superblock(drive, geometry).await;
                return Ok(Ok(geometry));
            }
            known => return Ok(known.map_err(Some)),
        }
    }
    // What cannot be read now may be read later: nothing is emptied for it.
    unreadable.map_or(Ok(Err(Some(SuperblockError::Malformed))), Err)
}

/// The first copy, from the second. A disk that cannot be written may be read all the same.
async fn mend_superblock(drive: &Drive, geometry: Geometry) {
    tracing::warn!("the superblock of a disk is damaged; its second copy is used and the first mended");
    if let Err(error) = write_superblock(drive, geometry).await {
        tracing::warn!(%error, "the superblock of a disk could not be mended");
    }
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

/// Generation and length of each log, the oldest first. None can come after the last generation there is, so
/// nobody ever wrote one of it.
fn logs(files: &[(FileName, u64)]) -> Vec<(u64, u64)> {
    let log = |(name, len): &(FileName, u64)| match name {
        FileName::Log(generation) => (*generation < u64::MAX).then_some((*generation, *len)),
        FileName::Superblock | FileName::Slab(_) => None,
    };
    let mut logs: Vec<(u64, u64)> = files.iter().filter_map(log).collect();
    logs.sort_unstable();
    logs
}

fn generations(logs: &[(u64, u64)]) -> Vec<u64> {
    logs.iter().map(|(generation, _)| *generation).collect()
}

/// Reads the logs in order, from the newest one that is complete on. Gives the place to go on at, and how many
/// records made no sense.
async fn replay(drive: &Drive, logs: &[(u64, u64)], index: &mut Index) -> io::Result<(Tail, u64)> {
    let (mut rejected, mut newest) = (0, None);
    for (generation, len) in from_complete(drive, logs).await? {
        let replayed = replay_log(drive, *generation, *len, index).await?;
        rejected += replayed.rejected;
        newest = Some((*generation, *len, replayed));
    }
    match newest {
        // Not even its header was written: it is begun anew.
        None | Some((_, _, Replayed { end: 0, .. })) => Ok((Tail::after(generations(logs)), rejected)),
        Some((generation, len, Replayed { end, complete, .. })) => {
            if end < len {
                cut_off(drive, generation, end, len).await?;
            }
            let mut older = generations(logs);
            older.retain(|log| *log != generation);
            if complete {
                for log in std::mem::take(&mut older) {
                    drive.resize(FileName::Log(log), 0).await?;
                }
            }
            Ok((Tail::of(generation, end, complete, older), rejected))
        }
    }
}

/// The logs from the newest one that is complete on.
async fn from_complete<'a>(drive: &Drive, logs: &'a [(u64, u64)]) -> io::Result<&'a [(u64, u64)]> {
    // Of the oldest, nothing depends on the answer.
    for (at, (generation, len)) in logs.iter().enumerate().skip(1).rev() {
        if is_complete(drive, *generation, *len).await? {
            return Ok(&logs[at..]);
        }
    }
    Ok(logs)
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

async fn replay_log(drive: &Drive, generation: u64, len: u64, index: &mut Index) -> io::Result<Replayed> {
    let mut replayed = Replayed { rejected: 0, end: 0, complete: false };
    let Some(mut log) = Reader::open(drive, generation, len).await? else { return Ok(replayed) };
    let mut since = 0;
    while let Some(frame) = log.next().await? {
        let good = |record: Option<_>| record.is_some_and(|record| index.replay(record));
        replayed.rejected += Records::of(frame.records).map(good).filter(|good| !good).count() as u64;
        replayed.complete |= frame.complete;
        since += frame.records.len();
        if since >= REPLAYED_AT_ONCE {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(Replayed { end: log.end(), ..replayed })
}

async fn is_complete(drive: &Drive, generation: u64, len: u64) -> io::Result<bool> {
    let Some(mut log) = Reader::open(drive, generation, len).await? else { return Ok(false) };
    while let Some(frame) = log.next().await? {
        if frame.complete {
            return Ok(true);
        }
    }
    Ok(false)
}
