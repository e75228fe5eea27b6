//! How many fills may fetch at once, what they may hold, and what ended fills hold on for slow readers.
//!
//! A fill counts in full from its start. When it ends and somebody still reads it, its groups linger, counted
//! as what they are, until the last of these readers leaves or the room is needed: then the fills that ended
//! first go first, and their readers go on elsewhere. While a fill waits for room nothing lingers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::GROUP_LEN;
use media::digest::group_count;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{Fill, Groups};
use crate::config::EngineConfig;
use crate::error::{Failure, ServeError};

/// The node's share for fills.
pub(crate) struct Admission {
    fills: Arc<Semaphore>,
    /// In groups.
    buffer: Arc<Semaphore>,
    buffer_groups: u32,
    wait: Duration,
    gauges: Gauges,
    waiting: AtomicUsize,
    lingering: Mutex<VecDeque<Lingering>>,
}

/// What admission tells the operator.
#[derive(Clone)]
pub(crate) struct Gauges {
    /// Bytes set aside.
    pub(crate) buffered: IntGauge,
    /// Fills that linger.
    pub(crate) lingering: IntGauge,
    /// Readers whose fill had to make room.
    pub(crate) cut_readers: IntCounter,
}

/// A fill's right to run, and its room.
pub(super) struct Share {
    pub(super) turn: OwnedSemaphorePermit,
    pub(super) room: Room,
}

/// Bytes set aside. Dropping it gives them back.
pub(super) struct Room {
    permit: OwnedSemaphorePermit,
    bytes: i64,
    buffered: IntGauge,
}

impl Room {
    /// Gives back what is not needed.
    fn shrink(&mut self, bytes: u64) {
        let groups = usize::try_from(bytes.div_ceil(GROUP_LEN)).unwrap_or(usize::MAX);
        drop(self.permit.split(self.permit.num_permits().saturating_sub(groups)));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).min(self.bytes);
        self.buffered.sub(self.bytes - bytes);
        self.bytes = bytes;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.buffered.sub(self.bytes);
    }
}

/// A fill that ended and is still read.
struct Lingering {
    fill: Arc<Fill>,
    _groups: Arc<Groups>,
    room: Room,
}

