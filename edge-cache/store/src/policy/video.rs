//! Who will ask for it, and when: a policy that knows that segments are watched one after another.
//!
//! The score of a segment is the rate of requests it can expect, in requests a second:
//!
//! - from those who have not come yet: how often its title is begun, times the share of viewers who get so far, times
//!   the share of its rendition in the title's requests;
//! - from those who are watching: a viewer `d` segments behind asks in `d` times the pace, unless he leaves before.
//!   Holding the segment until then pays one request for that time; with several viewers behind, the best of the
//!   horizons counts.
//!
//! Bytes cancel out: twice the bytes are twice the gain and twice the price. So the segment of the lowest score goes,
//! and one that is not here is written only if it scores more than the weak part of what is here: less is not worth
//! its write. `DESIGN.md` tells where this fails.
//!
//! Nobody is known by name: viewers of a stream are places that move on. Nothing is kept of a segment but where it
//! belongs: 20 bytes. Who goes is found by a hand that scores a few objects at each request and remembers the lowest;
//! scores are looked at again before they count.

mod audience;
mod clock;
mod habits;
mod numbered;
mod pool;
mod shelf;
mod viewers;
mod yardstick;

use std::time::Duration;

use media::{Part, SegmentKey};

use self::audience::{Audience, WhatFor};
use self::pool::Pool;
use self::shelf::Shelf;
use self::yardstick::Yardstick;
use super::{Policy, Slot};

/// How much more than the weak part of what is here a newcomer must score.
const MARGIN: f64 = 1.2;
/// Objects that are scored at each request.
const STEPS: usize = 4;
/// Objects that are scored at once when none is known to be weak.
const SEARCH: usize = 64;
/// Objects that turn out stronger than they were before the weakest of them is taken nevertheless.
const TRIES: usize = 8;

/// The policy's state.
pub struct Video {
    audience: Audience,
    shelf: Shelf,
    pool: Pool,
    yardstick: Yardstick,
    price: f64,
}

impl Video {
    /// A policy that has seen nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_price(0.0)
    }

    /// The same when a write costs as much as this many requests: fewer segments are written just because somebody is
    /// on his way to them. At 1 or more it takes several viewers behind each other; the best is below.
    #[must_use]
    pub fn with_price(price: f64) -> Self {
        let (audience, shelf) = (Audience::new(), Shelf::default());
        Self { audience, shelf, pool: Pool::default(), yardstick: Yardstick::default(), price }
    }

    /// Scores the next objects in turn and remembers the weak ones.
    fn sweep(&mut self, steps: usize) {
        for _ in 0..steps {
            let Some(object) = self.shelf.next() else { return };
            let score = self.audience.score(object.stream, object.position, WhatFor::Keep);
            self.yardstick.saw(score);
            if object.pooled {
                self.pool.remove(object.slot);
                self.pool.put(object.slot, score);
            } else if self.pool.would_take(score) {
                self.put(object.slot, score);
            }
        }
    }

    fn put(&mut self, slot: Slot, score: f64) {
        self.shelf.mark(slot, true);
        if let Some(stronger) = self.pool.put(slot, score) {
            self.shelf.mark(stronger, false);
        }
    }

    /// The weakest object known, with the score it has now.
    fn weakest(&mut self) -> Option<(Slot, f64)> {
        if self.pool.is_empty() {
            self.sweep(SEARCH);
        }
        for _ in 0..TRIES {
            let (slot, _) = self.pool.take()?;
            let Some(object) = self.shelf.get(slot) else { continue };
            let score = self.audience.score(object.stream, object.position, WhatFor::Keep);
            let is_weakest = self.pool.weakest().is_none_or(|(_, next)| score <= next);
            self.put(slot, score);
            if is_weakest {
                return Some((slot, score));
            }
        }
        self.pool.weakest()
    }
}

impl Default for Video {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Video {
    fn ask(&mut self, key: &SegmentKey, now: Duration) {
        self.audience.ask(key, now);
        self.sweep(STEPS);
    }

    fn earns(&mut self, key: &SegmentKey) -> bool {
        let Some((_, weakest)) = self.weakest() else { return true };
        let Some(stream) = self.audience.find(key) else { return false };
        let score = self.audience.score(stream, position(key.part), WhatFor::Write { price: self.price });
        score > MARGIN * weakest.max(self.yardstick.weak())
    }

    fn admit(&mut self, slot: Slot, key: &SegmentKey, _bytes: u64, _warm: bool) {
        self.forget(slot);
        let stream = self.audience.hold(key);
        self.shelf.put(slot, stream, position(key.part));
    }

    /// Requests are heard of in [`Policy::ask`].
    fn touch(&mut self, _slot: Slot) {}

    /// Nothing is earned for good: what an object is worth follows from who watches.
    fn is_warm(&self, _slot: Slot) -> bool {
        false
    }

    fn forget(&mut self, slot: Slot) {
        if let Some(object) = self.shelf.take(slot) {
            self.audience.release(object.stream);
            if object.pooled {
                self.pool.remove(slot);
            }
        }
    }

    fn victim(&mut self) -> Option<Slot> {
        let (slot, _) = self.weakest()?;
        self.forget(slot);
        Some(slot)
    }
}

/// Where in the film; what every viewer asks for at the start is as good as the first segment.
fn position(part: Part) -> u32 {
    match part {
        Part::Media(n) => n,
        Part::Playlist | Part::IFrames | Part::Init => 0,
    }
}
