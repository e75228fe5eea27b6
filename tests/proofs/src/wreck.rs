//! What may happen to the files of a disk tier behind the gateway's back. Knows nothing of their names or format.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use testkit::Chance;

use crate::failure::{Context, Outcome};

/// The unit of damage.
pub(crate) const BLOCK: u64 = 16 * 1024;
/// A page of memory, which is what a kernel loses at once.
const PAGE: usize = 4_096;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) file: PathBuf,
    pub(crate) offset: u64,
    /// At most [`BLOCK`].
    pub(crate) len: u64,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// One bit is another.
    Flip,
    /// It changes places with the next one.
    Swap,
    /// A page of it is zero.
    Zero,
    /// The file ends within it.
    Cut,
}

impl Harm {
    pub(crate) const ALL: [Self; 4] = [Self::Flip, Self::Swap, Self::Zero, Self::Cut];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Swap => "swap",
            Self::Zero => "zeroed page",
            Self::Cut => "truncation",
        }
    }

    /// Does it. Where in the block is drawn.
    ///
    /// # Errors
    /// The file went away or cannot be written; a gateway that runs may have removed it.
    pub(crate) fn strike(self, block: &Block, chance: Chance) -> io::Result<()> {
        let file = File::options().read(true).write(true).open(&block.file)?;
        let at = block.offset + chance.below(block.len);
        match self {
            Self::Flip => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                byte[0] ^= 1 << chance.for_("bit").below(8);
                file.write_all_at(&byte, at)
            }
            Self::Zero => {
                let page = at - at % PAGE as u64;
                let end = (page + PAGE as u64).min(block.offset + block.len);
                file.write_all_at(&[0; PAGE][..(end - page) as usize], page)
            }
            Self::Swap => swap(&file, block),
            Self::Cut => file.set_len(at),
        }
    }
}

/// Changes places with the block behind it, or with the first one where none is behind it.
fn swap(file: &File, block: &Block) -> io::Result<()> {
    let len = file.metadata()?.len();
    let behind = block.offset + BLOCK;
    let other = if behind < len { behind } else { 0 };
    let size = block.len.min(len - other) as usize;
    let (mut one, mut two) = (vec![0; size], vec![0; size]);
    file.read_exact_at(&mut one, block.offset)?;
    file.read_exact_at(&mut two, other)?;
    file.write_all_at(&two, block.offset)?;
    file.write_all_at(&one, other)
}

/// Every file below a folder, in a fixed order.
pub(crate) fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, &mut found).doing(folder.display())?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // What a running gateway has removed meanwhile is no loss.
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_dir() => collect(&path, found)?,
            Ok(data) if data.is_file() => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// Every block that something is written in; holes of sparse files are nothing that could be damaged.
pub(crate) fn blocks(folder: &Path) -> Outcome<Vec<Block>> {
    let mut blocks = Vec::new();
    for path in files(folder)? {
        let Ok(file) = File::open(&path) else { continue };
        let data = file.metadata().doing(path.display())?;
        let sparse = data.blocks() * 512 < data.len();
        let mut content = vec![0; BLOCK as usize];
        for offset in (0..data.len()).step_by(BLOCK as usize) {
            let len = BLOCK.min(data.len() - offset);
            let block = Block { file: path.clone(), offset, len };
            let written = !sparse || {
                let content = &mut content[..len as usize];
                file.read_exact_at(content, offset).is_ok() && content.iter().any(|byte| *byte != 0)
            };
            blocks.extend(written.then_some(block));
        }
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(harm: Harm, len: usize, which: usize) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let before: Vec<u8> = (0..len).map(|at| (at / 7 % 250 + 1) as u8).collect();
        fs::write(&path, &before).expect("written");
        let blocks = blocks(folder.path()).expect("blocks");
        harm.strike(&blocks[which], Chance::new(1)).expect("struck");
        (before, fs::read(&path).expect("read"))
    }

    #[test]
    fn each_harm_does_what_it_says() {
        let len = 3 * BLOCK as usize + 100;
        let differing = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        let (before, after) = struck(Harm::Flip, len, 1);
        assert_eq!((after.len(), differing(&before, &after)), (len, 1));
        let (before, after) = struck(Harm::Zero, len, 1);
        let zeros = after.iter().filter(|byte| **byte == 0).count();
        assert_eq!((after.len(), zeros, differing(&before, &after)), (len, PAGE, PAGE));
        let (before, after) = struck(Harm::Cut, len, 1);
        assert!((BLOCK as usize..2 * BLOCK as usize).contains(&after.len()));
        assert_eq!(before[..after.len()], after);
        let (before, after) = struck(Harm::Swap, len, 1);
        let block = BLOCK as usize;
        assert_eq!(before[block..2 * block], after[2 * block..3 * block]);
        assert_eq!(before[2 * block..3 * block], after[block..2 * block]);
        let (before, after) = struck(Harm::Swap, len, 3);
        assert_eq!(before[3 * block..], after[..100]);
    }

    #[test]
    fn holes_are_no_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::create(folder.path().join("sparse")).expect("created");
        file.set_len(100 * BLOCK).expect("longer");
        file.write_all_at(b"something", 50 * BLOCK).expect("written");
        let blocks = blocks(folder.path()).expect("blocks");
        assert_eq!(blocks.iter().map(|block| block.offset / BLOCK).collect::<Vec<_>>(), [50]);
    }
}
