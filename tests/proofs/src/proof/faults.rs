//! Everything at once: both origins in trouble, viewers of every kind, a gateway that is killed and comes back, and
//! a disk tier whose files are damaged, cut off and out of space. No response may end cleanly with a wrong byte.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use media::RenditionKind;
use testkit::{Behaviour, Chance, RenditionShape, Script, Shape};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::Stage;
use crate::facts::{Facts, say};
use crate::failure::{Context, Outcome};
use crate::film::{Film, Piece, lengths};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Ending, Seen, Tally, Viewer, Wish};
use crate::volume::Volume;
use crate::wreck::{Harm, blocks};

const VIEWERS: u64 = 96;
/// Who could not be served tries again after this, as a player does.
const RETRY: Duration = Duration::from_millis(20);

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let target = stage.pick(3_000, 100_000);
    let film = Film::new(stage.seed, &shape(stage.seed))?;
    let first = Origin::start("first", stage.seed, &film.package, calm()).await?;
    let second = Origin::start("second", stage.seed, &film.package, stormy(0)).await?;
    let cache = stage.home.join("cache");
    let volume = Volume::memory(&cache, "48m").await?;
    if volume.is_none() {
        facts.note("left out", "a full disk: it takes root and a mount");
    }
    let setup = setup(&cache);
    let node = Node::start(&stage.gateway, &stage.home, &film, &[&first, &second], setup).await?;

    let (alive, watching) = watch::channel(true);
    let arena = Arc::new(Arena {
        address: node.viewer.clone(),
        pieces: film.pieces.clone(),
        responses: AtomicU64::new(0),
        target,
        all_happened: AtomicBool::new(false),
        watching,
    });
    // Half of the time the second origin is honest; then nobody has a reason to be sent away.
    let chance = Chance::new(stage.seed).for_("viewer");
    let viewers: Vec<_> = (0..VIEWERS).map(|n| view(Arc::clone(&arena), chance.nth(n))).collect();
    let mut accidents = Accidents {
        node,
        alive,
        origins: [first, second],
        cache,
        volume,
        chance: Chance::new(stage.seed).for_("accidents"),
        happened: 0,
        done: Done::default(),
    };
    while !arena.is_over() {
        accidents.next(arena.one_is_honest()).await?;
        arena.all_happened.store(accidents.happened >= ORDER.len(), Ordering::Relaxed);
    }
    let mut seen = Life::default();
    for viewer in viewers {
        let life = viewer.await.doing("a viewer")?;
        seen.all.add(life.all);
        seen.served_honestly += life.served_honestly;
        seen.let_down.extend(life.let_down);
        seen.broken_alive += life.broken_alive;
        seen.refused_alive += life.refused_alive;
    }
    tell(facts, &seen, &accidents, target);
    accidents.node.stop().await
}

fn shape(seed: u64) -> Shape {
    let rendition = |id, kind, count, low, high| {
        let seed = Chance::new(seed).for_(id).bits();
        RenditionShape { id, kind, segments: lengths(seed, count, low, high) }
    };
    let renditions = vec![
        rendition("v720", RenditionKind::Video, 120, 100_000, 300_000),
        rendition("v404", RenditionKind::Video, 120, 20_000, 120_000),
        rendition("a-en", RenditionKind::Audio, 120, 1, 40_000),
    ];
    Shape { renditions }
}

/// Tiers that hold a part of the film, and patience that suits a proof.
fn setup(cache: &Path) -> Setup {
    Setup {
        memory: "4MiB",
        disk: Some(Disk::new(cache, "16MiB").with("offline_for", "500ms")),
        engine: "fill_deadline = \"5s\"\nindex_miss_for = \"100ms\"",
        sourcing: "stall_timeout = \"300ms\"\nretry_pause = \"10ms\"\npatience.unknown = \"300ms\"",
        // Sources return soon, so that they can do wrong again.
        breaker: "failures = 20\nopen_for = \"100ms\"\ncorrupt_for = \"100ms\"\nlongest = \"500ms\"",
        ..Setup::default()
    }
}

/// Mostly right, and quick.
fn calm() -> Script {
    stormy(10)
}

/// In trouble in so many percent of the cases; half of those go wrong in one of the ways testkit knows.
fn stormy(percent: u64) -> Script {
    Script::new(move |question, chance| {
        if chance.for_("trouble").happens(percent) {
            return Behaviour::troubled(chance, question.range.len());
        }
        let latency = Duration::from_millis(chance.for_("latency").below(5));
        Behaviour { latency, rate: 50_000_000, fault: None }
    })
}

