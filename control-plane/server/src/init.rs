//! `init`: makes the keys and directories that are absent. Safe to run again.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, StoreKind};
use crate::keys::{KeyFileError, create_missing};
use crate::seams::Entropy;

/// Something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A directory.
    #[error("directory {path}: {error}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// Makes what is absent; returns what it made.
///
/// # Errors
/// [`InitError`] names the first thing that could not be made.
pub fn init(config: &Config, entropy: &dyn Entropy) -> Result<Vec<PathBuf>, InitError> {
    let mut made = Vec::new();
    let parent = |path: &Path| path.parent().map(Path::to_owned);
    let private = [parent(&config.keys.token), parent(&config.keys.index), parent(&config.keys.operator)];
    directory(&config.data_dir, 0o755, &mut made)?;
    for path in private.into_iter().flatten() {
        directory(&path, 0o700, &mut made)?;
    }
    for path in [parent(&config.state.path), Some(config.ingest.work_dir.clone())].into_iter().flatten() {
        directory(&path, 0o755, &mut made)?;
    }
    for store in [&config.mezzanine, &config.packages] {
        if store.kind == StoreKind::Directory {
            directory(&store.path, 0o755, &mut made)?;
        }
    }
    made.extend(create_missing(&config.keys, entropy)?);
    Ok(made)
}

fn directory(path: &Path, mode: u32, made: &mut Vec<PathBuf>) -> Result<(), InitError> {
    if path.is_dir() {
        return Ok(());
    }
    let built = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    built.map_err(|error| InitError::Directory { path: path.to_owned(), error })?;
    made.push(path.to_owned());
    Ok(())
}
