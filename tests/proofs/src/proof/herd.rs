//! A thousand viewers ask for one cold segment at once: one upstream read, nobody waits for its end, and who comes
//! in the middle gets what is there at the speed of memory.

use std::time::Duration;

use testkit::{Behaviour, Script};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::Stage;
use crate::clock::until;
use crate::facts::{Facts, ms, percentile, spread};
use crate::failure::{Context, Failure, Outcome};
use crate::film::{Film, Piece};
use crate::gateway::{Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Seen, Tally, Viewer, Wish};

/// A thousand copies of it are a gigabyte: what two processors can carry beside the proof.
const SEGMENT: u32 = 1 << 20;
/// How long the one upstream read takes.
const FILL_SECONDS: u64 = 8;
/// The short form runs on machines that are busy with other things.
const NEAR: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(50)];
/// Cache speed: the first half within this part of the time it took to arrive.
const CACHE_SPEED: [u32; 2] = [3, 10];

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let seconds = stage.pick(2, FILL_SECONDS);
    let film = Film::of_segments(stage.seed, vec![1_000, SEGMENT, SEGMENT])?;
    let rate = u64::from(SEGMENT) / seconds;
    let script = Script::new(move |_, _| Behaviour { rate, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, script).await?;
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], Setup::default()).await?;
    let segments = film.segments();
    // The first one makes the gateway read the index, so that only the segment itself is cold.
    let [small, first, second] = &segments[..] else { return Err(Failure::new("three segments")) };
    Viewer::new(&node.viewer).ask(&Wish::whole(small)).await;

    let viewers = stage.pick(300, 1_000);
    // All within a second, as at a premiere; what is measured is the gateway and not the queue for the processors.
    let cache_speed = stage.pick(CACHE_SPEED[0], CACHE_SPEED[1]);
    let herd = Herd { origin: &origin, segment: first, viewers, within: Duration::from_secs(1), cache_speed };
    let behind = herd.gather(facts, &node).await?;
    let limit = stage.pick(NEAR[0], NEAR[1]);
    let good = behind.len() == viewers && percentile(&behind, 99) <= limit;
    let figure = format!("{} (limit {} at p99)", spread(&behind), ms(limit));
    facts.add(good, "followers' first byte, from when they had asked and the leader had his", figure);
    // All in one moment: a thousand requests are work, too.
    let herd = Herd { segment: second, within: Duration::ZERO, ..herd };
    let behind = herd.gather(facts, &node).await?;
    facts.note("all in one moment: the same figure", spread(&behind));
    node.stop().await
}

/// Viewers of one cold segment, and one who comes when half of it is there.
struct Herd<'a> {
    origin: &'a Origin,
    segment: &'a Piece,
    viewers: usize,
    /// They come evenly within this time.
    within: Duration,
    cache_speed: u32,
}

impl Herd<'_> {
    /// How long each waited for its first byte from when it had asked and the leader had one.
    async fn gather(&self, facts: &mut Facts, node: &Node) -> Outcome<Vec<Duration>> {
        let Self { origin, segment, viewers, within, .. } = self;
        let herd = connected(node, *viewers).await?;
        let mut joiner = Viewer::new(&node.viewer).watch_for(u64::from(SEGMENT) * 45 / 100);
        joiner.connect().await.doing("connecting")?;
        let begun = Instant::now();
        let coming = |n: usize| begun + *within * n as u32 / *viewers as u32;
        let herd: Vec<_> = herd
            .into_iter()
            .enumerate()
            .map(|(n, viewer)| watch(viewer, (*segment).clone(), coming(n)))
            .collect();
        until("half of the segment is there", Duration::from_secs(60), async || {
            let asked = origin.asked(&segment.object, segment.start, segment.len());
            (asked.first()?.sent >= segment.len() / 2).then_some(())
        })
        .await?;
        let half = begun.elapsed();
        let late = joiner.ask(&Wish::whole(segment)).await;
        let mut all = Vec::new();
        for seen in herd {
            all.push(seen.await.doing("a viewer")?);
        }
        self.tell(facts, &all, &late, half);
        let came = |(asked, seen): &(Instant, Seen)| Some((*asked, *asked + seen.first_byte?));
        let came: Vec<_> = all.iter().filter_map(came).collect();
        let leader = came.iter().map(|(_, first)| *first).min().unwrap_or(begun);
        Ok(came.iter().map(|(asked, first)| first.saturating_duration_since(leader.max(*asked))).collect())
    }

    fn tell(&self, facts: &mut Facts, all: &[(Instant, Seen)], late: &Seen, half: Duration) {
        let segment = self.segment;
        let mut tally = Tally::default();
        all.iter().for_each(|(_, seen)| tally.count(&Wish::whole(segment), seen));
        let name = format!("{} viewers within {} ms", all.len(), self.within.as_millis());
        facts.add(tally.right == all.len() as u64, &name, &tally);
        let asked = self.origin.asked(&segment.object, segment.start, segment.len());
        let sent: u64 = asked.iter().map(|asked| asked.sent).sum();
        let good = asked.len() == 1 && sent == segment.len();
        facts.add(good, "upstream reads", format!("{}, {sent} bytes of {}", asked.len(), segment.len()));
        let mark = late.mark.unwrap_or(Duration::MAX);
        let figure = format!("{} where the source took {}, {:?}", ms(mark), ms(half), late.ending);
        let good = late.is_right() && mark * self.cache_speed <= half;
        facts.add(good, "who joins at half has the first 45 % after", figure);
    }
}

async fn connected(node: &Node, count: usize) -> Outcome<Vec<Viewer>> {
    let mut viewers: Vec<Viewer> = (0..count).map(|_| Viewer::new(&node.viewer)).collect();
    for viewer in &mut viewers {
        viewer.connect().await.doing("connecting")?;
    }
    let all = count as u64;
    until("the gateway has all connections", Duration::from_secs(30), async || {
        let open = node.metrics().await.ok()?.sum("weir_front_connections").ok()?;
        (open >= all).then_some(())
    })
    .await?;
    Ok(viewers)
}

/// The moment of the question, and what became of it.
fn watch(mut viewer: Viewer, segment: Piece, at: Instant) -> JoinHandle<(Instant, Seen)> {
    tokio::spawn(async move {
        sleep_until(at).await;
        (Instant::now(), viewer.ask(&Wish::whole(&segment)).await)
    })
}
