//! Which sessions are being served. Bounded: two generations of numbers, of which the older is forgotten when
//! the newer is full or old. A session stays known for one to two memories after its last request.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) struct Sessions {
    generations: Mutex<Generations>,
    /// Of one generation.
    capacity: usize,
    memory: Duration,
}

struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    turned: Instant,
}

impl Sessions {
    pub(crate) fn new(remembered: usize, memory: Duration, now: Instant) -> Self {
        let generations = Generations { young: HashSet::new(), old: HashSet::new(), turned: now };
        Self { generations: Mutex::new(generations), capacity: remembered.div_ceil(2), memory }
    }

    pub(crate) fn note(&self, session: u64, now: Instant) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.age(now, self.memory);
        if generations.young.contains(&session) {
            return;
        }
        if generations.young.len() >= self.capacity {
            generations.turn(now);
        }
        generations.young.insert(session);
    }

    pub(crate) fn knows(&self, session: u64, now: Instant) -> bool {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.age(now, self.memory);
        generations.young.contains(&session) || generations.old.contains(&session)
    }
}

impl Generations {
    fn age(&mut self, now: Instant, memory: Duration) {
        if now >= self.turned + memory * 2 {
            self.young.clear();
        }
        if now >= self.turned + memory {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        self.turned = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn sessions_are_forgotten_after_one_to_two_memories() {
        let (sessions, began) = (Sessions::new(100, MEMORY, Instant::now()), Instant::now());
        sessions.note(1, began);
        assert!(sessions.knows(1, began) && !sessions.knows(2, began));
        assert!(sessions.knows(1, began + MEMORY));
        assert!(!sessions.knows(1, began + MEMORY * 2));
        sessions.note(3, began + MEMORY * 2);
        assert!(!sessions.knows(3, began + MEMORY * 9), "after a long silence both generations are old");
        // Whoever goes on asking stays.
        sessions.note(4, began + MEMORY * 9);
        for n in 10..20 {
            assert!(sessions.knows(4, began + MEMORY * n), "{n}");
            sessions.note(4, began + MEMORY * n);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_the_newest_stay() {
        let (sessions, now) = (Sessions::new(1_000, MEMORY, Instant::now()), Instant::now());
        (0..100_000).for_each(|n| sessions.note(n, now));
        let known = (0..100_000).filter(|n| sessions.knows(*n, now)).count();
        assert!((500..=1_000).contains(&known), "{known}");
        assert!(sessions.knows(99_999, now));
    }
}
