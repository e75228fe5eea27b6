//! Telling a story once for each seed.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::Builder;

/// The seeds of a story: the first `count`, and those that failed once.
pub fn seeds(count: u64, regressions: &[u64]) -> impl Iterator<Item = u64> {
    (0..count).chain(regressions.iter().copied())
}

/// Tells a story once for each seed, each in a [`life`] of its own.
///
/// # Panics
/// If the story panics for any seed; the message names every such seed.
pub fn story<S: Future<Output = ()>>(
    name: &str,
    seeds: impl IntoIterator<Item = u64>,
    tell: impl Fn(u64) -> S,
) {
    story_in_lives(name, seeds, |seed| life(tell(seed)));
}

/// Tells a story of several [`life`]s once for each seed: for restarts.
///
/// # Panics
/// If the story panics for any seed; the message names every such seed.
pub fn story_in_lives(name: &str, seeds: impl IntoIterator<Item = u64>, tell: impl Fn(u64)) {
    let mut failed = Vec::new();
    for seed in seeds {
        if let Err(reason) = catch_unwind(AssertUnwindSafe(|| tell(seed))) {
            failed.push(format!("seed {seed}: {}", text_of(reason.as_ref())));
        }
    }
    assert!(failed.is_empty(), "the story {name:?} fails for\n{}", failed.join("\n"));
}

/// Runs something in virtual time on a runtime of its own. When it returns, every task that is left dies where
/// it stands, as a killed process does.
///
/// # Panics
/// If there can be no runtime.
pub fn life<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

fn text_of(reason: &(dyn Any + Send)) -> &str {
    let text = reason.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| reason.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn every_failing_seed_is_named() {
        let told = catch_unwind(|| {
            story("of odd seeds", seeds(4, &[9]), |seed| async move {
                assert!(seed % 2 == 0, "{seed} is odd");
            });
        });
        let text = text_of(told.expect_err("three seeds fail").as_ref()).to_owned();
        assert_eq!(text.lines().count(), 4, "{text}");
        for expected in ["of odd seeds", "seed 1: 1 is odd", "seed 3: 3 is odd", "seed 9: 9 is odd"] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }

    #[test]
    fn time_is_virtual_and_tasks_die_with_their_life() {
        let (sent, received) = std::sync::mpsc::sync_channel(1);
        let slept = life(async move {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(7_200)).await;
                let _ = sent.send(());
            });
            let begun = Instant::now();
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            begun.elapsed()
        });
        assert_eq!(slept, Duration::from_secs(3_600));
        assert!(received.recv().is_err(), "the task's end of the channel is gone");
    }
}
