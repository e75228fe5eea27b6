//! How many responses each session has under way: one token must not take the places of all.
//!
//! Bounded by itself: only what was let in has a place, and that is bounded for the node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) struct Places {
    taken: Mutex<HashMap<u64, usize>>,
    /// For one session.
    most: usize,
}

/// The place of one response; given back when it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    session: u64,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), most })
    }

    /// `None` when the session has all it may have.
    pub(crate) fn take(self: &Arc<Self>, session: u64) -> Option<Place> {
        let mut taken = self.lock();
        let own = taken.entry(session).or_default();
        if *own >= self.most {
            return None;
        }
        *own += 1;
        Some(Place { places: Arc::clone(self), session })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.session) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_has_its_own_and_nothing_is_left_of_those_who_went() {
        let places = Places::new(2);
        let (first, second, other) = (places.take(1), places.take(1), places.take(2));
        assert!(first.is_some() && second.is_some() && other.is_some());
        assert!(places.take(1).is_none());
        drop(first);
        let third = places.take(1);
        assert!(third.is_some());
        drop((second, other, third));
        assert!(places.lock().is_empty());
    }
}
