//! An object on disk: read in groups, verified before anybody sees a byte.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::try_join;
use media::digest::{group_count, group_range};
use media::{Digest, GroupDigests, GroupSet, SegmentKey};

use super::DiskTier;
use super::health::{Mode, Operation};
use super::index::Place;
use crate::body::SegmentBody;
use crate::device::PAGE;
use crate::format::{Label, data_offset, decode_digests, decode_label};

/// Groups hashed between two looks at the other tasks of the thread: 1 MiB, about 0.2 ms.
const GROUPS_AT_ONCE: usize = 64;

/// Why a read gave no bytes. The engine goes to the sources; nothing is left for it to clean up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ReadFault {
    /// What the disk holds is not what was asked for. The groups that are wrong are dropped, or the object if it
    /// is its header or its slab.
    #[error("the stored bytes do not match their digests")]
    Corrupt,
    /// The object was evicted or removed between the lookup and the read.
    #[error("the object is not on the disk any more")]
    Gone,
    /// The device failed. The disk answers no lookup for a while.
    #[error("the disk failed to read")]
    Device,
    /// The device did not answer in time: busy is not the same as not there. The object stays, and the disk
    /// answers no lookup for a while.
    #[error("the disk did not answer in time")]
    Slow,
}

impl ReadFault {
    pub(crate) const ALL: [Self; 4] = [Self::Corrupt, Self::Gone, Self::Device, Self::Slow];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Gone => "gone",
            Self::Device => "device",
            Self::Slow => "slow",
        }
    }
}

/// What is wrong with a read.
enum Trouble {
    /// The read as a whole.
    Whole(ReadFault),
    /// These groups do not match their digests.
    Groups(Vec<u64>),
}

impl From<ReadFault> for Trouble {
    fn from(fault: ReadFault) -> Self {
        Self::Whole(fault)
    }
}

impl From<io::ErrorKind> for ReadFault {
    fn from(error: io::ErrorKind) -> Self {
        match error {
            // A slab that is cut or gone is as good as one that rotted.
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => Self::Corrupt,
            io::ErrorKind::TimedOut => Self::Slow,
            _ => Self::Device,
        }
    }
}

/// An object on disk, as a lookup found it: all of it, or some groups.
///
/// It does not pin its units: an eviction between two reads shows as [`ReadFault::Gone`]. Clones share the
/// verified digests, so the header is read once.
#[derive(Clone)]
pub struct DiskObject {
    tier: Arc<DiskTier>,
    label: Arc<Label>,
    place: Arc<Place>,
    digests: Arc<OnceLock<Arc<GroupDigests>>>,
}

impl DiskObject {
    pub(super) fn new(tier: Arc<DiskTier>, label: Label, place: Place) -> Self {
        Self { tier, label: label.into(), place: place.into(), digests: Arc::default() }
    }

    /// An object as a walk through the index found it: what it hashes to stands in its own label. `None`, and the
    /// object is dropped, when the label is not of this object.
    pub(super) async fn found(tier: &Arc<DiskTier>, key: SegmentKey, place: Place, len: u64) -> Option<Self> {
        let unknown = Self::new(tier.clone(), Label { key, len, root: Digest([0; 32]) }, place);
        let page = unknown.load(0..PAGE).await;
        let label = page.and_then(|page| decode_label(&page).map_err(|_| ReadFault::Corrupt));
        let same = |label: &Label| {
            let here = tier.index().find(&label.key, label.len, label.root, true);
            label.key == unknown.label.key && here.is_some_and(|here| here.serial == unknown.place.serial)
        };
        let label = label.and_then(|label| if same(&label) { Ok(label) } else { Err(ReadFault::Corrupt) });
        let label = unknown.judged(label.map_err(Trouble::Whole)).ok()?;
        Some(Self { label: label.into(), ..unknown })
    }

