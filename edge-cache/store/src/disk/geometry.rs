//! How a disk is cut up: units, slabs, and where the bytes of an object lie.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::room::Extent;
use crate::device::{FileName, PAGE};

const MAGIC: [u8; 8] = *b"WEIRDISK";
/// The format of the files of a disk: superblock, log and slabs together.
pub(crate) const VERSION: u16 = 1;

/// The unit of room and the length of a slab. Both are chosen when a disk is formatted and stand in its
/// superblock, which holds two copies of this page:
///
/// ```text
/// 0   8   magic "WEIRDISK"
/// 8   2   format version: 1
/// 10  2   zero
/// 12  4   bytes of a unit
/// 16  4   units of a slab
/// 20  8   the first 8 bytes of the BLAKE3 hash of bytes 0..20; then zeros up to 4096
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) unit: u64,
    pub(crate) slab_units: u32,
}

/// Why a superblock cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SuperblockError {
    /// Intact, but of a format this program does not know.
    Version(u16),
    /// Anything else.
    Malformed,
}

/// A run of bytes in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) file: FileName,
    pub(crate) at: u64,
    pub(crate) len: u64,
}

impl Geometry {
    pub(crate) fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(PAGE as usize);
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        out.put_u32_le(self.unit as u32);
        out.put_u32_le(self.slab_units);
        let sum = blake3::hash(&out);
        out.put_slice(&sum.as_bytes()[..8]);
        out.resize(PAGE as usize, 0);
        out.freeze()
    }

    pub(crate) fn decode(page: &[u8]) -> Result<Self, SuperblockError> {
        let malformed = SuperblockError::Malformed;
        let (fields, rest) = page.split_at_checked(20).ok_or(malformed)?;
        if fields[..8] != MAGIC || rest.get(..8) != Some(&blake3::hash(fields).as_bytes()[..8]) {
            return Err(malformed);
        }
        let version = u16::from_le_bytes([fields[8], fields[9]]);
        if version != VERSION {
            return Err(SuperblockError::Version(version));
        }
        let number =
            |at: usize| u32::from_le_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
        let (unit, slab_units) = (u64::from(number(12)), number(16));
        let sound = unit >= PAGE && unit.is_multiple_of(PAGE) && slab_units > 0;
        if sound { Ok(Self { unit, slab_units }) } else { Err(malformed) }
    }

    /// How many units a disk of so many bytes has.
    pub(crate) fn units_of(self, capacity: u64) -> u32 {
        u32::try_from(capacity / self.unit).unwrap_or(u32::MAX)
    }

    /// How long each slab is when the disk has so many units.
    pub(crate) fn slabs(self, units: u32) -> impl Iterator<Item = (FileName, u64)> {
        let whole = units / self.slab_units;
        let rest = units % self.slab_units;
        let lens = (0..whole).map(move |_| self.slab_units).chain((rest > 0).then_some(rest));
        (0..).map(FileName::Slab).zip(lens.map(move |units| u64::from(units) * self.unit))
    }

    /// How many units there are when the slabs have these lengths: up to the first that is not full.
    pub(crate) fn units_in(self, len_of: impl Fn(u32) -> Option<u64>) -> u32 {
        let mut units = 0;
        for number in 0.. {
            let here = len_of(number).map_or(0, |len| self.units_of(len).min(self.slab_units));
            units += here;
            if here < self.slab_units || units > u32::MAX - self.slab_units {
                break;
            }
        }
        units
    }

    /// The next step of a disk that grows up to `limit` units: the slab to make longer, its new length, and the
    /// units there are then.
    pub(crate) fn next_slab(self, units: u32, limit: u32) -> (FileName, u64, u32) {
        let number = units / self.slab_units;
        let end = number.saturating_add(1).saturating_mul(self.slab_units).min(limit);
        let len = u64::from(end - number * self.slab_units) * self.unit;
        (FileName::Slab(number), len, end)
    }

    /// Where the bytes of a range of an object lie, in order. Ends early where the extents end.
    pub(crate) fn pieces(self, extents: &[Extent], range: Range<u64>) -> Vec<Piece> {
        let (mut pieces, mut base): (Vec<Piece>, u64) = (Vec::new(), 0);
        for extent in extents {
            let len = u64::from(extent.units) * self.unit;
            let (start, end) = (range.start.max(base), range.end.min(base + len));
            if start < end {
                let at = u64::from(extent.start) * self.unit + (start - base);
                self.cut(at, end - start, &mut pieces);
            }
            base += len;
        }
        pieces
    }

    /// A run of bytes of the disk, cut at the ends of slabs and joined with the one before where it can be.
    fn cut(self, mut at: u64, mut len: u64, pieces: &mut Vec<Piece>) {
        let slab_len = u64::from(self.slab_units) * self.unit;
        while len > 0 {
            let within = at % slab_len;
            let now = len.min(slab_len - within);
            let file = FileName::Slab((at / slab_len) as u32);
            match pieces.last_mut() {
                Some(last) if last.file == file && last.at + last.len == within => last.len += now,
                _ => pieces.push(Piece { file, at: within, len: now }),
            }
            (at, len) = (at + now, len - now);
        }
    }
}

