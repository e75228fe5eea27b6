//! An origin on a real socket that follows a [`Script`] of testkit: the same faults as in virtual time, now as
//! what a TCP connection can do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media::ByteRange;
use socket2::SockRef;
use sourcing::Reason;
use testkit::{Behaviour, Chance, Fault, Package, Question, Script, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::failure::{Context, Outcome};

/// A slow origin writes so many bytes, then waits.
const PIECE: usize = 8 * 1024;
/// What still comes from a dripping origin, and in which pieces.
const DRIP_BYTES_PER_SECOND: u64 = 1_000;
const DRIP_PIECE: usize = 100;
/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How long the other side may take to read what it was sent, before a reset would take it back.
const BEFORE_RESET: Duration = Duration::from_secs(1);

/// A running origin. It ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _listening: Arc<Listening>,
}

#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One request that was answered with a body, or with a fault.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) object: String,
    pub(crate) range: ByteRange,
    /// Body bytes written so far.
    pub(crate) sent: u64,
}

struct Shared {
    package: Arc<Package>,
    chance: Chance,
    begun: Instant,
    script: Mutex<Script>,
    asked: Mutex<Record>,
    given: AtomicU64,
}

#[derive(Debug, Default)]
struct Record {
    requests: Vec<Asked>,
    /// How often each object was asked for from each byte on: every asking is a draw of its own.
    repeats: HashMap<(String, u64), u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({} bytes given)", self.given.load(Ordering::Relaxed))
    }
}

impl Origin {
    /// Serves a package on a free port.
    pub(crate) async fn start(id: &str, seed: u64, package: &Arc<Package>, script: Script) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("the origin's port")?;
        let address = listener.local_addr().doing("the origin's port")?;
        let shared = Arc::new(Shared {
            package: Arc::clone(package),
            chance: Chance::new(seed).for_("origin").for_(id),
            begun: Instant::now(),
            script: Mutex::new(script),
            asked: Mutex::default(),
            given: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A connection that breaks ends itself and nothing else.
                tokio::spawn(async move { shared.serve(socket).await });
            }
        });
        Ok(Self { address, shared, _listening: Arc::new(Listening(listening)) })
    }

    /// From now on it follows another script; what is under way goes on.
    pub(crate) fn follow(&self, script: Script) {
        *lock(&self.shared.script) = script;
    }

    /// Body bytes written so far.
    pub(crate) fn given(&self) -> u64 {
        self.shared.given.load(Ordering::Relaxed)
    }

    /// How many requests it had so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.shared.asked).requests.len()
    }

    /// The requests that touch these bytes of an object.
    pub(crate) fn asked(&self, object: &str, start: u64, len: u64) -> Vec<Asked> {
        let touches = |asked: &&Asked| {
            asked.object == object && asked.range.start() < start + len && start < asked.range.end()
        };
        lock(&self.shared.asked).requests.iter().filter(touches).cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the connection can carry another request.
enum Next {
    Request,
    Close,
    /// Closed with a reset, so that the other side sees an error and not an end.
    Reset,
}

impl Shared {
    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        let mut buffer = BytesMut::new();
        loop {
            let Ok(Some(head)) = read_head(&mut socket, &mut buffer).await else { return };
            match self.answer(&mut socket, &head).await {
                Ok(Next::Request) => {}
                Ok(Next::Reset) => return reset(&socket),
                Ok(Next::Close) | Err(_) => return,
            }
        }
    }

    async fn answer(&self, socket: &mut TcpStream, head: &str) -> std::io::Result<Next> {
        let (target, asked) = parse(head);
        let name = target.trim_start_matches('/');
        let object = self.package.object(name);
        let Some((object, range)) = object.and_then(|object| {
            let total = object.len() as u64;
            let range = asked.map_or(ByteRange::whole(total), |(start, end)| ByteRange::new(start, end))?;
            (range.end() <= total).then_some((object, range))
        }) else {
            return refuse(socket, 404).await;
        };
        let question = Question { object: name.to_owned(), range, at: self.begun.elapsed() };
        let (place, chance) = self.note(&question);
        let behaviour = lock(&self.script).answer(&question, chance);
        sleep(behaviour.latency).await;
        match behaviour.fault {
            Some(Fault::Hang) => hang(socket).await,
            Some(Fault::Refuse(Reason::Unavailable | Reason::Cut)) => Ok(Next::Reset),
            Some(Fault::Refuse(reason)) => refuse(socket, status(reason)).await,
            fault => {
                let plan = Plan::new(&object, range, asked.is_some(), fault);
                socket.write_all(plan.head.as_bytes()).await?;
                self.send(socket, place, plan, behaviour).await
            }
        }
    }

    /// Writes the question down, and draws for it.
    fn note(&self, question: &Question) -> (usize, Chance) {
        let mut record = lock(&self.asked);
        let (object, range) = (question.object.clone(), question.range);
        record.requests.push(Asked { object: object.clone(), range, sent: 0 });
        let place = record.requests.len() - 1;
        let repeat = record.repeats.entry((object, range.start())).or_default();
        *repeat += 1;
        (place, self.chance.for_(&question.object).nth(range.start()).nth(*repeat))
    }

    async fn send(
        &self,
        socket: &mut TcpStream,
        place: usize,
        plan: Plan,
        behaviour: Behaviour,
    ) -> std::io::Result<Next> {
        let (begun, mut sent) = (Instant::now(), 0);
        while sent < plan.body.len() {
            let slow = plan.drips_after.is_some_and(|after| sent >= after);
            let end = match plan.drips_after.filter(|_| !slow) {
                Some(after) => after,
                None => plan.body.len(),
            };
            let piece = plan.body.slice(sent..end.min(sent + if slow { DRIP_PIECE } else { PIECE }));
            if slow {
                sleep(Duration::from_millis(piece.len() as u64 * 1_000 / DRIP_BYTES_PER_SECOND)).await;
            } else {
                // Paced from the beginning, so that late wake-ups do not add up.
                let micros = (sent as u64 + piece.len() as u64).saturating_mul(1_000_000) / behaviour.rate;
                sleep_until(begun + Duration::from_micros(micros)).await;
            }
            socket.write_all(&piece).await?;
            sent += piece.len();
            self.given.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if let Some(asked) = lock(&self.asked).requests.get_mut(place) {
                asked.sent += piece.len() as u64;
            }
        }
        match plan.then {
            Then::Next => Ok(Next::Request),
            Then::Cut => Ok(Next::Close),
            Then::Reset => {
                all_is_read(socket).await;
                Ok(Next::Reset)
            }
            Then::Silence => hang(socket).await,
        }
    }
}

