//! The bytes of an object within its units, version 1.
//!
//! ```text
//! at     bytes
//! 0      8      magic "WEIRSEG" and a zero
//! 8      2      format version: 1
//! 10     2      length of the encoded key
//! 12     4      zero
//! 16     8      length of the segment in bytes
//! 24     32     root: the BLAKE3 hash of the segment
//! 56     ..504  the key: package (8), part (1), number (4), title length (1), title, rendition; then zeros
//! 504    8      the first 8 bytes of the BLAKE3 hash of bytes 0..504
//! 512    32 x n the digests of the n groups; none when there is only one, its root says it all
//! ..     ..     zeros up to a multiple of 4096
//! ..     len    the segment
//! ```
//!
//! Integers are little-endian. The label (the first 512 bytes) says what the rest is: units that belong to
//! another object, or to an older one, are told by it. It carries its own checksum because nothing else vouches
//! for it; the digests need none because they must merge into the root. The segment begins on a page so that a
//! read of some groups touches no page too many. What was never fetched of a partial object is not written.

use bytes::{BufMut, Bytes, BytesMut};
use media::digest::group_count;
use media::{Digest, GroupDigests, PackageId, Part, SegmentKey};

use crate::device::PAGE;
use crate::fields::Fields;

/// Bytes of the label.
pub(crate) const LABEL_LEN: u64 = 512;

const MAGIC: [u8; 8] = *b"WEIRSEG\0";
const VERSION: u16 = 1;
const CHECKED_LEN: usize = LABEL_LEN as usize - 8;

/// What the label of an object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: SegmentKey,
    pub(crate) len: u64,
    pub(crate) root: Digest,
}

/// Why bytes are no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelError {
    /// The label is intact, but of a version this program does not read.
    Version,
    /// Anything else.
    Malformed,
}

/// Where the digests of a segment of `len` bytes end.
fn digests_end(len: u64) -> u64 {
    match group_count(len) {
        1 => LABEL_LEN,
        count => LABEL_LEN + count * 32,
    }
}

/// Where the segment begins in its object.
pub(crate) fn data_offset(len: u64) -> u64 {
    digests_end(len).next_multiple_of(PAGE)
}

/// How much of a disk an object takes before rounding; `None` for a length no object has.
pub(crate) fn object_len(len: u64) -> Option<u64> {
    let known = len <= 1 << 40;
    known.then(|| data_offset(len) + len)
}

/// Everything of the object that comes before the segment.
pub(crate) fn encode_header(label: &Label, digests: &GroupDigests) -> Bytes {
    let mut out = BytesMut::with_capacity(data_offset(label.len) as usize);
    put_label(&mut out, label);
    if let [_, _, ..] = digests.as_slice() {
        digests.as_slice().iter().for_each(|digest| out.put_slice(digest));
    }
    out.resize(data_offset(label.len) as usize, 0);
    out.freeze()
}

