//! Reads, writes and syncs through an io_uring: one ring and one thread for each device.
//!
//! Callers leave jobs in an inbox and ring an alarm, an eventfd that the ring itself polls. The thread takes
//! the jobs in, gives all of them to the kernel with one call, and sleeps in that call until one is done.
//!
//! This is the only module of the crate with `unsafe`, for one reason: the kernel reads and writes memory that
//! it knows by address, after the call that told it has returned. The rule that makes this sound is short.
//! A job lies in the table of flights from before the kernel learns its addresses until after the kernel has
//! said that it is done with them. Whoever waits for it holds only a channel and may go at any time. If the
//! thread itself fails, what is in the table is leaked and never freed.
#![expect(
    unsafe_code,
    reason = "the kernel is given addresses of buffers; the table of flights keeps them alive"
)]

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::mem;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::pool::Job;
use super::transfer::Call;

/// What the ring calls the poll of the alarm. Flights are called by their place in the table.
const ALARM: u64 = u64::MAX;

type Answer = io::Result<Bytes>;

/// The callers' side. When it is dropped the thread ends as soon as the kernel is done with every job.
pub(super) struct Ring {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Mutex<Inbox>,
    alarm: OwnedFd,
}

struct Inbox {
    /// Never more than there are places: each job holds one.
    jobs: VecDeque<(Job, oneshot::Sender<Answer>)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Ended,
}

impl Ring {
    /// Makes a ring for so many jobs at once, and its thread.
    ///
    /// # Errors
    /// Where the kernel has no io_uring, forbids it, or lacks one of the operations.
    pub(super) fn start(places: u32) -> io::Result<Self> {
        let jobs = VecDeque::with_capacity(places as usize);
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { inbox: Mutex::new(Inbox { jobs, state: State::Open }), alarm });
        let (report, started) = sync_channel(1);
        let theirs = shared.clone();
        let main = move || match Driver::new(theirs, places) {
            Ok(driver) => {
                // If nobody hears it, the inbox says `Closing` already.
                let _ = report.send(Ok(()));
                driver.run();
            }
            Err(error) => drop(report.send(Err(error))),
        };
        let ring = Self { shared };
        thread::Builder::new().name("weir-disk-ring".into()).spawn(main)?;
        started.recv().map_err(io::Error::other)??;
        Ok(ring)
    }

    /// Whether jobs are still taken.
    pub(super) fn works(&self) -> bool {
        self.shared.inbox().state == State::Open
    }

    /// Takes no more jobs, as after the thread failed.
    #[cfg(test)]
    pub(super) fn refuse_from_now_on(&self) {
        self.shared.inbox().state = State::Closing;
    }

    /// Takes a job over; gives it back when the ring has broken.
    #[expect(clippy::result_large_err, reason = "the job goes on another way; it is not an error to box")]
    pub(super) fn submit(&self, job: Job) -> Result<oneshot::Receiver<Answer>, Job> {
        let (reply, answer) = oneshot::channel();
        let mut inbox = self.shared.inbox();
        if inbox.state != State::Open {
            return Err(job);
        }
        inbox.jobs.push_back((job, reply));
        // The thread empties the inbox each time it is woken: one alarm is enough for all that is in it.
        let wake = inbox.jobs.len() == 1;
        drop(inbox);
        if wake {
            self.shared.ring_alarm();
        }
        Ok(answer)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("works", &self.works()).finish_non_exhaustive()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut inbox = self.shared.inbox();
        if inbox.state == State::Open {
            inbox.state = State::Closing;
        }
        drop(inbox);
        self.shared.ring_alarm();
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring_alarm(&self) {
        // It only fails when it has rung 2^64 - 2 times unheard.
        let _ = rustix::io::write(&self.alarm, &1_u64.to_ne_bytes());
    }

    fn silence_alarm(&self) {
        // Nothing to read means that it is silent already.
        let _ = rustix::io::read(&self.alarm, &mut [0_u8; 8]);
    }
}

/// A job that the kernel may be working on, and everything the kernel was given the address of.
struct Flight {
    job: Job,
    reply: oneshot::Sender<Answer>,
    slices: Vec<libc::iovec>,
}

/// The thread's side.
struct Driver {
    ring: IoUring,
    shared: Arc<Shared>,
    flights: Vec<Option<Flight>>,
    /// What the kernel is to be told next, by name.
    ready: VecDeque<u64>,
}

impl Driver {
    fn new(shared: Arc<Shared>, places: u32) -> io::Result<Self> {
        let ring = new_ring((places + 1).next_power_of_two())?;
        let flights = (0..places).map(|_| None).collect();
        Ok(Self { ring, shared, flights, ready: VecDeque::from([ALARM]) })
    }

