//! The toolbox's only home of real time: it measures steps and waits for programs to come up.

use std::time::{Duration, Instant};

/// A stopwatch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the toolbox's home of the monotonic clock")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks `ready` again and again until it answers or `limit` has passed.
pub(crate) fn wait_for<T>(
    limit: Duration,
    pause: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if watch.elapsed() >= limit {
            return None;
        }
        nap(pause);
    }
}

/// Sleeps; only for the pauses between two looks at a state.
#[expect(clippy::disallowed_methods, reason = "the toolbox polls real programs in real time")]
pub(crate) fn nap(pause: Duration) {
    std::thread::sleep(pause);
}