/// Counts whoever waits for room.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Admission {
    pub(crate) fn new(config: &EngineConfig, gauges: Gauges) -> Arc<Self> {
        let groups = config.fill_buffer_bytes.bytes() / GROUP_LEN;
        let buffer_groups = u32::try_from(groups).unwrap_or(u32::MAX);
        Arc::new(Self {
            fills: Arc::new(Semaphore::new(config.max_fills)),
            buffer: Arc::new(Semaphore::new(buffer_groups as usize)),
            buffer_groups,
            wait: config.admission_wait,
            gauges,
            waiting: AtomicUsize::new(0),
            lingering: Mutex::default(),
        })
    }

    /// Waits for its turn, but not for long. A segment larger than the whole buffer gets all of it.
    pub(super) async fn enter(&self, len: u64) -> Result<Share, ServeError> {
        let groups = u32::try_from(group_count(len)).unwrap_or(u32::MAX).min(self.buffer_groups);
        let both = async {
            let turn = Arc::clone(&self.fills).acquire_owned().await.ok()?;
            Some((turn, self.room(groups).await?))
        };
        let Ok(Some((turn, permit))) = timeout(self.wait, both).await else {
            let detail = format!("no turn to fetch within {:?}", self.wait);
            return Err(ServeError::new(Failure::Overloaded, detail));
        };
        let bytes = i64::try_from(len).unwrap_or(i64::MAX);
        self.gauges.buffered.add(bytes);
        Ok(Share { turn, room: Room { permit, bytes, buffered: self.gauges.buffered.clone() } })
    }

    async fn room(&self, groups: u32) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.buffer).try_acquire_many_owned(groups) {
            return Some(permit);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.make_room(groups);
        Arc::clone(&self.buffer).acquire_many_owned(groups).await.ok()
    }

    /// Lets the fills that ended first go until there is room.
    fn make_room(&self, groups: u32) {
        while self.buffer.available_permits() < groups as usize {
            let Some(oldest) = self.lingering().pop_front() else { return };
            self.gauges.lingering.dec();
            self.gauges.cut_readers.inc_by(oldest.fill.readers() as u64);
        }
    }

    /// Keeps the groups of a fill that ended for those who still read it, unless somebody waits for the room.
    pub(super) fn linger(&self, fill: &Arc<Fill>, groups: Arc<Groups>, mut room: Room) {
        let bytes = fill.wants().here().bytes();
        let mut lingering = self.lingering();
        // Looked at under the lock: the last reader who leaves looks here after it has left.
        let readers = fill.readers();
        if readers == 0 || bytes == 0 {
            return;
        }
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.gauges.cut_readers.inc_by(readers as u64);
            return;
        }
        room.shrink(bytes);
        lingering.push_back(Lingering { fill: Arc::clone(fill), _groups: groups, room });
        self.gauges.lingering.inc();
    }

    /// The last reader of a fill has left; if it lingers, it need not any more.
    pub(super) fn forget(&self, fill: &Arc<Fill>) {
        let mut lingering = self.lingering();
        let gone = lingering.iter().position(|kept| Arc::ptr_eq(&kept.fill, fill) && fill.readers() == 0);
        let gone = gone.and_then(|at| lingering.remove(at));
        drop(lingering);
        if gone.is_some() {
            self.gauges.lingering.dec();
        }
    }

    /// How much of the buffer running fills have set aside.
    pub(crate) fn buffer_percent(&self) -> u32 {
        let lingering: usize = self.lingering().iter().map(|kept| kept.room.permit.num_permits()).sum();
        let taken = (self.buffer_groups as usize).saturating_sub(self.buffer.available_permits());
        let percent = (taken.saturating_sub(lingering) * 100).checked_div(self.buffer_groups as usize);
        u32::try_from(percent.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    fn lingering(&self) -> MutexGuard<'_, VecDeque<Lingering>> {
        self.lingering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use media::{Digest, GroupSet};
    use store::{ByteSize, Epoch};

    use super::super::{Reader, Wish};
    use super::*;

    fn admission(mib: u64) -> Arc<Admission> {
        let config = EngineConfig { fill_buffer_bytes: ByteSize::mib(mib), ..EngineConfig::default() };
        let gauge = |name: &str| IntGauge::new(name, "in a test").expect("a gauge");
        let cut_readers = IntCounter::new("cut", "in a test").expect("a counter");
        let gauges = Gauges { buffered: gauge("buffered"), lingering: gauge("lingering"), cut_readers };
        Admission::new(&config, gauges)
    }

    fn everything(len: u64) -> Wish {
        Wish { lacks: GroupSet::all(len), newcomer: true, needed_by: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_segment_larger_than_the_buffer_passes_alone() {
        let admission = admission(1);
        let giant = admission.enter(5 << 20).await.expect("alone");
        assert_eq!(admission.gauges.buffered.get(), 5 << 20);
        assert_eq!(admission.enter(1).await.err().map(|error| error.reason), Some(Failure::Overloaded));
        drop(giant);
        assert!(admission.enter(1).await.is_ok());
        assert_eq!(admission.gauges.buffered.get(), 0);
    }

    /// A fill of so many groups that ended with one reader.
    async fn ended(admission: &Arc<Admission>, groups: u64) -> Reader {
        let len = groups * GROUP_LEN;
        let share = admission.enter(len).await.expect("room");
        let (fill, all) = Fill::new(len, Digest([0; 32]), Epoch(0), admission);
        let reader = Reader::join(&fill, everything(len));
        (0..groups).for_each(|n| fill.put(&all, n, bytes::Bytes::from_static(b"group")));
        fill.close(None);
        admission.linger(&fill, all, share.room);
        reader
    }

    #[tokio::test(start_paused = true)]
    async fn what_ended_first_makes_room_first() {
        let admission = admission(1);
        let (first, second) = (ended(&admission, 30).await, ended(&admission, 30).await);
        assert_eq!((admission.gauges.lingering.get(), admission.buffer.available_permits()), (2, 4));
        let share = admission.enter(20 * GROUP_LEN).await.expect("the first makes room");
        assert!(first.at_hand(0).is_none() && second.at_hand(0).is_some());
        assert_eq!((admission.gauges.lingering.get(), admission.gauges.cut_readers.get()), (1, 1));
        drop((share, second, first));
        assert_eq!((admission.gauges.lingering.get(), admission.gauges.buffered.get()), (0, 0));
        assert_eq!(admission.buffer.available_permits(), 64, "everything was given back");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_lingers_for_nobody_nor_before_those_who_wait() {
        let admission = admission(1);
        let reader = ended(&admission, 1).await;
        drop(reader);
        assert_eq!(admission.gauges.lingering.get(), 0);
        let running = admission.enter(64 * GROUP_LEN).await.expect("all of it");
        let (fill, all) = Fill::new(64 * GROUP_LEN, Digest([0; 32]), Epoch(0), &admission);
        let reader = Reader::join(&fill, everything(64 * GROUP_LEN));
        fill.put(&all, 0, bytes::Bytes::from_static(b"group"));
        let ends = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            admission.linger(&fill, all, running.room);
        };
        let (waited, ()) = tokio::join!(admission.enter(GROUP_LEN), ends);
        assert!(waited.is_ok() && reader.at_hand(0).is_none());
        assert_eq!(admission.gauges.cut_readers.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_part_that_running_fills_have_set_aside_is_known() {
        let admission = admission(4);
        let share = admission.enter(1 << 20).await.expect("room");
        assert_eq!(admission.buffer_percent(), 25);
        drop(share);
        assert_eq!(admission.buffer_percent(), 0);
    }
}