    fn run(mut self) {
        if let Err(error) = self.drive() {
            tracing::warn!(%error, "io_uring broke; the disk is worked with threads until it is opened again");
        }
    }

    fn drive(&mut self) -> io::Result<()> {
        loop {
            let closing = self.take_in();
            if closing && self.flights.iter().all(Option::is_none) {
                return Ok(());
            }
            self.tell();
            self.wait()?;
            self.reap();
        }
    }

    /// Gives the jobs of the inbox a place in the table. Says whether no more will come.
    fn take_in(&mut self) -> bool {
        let mut inbox = self.shared.inbox();
        for (name, slot) in self.flights.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
            let Some((job, reply)) = inbox.jobs.pop_front() else { break };
            *slot = Some(Flight { job, reply, slices: Vec::new() });
            self.ready.push_back(name as u64);
        }
        inbox.state == State::Closing && inbox.jobs.is_empty()
    }

    /// Puts what is ready into the submission queue. What does not fit waits for the next turn.
    fn tell(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(name) = self.ready.front().copied().filter(|_| !queue.is_full()) {
            self.ready.pop_front();
            let entry = match flight(&mut self.flights, name) {
                Some(Some(flight)) => flight.entry(),
                Some(None) => continue,
                None => poll(&self.shared.alarm),
            };
            // SAFETY: the addresses in the entry point into heap memory of a flight in the table: the buffer,
            // the parts and the slices. Moving the flight does not move them. The flight is taken out when the
            // kernel has answered and not before (see `reap`); nothing touches the buffer, and nothing replaces
            // the slices, until then. If the thread fails in between, `Drop` leaks them. The descriptor is kept
            // open by the flight's handle, the alarm's by `shared`. The queue has room, so nothing is lost.
            let _ = unsafe { queue.push(&entry.user_data(name)) };
        }
    }

    /// Hands everything over and sleeps until there is an answer.
    fn wait(&self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // Out of memory for requests, or answers have to be taken first: both pass.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                thread::yield_now();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the kernel's answers in. A flight that is not done with its bytes is told of again.
    fn reap(&mut self) {
        for answer in self.ring.completion() {
            let name = answer.user_data();
            let Some(slot) = flight(&mut self.flights, name) else {
                self.shared.silence_alarm();
                self.ready.push_back(ALARM);
                continue;
            };
            let Some(landed) = slot else { continue };
            match landed.job.transfer.advance(moved(answer.result())) {
                ControlFlow::Continue(()) => self.ready.push_back(name),
                ControlFlow::Break(outcome) => {
                    if let Some(Flight { job, reply, .. }) = slot.take() {
                        // Nobody may be waiting any more; the job has ended well all the same.
                        let _ = reply.send(job.finish(outcome));
                    }
                }
            }
        }
    }
}

impl Drop for Driver {
    /// After a normal end there is nothing left to do here.
    fn drop(&mut self) {
        let mut inbox = self.shared.inbox();
        inbox.state = State::Ended;
        let waiting = mem::take(&mut inbox.jobs);
        drop(inbox);
        for (job, reply) in waiting {
            let _ = reply.send(job.finish(Err(broken())));
        }
        for Flight { job, reply, slices } in self.flights.drain(..).flatten() {
            // The kernel may still use these addresses, and nobody will learn when it stops.
            let Job { handle, transfer, files, place: _place } = job;
            if transfer.is_sync() {
                files.sync_failed(handle.name);
            }
            mem::forget((transfer, slices));
            let _ = reply.send(Err(broken()));
        }
    }
}

impl Flight {
    /// What the kernel is to do next for this job. Points into the flight: see `Driver::tell`.
    fn entry(&mut self) -> squeue::Entry {
        let fd = types::Fd(self.job.handle.as_fd().as_raw_fd());
        match self.job.transfer.next() {
            Call::Read { at, into } => {
                opcode::Read::new(fd, into.as_mut_ptr(), into.len() as u32).offset(at).build()
            }
            Call::Write { at, from } => {
                self.slices = from.iter().map(iovec).collect();
                opcode::Writev::new(fd, self.slices.as_ptr(), self.slices.len() as u32).offset(at).build()
            }
            Call::Sync { data_only: true } => {
                opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build()
            }
            Call::Sync { data_only: false } => opcode::Fsync::new(fd).build(),
        }
    }
}

/// The place in the table that has this name; none for the alarm.
fn flight(flights: &mut [Option<Flight>], name: u64) -> Option<&mut Option<Flight>> {
    flights.get_mut(usize::try_from(name).ok()?)
}

