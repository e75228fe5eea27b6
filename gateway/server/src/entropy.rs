//! The one place of this program that opens the operating system's randomness.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Unpredictable bytes, for signatures.
#[expect(clippy::disallowed_methods, reason = "randomness's one home in this program")]
pub(crate) fn system() -> SystemRandom {
    SystemRandom::new()
}

/// A number that differs between nodes and between starts, for what must not happen in step.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness nodes move in step; that is worse, not wrong.
    let _ = system().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
