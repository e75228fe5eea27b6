//! The files of one running ingest.
//!
//! ```text
//! <work>/<package>/source          the mezzanine, if it had to be fetched
//! <work>/<package>/captions/       the caption files
//! <work>/<package>/transcoded/     one file per rendition
//! <work>/<package>/package/        what will be published
//! ```
//!
//! Each is made under another name and renamed when it is complete and on the disk, so what has its name is
//! whole, whatever was killed when. Every attempt has a name of its own: a tool that outlived a killed control
//! plane writes into a directory that nobody looks at and that the next attempt removes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use media::PackageId;

use crate::seams::{Entropy, random_id};

/// Where one ingest works.
#[derive(Debug, Clone)]
pub struct WorkDir {
    root: PathBuf,
}

impl WorkDir {
    /// The directory of one package.
    #[must_use]
    pub fn new(work: &Path, package: PackageId) -> Self {
        Self { root: work.join(package.to_string()) }
    }

    /// A finished file or directory, if it is there.
    #[must_use]
    pub fn finished(&self, name: &str) -> Option<PathBuf> {
        Some(self.root.join(name)).filter(|path| path.exists())
    }

    /// A new empty directory in which to make `name`; earlier attempts are removed.
    ///
    /// # Errors
    /// The system's.
    pub fn attempt(&self, name: &str, entropy: &dyn Entropy) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.root)?;
        let marker = format!("{name}.attempt-");
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&marker) {
                remove(&entry.path())?;
            }
        }
        let id = random_id(entropy).map_err(io::Error::other)?;
        let path = self.root.join(marker + &id);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Gives a finished attempt its name, after everything in it is on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(&self, attempt: &Path, name: &str) -> io::Result<PathBuf> {
        sync(attempt)?;
        let path = self.root.join(name);
        remove(&path)?;
        fs::rename(attempt, &path)?;
        File::open(&self.root)?.sync_all()?;
        Ok(path)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.root)
    }
}

/// Removes a file or a directory with all in it; what is not there is removed already.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}

/// All files below a directory, as `/`-separated paths relative to it, sorted.
///
/// # Errors
/// The system's.
pub fn files_below(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let name = format!("{directory}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() { pending.push(name + "/") } else { found.push(name) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn what_has_its_name_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let work = WorkDir::new(directory.path(), PackageId(7));
        let entropy = SystemEntropy::new();
        let first = work.attempt("transcoded", &entropy).expect("made");
        fs::write(first.join("half"), "x").expect("written");
        let other = work.attempt("package", &entropy).expect("made");
        let second = work.attempt("transcoded", &entropy).expect("made again");
        assert!(!first.exists() && other.exists() && second.exists());
        assert_eq!(work.finished("transcoded"), None);
        fs::create_dir(second.join("a")).expect("made");
        fs::write(second.join("a/b"), "x").expect("written");
        let done = work.finish(&second, "transcoded").expect("renamed");
        assert_eq!(work.finished("transcoded"), Some(done.clone()));
        assert_eq!(files_below(&done).expect("listed"), ["a/b"]);
        work.remove().expect("removed");
        work.remove().expect("removed already");
        assert_eq!(work.finished("transcoded"), None);
    }
}
