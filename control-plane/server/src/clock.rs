//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::seams::WallClock;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this module is the wall clock's home")]
    fn now_unix(&self) -> u64 {
        // A clock before 1970 is a machine without a clock: rights then look not yet begun, never expired.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}
