//! Real players play a real film in real time while the cheapest source goes bad in the middle of segments, in each
//! of six ways, and comes back. A second, dearer one is well. Players must not notice; nor may viewers who ask all
//! the while for parts of the film, know every byte of it, and wait for none longer than a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testkit::{Behaviour, Chance, Script};
use tokio::time::{Instant, sleep_until};

use crate::Stage;
use crate::clock::until;
use crate::crowd::{Crowd, gather};
use crate::facts::{Facts, ms, percentile, spread};
use crate::failure::{Context, Outcome};
use crate::film::Piece;
use crate::gateway::{Node, Setup};
use crate::origin::Origin;
use crate::pane::Pane;
use crate::players::{Cinema, Played, Player};
use crate::trouble::Trouble;
use crate::viewer::{Viewer, Wish, fetch_all};

/// All at once, on one gateway. The short form takes what is pinned, and a real player still.
const PLAYERS: [Player; 6] =
    [Player::HlsJs, Player::Native, Player::Ffmpeg, Player::Mpv, Player::Vlc, Player::Gstreamer];
const PLAYERS_SHORT: [Player; 1] = [Player::Ffmpeg];
const WAYS: [Trouble; 6] = [
    Trouble::Killed,
    Trouble::Silent,
    Trouble::Vanished,
    Trouble::Dripping,
    Trouble::Failing,
    Trouble::Corrupting,
];
const WAYS_SHORT: [Trouble; 1] = [Trouble::Silent];

/// When the trouble begins, counted from the first request, and when it ends.
const TROUBLE: [[Duration; 2]; 2] =
    [[Duration::from_secs(4), Duration::from_secs(10)], [Duration::from_secs(15), Duration::from_secs(30)]];
/// A viewer who knows every byte comes this often, for at most so many bytes.
const PAUSE: Duration = Duration::from_millis(100);
const PART: u64 = 128 * 1024;
/// What trouble may add to a first byte, at p99; the short form runs on busy machines.
const ADDED: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_secs(1)];
/// By then nobody but probes asks the source, and so many a second are probes.
const KNOWN_AFTER: Duration = Duration::from_secs(2);
const PROBES_A_SECOND: usize = 1;
/// When the source has its share again after its trouble.
const RECOVERY: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let cinema = Arc::new(stage.cinema()?);
    for way in stage.pick(&WAYS_SHORT[..], &WAYS[..]) {
        let show = Show::open(stage, &cinema, *way).await?;
        show.run(facts).await?;
    }
    Ok(())
}

/// One showing of the film, with one kind of trouble.
struct Show<'a> {
    stage: &'a Stage,
    cinema: &'a Arc<Cinema>,
    way: Trouble,
    node: Node,
    /// What the players look through.
    pane: Pane,
    /// The first one is the cheapest, and goes bad.
    origins: [Origin; 2],
}

/// A segment takes some tenths of a second, so that trouble finds them in the middle.
fn calm() -> Script {
    Script::new(|_, _| Behaviour { latency: Duration::from_millis(20), rate: 4_000_000, fault: None })
}

/// What the trouble did to the one who plays the film.
struct Course {
    struck: Instant,
    healed: Instant,
    /// Questions to the source in trouble from when it had to be known on.
    questions: usize,
    counted: Duration,
    /// How long after its recovery the source had its share again.
    back: Option<Duration>,
    played: Vec<(Player, Played)>,
}

impl<'a> Show<'a> {
    async fn open(stage: &'a Stage, cinema: &'a Arc<Cinema>, way: Trouble) -> Outcome<Self> {
        let start = |id| Origin::start(id, stage.seed, &cinema.film.package, calm());
        let origins = [start("first").await?, start("second").await?];
        // Nothing is kept, so that every request is one for the sources.
        let setup = Setup { memory: "0", engine: "max_completions = 0", ..Setup::default() };
        let home = stage.home.join(way.as_str());
        let asked = [&origins[0], &origins[1]];
        let node = Node::start(&stage.gateway, &home, &cinema.film, &asked, setup).await?;
        let pane = Pane::before(&node.viewer, &cinema.film.pieces).await?;
        Ok(Self { stage, cinema, way, node, pane, origins })
    }

    async fn run(mut self, facts: &mut Facts) -> Outcome {
        let over = AtomicBool::new(false);
        let course = async {
            let course = self.play().await;
            over.store(true, Ordering::Relaxed);
            course
        };
        let (course, crowd) = tokio::join!(course, self.check(&over));
        let (course, crowd) = (course?, crowd?);
        self.node.still_there()?;
        self.tell(facts, &course, &crowd);
        let pieces = &self.cinema.film.pieces;
        let tally = fetch_all(&self.node.viewer, pieces, 4).await;
        let good = tally.right == pieces.len() as u64;
        facts.add(good, &self.name("every object as published, afterwards"), &tally);
        self.node.stop().await
    }

    fn name(&self, what: &str) -> String {
        format!("{}: {what}", self.way.as_str())
    }

    /// Viewers ask for a part of any segment until it is over.
    async fn check(&self, over: &AtomicBool) -> Outcome<Crowd> {
        let segments = self.cinema.film.segments();
        let chance = Chance::new(self.stage.seed).for_("checker");
        let mut n = 0;
        let pieces = std::iter::from_fn(|| {
            n += 1;
            let piece = &segments[chance.nth(n).below(segments.len() as u64) as usize];
            (!over.load(Ordering::Relaxed)).then(|| piece.clone())
        });
        let mut viewers = 0;
        gather(pieces, PAUSE, |piece: Piece| {
            viewers += 1;
            let start = chance.for_("start").nth(viewers).below(piece.len());
            let mut viewer = Viewer::new(&self.node.viewer);
            async move {
                let wish = Wish::part(&piece, start, piece.len().min(start + PART));
                vec![viewer.visit(&wish).await]
            }
        })
        .await
    }

