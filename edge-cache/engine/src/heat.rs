//! How many requests each title has had lately, for whoever asks what the rest of an object will be worth.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use media::TitleId;
use tokio::time::Instant;

/// Titles remembered; beyond it all are forgotten, which costs a completion or two.
const MAX_TITLES: usize = 4_096;

/// A count loses half of itself in this time.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// Requests of each title, old ones counting less.
#[derive(Default)]
pub(crate) struct Heat(Mutex<HashMap<TitleId, Warmth>>);

#[derive(Clone, Copy)]
struct Warmth {
    /// In thousandths of a request.
    requests: u64,
    at: Instant,
}

impl Heat {
    /// Somebody asked for something of the title.
    pub(crate) fn asked(&self, title: &TitleId, now: Instant) {
        let mut titles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(warmth) = titles.get_mut(title) {
            *warmth = Warmth { requests: warmth.now(now) + 1_000, at: now };
            return;
        }
        if titles.len() >= MAX_TITLES {
            titles.clear();
        }
        titles.insert(title.clone(), Warmth { requests: 1_000, at: now });
    }

    /// How often that was lately.
    pub(crate) fn of(&self, title: &TitleId, now: Instant) -> u64 {
        let titles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        titles.get(title).map_or(0, |warmth| warmth.now(now) / 1_000)
    }
}

impl Warmth {
    /// Whole half-lives halve; within one it falls in a straight line, which is close enough.
    fn now(self, now: Instant) -> u64 {
        let (age, half) = (now.saturating_duration_since(self.at).as_millis(), HALF_LIFE.as_millis());
        let halved = self.requests.checked_shr(u32::try_from(age / half).unwrap_or(u32::MAX)).unwrap_or(0);
        let within = u64::try_from(age % half).unwrap_or(0);
        halved - halved * within / (2 * HALF_LIFE.as_secs() * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(name: &str) -> TitleId {
        name.parse().expect("a title")
    }

    #[tokio::test(start_paused = true)]
    async fn it_cools_by_half_in_a_minute() {
        let (heat, start) = (Heat::default(), Instant::now());
        (0..100).for_each(|_| heat.asked(&title("bbb"), start));
        for (seconds, expected) in
            [(0, 100), (30, 75), (60, 50), (90, 37), (120, 25), (3_600, 0), (900_000, 0)]
        {
            assert_eq!(heat.of(&title("bbb"), start + Duration::from_secs(seconds)), expected, "{seconds} s");
        }
        assert_eq!(heat.of(&title("abc"), start), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_remembers_so_many_titles_at_most() {
        let (heat, now) = (Heat::default(), Instant::now());
        (0..MAX_TITLES + 9).for_each(|n| heat.asked(&title(&format!("t{n}")), now));
        assert!(heat.0.lock().expect("lock").len() <= MAX_TITLES);
    }
}