fn put_label(out: &mut BytesMut, label: &Label) {
    let key = encode_key(&label.key);
    out.put_slice(&MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(key.len() as u16);
    out.put_u32_le(0);
    out.put_u64_le(label.len);
    out.put_slice(&label.root.0);
    out.put_slice(&key);
    out.put_bytes(0, CHECKED_LEN - out.len());
    let checksum = checksum(out);
    out.put_slice(&checksum);
}

/// Reads a label. What follows it in `bytes` is not looked at.
pub(crate) fn decode_label(bytes: &[u8]) -> Result<Label, LabelError> {
    let (checked, rest) = bytes.split_at_checked(CHECKED_LEN).ok_or(LabelError::Malformed)?;
    if rest.get(..8) != Some(&checksum(checked)[..]) {
        return Err(LabelError::Malformed);
    }
    let mut fields = Fields(checked);
    if fields.array() != Some(MAGIC) {
        return Err(LabelError::Malformed);
    }
    if fields.array().map(u16::from_le_bytes) != Some(VERSION) {
        return Err(LabelError::Version);
    }
    fields.label().ok_or(LabelError::Malformed)
}

/// Reads the digests out of a header. They are checked against the root on the way.
pub(crate) fn decode_digests(header: &[u8], label: &Label) -> Option<GroupDigests> {
    let end = usize::try_from(digests_end(label.len)).ok()?;
    let list = header.get(LABEL_LEN as usize..end)?;
    let groups = list.chunks_exact(32).map(|digest| digest.try_into().unwrap_or_default()).collect();
    GroupDigests::checked(label.len, label.root, groups).ok()
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    first
}

/// Names are at most 64 and 32 bytes, so a key is at most 110.
fn encode_key(key: &SegmentKey) -> Vec<u8> {
    let (part, number) = match key.part {
        Part::Playlist => (0, 0),
        Part::IFrames => (1, 0),
        Part::Init => (2, 0),
        Part::Media(number) => (3, number),
    };
    let (title, rendition) = (key.title.as_str().as_bytes(), key.rendition.as_str().as_bytes());
    let mut out = Vec::with_capacity(14 + title.len() + rendition.len());
    out.put_u64_le(key.package.0);
    out.put_u8(part);
    out.put_u32_le(number);
    out.put_u8(title.len() as u8);
    out.put_slice(title);
    out.put_slice(rendition);
    out
}

impl Fields<'_> {
    fn label(&mut self) -> Option<Label> {
        let key_len = u16::from_le_bytes(self.array()?);
        let _zero = self.take(4)?;
        let len = u64::from_le_bytes(self.array()?);
        let root = Digest(self.array()?);
        let key = Fields(self.take(usize::from(key_len))?).key()?;
        object_len(len).map(|_| Label { key, len, root })
    }

    fn key(mut self) -> Option<SegmentKey> {
        let package = PackageId(u64::from_le_bytes(self.array()?));
        let [part] = self.array()?;
        let number = u32::from_le_bytes(self.array()?);
        let part = match part {
            0 => Part::Playlist,
            1 => Part::IFrames,
            2 => Part::Init,
            3 => Part::Media(number),
            _ => return None,
        };
        let [title_len] = self.array()?;
        let title = std::str::from_utf8(self.take(usize::from(title_len))?).ok()?.parse().ok()?;
        let rendition = std::str::from_utf8(self.0).ok()?.parse().ok()?;
        Some(SegmentKey { title, package, rendition, part })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label(part: Part, data: &[u8]) -> (Label, GroupDigests) {
        let (title, rendition) =
            ("a".repeat(64).parse().expect("a name"), "v".repeat(32).parse().expect("a name"));
        let key = SegmentKey { title, package: PackageId(u64::MAX), rendition, part };
        let digests = GroupDigests::of(data);
        (Label { key, len: data.len() as u64, root: digests.root() }, digests)
    }

    #[test]
    fn headers_survive_the_round_trip() {
        for part in [Part::Playlist, Part::IFrames, Part::Init, Part::Media(0), Part::Media(u32::MAX)] {
            for len in [0, 1, 16_384, 16_385, 112 * 16_384, 112 * 16_384 + 1, 3_000_000] {
                let (label, digests) = label(part, &vec![7; len]);
                let header = encode_header(&label, &digests);
                assert_eq!(header.len() as u64, data_offset(len as u64));
                assert_eq!(decode_label(&header), Ok(label.clone()));
                assert_eq!(decode_digests(&header, &label), Some(digests));
            }
        }
    }

    #[test]
    fn the_layout_is_what_the_document_says() {
        let (label, digests) = label(Part::Media(258), &[7; 20_000]);
        let header = encode_header(&label, &digests);
        assert_eq!(&header[..16], b"WEIRSEG\0\x01\x00\x6e\x00\0\0\0\0");
        assert_eq!(&header[16..24], &20_000u64.to_le_bytes());
        assert_eq!(&header[24..56], &label.root.0);
        assert_eq!(&header[64..69], b"\x03\x02\x01\x00\x00");
        assert_eq!(&header[512..544], &digests.as_slice()[0]);
        assert_eq!(header.len(), 4096);
    }

    #[test]
    fn a_newer_version_is_told_apart() {
        let (label, digests) = label(Part::Init, b"x");
        let mut header = encode_header(&label, &digests).to_vec();
        header[8] = 2;
        assert_eq!(decode_label(&header), Err(LabelError::Malformed), "the checksum covers the version");
        let sum = checksum(&header[..CHECKED_LEN]);
        header[CHECKED_LEN..CHECKED_LEN + 8].copy_from_slice(&sum);
        assert_eq!(decode_label(&header), Err(LabelError::Version));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_of_the_label_is_found(at in 0usize..512, bit in 0u8..8) {
            let (label, digests) = label(Part::Media(1), &[7; 40_000]);
            let mut header = encode_header(&label, &digests).to_vec();
            header[at] ^= 1 << bit;
            prop_assert_eq!(decode_label(&header), Err(LabelError::Malformed));
        }

        /// With a checksum that fits, so that the parser behind it is reached.
        #[test]
        fn no_label_makes_us_panic(mut bytes in proptest::collection::vec(any::<u8>(), 512), valid_start in any::<bool>()) {
            if valid_start {
                bytes[..10].copy_from_slice(b"WEIRSEG\0\x01\0");
                bytes[11] = 0;
            }
            let sum = checksum(&bytes[..CHECKED_LEN]);
            bytes[CHECKED_LEN..].copy_from_slice(&sum);
            if let Ok(label) = decode_label(&bytes) {
                prop_assert!(object_len(label.len).is_some());
            }
        }
    }
}