    /// Players from beginning to end, and the trouble in between.
    async fn play(&self) -> Outcome<Course> {
        let begun = Instant::now();
        let [strike, heal] = self.stage.pick(TROUBLE[0], TROUBLE[1]);
        let players = self.players()?;
        let first = &self.origins[0];
        sleep_until(begun + strike).await;
        let under_way = async || (first.sending() > 0).then_some(());
        until("a body of the cheapest source is under way", RECOVERY, under_way).await?;
        self.way.strike(first, &calm()).await?;
        let struck = Instant::now();
        let known = struck + KNOWN_AFTER + self.way.counted_after();
        sleep_until(known).await;
        let asked = self.way.questions(&self.node, &self.origins[..1]).await?;
        sleep_until((begun + heal).max(known + SECOND)).await;
        let questions = self.way.questions(&self.node, &self.origins[..1]).await? - asked;
        let counted = known.elapsed();
        Trouble::heal(first, &calm()).await?;
        let healed = Instant::now();
        let back = until("its share", RECOVERY + SECOND, async || self.back_after(healed)).await.ok();
        let mut played = Vec::new();
        for (player, playing) in players {
            played.push((player, playing.await.doing(player.as_str())??));
        }
        Ok(Course { struck, healed, questions, counted, back, played })
    }

    fn players(&self) -> Outcome<Vec<(Player, tokio::task::JoinHandle<Outcome<Played>>)>> {
        let start = |player: &Player| {
            let (player, cinema) = (*player, Arc::clone(self.cinema));
            let url = format!("http://{}{}", self.pane.address, cinema.film.main("player")?);
            let scratch = self.stage.home.join(self.way.as_str()).join(format!("{player:?}"));
            let seconds = cinema.film.seconds() - 1.0;
            let playing = async move { player.play(&cinema, &scratch, &url, seconds).await };
            Ok((player, tokio::spawn(playing)))
        };
        self.stage.pick(&PLAYERS_SHORT[..], &PLAYERS[..]).iter().map(start).collect()
    }

    /// After how many whole seconds the source was asked at least as often as the other one, once it was well.
    fn back_after(&self, healed: Instant) -> Option<Duration> {
        let [first, second] = self.origins.each_ref().map(Origin::moments);
        let in_second = |moments: &[Instant], begin: Instant| {
            moments.iter().filter(|moment| (begin..begin + SECOND).contains(moment)).count()
        };
        let whole = (0..=RECOVERY.as_secs() as u32).filter(|n| healed + SECOND * (n + 1) <= Instant::now());
        let mut counts = whole.map(|n| {
            let begin = healed + SECOND * n;
            (SECOND * n, in_second(&first, begin), in_second(&second, begin))
        });
        counts.find(|(_, first, second)| *first > 0 && first >= second).map(|(after, ..)| after)
    }

    fn tell(&self, facts: &mut Facts, course: &Course, crowd: &Crowd) {
        let seconds = self.cinema.film.seconds();
        for (player, played) in &course.played {
            let figure = format!("of {seconds:.0} s: {played}");
            facts.add(played.is_smooth(seconds), &self.name(player.as_str()), figure);
        }
        let got = self.pane.tally();
        let good = got.right > 0 && got.wrong + got.broken + got.refused + got.unanswered == 0;
        facts.add(good, &self.name("what the players got, compared with what was published"), &got);
        facts.add(crowd.is_served(), &self.name("viewers who know every byte"), &crowd.tally);
        for tally in [&got, &crowd.tally] {
            let not_right = tally.first_wrong.as_ref().or(tally.first_broken.as_ref());
            not_right.iter().for_each(|what| facts.note("the first that was not right", what));
        }
        self.tell_delay(facts, course, crowd);
        self.tell_source(facts, course);
    }

    /// What the viewers waited for.
    fn tell_delay(&self, facts: &mut Facts, course: &Course, crowd: &Crowd) {
        let calm = percentile(&crowd.waits_during(..course.struck), 50);
        let trouble = course.struck..course.healed;
        let waits = crowd.waits_during(trouble.clone());
        let added = percentile(&waits, 99).saturating_sub(calm);
        let limit = self.stage.pick(ADDED[0], ADDED[1]);
        let figure = format!("{} at p99 (limit {}); {}", ms(added), ms(limit), spread(&waits));
        facts.add(added <= limit, &self.name("added to a first byte"), figure);
        let took: Vec<Duration> = crowd.during(trouble).map(|seen| seen.took).collect();
        facts.note(&self.name("a whole part in this time"), spread(&took));
    }

    /// What the source in trouble bore, and how it came back.
    fn tell_source(&self, facts: &mut Facts, course: &Course) {
        let limit = (course.counted.as_secs() as usize + 2) * PROBES_A_SECOND;
        let figure = format!("{} in {:.1} s (limit {limit})", course.questions, course.counted.as_secs_f64());
        let from = KNOWN_AFTER + self.way.counted_after();
        let name = format!("questions to it from {} s on", from.as_secs());
        facts.add(course.questions <= limit, &self.name(&name), figure);
        let after = course.back.map_or("never".to_owned(), |back| format!("after {} s", back.as_secs()));
        let good = course.back.is_some_and(|back| back <= RECOVERY);
        let figure = format!("{after} (limit {} s)", RECOVERY.as_secs());
        facts.add(good, &self.name("it has its share again"), figure);
    }
}