/// What goes over the wire for one request.
struct Plan {
    head: String,
    body: Bytes,
    drips_after: Option<usize>,
    then: Then,
}

enum Then {
    Next,
    Cut,
    Reset,
    Silence,
}

impl Plan {
    fn new(object: &Bytes, range: ByteRange, ranged: bool, fault: Option<Fault>) -> Self {
        let body = object.slice(range.start() as usize..range.end() as usize);
        let longer = fault == Some(Fault::Version(Version::Length));
        let total = object.len() as u64 + u64::from(longer);
        let len = range.len() + u64::from(longer && !ranged);
        let tag = if matches!(fault, Some(Fault::Version(_))) { "\"second\"" } else { "\"first\"" };
        let first = if ranged {
            format!(
                "206 Partial Content\r\nContent-Range: bytes {}-{}/{total}",
                range.start(),
                range.end() - 1
            )
        } else {
            "200 OK".to_owned()
        };
        let head = format!("HTTP/1.1 {first}\r\nContent-Length: {len}\r\nETag: {tag}\r\n\r\n");
        let until = |at: u64| body.slice(..body.len().min(at as usize));
        let (body, drips_after, then) = match fault {
            Some(Fault::Cut(at)) => (until(at), None, Then::Cut),
            Some(Fault::Reset(at)) => (until(at), None, Then::Reset),
            Some(Fault::Stall(at)) => (until(at), None, Then::Silence),
            Some(Fault::Drip(at)) => (body, Some(at as usize), Then::Next),
            Some(Fault::Flip(at)) => (flipped(&body, at), None, Then::Next),
            Some(Fault::Version(Version::Bytes)) => {
                (body.iter().map(|byte| !byte).collect(), None, Then::Next)
            }
            Some(Fault::Version(Version::Length)) if !ranged => {
                ([&body[..], b"x"].concat().into(), None, Then::Next)
            }
            _ => (body, None, Then::Next),
        };
        Self { head, body, drips_after, then }
    }
}

fn flipped(body: &Bytes, at: u64) -> Bytes {
    let mut body = BytesMut::from(&body[..]);
    if let Some(byte) = body.get_mut(at as usize) {
        *byte ^= 0x10;
    }
    body.freeze()
}

