//! A thousand viewers ask for one cold segment at once: one upstream read, nobody waits for its end, and who comes
//! in the middle gets what is there at the speed of memory.

use std::time::Duration;

use testkit::{Behaviour, Script};
use tokio::time::{Instant, sleep_until};

use crate::Stage;
use crate::clock::until;
use crate::facts::{Facts, ms, percentile, spread};
use crate::failure::{Context, Outcome};
use crate::film::{Film, Piece};
use crate::gateway::{Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Seen, Tally, Viewer, Wish};

const SEGMENT: u32 = 4 << 20;
/// How long the one upstream read takes.
const FILL_SECONDS: u64 = 8;
const NEAR: Duration = Duration::from_millis(50);
/// Viewers that connect at once: the kernel's queue of a listener is not what is proved.
const CONNECT_AT_ONCE: usize = 64;
/// Cache speed: the first half within this part of the time it took to arrive.
const CACHE_SPEED: u32 = 10;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let viewers = stage.pick(300, 1_000);
    let seconds = stage.pick(3, FILL_SECONDS);
    let film = Film::of_segments(stage.seed, vec![1_000, SEGMENT])?;
    let rate = u64::from(SEGMENT) / seconds;
    let script = Script::new(move |_, _| Behaviour { rate, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, script).await?;
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], Setup::default()).await?;
    let segments = film.segments();
    // The first one makes the gateway read the index, so that only the segment itself is cold.
    let [small, segment] = &segments[..] else { return Err(crate::Failure::new("two segments")) };
    Viewer::new(&node.viewer).ask(&Wish::whole(small)).await;

    let mut herd = connected(&node, viewers).await?;
    let mut joiner = Viewer::new(&node.viewer).watch_for(u64::from(SEGMENT) * 45 / 100);
    joiner.connect().await.doing("connecting")?;
    let begun = Instant::now();
    let seen: Vec<_> = herd.drain(..).map(|viewer| watch(viewer, segment.clone())).collect();
    until("half of the segment is there", Duration::from_secs(60), async || {
        (origin.asked(&segment.object, segment.start, segment.len()).first()?.sent >= segment.len() / 2)
            .then_some(())
    })
    .await?;
    let half = begun.elapsed();
    let late = joiner.ask(&Wish::whole(segment)).await;
    let mut all = Vec::new();
    for seen in seen {
        all.push(seen.await.doing("a viewer")?);
    }

    tell(facts, segment, &all);
    let asked = origin.asked(&segment.object, segment.start, segment.len());
    let sent: u64 = asked.iter().map(|asked| asked.sent).sum();
    facts.add(asked.len() == 1, "upstream reads of the segment", asked.len());
    facts.add(sent == segment.len(), "upstream bytes of the segment", format!("{sent} of {}", segment.len()));
    let mark = late.mark.unwrap_or(Duration::MAX);
    let figure = format!("{} where the source took {}, {:?}", ms(mark), ms(half), late.ending);
    facts.add(
        late.is_right() && mark * CACHE_SPEED <= half,
        "a joiner at half has the first 45 % after",
        figure,
    );
    node.stop().await
}

async fn connected(node: &Node, count: usize) -> Outcome<Vec<Viewer>> {
    let mut viewers: Vec<Viewer> = (0..count).map(|_| Viewer::new(&node.viewer)).collect();
    for some in viewers.chunks_mut(CONNECT_AT_ONCE) {
        for viewer in some {
            viewer.connect().await.doing("connecting")?;
        }
    }
    let all = count as u64;
    until("the gateway has all connections", Duration::from_secs(30), async || {
        let open = node.metrics().await.ok()?.sum("weir_front_connections").ok()?;
        (open >= all).then_some(())
    })
    .await?;
    Ok(viewers)
}

fn watch(mut viewer: Viewer, segment: Piece) -> tokio::task::JoinHandle<Seen> {
    let at = Instant::now();
    tokio::spawn(async move {
        sleep_until(at).await;
        viewer.ask(&Wish::whole(&segment)).await
    })
}

fn tell(facts: &mut Facts, segment: &Piece, all: &[Seen]) {
    let mut tally = Tally::default();
    all.iter().for_each(|seen| tally.count(&Wish::whole(segment), seen));
    facts.add(
        tally.right == all.len() as u64,
        "viewers with every byte",
        format!("{} of {}: {tally}", tally.right, all.len()),
    );
    let first: Vec<Duration> = all.iter().filter_map(|seen| seen.first_byte).collect();
    let leader = first.iter().min().copied().unwrap_or_default();
    let behind: Vec<Duration> = first.iter().map(|time| time.saturating_sub(leader)).collect();
    let good = first.len() == all.len() && percentile(&behind, 99) <= NEAR;
    facts.add(
        good,
        "followers' first byte after the leader's",
        format!("{} (limit 50 ms at p99)", spread(&behind)),
    );
    let took: Vec<Duration> = all.iter().map(|seen| seen.took).collect();
    facts.note("a viewer's whole segment", spread(&took));
}
