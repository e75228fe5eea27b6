//! An object on disk: read in groups, verified before anybody sees a byte.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use media::{GroupDigests, GroupSet};
use media::digest::{group_count, group_range};

use super::DiskTier;
use crate::body::SegmentBody;
use crate::device::FileId;
use crate::format::{Label, data_offset, decode_digests, decode_label};

/// Groups hashed between two looks at the other tasks of the thread: 1 MiB, about 0.2 ms.
const GROUPS_AT_ONCE: usize = 64;

/// Why a read gave no bytes. The engine goes to the sources; nothing is left for it to clean up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ReadFault {
    /// What the file holds is not what was asked for. The object is dropped.
    #[error("the stored bytes do not match their digests")]
    Corrupt,
    /// The object was evicted or removed between the lookup and the read.
    #[error("the object is not on the disk any more")]
    Gone,
    /// The device failed. The object is dropped, and the tier answers no lookup for a while.
    #[error("the disk failed to read")]
    Device,
    /// The device did not answer in time. The object stays, and the tier answers no lookup for a while.
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

    pub(super) const fn drops_the_object(self) -> bool {
        !matches!(self, Self::Slow)
    }

    pub(super) const fn pauses_reads(self) -> bool {
        matches!(self, Self::Device | Self::Slow)
    }
}

impl From<io::ErrorKind> for ReadFault {
    fn from(error: io::ErrorKind) -> Self {
        match error {
            io::ErrorKind::NotFound => Self::Gone,
            // Shorter than its label says: somebody cut it.
            io::ErrorKind::UnexpectedEof => Self::Corrupt,
            _ => Self::Device,
        }
    }
}

/// An object on disk, as a lookup found it.
///
/// It does not pin the file: an eviction between two reads shows as [`ReadFault::Gone`]. Clones share the
/// verified digests, so the header is read once.
#[derive(Clone)]
pub struct DiskObject {
    tier: Arc<DiskTier>,
    label: Arc<Label>,
    file: FileId,
    digests: Arc<OnceLock<Arc<GroupDigests>>>,
}

impl DiskObject {
    pub(super) fn new(tier: Arc<DiskTier>, label: Label, file: FileId) -> Self {
        Self { tier, label: label.into(), file, digests: Arc::default() }
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
        group < group_count(self.label.len)
    }

    /// Which groups are here.
    #[must_use]
    pub fn present(&self) -> GroupSet {
        GroupSet::all(self.label.len)
    }

    /// Reads some groups, every one verified; groups past the last are not there. The read that covers all
    /// groups also puts the body into memory. Walking away wastes the read, nothing more.
    ///
    /// # Errors
    /// [`ReadFault`]; the fault is counted, and acted upon, before it is returned.
    pub async fn read(&self, groups: Range<u64>) -> Result<Vec<Bytes>, ReadFault> {
        let groups = groups.start..groups.end.min(group_count(self.label.len));
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self.attempt(self.read_verified(groups.clone())).await?;
        self.promote_if_whole(&groups, &bytes);
        Ok(bytes)
    }

    /// Reads the whole object, and puts it into memory.
    ///
    /// # Errors
    /// As [`DiskObject::read`].
    pub async fn body(&self) -> Result<SegmentBody, ReadFault> {
        let groups = self.read(0..group_count(self.label.len)).await?;
        SegmentBody::new(self.label.len, groups).ok_or(ReadFault::Corrupt)
    }

    /// The digests of all groups, known to merge into the root; read with the first groups, or now.
    ///
    /// # Errors
    /// As [`DiskObject::read`].
    pub async fn digests(&self) -> Result<Arc<GroupDigests>, ReadFault> {
        self.attempt(self.read_digests()).await
    }

    /// Gives a read its time, and acts on its fault.
    async fn attempt<T>(&self, read: impl Future<Output = Result<T, ReadFault>>) -> Result<T, ReadFault> {
        let outcome =
            tokio::time::timeout(self.tier.read_timeout, read).await.unwrap_or(Err(ReadFault::Slow));
        match &outcome {
            Ok(_) => self.tier.read_went_well(),
            Err(fault) => {
                self.log(*fault);
                self.tier.faulted(&self.label, self.file, *fault);
            }
        }
        outcome
    }

    async fn read_verified(&self, groups: Range<u64>) -> Result<Vec<Bytes>, ReadFault> {
        let digests = self.read_digests().await?;
        let (first, last) =
            (group_range(self.label.len, groups.start), group_range(self.label.len, groups.end - 1));
        let base = data_offset(self.label.len);
        let bytes = self.load(base + first.start..base + last.end).await?;
        let mut verified = Vec::with_capacity((groups.end - groups.start) as usize);
        for group in groups {
            let range = group_range(self.label.len, group);
            let (start, end) = ((range.start - first.start) as usize, (range.end - first.start) as usize);
            let slice = bytes.get(start..end).ok_or(ReadFault::Corrupt)?;
            if !digests.verify(group, slice) {
                return Err(ReadFault::Corrupt);
            }
            verified.push(bytes.slice(start..end));
            if verified.len().is_multiple_of(GROUPS_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        Ok(verified)
    }

    /// The digests out of the file's header, merged into the root the caller knows.
    async fn read_digests(&self) -> Result<Arc<GroupDigests>, ReadFault> {
        if let Some(digests) = self.digests.get() {
            return Ok(digests.clone());
        }
        let header = self.load(0..data_offset(self.label.len)).await?;
        let label = decode_label(&header).ok().filter(|label| *label == *self.label);
        let digests = label.and_then(|label| decode_digests(&header, &label)).ok_or(ReadFault::Corrupt)?;
        Ok(self.digests.get_or_init(|| Arc::new(digests)).clone())
    }

    async fn load(&self, range: Range<u64>) -> Result<Bytes, ReadFault> {
        self.tier.device.read(self.file, range).await.map_err(|error| {
            tracing::debug!(file = %self.file, %error, "a file could not be read");
            error.kind().into()
        })
    }

    /// An eviction in between is nobody's fault; the others are worth a look at the disk.
    fn log(&self, fault: ReadFault) {
        let (key, file, fault_name) = (&self.label.key, self.file, fault.as_str());
        if fault == ReadFault::Gone {
            tracing::debug!(%key, %file, fault = fault_name, "disk read fault");
        } else {
            tracing::warn!(%key, %file, fault = fault_name, "disk read fault; the sources serve instead");
        }
    }

    fn promote_if_whole(&self, groups: &Range<u64>, bytes: &[Bytes]) {
        let Some(digests) = self.digests.get().filter(|_| *groups == (0..group_count(self.label.len))) else {
            return;
        };
        if let Some(body) = SegmentBody::new(self.label.len, bytes.to_vec()) {
            self.tier.promote(&self.label, self.file, digests.clone(), body);
        }
    }
}

impl fmt::Debug for DiskObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskObject({}, {} bytes, file {})", self.label.key, self.label.len, self.file)
    }
}
