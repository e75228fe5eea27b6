//! The one place of this program that reads the wall clock. Everything that decides takes the time as an input.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970. A clock set before that reads as 0, which makes every token not yet valid rather than valid.
#[expect(clippy::disallowed_methods, reason = "the wall clock's one home in this program")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