    /// The segment's length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.label.len
    }

    /// Whether the segment has no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.label.len == 0
    }

    /// Whether a group is here.
    #[must_use]
    pub fn has(&self, group: u64) -> bool {
        self.place.present.has(group)
    }

    /// Which groups are here.
    #[must_use]
    pub fn present(&self) -> GroupSet {
        self.place.present.clone()
    }

    /// Reads some groups, every one verified, up to the first that is not here; groups past the last are not
    /// there. Each has a buffer of its own, so that a reader who is slow to pass one on holds no other. The
    /// read that covers all groups also puts the body into memory. Walking away wastes the read, nothing more.
    ///
    /// # Errors
    /// [`ReadFault`]; the fault is counted, and acted upon, before it is returned.
    pub async fn read(&self, groups: Range<u64>) -> Result<Vec<Bytes>, ReadFault> {
        let missing = self.place.present.next_missing(groups.start);
        let end = groups.end.min(group_count(self.label.len)).min(missing.unwrap_or(u64::MAX));
        let groups = groups.start..end;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self.judged(self.read_verified(groups.clone()).await)?;
        self.promote_if_whole(&groups, &bytes);
        Ok(bytes)
    }

    /// Reads the whole object, and puts it into memory. [`ReadFault::Gone`] when some of it never was here.
    ///
    /// # Errors
    /// As [`DiskObject::read`].
    pub async fn body(&self) -> Result<SegmentBody, ReadFault> {
        let groups = self.read(0..group_count(self.label.len)).await?;
        SegmentBody::new(self.label.len, groups).ok_or(ReadFault::Gone)
    }

    /// The digests of all groups, known to merge into the root; read with the first groups, or now.
    ///
    /// # Errors
    /// As [`DiskObject::read`].
    pub async fn digests(&self) -> Result<Arc<GroupDigests>, ReadFault> {
        if let Some(digests) = self.digests.get() {
            return Ok(digests.clone());
        }
        let header = self.load(0..data_offset(self.label.len)).await;
        self.judged(header.and_then(|header| self.learn(&header)).map_err(Trouble::Whole))
    }

    /// Verifies every group that is here without putting anything into memory: what a scrub does with one batch
    /// of groups.
    pub(super) async fn check(&self, groups: Range<u64>) -> Result<u64, ReadFault> {
        let read = self.judged(self.read_verified(groups).await)?;
        Ok(read.iter().map(|group| group.len() as u64).sum())
    }

    async fn read_verified(&self, groups: Range<u64>) -> Result<Vec<Bytes>, Trouble> {
        let len = self.label.len;
        let (start, end) = (group_range(len, groups.start).start, group_range(len, groups.end - 1).end);
        let data = data_offset(len);
        let body = data + start..(data + end).next_multiple_of(PAGE);
        let (digests, bytes) = match self.digests.get() {
            Some(digests) => (digests.clone(), self.load(body).await?),
            // The first groups follow the header: one read gets both.
            None if start == 0 => {
                let mut both = self.load(0..body.end).await?;
                let bytes = both.split_off(data as usize);
                (self.learn(&both)?, bytes)
            }
            None => {
                let (header, bytes) = try_join(self.load(0..data), self.load(body)).await?;
                (self.learn(&header)?, bytes)
            }
        };
        verified(&digests, groups, &bytes).await
    }

    /// The digests out of the header, merged into the root the caller knows.
    fn learn(&self, header: &[u8]) -> Result<Arc<GroupDigests>, ReadFault> {
        let label = decode_label(header).ok().filter(|label| *label == *self.label);
        let digests = label.and_then(|label| decode_digests(header, &label)).ok_or(ReadFault::Corrupt)?;
        Ok(self.digests.get_or_init(|| Arc::new(digests)).clone())
    }

    /// Whole pages of the object.
    async fn load(&self, range: Range<u64>) -> Result<Bytes, ReadFault> {
        let geometry = self.tier.index().geometry();
        let read = self.tier.drive.read_object(geometry, &self.place.extents, range.clone()).await;
        let pieces = read.map_err(|error| {
            tracing::debug!(key = %self.label.key, %error, "an object could not be read");
            match ReadFault::from(error.kind()) {
                // A disk is not taken away again and again for one object. It is bought anew.
                ReadFault::Device if self.tier.is_bad_sector(&self.label.key) => ReadFault::Corrupt,
                fault @ (ReadFault::Device | ReadFault::Slow) => {
                    self.tier.failed(Operation::Read, &error);
                    fault
                }
                fault => fault,
            }
        })?;
        let bytes = join(pieces);
        let whole = bytes.len() as u64 == range.end - range.start;
        if whole { Ok(bytes) } else { Err(ReadFault::Corrupt) }
    }

    /// Acts on what is wrong. What does not verify because its units belong to another object by now is not
    /// corrupt; who knows what they belong to when the disk is another process's.
    fn judged<T>(&self, outcome: Result<T, Trouble>) -> Result<T, ReadFault> {
        outcome.map_err(|trouble| {
            let ours = self.tier.mode() != Mode::Detached;
            let stands = ours && self.tier.index().again(self.place.slot, self.place.serial).is_some();
            let (fault, wrong) = match trouble {
                Trouble::Whole(ReadFault::Corrupt) | Trouble::Groups(_) if !stands => (ReadFault::Gone, None),
                Trouble::Whole(fault) => (fault, None),
                Trouble::Groups(groups) => (ReadFault::Corrupt, Some(groups)),
            };
            self.log(fault, wrong.as_deref());
            self.tier.shared.metrics.fault(fault, wrong.as_ref().map_or(1, Vec::len));
            match (fault, wrong) {
                (_, Some(groups)) => self.forget(Some(&groups)),
                (ReadFault::Corrupt | ReadFault::Gone, None) => self.forget(None),
                (ReadFault::Device | ReadFault::Slow, None) => {}
            }
            fault
        })
    }

    /// Forgets some groups of the object, or all of it, if it still is this one.
    fn forget(&self, groups: Option<&[u64]>) {
        let Place { slot, serial, .. } = *self.place;
        match groups {
            Some(groups) => self.tier.index().lose(slot, serial, groups),
            None => self.tier.index().remove_if(slot, serial),
        }
        self.tier.show_usage();
        self.tier.flush_soon();
    }

    /// An eviction in between is nobody's fault; the others are worth a look at the disk.
    fn log(&self, fault: ReadFault, groups: Option<&[u64]>) {
        let (key, disk, fault_name) = (&self.label.key, self.tier.number, fault.as_str());
        if fault == ReadFault::Gone {
            tracing::debug!(%key, disk, fault = fault_name, "disk read fault");
        } else {
            tracing::warn!(%key, disk, fault = fault_name, ?groups, "disk read fault; the sources serve instead");
        }
    }

    fn promote_if_whole(&self, groups: &Range<u64>, bytes: &[Bytes]) {
        let Some(digests) = self.digests.get().filter(|_| *groups == (0..group_count(self.label.len))) else {
            return;
        };
        if let Some(body) = SegmentBody::new(self.label.len, bytes.to_vec()) {
            self.tier.promote(&self.label, &self.place, digests.clone(), &body);
        }
    }
}

