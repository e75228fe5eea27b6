//! Boxes and the fields in them, bounded by the bytes that are there.

use super::{CmafError, Fault, FourCc};

/// One box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsoBox<'a> {
    /// Its type.
    pub kind: FourCc,
    /// Where it begins, from the start of the input.
    pub at: usize,
    /// What follows its header.
    pub payload: &'a [u8],
    /// Where the payload begins, from the start of the input.
    pub payload_at: usize,
}

impl<'a> IsoBox<'a> {
    /// Where it ends, from the start of the input.
    #[must_use]
    pub fn end(&self) -> usize {
        self.payload_at + self.payload.len()
    }

    /// The boxes in it.
    #[must_use]
    pub fn children(&self) -> Boxes<'a> {
        Boxes { left: self.payload, at: self.payload_at }
    }

    /// The one box of this type in it.
    pub(super) fn child(&self, kind: [u8; 4]) -> Result<Self, CmafError> {
        self.children().only(FourCc(kind))?.ok_or(self.error(Fault::Missing(FourCc(kind))))
    }

    pub(super) fn error(&self, fault: Fault) -> CmafError {
        CmafError { at: self.at, kind: self.kind, fault }
    }

    pub(super) fn fields(&self) -> Fields<'a> {
        Fields { of: *self, left: self.payload }
    }
}

/// Walks the boxes of an input, or of a box. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Boxes<'a> {
    left: &'a [u8],
    at: usize,
}

/// The boxes of an input.
#[must_use]
pub fn boxes(bytes: &[u8]) -> Boxes<'_> {
    Boxes { left: bytes, at: 0 }
}

impl<'a> Boxes<'a> {
    /// The one box of this type among them, if there is one.
    pub(super) fn only(self, kind: FourCc) -> Result<Option<IsoBox<'a>>, CmafError> {
        let mut found = None;
        for item in self {
            let item = item?;
            if item.kind == kind && found.replace(item).is_some() {
                return Err(item.error(Fault::Twice(kind)));
            }
        }
        Ok(found)
    }

    /// ISO/IEC 14496-12 section 4.2: 32-bit size and type; size 1 means that 64 bits of size follow, size 0
    /// that the box reaches to the end.
    fn read(&self) -> Result<(IsoBox<'a>, &'a [u8]), CmafError> {
        let cut = |kind| CmafError { at: self.at, kind: FourCc(kind), fault: Fault::CutOff };
        let (size, rest) = self.left.split_first_chunk().ok_or(cut(*b"????"))?;
        let (kind, rest) = rest.split_first_chunk().ok_or(cut(*b"????"))?;
        let (size, header) = match u32::from_be_bytes(*size) {
            0 => (self.left.len() as u64, 8),
            1 => (u64::from_be_bytes(*rest.first_chunk().ok_or(cut(*kind))?), 16),
            size => (u64::from(size), 8),
        };
        let size = usize::try_from(size).map_err(|_| cut(*kind))?;
        let (whole, after) = self.left.split_at_checked(size).ok_or(cut(*kind))?;
        let payload = whole.get(header..).ok_or(CmafError { fault: Fault::Size, ..cut(*kind) })?;
        let found = IsoBox { kind: FourCc(*kind), at: self.at, payload, payload_at: self.at + header };
        Ok((found, after))
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<IsoBox<'a>, CmafError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let read = self.read();
        (self.at, self.left) = match &read {
            Ok((found, after)) => (found.end(), *after),
            Err(_) => (self.at, &self.left[..0]),
        };
        Some(read.map(|(found, _)| found))
    }
}

/// The fields of a box, front to back, big-endian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    of: IsoBox<'a>,
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CmafError> {
        let (head, rest) = self.left.split_first_chunk().ok_or(self.of.error(Fault::CutOff))?;
        self.left = rest;
        Ok(*head)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CmafError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CmafError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CmafError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A field that version 1 of a box widens to 64 bits.
    pub(super) fn wide(&mut self, version: u8) -> Result<u64, CmafError> {
        if version == 0 { self.u32().map(u64::from) } else { self.u64() }
    }

    /// A field that is there if a flag is set.
    pub(super) fn optional(&mut self, flags: u32, flag: u32) -> Result<Option<u32>, CmafError> {
        if flags & flag == 0 { Ok(None) } else { self.u32().map(Some) }
    }

    /// Version and flags of a full box; only versions 0 and 1 are defined for those that are read here.
    pub(super) fn version_and_flags(&mut self) -> Result<(u8, u32), CmafError> {
        let word = self.u32()?;
        match (word >> 24) as u8 {
            version @ (0 | 1) => Ok((version, word & 0x00ff_ffff)),
            _ => Err(self.of.error(Fault::Value("version"))),
        }
    }

    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    /// The boxes that follow the fields read so far.
    pub(super) fn boxes(&self) -> Boxes<'a> {
        Boxes { left: self.left, at: self.of.end() - self.left.len() }
    }
}
