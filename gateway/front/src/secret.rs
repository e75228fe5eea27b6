//! A key that whoever asks must know.

use media::Digest;

/// Kept as its hash, so that nothing that prints this can print the key.
#[derive(Clone, Copy)]
pub(crate) struct Secret(Digest);

impl Secret {
    pub(crate) fn new(key: &str) -> Self {
        Self(Digest::of(key.as_bytes()))
    }

    /// Whether this is the key. Compared as hashes and without an early end, so that the time it takes says
    /// nothing.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        let different = Digest::of(given).0.iter().zip(self.0.0).fold(0, |all, (a, b)| all | (a ^ b));
        different == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_key() {
        let secret = Secret::new("secret");
        assert!(secret.is(b"secret"));
        for wrong in ["", "secre", "secret ", "Secret", "secrets"] {
            assert!(!secret.is(wrong.as_bytes()), "{wrong:?}");
        }
    }
}
