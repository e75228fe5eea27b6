//! The pulse of one connection: who is waiting for whom, and when that has lasted too long.
//!
//! Four parties touch it: the socket wrapper, the request handler, the response bodies, and the connection's
//! own task, which now and then takes a [`Snapshot`] and asks [`verdict`]. The verdict is a pure function, so
//! every rule is a row in a table.
//!
//! The rules, and the attack or accident each is for:
//! - a new connection that sends no request, or a request head that takes too long: slow-header clients;
//! - nothing asked for a while: players that are gone without a goodbye;
//! - a response of which next to nothing is taken while the engine is not the one to wait for: slow readers,
//!   paused players and, on HTTP/2, windows that are never opened, which a timer on socket writes alone would
//!   not see because pings still flow.
//!
//! The cost is one allocation and one timer for each connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Written bytes that count as progress. On HTTP/2 bytes that came in are taken off: what a viewer can make us say
/// without taking anything (answers to pings and settings, a byte of data for each window update) is no longer
/// than what it sends for it.
const PROGRESS_BYTES: i64 = 512;

/// The waits of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

/// Why we ended a connection. Closed: metrics and access lines use [`Cause::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The other side, or the end of what there was to say.
    Viewer,
    /// No complete request head in time.
    SlowHead,
    /// Nothing was asked for a while.
    Idle,
    /// Nothing was taken for a while.
    Stalled,
    /// The drain deadline.
    Drained,
    /// What was sent is not HTTP.
    Protocol,
    /// It rested, and somebody else needed the place.
    Crowded,
}

impl Cause {
    pub(crate) const ALL: [Self; 7] = [
        Self::Viewer,
        Self::SlowHead,
        Self::Idle,
        Self::Stalled,
        Self::Drained,
        Self::Protocol,
        Self::Crowded,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::SlowHead => "slow-head",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Drained => "drained",
            Self::Protocol => "protocol",
            Self::Crowded => "crowded",
        }
    }
}