/// The groups of a run of bytes, each verified and in a buffer of its own; or all that are wrong.
async fn verified(digests: &GroupDigests, groups: Range<u64>, bytes: &[u8]) -> Result<Vec<Bytes>, Trouble> {
    let base = group_range(digests.len(), groups.start).start;
    let (mut right, mut wrong) = (Vec::with_capacity((groups.end - groups.start) as usize), Vec::new());
    for (count, group) in groups.enumerate() {
        let range = group_range(digests.len(), group);
        let (start, end) = ((range.start - base) as usize, (range.end - base) as usize);
        let slice = bytes.get(start..end).ok_or(ReadFault::Corrupt)?;
        if digests.verify(group, slice) {
            right.push(Bytes::copy_from_slice(slice));
        } else {
            wrong.push(group);
        }
        if (count + 1).is_multiple_of(GROUPS_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    if wrong.is_empty() { Ok(right) } else { Err(Trouble::Groups(wrong)) }
}

/// One buffer out of several; the usual single one is not copied.
fn join(pieces: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([only]) => only,
        Err(pieces) => pieces.concat().into(),
    }
}

impl fmt::Debug for DiskObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (label, disk) = (&self.label, self.tier.number);
        write!(f, "DiskObject({}, {} bytes, disk {disk})", label.key, label.len)
    }
}