/// Where viewers and accidents meet.
struct Arena {
    address: String,
    pieces: Vec<Piece>,
    responses: AtomicU64,
    target: u64,
    /// Whether every kind of accident has happened.
    all_happened: AtomicBool,
    /// Whether the gateway is up.
    watching: watch::Receiver<bool>,
}

impl Arena {
    fn is_over(&self) -> bool {
        self.responses.load(Ordering::Relaxed) >= self.target && self.all_happened.load(Ordering::Relaxed)
    }

    fn one_is_honest(&self) -> bool {
        self.responses.load(Ordering::Relaxed) < self.target / 2
    }
}

/// What a viewer saw in its life.
#[derive(Default)]
struct Life {
    all: Tally,
    /// While the gateway lived and one origin was honest: who was served, and who was not.
    served_honestly: u64,
    let_down: Vec<String>,
    /// Responses that broke although the gateway was not killed meanwhile.
    broken_alive: u64,
    refused_alive: u64,
}

impl Life {
    fn note(&mut self, wish: &Wish<'_>, seen: &Seen, lived: bool, honest: bool) {
        self.all.count(wish, seen);
        match &seen.ending {
            Ending::Broken(_) => self.broken_alive += u64::from(lived),
            Ending::Refused(_) => self.refused_alive += u64::from(lived),
            _ => {}
        }
        match &seen.ending {
            Ending::Right | Ending::Left => self.served_honestly += u64::from(lived && honest),
            other if lived && honest => {
                self.let_down
                    .push(format!("{} {:?}: {other:?} after {:?}", wish.piece.key, wish.range, seen.took));
            }
            _ => {}
        }
    }
}

fn view(arena: Arc<Arena>, chance: Chance) -> JoinHandle<Life> {
    tokio::spawn(async move {
        let (mut viewer, mut life, mut alive) =
            (Viewer::new(&arena.address), Life::default(), arena.watching.clone());
        for n in 0.. {
            if arena.is_over() {
                break;
            }
            // The one who turns the switch is gone when the proof has failed.
            if alive.wait_for(|up| *up).await.is_err() {
                break;
            }
            let wish = wish(&arena.pieces, chance.nth(n));
            let seen = viewer.ask(&wish).await;
            let lived = !alive.has_changed().unwrap_or(true);
            life.note(&wish, &seen, lived, arena.one_is_honest());
            if matches!(seen.ending, Ending::Unanswered | Ending::Refused(_)) {
                sleep(RETRY).await;
            }
            if seen.ending != Ending::Unanswered {
                arena.responses.fetch_add(1, Ordering::Relaxed);
            }
        }
        life
    })
}

/// Some part of something, most often of what many want; some read slowly, some leave.
fn wish(pieces: &[Piece], chance: Chance) -> Wish<'_> {
    let draw = |name: &str| chance.for_(name).below(1_000);
    let nth = draw("popular") * draw("popular-too") * pieces.len() as u64 / 1_000_000;
    let piece = &pieces[nth as usize];
    let (a, b) = (chance.for_("a").below(piece.len()), chance.for_("b").below(piece.len()));
    let ranged = chance.for_("is-ranged").happens(40);
    let some = |name: &str, percent, value| chance.for_(name).happens(percent).then_some(value);
    Wish {
        piece,
        range: ranged.then_some((a.min(b), a.max(b) + 1)),
        leaves_after: some("is-leaver", 8, chance.for_("leaves").below(piece.len())),
        rate: some("is-slow", 3, chance.for_("rate").between(200_000, 1_000_000)),
    }
}

#[derive(Debug, Clone, Copy)]
enum Accident {
    Kill,
    DamagedKill,
    Strike,
    Stop,
    TakeOver,
    Full,
    Weather,
}

/// What follows what; the seed decides when, where and how much.
const ORDER: [Accident; 13] = {
    use Accident::{DamagedKill, Full, Kill, Stop, Strike, TakeOver, Weather};
    [
        Strike,
        Weather,
        Kill,
        Full,
        Strike,
        TakeOver,
        Weather,
        DamagedKill,
        Strike,
        Weather,
        Kill,
        Stop,
        Weather,
    ]
};

/// How often each accident happened.
#[derive(Debug, Default)]
struct Done {
    kills: u64,
    stops: u64,
    takeovers: u64,
    struck: u64,
    full: u64,
    storms: u64,
}

/// What goes wrong beside the viewers.
struct Accidents {
    node: Node,
    alive: watch::Sender<bool>,
    origins: [Origin; 2],
    cache: std::path::PathBuf,
    volume: Option<Volume>,
    chance: Chance,
    happened: usize,
    done: Done,
}

