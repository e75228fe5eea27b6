//! How much may be under way from one source: so many transfers, so many bytes. A source that says "slow down" gets
//! half as many transfers, and what it delivers afterwards earns it more, one by one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Bytes are counted in units, because a semaphore's are 32 bits wide.
const UNIT: u64 = 16 * 1024;

/// Refusals that come sooner after the last cut belong to the same burst.
const SAME_BURST: Duration = Duration::from_millis(250);

/// The gate of one source.
#[derive(Debug)]
pub(crate) struct Gate {
    transfers: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    units: u32,
    limit: Mutex<Limit>,
}

/// Room for one transfer. Dropping it makes room for the next, unless the limit fell meanwhile.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    transfer: Option<OwnedSemaphorePermit>,
    _bytes: OwnedSemaphorePermit,
}

/// How many transfers there may be, decided purely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    now: usize,
    most: usize,
    /// Permits to take back as their holders return them.
    debt: usize,
    /// Deliveries since the limit rose last.
    earned: usize,
    cut: Option<Instant>,
}

impl Limit {
    /// Halves it; how many permits are to vanish.
    fn cut(&mut self, now: Instant) -> usize {
        if self.cut.is_some_and(|last| now.saturating_duration_since(last) < SAME_BURST) {
            return 0;
        }
        let half = (self.now / 2).max(1);
        let fewer = self.now - half;
        (self.now, self.earned, self.cut) = (half, 0, Some(now));
        fewer
    }

    /// Counts a delivery; whether a permit is to be added.
    fn earn(&mut self) -> bool {
        if self.now == self.most {
            return false;
        }
        self.earned += 1;
        if self.earned < self.now {
            return false;
        }
        (self.now, self.earned) = (self.now + 1, 0);
        let owed = self.debt > 0;
        self.debt -= usize::from(owed);
        !owed
    }
}

impl Gate {
    pub(crate) fn new(permits: usize, bytes: ByteSize) -> Arc<Self> {
        let units = u32::try_from(bytes.bytes().div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = units.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX)).max(1);
        Arc::new(Self {
            transfers: Arc::new(Semaphore::new(permits)),
            bytes: Arc::new(Semaphore::new(units as usize)),
            units,
            limit: Mutex::new(Limit { now: permits, most: permits, debt: 0, earned: 0, cut: None }),
        })
    }

    /// Waits for room for one transfer of so many bytes. Cancelling the wait loses nothing.
    pub(crate) async fn enter(self: &Arc<Self>, len: u64) -> Option<Permit> {
        let transfer = Arc::clone(&self.transfers).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.units_of(len)).await.ok()?;
        Some(Permit { gate: Arc::clone(self), transfer: Some(transfer), _bytes: bytes })
    }

    /// The same without a wait.
    pub(crate) fn try_enter(self: &Arc<Self>, len: u64) -> Option<Permit> {
        let transfer = Arc::clone(&self.transfers).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.units_of(len)).ok()?;
        Some(Permit { gate: Arc::clone(self), transfer: Some(transfer), _bytes: bytes })
    }

    /// The source said "slow down".
    pub(crate) fn throttled(&self, now: Instant) {
        let mut limit = self.limit();
        let fewer = limit.cut(now);
        limit.debt += fewer - self.transfers.forget_permits(fewer);
    }

    /// The source delivered.
    pub(crate) fn delivered(&self) {
        if self.limit().earn() {
            self.transfers.add_permits(1);
        }
    }

    /// How many transfers there may be now.
    pub(crate) fn permits(&self) -> usize {
        self.limit().now
    }

    /// A want that is larger than everything that may be under way takes it all.
    fn units_of(&self, len: u64) -> u32 {
        u32::try_from(len.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units)
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut limit = self.gate.limit();
        if limit.debt > 0
            && let Some(transfer) = self.transfer.take()
        {
            limit.debt -= 1;
            transfer.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gate(permits: usize) -> Arc<Gate> {
        Gate::new(permits, ByteSize::mib(1))
    }

    #[test]
    fn transfers_and_bytes_are_bounded() {
        let gate = gate(2);
        let first = gate.try_enter(10).expect("room");
        let second = gate.try_enter(10).expect("room");
        assert!(gate.try_enter(10).is_none(), "no third transfer");
        drop((first, second));
        let large = gate.try_enter(u64::MAX).expect("a want is never refused for its size alone");
        assert!(gate.try_enter(1).is_none(), "no byte beside it");
        drop(large);
        assert!(gate.try_enter(1).is_some());
    }

    #[test]
    fn a_refusal_halves_and_deliveries_earn() {
        let (gate, now) = (gate(8), Instant::now());
        let held: Vec<_> = (0..6).map_while(|_| gate.try_enter(1)).collect();
        gate.throttled(now);
        gate.throttled(now + SAME_BURST / 2);
        assert_eq!(gate.permits(), 4, "one burst, one cut");
        drop(held);
        let held: Vec<_> = (0..8).map_while(|_| gate.try_enter(1)).collect();
        assert_eq!(held.len(), 4, "what was out came back and vanished");
        drop(held);
        (0..4).for_each(|_| gate.delivered());
        assert_eq!(gate.permits(), 5);
        (0..100).for_each(|_| gate.delivered());
        let held: Vec<_> = (0..20).map_while(|_| gate.try_enter(1)).collect();
        assert_eq!((gate.permits(), held.len()), (8, 8), "and never more than configured");
    }

    proptest! {
        #[test]
        fn the_permits_out_and_in_add_up(steps in proptest::collection::vec((0u8..4, 0u64..400), 1..200)) {
            let (gate, mut now, mut held) = (gate(16), Instant::now(), Vec::new());
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                match step {
                    0 => held.extend(gate.try_enter(1)),
                    1 => drop(held.pop()),
                    2 => gate.throttled(now),
                    _ => gate.delivered(),
                }
                let debt = gate.limit().debt;
                prop_assert_eq!(gate.transfers.available_permits() + held.len() - debt, gate.permits());
                prop_assert!((1..=16).contains(&gate.permits()));
            }
        }
    }
}
