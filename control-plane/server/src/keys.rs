//! Key files on the disk: reading them with words that say which file is wrong, making those that are absent.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use control_api::TokenSigner;
use control_api::keys::{
    IndexPrivateKey, KeyError, MAX_KEY_FILE_LEN, OperatorKey, TokenPrivateKey, format_index_public,
};
use media::index::SigningKey;

use crate::config::Keys;
use crate::seams::{Entropy, EntropyError};

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("key file {path}: {error}{hint}", hint = hint(.error))]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds something else.
    #[error("key file {path}: {error}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyError,
    },
    /// No randomness to make one of.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        " (run `weir-control-plane --config FILE init` once)"
    } else {
        ""
    }
}

/// The secrets of a running control plane.
pub struct Secrets {
    /// Signs playback tokens.
    pub token: TokenSigner,
    /// Signs segment indexes.
    pub index: SigningKey,
    /// Opens the API.
    pub operator: OperatorKey,
}

impl Secrets {
    /// Reads the key files.
    ///
    /// # Errors
    /// [`KeyFileError`] names the first file that cannot be used.
    pub fn load(keys: &Keys) -> Result<Self, KeyFileError> {
        let token = read(&keys.token, |text| TokenPrivateKey::parse(text)?.signer())?;
        let index = read(&keys.index, IndexPrivateKey::parse)?;
        let operator = read(&keys.operator, OperatorKey::parse)?;
        Ok(Self { token, index: SigningKey::from_seed(index.seed()), operator })
    }
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, KeyError>) -> Result<T, KeyFileError> {
    let text = read_line(path).map_err(|error| KeyFileError::File { path: path.to_owned(), error })?;
    parse(&text).map_err(|error| KeyFileError::Content { path: path.to_owned(), error })
}

/// A short secret file's contents without the line's end.
///
/// # Errors
/// The system's error, or one that says the file is too long to be a key.
pub fn read_line(path: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    if text.len() > MAX_KEY_FILE_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than any key"));
    }
    Ok(text.trim_end().to_owned())
}

/// Makes the key files that are absent and rewrites absent public halves; files that exist stay as they are.
/// Returns the files it wrote.
///
/// # Errors
/// [`KeyFileError`] names the first file that cannot be read or written.
pub fn create_missing(keys: &Keys, entropy: &dyn Entropy) -> Result<Vec<PathBuf>, KeyFileError> {
    let mut written = Vec::new();
    if !keys.token.exists() {
        // Named at random, so that a changed key is another key to the gateways.
        let mut name = [0; 4];
        entropy.fill(&mut name)?;
        let id = format!("k{}", data_encoding::HEXLOWER.encode(&name));
        let content = |error: KeyError| KeyFileError::Content { path: keys.token.clone(), error };
        let key =
            TokenPrivateKey::generate(id.parse().map_err(|e| content(KeyError::Id(e)))?).map_err(content)?;
        write(&keys.token, &key.to_line(), 0o600, &mut written)?;
    }
    if !keys.index.exists() {
        let mut seed = [0; 32];
        entropy.fill(&mut seed)?;
        write(&keys.index, &IndexPrivateKey::from_seed(seed).to_line(), 0o600, &mut written)?;
    }
    if !keys.operator.exists() {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes)?;
        write(&keys.operator, &OperatorKey::from_bytes(bytes).to_line(), 0o600, &mut written)?;
    }
    if !keys.token_public.exists() {
        let public = read(&keys.token, |text| TokenPrivateKey::parse(text)?.public())?;
        write(&keys.token_public, &format!("{public}\n"), 0o644, &mut written)?;
    }
    if !keys.index_public.exists() {
        let key = SigningKey::from_seed(read(&keys.index, IndexPrivateKey::parse)?.seed());
        write(&keys.index_public, &format_index_public(&key.public().0), 0o644, &mut written)?;
    }
    Ok(written)
}

/// Writes a new file beside its place and renames it: a key file is whole or absent.
fn write(path: &Path, line: &str, mode: u32, written: &mut Vec<PathBuf>) -> Result<(), KeyFileError> {
    let staged = path.with_extension("new");
    let place = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&staged)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&staged, path)
    };
    place().map_err(|error| KeyFileError::File { path: path.to_owned(), error })?;
    written.push(path.to_owned());
    Ok(())
}
