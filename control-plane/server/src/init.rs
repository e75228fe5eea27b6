//! `init`: makes the keys, directories and the table that are absent. Safe to run again.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::adapters::dynamodb::DynamoRecords;
use crate::config::{Config, StateKind, StoreKind};
use crate::keys::{KeyFileError, create_missing};
use crate::seams::Entropy;
use crate::serve::{StartError, dynamo_options};

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

/// Makes the DynamoDB table if one is configured and absent. Says whether it made it.
///
/// # Errors
/// [`StartError`] if the table cannot be made or does not become ready.
pub async fn init_table(config: &Config, entropy: Arc<dyn Entropy>) -> Result<bool, StartError> {
    match config.state.kind {
        StateKind::Redb => Ok(false),
        StateKind::Dynamodb => {
            let records = DynamoRecords::new(dynamo_options(&config.state)?, entropy).await;
            Ok(records.create_table().await?)
        }
    }
}

/// Makes the keys and directories that are absent; returns what it made.
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
    directory(&config.ingest.work_dir, 0o755, &mut made)?;
    if let Some(path) = parent(&config.state.path).filter(|_| config.state.kind == StateKind::Redb) {
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