/// The status that a gateway reads as this reason.
fn status(reason: Reason) -> u16 {
    match reason {
        Reason::NotFound => 404,
        Reason::Refused => 403,
        Reason::Throttled => 503,
        Reason::Timeout => 504,
        Reason::Changed => 416,
        Reason::Unavailable | Reason::Cut | Reason::Corrupt | Reason::Unsupported => 500,
    }
}

async fn refuse(socket: &mut TcpStream, status: u16) -> std::io::Result<Next> {
    socket.write_all(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    Ok(Next::Request)
}

/// Says nothing until the other side has had enough.
async fn hang(socket: &mut TcpStream) -> std::io::Result<Next> {
    while socket.read(&mut [0; 256]).await? > 0 {}
    Ok(Next::Close)
}

/// Waits until the other side has read everything, as far as the kernel knows: only then is it known how much of
/// a body had arrived when its connection was reset.
async fn all_is_read(socket: &TcpStream) {
    let (Ok(local), Ok(remote)) = (socket.local_addr(), socket.peer_addr()) else { return };
    let end = Instant::now() + BEFORE_RESET;
    while Instant::now() < end {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        if on_the_way(&table, local, remote) == 0 {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes that one end has not had acknowledged, and those that the other end has not read.
fn on_the_way(table: &str, local: SocketAddr, remote: SocketAddr) -> u64 {
    let queues = |from: SocketAddr, to: SocketAddr| {
        let line = table.lines().find(|line| {
            let ends: Vec<&str> = line.split_whitespace().skip(1).take(2).collect();
            let port = |end: &str, of: SocketAddr| end.ends_with(&format!(":{:04X}", of.port()));
            matches!(ends[..], [one, other] if port(one, from) && port(other, to))
        })?;
        let (sent, read) = line.split_whitespace().nth(4)?.split_once(':')?;
        Some((u64::from_str_radix(sent, 16).ok()?, u64::from_str_radix(read, 16).ok()?))
    };
    queues(local, remote).map_or(0, |(sent, _)| sent) + queues(remote, local).map_or(0, |(_, unread)| unread)
}

fn reset(socket: &TcpStream) {
    // Whether or not it worked, the socket is closed next.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// A request's head, or `None` at the end of the connection.
async fn read_head(socket: &mut TcpStream, buffer: &mut BytesMut) -> std::io::Result<Option<String>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = buffer.split_to(end + 4);
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if buffer.len() > MAX_HEAD || socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Target and range (start and end) of a request.
fn parse(head: &str) -> (&str, Option<(u64, u64)>) {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let range = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("range"));
    let range = range.and_then(|(_, value)| {
        let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?))
    });
    (target, range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        for (head, expected) in [
            ("GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n", ("/a/b", None)),
            ("GET /a HTTP/1.1\r\nrange: bytes=5-9\r\n\r\n", ("/a", Some((5, 10)))),
            ("GET /a HTTP/1.1\r\nRange: bytes=-9\r\n\r\n", ("/a", None)),
        ] {
            assert_eq!(parse(head), expected);
        }
    }

    #[test]
    fn bytes_on_the_way_are_counted_at_both_ends() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
                       0: 0100007F:1F90 0100007F:C350 01 00000010:00000000 00:00000000\n\
                       1: 0100007F:C350 0100007F:1F90 01 00000003:00000020 00:00000000\n";
        let [one, other, third] = [8080, 50_000, 9].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!((on_the_way(table, one, other), on_the_way(table, one, third)), (0x30, 0));
    }

    #[test]
    fn each_fault_changes_what_it_says() {
        let object = Bytes::from_static(b"0123456789");
        let range = ByteRange::new(2, 8).expect("a range");
        let plan = |fault| Plan::new(&object, range, true, fault);
        assert_eq!(&plan(None).body[..], b"234567");
        assert!(plan(None).head.contains("bytes 2-7/10\r\nContent-Length: 6\r\n"));
        assert_eq!(&plan(Some(Fault::Cut(2))).body[..], b"23");
        assert_eq!(&plan(Some(Fault::Flip(1))).body[..], b"2#4567");
        assert!(plan(Some(Fault::Version(Version::Length))).head.contains("bytes 2-7/11"));
        assert!(plan(Some(Fault::Version(Version::Tag))).head.contains("\"second\""));
        assert_ne!(&plan(Some(Fault::Version(Version::Bytes))).body[..], b"234567");
        let longer = Plan::new(&object, range, false, Some(Fault::Version(Version::Length)));
        assert_eq!(longer.body.len(), 7);
        assert!(longer.head.contains("Content-Length: 7"));
    }
}
