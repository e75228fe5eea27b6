//! Takes the packager's wall clock out of a package: the same film encoded the same way is then the same bytes,
//! whenever and how often it was packaged.
//!
//! ISO/IEC 14496-12 sections 8.2.2, 8.3.2 and 8.4.2: `mvhd`, `tkhd` and `mdhd` begin with version and flags,
//! then state when they were created and changed; 0 says nothing. Sizes and offsets stay as they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use media::ByteRange;
use media::cmaf::{CmafError, IsoBox, boxes};

use super::Fault;
use super::index::read_range;

/// Zeroes the times in a file's initialisation section, `init`.
///
/// # Errors
/// A [`Fault`] when the section is no sequence of boxes or the file cannot be written.
pub(super) fn forget_times(path: &Path, init: ByteRange) -> Result<(), Fault> {
    let bytes = read_range(path, init)?;
    let mut times = Vec::new();
    find(boxes(&bytes), &mut times).map_err(|e| Fault::permanent(format!("{}: {e}", path.display())))?;
    let file = File::options().write(true).open(path)?;
    for (at, len) in times {
        file.write_all_at(&[0; 16][..len], init.start() + at as u64)?;
    }
    Ok(())
}

/// Where times stand and how many bytes they take: twice 32 bits, or twice 64 in version 1.
fn find<'a>(
    of: impl Iterator<Item = Result<IsoBox<'a>, CmafError>>,
    times: &mut Vec<(usize, usize)>,
) -> Result<(), CmafError> {
    for item in of {
        let item = item?;
        match &item.kind.0 {
            b"moov" | b"trak" | b"mdia" => find(item.children(), times)?,
            b"mvhd" | b"tkhd" | b"mdhd" => {
                let len = if item.payload.first() == Some(&1) { 16 } else { 8 };
                if item.payload.len() >= 4 + len {
                    times.push((item.payload_at + 4, len));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u32 + 8).to_be_bytes()[..], kind, payload].concat()
    }

    #[test]
    fn times_and_nothing_else() {
        let film = |short: u8, long: u8| {
            let header = |version: u8, time: u8, len: usize| {
                [&[version, 0, 0, 7][..], &vec![time; len], &[9; 12]].concat()
            };
            let mdia =
                boxed(b"mdia", &[boxed(b"mdhd", &header(1, long, 16)), boxed(b"hdlr", &[1; 24])].concat());
            let trak = boxed(b"trak", &[boxed(b"tkhd", &header(0, short, 8)), mdia].concat());
            let moov = boxed(b"moov", &[boxed(b"mvhd", &header(0, short, 8)), trak].concat());
            [boxed(b"ftyp", b"cmfc"), moov, b"media".to_vec()].concat()
        };
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("v.mp4");
        std::fs::write(&path, film(5, 6)).expect("written");
        let init = ByteRange::new(0, film(5, 6).len() as u64 - 5).expect("not empty");
        forget_times(&path, init).expect("boxes");
        assert_eq!(std::fs::read(&path).expect("read"), film(0, 0));

        std::fs::write(&path, b"\0\0\0\x03moov").expect("written");
        assert!(forget_times(&path, ByteRange::new(0, 8).expect("not empty")).is_err());
    }
}
