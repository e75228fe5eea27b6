//! The one place that draws randomness.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::seams::{Entropy, EntropyError};

/// The operating system's generator.
#[derive(Debug)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Opens the generator.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is the randomness' home")]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(bytes).map_err(|_| EntropyError)
    }
}