/// What the parties of one connection know, in milliseconds since it was accepted.
#[derive(Debug)]
pub(crate) struct Pulse {
    born: Instant,
    /// Requests whose response has not ended.
    active: AtomicU32,
    /// How many of those wait for the engine.
    waiting: AtomicU32,
    /// When the viewer last asked or took something.
    progress: AtomicU64,
    /// Bytes written since then; on HTTP/2 without those read.
    trickle: AtomicI64,
    /// When the first byte of a head arrived, plus one; 0 when none has.
    head: AtomicU64,
    /// The socket takes nothing at the moment.
    blocked: AtomicBool,
    /// A request has come on this connection.
    greeted: AtomicBool,
    /// A request was refused together with what stands behind it.
    refused: AtomicBool,
    /// Requests may overlap, so that stray bytes are no slow head.
    multiplexed: AtomicBool,
    /// The next response is the last of this connection.
    leaving: AtomicBool,
    /// Somebody else needs the place.
    evicted: AtomicBool,
    /// Wakes the connection's task to say goodbye.
    goodbye: Notify,
    /// Who is at the other end, where that is known.
    from: Option<SocketAddr>,
    cause: AtomicU8,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            born: now,
            active: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            progress: AtomicU64::new(0),
            trickle: AtomicI64::new(0),
            head: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            greeted: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            goodbye: Notify::new(),
            from: None,
            cause: AtomicU8::new(Cause::Viewer as u8),
        }
    }

    /// The same for a connection from this address.
    pub(crate) fn from(self, from: SocketAddr) -> Self {
        Self { from: Some(from), ..self }
    }

    /// Who is at the other end; `None` in tests only.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.from
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Bytes came in.
    pub(crate) fn heard(&self, bytes: usize) {
        if self.overlaps() {
            self.trickle.fetch_sub(signed(bytes), Relaxed);
        }
        if self.active.load(Relaxed) == 0 && self.head.load(Relaxed) == 0 {
            self.head.store(self.now_ms() + 1, Relaxed);
        }
    }

    /// Bytes went out.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.blocked.store(false, Relaxed);
        let bytes = signed(bytes);
        if self.trickle.fetch_add(bytes, Relaxed) + bytes >= PROGRESS_BYTES {
            self.progressed();
        }
    }

    /// The socket takes no more.
    pub(crate) fn blocked(&self) {
        self.blocked.store(true, Relaxed);
    }

    /// The socket has taken everything.
    pub(crate) fn flushed(&self) {
        self.blocked.store(false, Relaxed);
    }

    /// The viewer took part of a response, or asked for one.
    pub(crate) fn progressed(&self) {
        self.trickle.store(0, Relaxed);
        self.progress.store(self.now_ms(), Relaxed);
    }

    /// A request has been read; it is active until [`Pulse::ended`].
    pub(crate) fn began(&self, multiplexed: bool) {
        self.multiplexed.store(multiplexed, Relaxed);
        self.greeted.store(true, Relaxed);
        if multiplexed && self.leaving() {
            // It was not known yet how to tell it.
            self.goodbye.notify_one();
        }
        self.head.store(0, Relaxed);
        self.active.fetch_add(1, Relaxed);
        self.progressed();
    }

    /// A response has ended, one way or the other.
    pub(crate) fn ended(&self) {
        self.active.fetch_sub(1, Relaxed);
        self.progressed();
    }

    /// [`Pulse::began`] until the returned value is dropped, however that comes.
    pub(crate) fn answering(&self, multiplexed: bool) -> Answering<'_> {
        self.began(multiplexed);
        Answering(self)
    }

    /// A request begins to wait for the engine; pair with [`Pulse::served`].
    pub(crate) fn waits(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    /// The engine has answered.
    pub(crate) fn served(&self) {
        self.waiting.fetch_sub(1, Relaxed);
        self.progressed();
    }

    /// [`Pulse::waits`] until the returned value is dropped, however that comes.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        self.waits();
        Waiting(self)
    }

    /// Requests whose response has not ended.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// The next response is to be the connection's last. Says whether requests may overlap here: then it is for
    /// the protocol to say so.
    pub(crate) fn leave(&self) -> bool {
        self.leaving.store(true, Relaxed);
        self.overlaps()
    }

    /// Whether requests may overlap here.
    fn overlaps(&self) -> bool {
        self.greeted.load(Relaxed) && self.multiplexed.load(Relaxed)
    }

    pub(crate) fn leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Since when nothing is asked for and nothing under way; `None` for a connection that never asked, too.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let rests = self.greeted.load(Relaxed)
            && self.active.load(Relaxed) == 0
            && self.head.load(Relaxed) == 0
            && !self.blocked.load(Relaxed)
            && !self.evicted.load(Relaxed);
        rests.then(|| self.born + Duration::from_millis(self.progress.load(Relaxed)))
    }

    /// Asks the connection to leave.
    pub(crate) fn evict(&self) {
        self.evicted.store(true, Relaxed);
        self.goodbye.notify_one();
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    /// Waits until the connection is to hear goodbye in the protocol's way.
    pub(crate) async fn dismissed(&self) {
        self.goodbye.notified().await;
    }

    /// The connection will be closed after this response, whatever else was sent.
    pub(crate) fn refused(&self) {
        self.refused.store(true, Relaxed);
    }

    /// Whether the other side may still be sending something that we will not read.
    pub(crate) fn leaves_unread(&self) -> bool {
        self.refused.load(Relaxed) || self.head.load(Relaxed) > 0
    }

    /// Notes why the connection is about to be dropped, for the access lines of its responses.
    pub(crate) fn doom(&self, cause: Cause) {
        self.cause.store(cause as u8, Relaxed);
    }

    pub(crate) fn cause(&self) -> Cause {
        let noted = self.cause.load(Relaxed);
        Cause::ALL.into_iter().find(|cause| *cause as u8 == noted).unwrap_or(Cause::Viewer)
    }

    pub(crate) fn snapshot(&self, closing_since: Option<u64>) -> Snapshot {
        let head = self.head.load(Relaxed);
        Snapshot {
            active: self.active.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            blocked: self.blocked.load(Relaxed),
            greeted: self.greeted.load(Relaxed),
            progress: self.progress.load(Relaxed),
            head: (head > 0 && !self.overlaps()).then(|| head - 1),
            closing_since,
        }
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A request that is being answered.
pub(crate) struct Answering<'a>(&'a Pulse);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// A request that waits for the engine.
pub(crate) struct Waiting<'a>(&'a Pulse);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.served();
    }
}

/// One look at a connection; times in milliseconds since it was accepted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    active: u32,
    waiting: u32,
    blocked: bool,
    greeted: bool,
    progress: u64,
    head: Option<u64>,
    closing_since: Option<u64>,
}

impl Snapshot {
    /// Whether a request is waiting for us and not we for the viewer.
    pub(crate) const fn waits_for_engine(&self) -> bool {
        self.waiting > 0
    }
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again after this many milliseconds.
    Wait(u64),
    /// Say goodbye in the protocol's way, and look again after this long.
    Close(u64),
    /// Drop it.
    Drop(Cause),
}

