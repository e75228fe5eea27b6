//! The one place of this program that opens the operating system's randomness.

use aws_lc_rs::rand::SystemRandom;

/// Unpredictable bytes, for signatures.
#[expect(clippy::disallowed_methods, reason = "randomness's one home in this program")]
pub(crate) fn system() -> SystemRandom {
    SystemRandom::new()
}