impl Accidents {
    async fn next(&mut self, second_is_honest: bool) -> Outcome {
        self.chance = self.chance.for_("next");
        sleep(Duration::from_millis(self.chance.for_("pause").between(50, 600))).await;
        match ORDER[self.happened % ORDER.len()] {
            Accident::Kill => self.kill(false).await?,
            Accident::DamagedKill => self.kill(true).await?,
            Accident::Strike => self.strike(),
            Accident::Stop => self.stop().await?,
            Accident::TakeOver => self.take_over().await?,
            Accident::Full => self.fill_the_disk().await,
            Accident::Weather => self.weather(if second_is_honest { 1 } else { 2 }),
        }
        self.happened += 1;
        self.node.still_there()
    }

    /// `kill -9`, perhaps with damage before it comes back.
    async fn kill(&mut self, damaged: bool) -> Outcome {
        self.alive.send_replace(false);
        self.node.kill().await?;
        if damaged {
            self.strike();
        }
        self.node.restart().await?;
        self.alive.send_replace(true);
        self.done.kills += 1;
        Ok(())
    }

    async fn stop(&mut self) -> Outcome {
        self.alive.send_replace(false);
        self.node.stop().await?;
        self.node.restart().await?;
        self.alive.send_replace(true);
        self.done.stops += 1;
        Ok(())
    }

    /// Another process takes over; nobody may notice.
    async fn take_over(&mut self) -> Outcome {
        self.node.take_over().await?.gone().await?;
        self.done.takeovers += 1;
        Ok(())
    }

    fn strike(&mut self) {
        let Ok(blocks) = blocks(&self.cache) else { return };
        let count = self.chance.for_("count").between(1, 30);
        for n in 0..count {
            let chance = self.chance.for_("strike").nth(n);
            let Some(block) = blocks.get(chance.for_("block").below(blocks.len() as u64) as usize) else {
                return;
            };
            let harm = Harm::ALL[chance.for_("harm").below(4) as usize];
            // The gateway may have removed the file meanwhile.
            self.done.struck += u64::from(harm.strike(block, chance).is_ok());
        }
    }

    /// Somebody else takes all the space for a while.
    async fn fill_the_disk(&mut self) {
        let Some(volume) = &self.volume else { return };
        let ballast = volume.path.join("ballast");
        // It ends where the space does.
        let _ = fs::write(&ballast, vec![1; 64 << 20]);
        sleep(Duration::from_millis(self.chance.for_("full").between(200, 1_500))).await;
        let _ = fs::remove_file(&ballast);
        self.done.full += 1;
    }

    /// The weather of one of the first `among` origins changes.
    fn weather(&mut self, among: u64) {
        let origin = &self.origins[self.chance.for_("origin").below(among) as usize];
        let percent = [0, 10, 40, 100][self.chance.for_("weather").below(4) as usize];
        origin.follow(stormy(percent));
        self.done.storms += 1;
    }
}

fn tell(facts: &mut Facts, seen: &Life, accidents: &Accidents, target: u64) {
    let Done { kills, stops, takeovers, struck, full, storms } = &accidents.done;
    let [one, other] = &accidents.origins;
    say(format_args!(
        "     {kills} kill -9, {stops} stops, {takeovers} takeovers, {struck} blocks struck, {full} times a full disk, {storms} changes of \
         the origins' weather, {} requests to origins",
        one.count() + other.count()
    ));
    let all = &seen.all;
    facts.add(
        all.responses() >= target,
        "responses",
        format!("{}: {all}; {} hits", all.responses(), all.hits),
    );
    let figure = format!("{} {}", all.wrong, all.first_wrong.as_deref().unwrap_or_default());
    facts.add(all.wrong == 0, "responses that ended cleanly with a wrong byte or length", figure);
    let (served, let_down) = (seen.served_honestly, &seen.let_down);
    let figure = format!(
        "{} of {} {}",
        let_down.len(),
        served + let_down.len() as u64,
        let_down.first().map_or("", |first| first)
    );
    facts.add(let_down.is_empty(), "while one origin was honest and the gateway lived: not served", figure);
    let alive = format!(
        "{} broken, {} refused (both origins in trouble at once) {}",
        seen.broken_alive,
        seen.refused_alive,
        all.first_broken.as_deref().unwrap_or_default()
    );
    facts.note("while the gateway lived", alive);
    facts.add(*kills > 0 && *struck > 0, "accidents happened", format!("{kills} kills, {struck} blocks"));
}