/// Deals parts out to pieces in order; the parts together are as long as the pieces.
pub(crate) fn deal(pieces: &[Piece], parts: Vec<Bytes>) -> Vec<(Piece, Vec<Bytes>)> {
    let mut parts = parts.into_iter();
    let mut rest = Bytes::new();
    let share = |piece: &Piece| {
        let (mut own, mut missing) = (Vec::new(), piece.len as usize);
        while missing > 0 {
            if rest.is_empty() {
                match parts.next() {
                    Some(part) => rest = part,
                    None => break,
                }
            }
            let part = rest.split_to(missing.min(rest.len()));
            missing -= part.len();
            own.push(part);
        }
        (*piece, own)
    };
    pieces.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: Geometry = Geometry { unit: 4096, slab_units: 4 };

    #[test]
    fn a_superblock_survives_the_round_trip_and_nothing_else() {
        let geometry = Geometry { unit: 65_536, slab_units: 16_384 };
        let page = geometry.encode();
        assert_eq!((page.len(), Geometry::decode(&page)), (4096, Ok(geometry)));
        for at in 0..28 {
            let mut wrong = page.to_vec();
            wrong[at] ^= 1;
            assert_eq!(Geometry::decode(&wrong), Err(SuperblockError::Malformed), "byte {at}");
        }
        let mut newer = page.to_vec();
        newer[8] = 9;
        let sum = blake3::hash(&newer[..20]);
        newer[20..28].copy_from_slice(&sum.as_bytes()[..8]);
        assert_eq!(Geometry::decode(&newer), Err(SuperblockError::Version(9)));
        assert_eq!(Geometry::decode(b""), Err(SuperblockError::Malformed));
    }

    #[test]
    fn a_disk_grows_slab_by_slab_up_to_its_limit() {
        let slab = |number, units: u64| (FileName::Slab(number), units * 4096);
        let steps = |mut units: u32, limit: u32| {
            let mut steps = Vec::new();
            while units < limit {
                let (file, len, end) = SMALL.next_slab(units, limit);
                steps.push((file, len));
                units = end;
            }
            steps
        };
        assert_eq!(steps(0, 10), [slab(0, 4), slab(1, 4), slab(2, 2)]);
        assert_eq!(steps(9, 13), [slab(2, 4), slab(3, 1)], "the last one grows first");
        assert_eq!(SMALL.slabs(10).collect::<Vec<_>>(), steps(0, 10));
        let lens = [16_384, 16_384, 9_000];
        assert_eq!(SMALL.units_in(|number| lens.get(number as usize).copied()), 10);
        assert_eq!(SMALL.units_in(|number| (number != 1).then_some(16_384)), 4, "a hole ends it");
    }

    #[test]
    fn pieces_follow_extents_and_are_cut_at_slabs() {
        let extents =
            [Extent { start: 3, units: 2 }, Extent { start: 5, units: 1 }, Extent { start: 0, units: 1 }];
        let piece = |number, at, len| Piece { file: FileName::Slab(number), at, len };
        assert_eq!(
            SMALL.pieces(&extents, 0..16_384),
            [piece(0, 12_288, 4096), piece(1, 0, 8192), piece(0, 0, 4096)]
        );
        assert_eq!(SMALL.pieces(&extents, 4_000..4_200), [piece(0, 16_288, 96), piece(1, 0, 104)]);
        assert_eq!(SMALL.pieces(&extents, 16_384..20_000), []);
    }

    proptest! {
        /// What is dealt out and read back in order is what was given.
        #[test]
        fn dealing_keeps_order_and_length(
            extents in proptest::collection::vec((0u32..40, 1u32..6), 1..6),
            start in 0u64..9_000, len in 1u64..60_000, cuts in proptest::collection::vec(1usize..9_000, 1..9),
        ) {
            let extents: Vec<Extent> = extents.into_iter().map(|(start, units)| Extent { start, units }).collect();
            let total: u64 = extents.iter().map(|extent| u64::from(extent.units) * 4096).sum();
            let range = start.min(total)..(start + len).min(total);
            let pieces = SMALL.pieces(&extents, range.clone());
            prop_assert_eq!(pieces.iter().map(|piece| piece.len).sum::<u64>(), range.end - range.start);
            prop_assert!(pieces.iter().all(|piece| piece.at + piece.len <= 16_384));
            let data: Bytes = (0..range.end - range.start).map(|at| (at % 251) as u8).collect();
            let (mut rest, mut parts, mut cut) = (data.clone(), Vec::new(), cuts.iter().cycle());
            while !rest.is_empty() {
                parts.push(rest.split_to(rest.len().min(*cut.next().expect("endless"))));
            }
            let dealt = deal(&pieces, parts);
            for (piece, own) in &dealt {
                prop_assert_eq!(piece.len, own.iter().map(|part| part.len() as u64).sum::<u64>());
            }
            let all: Vec<Bytes> = dealt.into_iter().flat_map(|(_, own)| own).collect();
            prop_assert_eq!(all.concat(), data);
        }
    }
}
