//! Roku's trick-play archive: the still pictures of a film in one file, which the player downloads once and
//! shows while the viewer scrubs.
//!
//! All numbers are 32 bits, little-endian:
//!
//! ```text
//!  0  89 42 49 46 0D 0A 1A 0A     magic: what a text-mode transfer damages, it damages here
//!  8  version                     0
//! 12  count                       how many pictures
//! 16  multiplier                  milliseconds that one timestamp unit means
//! 20  44 zero bytes               reserved
//! 64  count x { timestamp, offset }     in units of the multiplier; offset from the file's first byte
//!     { FFFFFFFF, end }                 closes the table: the end of the last picture
//!     the pictures, JPEG, one behind the other
//! ```

const MAGIC: [u8; 8] = [0x89, 0x42, 0x49, 0x46, 0x0D, 0x0A, 0x1A, 0x0A];
const HEADER_LEN: usize = 64;
const ENTRY_LEN: usize = 8;

/// The archive would have more bytes than its offsets can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a BIF archive holds at most 4 GiB")]
pub(super) struct BifTooLong;

/// Makes the archive of pictures that are `every_ms` apart, the first at the film's first moment.
///
/// # Errors
/// [`BifTooLong`].
pub(super) fn bif(pictures: &[Vec<u8>], every_ms: u32) -> Result<Vec<u8>, BifTooLong> {
    let table = HEADER_LEN + (pictures.len() + 1) * ENTRY_LEN;
    let total = table + pictures.iter().map(Vec::len).sum::<usize>();
    u32::try_from(total).map_err(|_| BifTooLong)?;
    let mut file = Vec::with_capacity(total);
    file.extend_from_slice(&MAGIC);
    for number in [0, pictures.len() as u32, every_ms] {
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.resize(HEADER_LEN, 0);
    let mut offset = table;
    for (at, picture) in (0u32..).zip(pictures) {
        entry(&mut file, at, offset);
        offset += picture.len();
    }
    entry(&mut file, u32::MAX, offset);
    file.extend(pictures.iter().flatten());
    Ok(file)
}

/// The total was checked, so no offset is cut.
fn entry(file: &mut Vec<u8>, timestamp: u32, offset: usize) {
    file.extend_from_slice(&timestamp.to_le_bytes());
    file.extend_from_slice(&(offset as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pictures() {
        let file = bif(&[b"first".to_vec(), b"2nd".to_vec()], 10_000).expect("short");
        let mut expected = b"\x89BIF\r\n\x1a\n\0\0\0\0\x02\0\0\0\x10\x27\0\0".to_vec();
        expected.resize(64, 0);
        expected.extend(b"\0\0\0\0\x58\0\0\0\x01\0\0\0\x5d\0\0\0\xff\xff\xff\xff\x60\0\0\0first2nd");
        assert_eq!(file, expected);
    }

    #[test]
    fn no_picture_is_an_empty_table() {
        assert_eq!(bif(&[], 10_000).expect("short").len(), 72);
    }
}
