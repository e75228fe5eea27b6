//! Real time: this program waits for real processes. The only home of the wall clock and of pauses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

use crate::failure::{Failure, Outcome};

/// Unix seconds, for tokens.
#[expect(clippy::disallowed_methods, reason = "the home of the wall clock")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits for a state, not for a moment, and not forever.
pub(crate) async fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> Outcome<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Failure::new(format!("never came: {what}")));
        }
        sleep(Duration::from_millis(10)).await;
    }
}
