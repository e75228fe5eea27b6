//! The segment index box: where a packager put its segments in a single file.

use super::init::first;
use super::{CmafError, Fault};
use crate::range::ByteRange;

/// `sidx`, with its offsets resolved to the file it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidx {
    /// Ticks per second of its times; never 0.
    pub timescale: u32,
    /// When the first segment is presented, in ticks.
    pub earliest: u64,
    /// The segments in order.
    pub entries: Vec<SidxEntry>,
}

/// One segment as `sidx` describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidxEntry {
    /// Its bytes in the file.
    pub range: ByteRange,
    /// How long it plays, in ticks.
    pub duration: u32,
    /// Whether it begins with a stream access point: it can be decoded from here.
    pub starts_with_sap: bool,
    /// The type of the access point: 1 and 2 are closed groups of pictures, 0 is not said.
    pub sap_type: u8,
}

impl Sidx {
    /// Reads the first `sidx` of a file; the front of the file up to the first fragment is enough.
    ///
    /// # Errors
    /// [`CmafError`] when there is none, it is cut off, it refers to another `sidx` (no package does that),
    /// or its sizes make no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, CmafError> {
        let sidx = first(bytes, *b"sidx")?;
        let mut fields = sidx.fields();
        let (version, _) = fields.version_and_flags()?;
        fields.u32()?; // track
        let timescale = fields.u32()?;
        if timescale == 0 {
            return Err(sidx.error(Fault::Value("time scale")));
        }
        let earliest = fields.wide(version)?;
        let first_offset = fields.wide(version)?;
        fields.u16()?; // reserved
        let count = usize::from(fields.u16()?);
        let mut start = (sidx.end() as u64).checked_add(first_offset).ok_or(sidx.error(Fault::Overflow))?;
        let mut entries = Vec::with_capacity(count.min(fields.left() / 12));
        for _ in 0..count {
            let (size, duration, sap) = (fields.u32()?, fields.u32()?, fields.u32()?);
            if size >> 31 == 1 {
                return Err(sidx.error(Fault::Value("reference type")));
            }
            let end = start.checked_add(size.into()).ok_or(sidx.error(Fault::Overflow))?;
            let range = ByteRange::new(start, end).ok_or(sidx.error(Fault::Value("referenced size")))?;
            let sap_type = (sap >> 28) as u8 & 7;
            entries.push(SidxEntry { range, duration, starts_with_sap: sap >> 31 == 1, sap_type });
            start = end;
        }
        Ok(Self { timescale, earliest, entries })
    }
}