/// Decides about a connection at `now`.
pub(crate) fn verdict(seen: &Snapshot, now: u64, patience: &Patience) -> Verdict {
    let ms = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let (header, idle, write) = (ms(patience.header), ms(patience.idle), ms(patience.write));
    // A state that begins right after this look is seen by the next one, one shortest wait later at most.
    let glance = header.min(idle).min(write).max(1);
    let left = |since: u64, wait: u64| (since + wait).saturating_sub(now);
    let watch = |left: u64, cause: Cause| match left {
        0 => Verdict::Drop(cause),
        left => Verdict::Wait(left.min(glance)),
    };
    if seen.active > 0 || seen.blocked {
        if seen.waits_for_engine() {
            return Verdict::Wait(glance);
        }
        return watch(left(seen.progress, write), Cause::Stalled);
    }
    if let Some(since) = seen.closing_since {
        // The end of the last response may still be behind a window.
        return watch(left(since.max(seen.progress), header), Cause::Idle);
    }
    if !seen.greeted {
        return watch(left(0, header), Cause::SlowHead);
    }
    if let Some(since) = seen.head {
        return watch(left(since, header), Cause::SlowHead);
    }
    match left(seen.progress, idle) {
        0 => Verdict::Close(header.min(glance)),
        left => Verdict::Wait(left.min(glance)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        header: Duration::from_millis(100),
        idle: Duration::from_millis(1000),
        write: Duration::from_millis(300),
    };

    #[track_caller]
    fn check(seen: Snapshot, now: u64, expected: Verdict) {
        assert_eq!(verdict(&seen, now, &PATIENCE), expected, "{seen:?} at {now}");
    }

    #[test]
    fn a_connection_must_ask_for_something() {
        let silent = Snapshot::default();
        check(silent, 0, Verdict::Wait(100));
        check(silent, 60, Verdict::Wait(40));
        check(silent, 100, Verdict::Drop(Cause::SlowHead));
        let drip = Snapshot { head: Some(20), ..silent };
        check(drip, 100, Verdict::Drop(Cause::SlowHead));
        let later = Snapshot { greeted: true, head: Some(5000), progress: 4000, ..silent };
        check(later, 5050, Verdict::Wait(50));
        check(later, 5100, Verdict::Drop(Cause::SlowHead));
    }

    #[test]
    fn an_idle_connection_is_closed_politely_and_then_for_real() {
        let idle = Snapshot { greeted: true, progress: 1000, ..Snapshot::default() };
        check(idle, 1001, Verdict::Wait(100));
        check(idle, 1960, Verdict::Wait(40));
        check(idle, 2000, Verdict::Close(100));
        let closing = Snapshot { closing_since: Some(2000), ..idle };
        check(closing, 2050, Verdict::Wait(50));
        check(closing, 2100, Verdict::Drop(Cause::Idle));
        let ended_late = Snapshot { progress: 9000, ..closing };
        check(ended_late, 9050, Verdict::Wait(50));
        check(ended_late, 9100, Verdict::Drop(Cause::Idle));
    }

    #[test]
    fn a_viewer_must_take_what_it_asked_for() {
        let reading = Snapshot { greeted: true, active: 1, progress: 1000, ..Snapshot::default() };
        check(reading, 1250, Verdict::Wait(50));
        check(reading, 1300, Verdict::Drop(Cause::Stalled));
        let filling = Snapshot { waiting: 1, ..reading };
        check(filling, 9000, Verdict::Wait(100));
        let last_bytes = Snapshot { active: 0, blocked: true, ..reading };
        check(last_bytes, 1300, Verdict::Drop(Cause::Stalled));
        let closing = Snapshot { closing_since: Some(0), ..reading };
        check(closing, 1250, Verdict::Wait(50));
    }

    #[tokio::test(start_paused = true)]
    async fn the_parties_are_heard() {
        let pulse = Pulse::new(Instant::now());
        tokio::time::advance(Duration::from_millis(7)).await;
        pulse.heard(1);
        assert_eq!(pulse.snapshot(None).head, Some(7));
        pulse.began(false);
        assert_eq!((pulse.active(), pulse.snapshot(None).head), (1, None));
        tokio::time::advance(Duration::from_millis(10)).await;
        pulse.wrote(17);
        assert_eq!(pulse.snapshot(None).progress, 7, "a few bytes are no progress");
        pulse.wrote(600);
        assert_eq!(pulse.snapshot(None).progress, 17);
        pulse.ended();
        assert_eq!(pulse.active(), 0);
        pulse.began(true);
        pulse.ended();
        pulse.heard(17);
        assert_eq!(pulse.snapshot(None).head, None, "HTTP/2 frames are no head");
        tokio::time::advance(Duration::from_millis(10)).await;
        for _ in 0..1_000 {
            pulse.heard(17);
            pulse.wrote(17);
        }
        // A window update for one byte, and that byte.
        for _ in 0..1_000 {
            pulse.heard(13);
            pulse.wrote(10);
        }
        assert_eq!(pulse.snapshot(None).progress, 17, "answers to pings are no progress, however many");
        pulse.began(true);
        pulse.ended();
        tokio::time::advance(Duration::from_millis(10)).await;
        pulse.heard(13);
        pulse.wrote(16_384);
        assert_eq!(pulse.snapshot(None).progress, 37);
        pulse.doom(Cause::Stalled);
        assert_eq!(pulse.cause(), Cause::Stalled);
    }
}
