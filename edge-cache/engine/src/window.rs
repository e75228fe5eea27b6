//! How far ahead a viewer has bytes bought for it.
//!
//! As long as the node can keep what a viewer is about to read, there is no limit. A viewer who was cut off,
//! because a tier or a lingering fill had to give up what it had not read yet, asks for a window only: half as
//! much each time it is cut off again, twice as much each time it took everything. So what is bought in vain
//! stays in proportion to what is delivered, whatever the memory.

/// The limit of one viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Window(Option<u64>);

impl Window {
    /// Groups before `end` that may be asked for from `start` on; at least one.
    pub(crate) fn end(self, start: u64, end: u64) -> u64 {
        self.0.map_or(end, |groups| end.min(start.saturating_add(groups)))
    }

    /// The viewer lost what was bought for it. `first` is the window of the first time.
    pub(crate) fn cut(&mut self, first: u64) {
        self.0 = Some(self.0.map_or(first, |groups| groups / 2).max(1));
    }

    /// The viewer took a whole window.
    pub(crate) fn taken(&mut self) {
        self.0 = self.0.map(|groups| groups.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_halves_and_doubles_but_never_closes() {
        let mut window = Window::default();
        window.taken();
        assert_eq!(window.end(3, 500), 500, "nobody was cut off");
        for (cut, expected) in [(true, 32), (true, 16), (false, 32), (true, 16), (true, 8), (true, 4)] {
            if cut {
                window.cut(32);
            } else {
                window.taken();
            }
            assert_eq!(window.end(100, 500), 100 + expected);
        }
        (0..9).for_each(|_| window.cut(32));
        assert_eq!((window.end(100, 500), window.end(499, 500)), (101, 500));
    }

    proptest! {
        /// A cut loses a window but for one group: the group that its viewer waited for always arrives.
        #[test]
        fn what_is_bought_in_vain_is_bounded(cuts in proptest::collection::vec(any::<bool>(), 1..400)) {
            let (end, first) = (1_024, 32);
            let (mut window, mut at, mut bought) = (Window::default(), 0, 0);
            window.cut(first);
            let mut cuts = cuts.into_iter().chain(std::iter::repeat(false));
            while at < end {
                let until = window.end(at, end);
                bought += until - at;
                if cuts.next() == Some(true) && until - at > 1 {
                    at += 1;
                    window.cut(first);
                } else {
                    at = until;
                    window.taken();
                }
            }
            prop_assert!(bought <= 3 * end + 2 * first, "{bought} groups for {end}");
        }
    }
}
