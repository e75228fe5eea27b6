//! SHA-256, streamed.

use std::io::Read;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::failure::{Context, Failure, Outcome};

/// The hash of everything `input` gives.
pub(crate) fn sha256(mut input: impl Read) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(hasher.finalize().as_slice())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

pub(crate) fn sha256_file(path: &Path) -> Outcome<String> {
    let file = std::fs::File::open(path).doing(path.display())?;
    sha256(file).doing(path.display())
}

/// # Errors
/// The file has another hash.
pub(crate) fn expect_sha256(path: &Path, expected: &str) -> Outcome {
    let found = sha256_file(path)?;
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{} has sha256 {found}, expected {expected}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_hash() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(&b""[..]).expect("memory"), empty);
    }
}
