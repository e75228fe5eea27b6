//! The program's only home of randomness.

use std::io::Read;

use data_encoding::HEXLOWER;

use crate::error::Error;

/// A name nobody else will choose: 128 bits in hex.
pub(crate) fn unique() -> Result<String, Error> {
    let mut bytes = [0; 16];
    let mut source = std::fs::File::open("/dev/urandom").map_err(Error::Entropy)?;
    source.read_exact(&mut bytes).map_err(Error::Entropy)?;
    Ok(HEXLOWER.encode(&bytes))
}
