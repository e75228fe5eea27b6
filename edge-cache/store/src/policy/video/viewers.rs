//! The viewers of one stream, by their place.
//!
//! A viewer has no name here. Somebody who asks for segment n when another stood at n - 1 a moment ago is taken for
//! the same; if two are mixed up, nothing changes, because only places count.

/// Viewers of one stream that are followed; 12 bytes each.
const MOST: usize = 4_096;
/// Tenths of a second without a request after which a viewer is taken for gone: half an hour, for those who pause.
const IDLE: u32 = 18_000;
/// Tenths within which the same request again is the same viewer's.
const AGAIN: u32 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Viewer {
    /// The segment last asked for.
    pub(super) at: u32,
    /// How many stand here.
    pub(super) count: u32,
    /// When it was asked for, in tenths of a second.
    pub(super) last: u32,
}

impl Viewer {
    fn here(&self, now: u32) -> bool {
        now.saturating_sub(self.last) < IDLE
    }
}

/// Sorted by place, each place once.
#[derive(Default)]
pub(super) struct Viewers(Vec<Viewer>);

impl Viewers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whoever stood before a place leaves it. Tells how long ago he came there, in tenths of a second.
    pub(super) fn leave(&mut self, before: u32, now: u32) -> Option<u32> {
        let place = self.place(before.checked_sub(1)?).ok()?;
        let viewer = &mut self.0[place];
        if !viewer.here(now) {
            return None;
        }
        let waited = now.saturating_sub(viewer.last);
        viewer.count -= 1;
        if viewer.count == 0 {
            self.0.remove(place);
        }
        Some(waited)
    }

    /// Whether somebody asked for the same place only just now.
    pub(super) fn asks_again(&self, at: u32, now: u32) -> bool {
        self.place(at).is_ok_and(|place| now.saturating_sub(self.0[place].last) < AGAIN)
    }

    /// Somebody stands at a place now.
    pub(super) fn arrive(&mut self, at: u32, now: u32) {
        match self.place(at) {
            Ok(place) => {
                let viewer = &mut self.0[place];
                viewer.count += 1;
                viewer.last = now;
            }
            Err(place) if self.0.len() < MOST => self.0.insert(place, Viewer { at, count: 1, last: now }),
            Err(_) => {}
        }
    }

    /// Forgets those who are gone; tells how many.
    pub(super) fn forget_idle(&mut self, now: u32) -> u32 {
        let mut gone = 0;
        self.0.retain(|viewer| {
            gone += if viewer.here(now) { 0 } else { viewer.count };
            viewer.here(now)
        });
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        gone
    }

    /// Who stands behind a place, the nearest first.
    pub(super) fn behind(&self, at: u32) -> impl Iterator<Item = Viewer> {
        let place = self.0.partition_point(|viewer| viewer.at < at);
        self.0[..place].iter().rev().copied()
    }

    fn place(&self, at: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&at, |viewer| viewer.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(viewers: &Viewers, at: u32) -> Vec<(u32, u32)> {
        viewers.behind(at).map(|viewer| (viewer.at, viewer.count)).collect()
    }

    #[test]
    fn places_move_on_and_fade() {
        let mut viewers = Viewers::default();
        for (at, now) in [(5, 0), (9, 0), (5, 100), (2, 100)] {
            viewers.arrive(at, now);
        }
        assert_eq!(behind(&viewers, 9), [(5, 2), (2, 1)]);
        assert_eq!(viewers.leave(6, 160), Some(60));
        viewers.arrive(6, 160);
        assert_eq!(behind(&viewers, 100), [(9, 1), (6, 1), (5, 1), (2, 1)]);
        assert_eq!([viewers.leave(8, 160), viewers.leave(0, 160)], [None, None], "nobody was there");
        assert_eq!(viewers.leave(10, IDLE), None, "whoever stood at 9 is gone");
        assert!(viewers.asks_again(6, 170) && !viewers.asks_again(6, 190) && !viewers.asks_again(7, 170));
        assert_eq!((viewers.forget_idle(IDLE), viewers.forget_idle(IDLE + 1_000)), (1, 3));
        assert!(viewers.is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let mut viewers = Viewers::default();
        (0..10_000).for_each(|at| viewers.arrive(at, 0));
        assert_eq!(behind(&viewers, u32::MAX).len(), MOST);
    }
}
