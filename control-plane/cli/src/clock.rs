//! The program's only home of wall time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds.
#[expect(clippy::disallowed_methods, reason = "the command line's home of the wall clock")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
