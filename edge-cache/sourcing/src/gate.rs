//! How much may be under way from one source: so many transfers, so many bytes. A source that says "slow down" gets
//! half as many transfers, and no more of them in a second than nine tenths of what it delivered in the second before;
//! what it delivers afterwards earns it more, little by little.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

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

/// How many transfers may begin in a second, in thousandths, and when the next one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    milli_per_second: u64,
    /// With so many there is no need of a pace any more.
    enough: u64,
    next: Instant,
}

/// A delivery raises the pace by so much: by a twentieth in a second.
const RAISE: u64 = 50;

/// Fewer deliveries in a second are no measure of what a source gives.
const TELLS: u64 = 4;

impl Pace {
    /// For a source that delivered so many in a second; too few say nothing.
    fn of(delivered: u64, now: Instant) -> Option<Self> {
        let milli_per_second = delivered * 900;
        (delivered >= TELLS).then_some(Self { milli_per_second, enough: milli_per_second * 2, next: now })
    }

    /// When the next transfer may begin; takes that place.
    fn take(&mut self, now: Instant) -> Instant {
        let at = self.next.max(now);
        self.next = at + Duration::from_micros(1_000_000_000 / self.milli_per_second);
        at
    }
}

/// Deliveries by the second: those of this one, and those of the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lately {
    began: Option<Instant>,
    now: u64,
    before: u64,
}

impl Lately {
    fn count(&mut self, now: Instant) {
        self.turn(now);
        self.now += 1;
    }

    fn in_a_second(mut self, now: Instant) -> u64 {
        self.turn(now);
        self.now.max(self.before)
    }

    fn turn(&mut self, now: Instant) {
        let second = Duration::from_secs(1);
        let passed = now.saturating_duration_since(*self.began.get_or_insert(now));
        if passed >= second {
            self.before = if passed < second * 2 { self.now } else { 0 };
            (self.began, self.now) = (Some(now), 0);
        }
    }
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
    lately: Lately,
    pace: Option<Pace>,
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
        self.pace = Pace::of(self.lately.in_a_second(now), now).or(self.pace);
        fewer
    }

    /// Counts a delivery; whether a permit is to be added.
    fn earn(&mut self, now: Instant) -> bool {
        self.lately.count(now);
        if let Some(pace) = &mut self.pace {
            pace.milli_per_second += RAISE;
        }
        self.pace = self.pace.filter(|pace| pace.milli_per_second < pace.enough);
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
            limit: Mutex::new(Limit {
                now: permits,
                most: permits,
                debt: 0,
                earned: 0,
                cut: None,
                lately: Lately::default(),
                pace: None,
            }),
        })
    }

    /// Waits for room for one transfer of so many bytes, and for its moment, until then at most; `None` when that is not
    /// enough, at once where it can be foreseen. Cancelling the wait loses nothing but the moment.
    pub(crate) async fn enter(self: &Arc<Self>, len: u64, until: Instant) -> Option<Permit> {
        let permit = timeout_at(until, self.room(len)).await.ok()??;
        let moment = {
            let mut limit = self.limit();
            match &mut limit.pace {
                Some(pace) if pace.next > until => return None,
                Some(pace) => Some(pace.take(Instant::now())),
                None => None,
            }
        };
        if let Some(moment) = moment {
            sleep_until(moment).await;
        }
        Some(permit)
    }

    async fn room(self: &Arc<Self>, len: u64) -> Option<Permit> {
        let transfer = Arc::clone(&self.transfers).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.units_of(len)).await.ok()?;
        Some(Permit { gate: Arc::clone(self), transfer: Some(transfer), _bytes: bytes })
    }

    /// The same without a wait.
    pub(crate) fn try_enter(self: &Arc<Self>, len: u64) -> Option<Permit> {
        let transfer = Arc::clone(&self.transfers).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.units_of(len)).ok()?;
        let permit = Permit { gate: Arc::clone(self), transfer: Some(transfer), _bytes: bytes };
        let now = Instant::now();
        match &mut self.limit().pace {
            Some(pace) if pace.next > now => return None,
            Some(pace) => {
                pace.take(now);
            }
            None => {}
        }
        Some(permit)
    }

    /// The source said "slow down".
    pub(crate) fn throttled(&self, now: Instant) {
        let mut limit = self.limit();
        let fewer = limit.cut(now);
        limit.debt += fewer - self.transfers.forget_permits(fewer);
    }

    /// The source delivered.
    pub(crate) fn delivered(&self, now: Instant) {
        if self.limit().earn(now) {
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
        (0..4).for_each(|_| gate.delivered(now));
        assert_eq!(gate.permits(), 5);
        (0..2_000).for_each(|_| gate.delivered(now));
        let held: Vec<_> = (0..20).map_while(|_| gate.try_enter(1)).collect();
        assert_eq!((gate.permits(), held.len()), (8, 8), "and never more than configured");
    }

    #[test]
    fn after_a_refusal_transfers_begin_at_the_pace_of_what_was_delivered() {
        let (now, mut limit) = (Instant::now(), *gate(64).limit());
        for nth in 0..100 {
            limit.earn(now + Duration::from_millis(nth * 10));
        }
        let later = now + Duration::from_millis(1_100);
        limit.cut(later);
        let mut pace = limit.pace.expect("a pace");
        assert_eq!(pace.milli_per_second, 90_000);
        let moments: Vec<Instant> = (0..91).map(|_| pace.take(later)).collect();
        assert_eq!(moments[0], later);
        let spread = moments[90] - later;
        assert!(spread > Duration::from_millis(995) && spread <= Duration::from_secs(1), "{spread:?}");
        for _ in 0..20 {
            limit.earn(later);
        }
        assert_eq!(limit.pace.map(|pace| pace.milli_per_second), Some(91_000), "deliveries raise it");
        for _ in 0..2_000 {
            limit.earn(later);
        }
        assert_eq!(limit.pace, None, "and end it");
        limit.cut(later + Duration::from_secs(9));
        assert_eq!(limit.pace, None, "nothing was delivered of late");
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_wait_for_its_moment_takes_nobody_elses() {
        let (gate, begun) = (gate(64), Instant::now());
        (0..10).for_each(|_| gate.delivered(begun));
        gate.throttled(begun);
        let patience = Duration::from_millis(200);
        let mut entered = 0;
        for _ in 0..100 {
            entered += u32::from(gate.enter(1, Instant::now() + patience).await.is_some());
        }
        assert!(begun.elapsed() <= Duration::from_secs(12), "{:?}", begun.elapsed());
        assert_eq!(entered, 100, "one after the other there is a moment for everybody");
        let crowd = (0..100).map(|_| gate.enter(1, Instant::now() + patience));
        let begun = Instant::now();
        let entered = futures_util::future::join_all(crowd).await.into_iter().flatten().count();
        assert!((1..=3).contains(&entered), "{entered}");
        assert!(begun.elapsed() <= patience);
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
                    _ => gate.delivered(now),
                }
                let debt = gate.limit().debt;
                prop_assert_eq!(gate.transfers.available_permits() + held.len() - debt, gate.permits());
                prop_assert!((1..=16).contains(&gate.permits()));
            }
        }
    }
}
