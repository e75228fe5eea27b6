//! The ledger's file: written whole beside the old one, then put in its place, so that a crash leaves the old
//! one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sourcing::meter::{FORMAT, Ledger};

/// Reads a ledger; `None` when there is none yet. One that cannot be understood is put aside and told: a node
/// serves viewers without it, and nothing is lost.
///
/// # Errors
/// The file is there and cannot be read at all, or cannot be put aside.
pub(super) fn read(path: &Path, now: u64) -> Result<Option<Ledger>, String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("ledger: {}: {error}", path.display())),
    };
    match parse(&bytes) {
        Ok(ledger) => Ok(Some(ledger)),
        Err(problem) => {
            let aside = with_suffix(path, &format!("unreadable-{now}"));
            fs::rename(path, &aside).map_err(|error| format!("ledger: {}: {error}", path.display()))?;
            let (path, aside) = (path.display(), aside.display());
            tracing::error!(%path, %aside, problem, "the cost ledger makes no sense; the month begins anew");
            Ok(None)
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Ledger, String> {
    let ledger: Ledger = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match ledger.format {
        FORMAT => Ok(ledger),
        other => Err(format!("it has format {other}, this program reads {FORMAT}")),
    }
}

/// Writes a ledger.
pub(super) fn write(path: &Path, ledger: &Ledger) -> io::Result<()> {
    let unfinished = with_suffix(path, "part");
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec(ledger)?)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    // The new name is as safe as the bytes only when the folder is.
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new("fra1".to_owned(), "eu".to_owned(), "2026-11".parse().expect("a month"))
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cost.json");
        assert_eq!(read(&path, 7), Ok(None));
        for site in ["a", "b"] {
            let written = Ledger { site: site.to_owned(), ..ledger() };
            write(&path, &written).expect("written");
            assert_eq!(read(&path, 7), Ok(Some(written)));
        }
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn an_unfinished_file_beside_it_does_no_harm() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cost.json");
        write(&path, &ledger()).expect("written");
        fs::write(dir.path().join("cost.json.part"), b"{\"format\":1,").expect("written");
        assert_eq!(read(&path, 7), Ok(Some(ledger())));
        write(&path, &ledger()).expect("written again");
    }

    #[test]
    fn what_makes_no_sense_is_put_aside_whole() {
        for bad in ["", "{", "{}", "null", r#"{"format":1}"#] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("cost.json");
            fs::write(&path, bad).expect("written");
            assert_eq!(read(&path, 7), Ok(None), "{bad}");
            let aside = fs::read_to_string(dir.path().join("cost.json.unreadable-7")).expect("put aside");
            assert_eq!(aside, bad);
        }
        let newer = serde_json::to_vec(&Ledger { format: FORMAT + 1, ..ledger() }).expect("JSON");
        assert!(parse(&newer).expect_err("a later format").contains("format"));
        let dir = tempfile::tempdir().expect("a directory");
        assert!(read(dir.path(), 7).is_err(), "a directory is no ledger");
    }
}
