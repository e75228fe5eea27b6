//! An origin on a real socket that follows a [`Script`] of testkit: the same faults as in virtual time, now as
//! what a TCP connection can do. Scripts decide about single answers; its [`State`] is about the whole machine.

mod answer;
mod door;
mod socket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use media::ByteRange;
use sourcing::Reason;
use testkit::{Behaviour, Chance, Fault, Package, Question, Script};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::answer::{Plan, Then, parse, refusal, status};
use self::door::Door;
use self::socket::{all_is_read, hang, read_head, reset, think};
use crate::failure::Outcome;

/// A slow origin writes so many bytes, then waits.
const PIECE: usize = 8 * 1024;
/// What still comes from a dripping origin, and in which pieces.
const DRIP_BYTES_PER_SECOND: u64 = 1_000;
const DRIP_PIECE: usize = 100;
/// The bucket of an origin that is asked like S3.
const BUCKET: &str = "films";

/// A running origin. It ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    door: Arc<tokio::sync::Mutex<Door>>,
    is_s3: bool,
}

/// How an origin is as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It answers as its script says.
    Up,
    /// Its program was killed: the port is closed, and every connection was reset.
    Killed,
    /// It takes connections and questions, and never says a word; bodies under way fall silent.
    Silent,
    /// As behind a cable that was cut: bodies under way fall silent, and new connections do not even come about.
    Vanished,
}

/// One request that was answered with a body, or with a fault.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) object: String,
    pub(crate) range: ByteRange,
    pub(crate) at: Instant,
    /// Body bytes written so far.
    pub(crate) sent: u64,
}

struct Shared {
    package: Arc<Package>,
    chance: Chance,
    begun: Instant,
    state: watch::Sender<State>,
    script: Mutex<Script>,
    asked: Mutex<Record>,
    given: AtomicU64,
    /// Bodies under way.
    sending: AtomicUsize,
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
        let shared = Arc::new(Shared {
            package: Arc::clone(package),
            chance: Chance::new(seed).for_("origin").for_(id),
            begun: Instant::now(),
            state: watch::Sender::new(State::Up),
            script: Mutex::new(script),
            asked: Mutex::default(),
            given: AtomicU64::new(0),
            sending: AtomicUsize::new(0),
        });
        let (door, address) = Door::open(&shared).await?;
        Ok(Self { address, shared, door: Arc::new(tokio::sync::Mutex::new(door)), is_s3: false })
    }

    /// The same, but the gateway asks it as it asks S3.
    pub(crate) fn like_s3(self) -> Self {
        Self { is_s3: true, ..self }
    }

    /// How a gateway's configuration names it, as the `n`th source: the later, the dearer.
    pub(crate) fn source(&self, n: usize) -> String {
        let Self { address, is_s3, .. } = self;
        let kind = if *is_s3 {
            format!(
                "kind = \"s3\"\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\nendpoint_url = \"http://{address}\"\n\
                 path_style = true\naccess_key_file = \"keys/s3.id\"\nsecret_key_file = \"keys/s3.secret\""
            )
        } else {
            format!("kind = \"http\"\nurl = \"http://{address}\"")
        };
        format!("[[source]]\nid = \"origin-{n}\"\n{kind}\nusd_per_gb = \"{n}\"\n")
    }

    /// From now on it follows another script; what is under way goes on.
    pub(crate) fn follow(&self, script: Script) {
        *lock(&self.shared.script) = script;
    }

    /// From now on it is like this, what is under way included. Returns when it is.
    pub(crate) async fn turn(&self, state: State) -> Outcome {
        let mut door = self.door.lock().await;
        self.shared.state.send_replace(state);
        match state {
            State::Up | State::Silent => door.accept(&self.shared).await,
            State::Killed => {
                door.close().await;
                Ok(())
            }
            State::Vanished => door.block().await,
        }
    }

    /// Body bytes written so far.
    pub(crate) fn given(&self) -> u64 {
        self.shared.given.load(Ordering::Relaxed)
    }

    /// Bodies it is in the middle of.
    pub(crate) fn sending(&self) -> usize {
        self.shared.sending.load(Ordering::Relaxed)
    }

    /// How many requests it had so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.shared.asked).requests.len()
    }

    /// When each request came.
    pub(crate) fn moments(&self) -> Vec<Instant> {
        lock(&self.shared.asked).requests.iter().map(|asked| asked.at).collect()
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
        // A head and a body that are written apart must not wait for each other. Without it they come late, no more.
        let _ = socket.set_nodelay(true);
        let mut state = self.state.subscribe();
        let killed = async { drop(state.wait_for(|state| *state == State::Killed).await) };
        let end = tokio::select! {
            biased;
            () = killed => Next::Reset,
            end = self.talk(&mut socket) => end,
        };
        if matches!(end, Next::Reset) {
            reset(&socket);
        }
    }

    async fn talk(&self, socket: &mut TcpStream) -> Next {
        let mut buffer = BytesMut::new();
        loop {
            let Ok(Some(head)) = read_head(socket, &mut buffer).await else { return Next::Close };
            match self.answer(socket, &head).await {
                Ok(Next::Request) => {}
                Ok(end) => return end,
                Err(_) => return Next::Close,
            }
        }
    }

    fn is_silent(&self) -> bool {
        matches!(*self.state.borrow(), State::Silent | State::Vanished)
    }

    async fn answer(&self, socket: &mut TcpStream, head: &str) -> std::io::Result<Next> {
        let (path, asked) = parse(head);
        // In a bucket's path the bucket comes first.
        let name = path.strip_prefix(BUCKET).and_then(|path| path.strip_prefix('/')).unwrap_or(path);
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
        if self.is_silent() || behaviour.fault == Some(Fault::Hang) {
            return hang(socket).await.map(|()| Next::Close);
        }
        if !think(socket, behaviour.latency).await {
            return Ok(Next::Close);
        }
        match behaviour.fault {
            Some(Fault::Refuse(Reason::Unavailable | Reason::Cut)) => Ok(Next::Reset),
            Some(Fault::Refuse(reason)) => refuse(socket, status(reason)).await,
            fault => {
                let plan = Plan::new(&object, range, asked.is_some(), fault);
                socket.write_all(plan.head.as_bytes()).await?;
                self.sending.fetch_add(1, Ordering::Relaxed);
                let _under_way = Leave(&self.sending);
                self.send(socket, place, plan, behaviour).await
            }
        }
    }

    /// Writes the question down, and draws for it.
    fn note(&self, question: &Question) -> (usize, Chance) {
        let mut record = lock(&self.asked);
        let (object, range) = (question.object.clone(), question.range);
        record.requests.push(Asked { object: object.clone(), range, at: Instant::now(), sent: 0 });
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
            if self.is_silent() {
                return hang(socket).await.map(|()| Next::Close);
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
            Then::Silence => hang(socket).await.map(|()| Next::Close),
        }
    }
}

/// Counts one less when it is dropped.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn refuse(socket: &mut TcpStream, status: u16) -> std::io::Result<Next> {
    socket.write_all(refusal(status).as_bytes()).await?;
    Ok(Next::Request)
}