fn poll(alarm: &OwnedFd) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(alarm.as_raw_fd()), libc::POLLIN as u32).build()
}

/// The kernel only reads what is written from here, so the constant pointer may become a mutable one.
fn iovec(slice: &IoSlice<'_>) -> libc::iovec {
    libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() }
}

fn moved(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.wrapping_neg()))
}

fn broken() -> io::Error {
    io::Error::other("the io_uring of the device broke while the operation was under way")
}

fn new_ring(entries: u32) -> io::Result<IoUring> {
    // One thread submits and reaps: kernels from 6.1 on then do the ends of operations when that thread asks,
    // and interrupt nobody.
    let tuned = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
    let ring: IoUring = tuned.or_else(|_| IoUring::new(entries))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::Read::CODE, opcode::Writev::CODE, opcode::Fsync::CODE, opcode::PollAdd::CODE];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(ring)
    } else {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::path::PathBuf;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::device::FileName;
    use crate::device::files::{Files, Handle};
    use crate::device::transfer::Transfer;

    /// A read of a pipe, which takes until somebody writes.
    async fn endless(places: &Arc<Semaphore>) -> (Job, io::PipeWriter) {
        let (reader, writer) = io::pipe().expect("a pipe");
        let handle = Handle::of(FileName::Log(1), File::from(OwnedFd::from(reader)));
        let files = Arc::new(Files::new(PathBuf::new(), 1, false));
        let place = places.clone().acquire_owned().await.expect("a place");
        (Job { handle, transfer: Transfer::read(0, 5, false), files, place }, writer)
    }

    async fn in_time<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), what).await.expect("in time")
    }

    fn ring(places: u32) -> Option<Ring> {
        Ring::start(places).inspect_err(|error| eprintln!("skipped: no io_uring here: {error}")).ok()
    }

    #[tokio::test]
    async fn short_reads_are_continued_until_all_is_there() {
        let Some(ring) = ring(4) else { return };
        let places = Arc::new(Semaphore::new(4));
        let (job, mut writer) = endless(&places).await;
        let mut answer = ring.submit(job).ok().expect("taken");
        writer.write_all(b"ab").expect("writes");
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut answer).await.is_err(), "not all there");
        writer.write_all(b"cde").expect("writes");
        assert_eq!(in_time(answer).await.expect("answers").expect("reads"), "abcde");
        let (job, writer) = endless(&places).await;
        let answer = ring.submit(job).ok().expect("taken");
        drop(writer);
        let error = in_time(answer).await.expect("answers").expect_err("the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_job_outlives_its_caller_and_the_thread_outlives_the_job() {
        let Some(ring) = ring(2) else { return };
        let places = Arc::new(Semaphore::new(2));
        let (job, mut writer) = endless(&places).await;
        drop(ring.submit(job).ok().expect("taken"));
        let shared = Arc::downgrade(&ring.shared);
        drop(ring);
        assert_eq!(places.available_permits(), 1, "the kernel has the job, and the job its place");
        assert!(shared.upgrade().is_some());
        writer.write_all(b"abcde").expect("writes");
        drop(in_time(places.acquire_many(2)).await.expect("the place comes back"));
        let ended = async {
            while shared.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        in_time(ended).await;
    }

    #[tokio::test]
    async fn a_thread_that_fails_answers_everybody_and_frees_nothing_the_kernel_has() {
        let Some(ring) = ring(1) else { return };
        let places = Arc::new(Semaphore::new(2));
        let jobs = VecDeque::new();
        let alarm = eventfd(0, EventfdFlags::NONBLOCK).expect("an alarm");
        let shared = Arc::new(Shared { inbox: Mutex::new(Inbox { jobs, state: State::Open }), alarm });
        let broken = Ring { shared: shared.clone() };
        let mut driver = Driver::new(shared, 1).expect("as before");
        let (flying, mut writer) = endless(&places).await;
        let flying = broken.submit(flying).ok().expect("taken");
        assert!(!driver.take_in());
        driver.tell();
        driver.ring.submit().expect("handed over");
        let (waiting, _other) = endless(&places).await;
        let waiting = broken.submit(waiting).ok().expect("taken");
        drop(driver);
        // The kernel may still put this into the buffer, which is why that is never freed.
        let _ = writer.write_all(b"abcde");
        for answer in [flying, waiting] {
            assert!(in_time(answer).await.expect("answers").is_err());
        }
        assert!(!broken.works() && ring.works());
        let (refused, _writer) = endless(&places).await;
        assert!(broken.submit(refused).is_err(), "the job goes another way");
        assert_eq!(places.available_permits(), 2);
    }
}
