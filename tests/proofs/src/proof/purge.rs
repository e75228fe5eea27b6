//! What is purged is gone within 100 ms, stays gone after `kill -9`, and is not stored by a fill that began before.

use std::time::Duration;

use testkit::{Behaviour, Fault, Script};
use tokio::time::{Instant, sleep};

use crate::Stage;
use crate::clock::until;
use crate::facts::{Facts, percentile, spread};
use crate::failure::{Context, Failure, Outcome};
use crate::film::{Film, Piece, lengths};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Viewer, Wish, fetch_all, talk};

const VIEWERS: usize = 4;
const VISIBLE: Duration = Duration::from_millis(100);
/// Slow enough that a purge comes while a fill runs.
const SLOW: u64 = 200_000;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let film = Film::of_segments(stage.seed, lengths(stage.seed, 40, 50_000, 200_000))?;
    let origin = Origin::start("origin", stage.seed, &film.package, at_rate(u64::MAX)).await?;
    let disk = Some(Disk::new(&stage.home.join("cache"), "64MiB"));
    let setup = Setup { disk, ..Setup::default() };
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    fetch_all(&node.viewer, &film.pieces, VIEWERS).await;
    node.settle().await?;

    one_by_one(facts, &node, &origin, &film.segments()[..stage.pick(10, 40)]).await?;
    for scope in ["{\"title\": \"story\"}".to_owned(), format!("{{\"prefix\": \"{}\"}}", prefix(&film)?)] {
        whole(facts, &mut node, &origin, &film, &scope).await?;
    }
    during_a_fill(facts, &node, &origin, &film).await?;
    soft(facts, &node, &origin, &film).await?;
    node.stop().await
}

fn at_rate(rate: u64) -> Script {
    Script::new(move |question, _| Behaviour {
        rate: if question.is_media() { rate } else { u64::MAX },
        latency: Duration::from_millis(1),
        ..Behaviour::default()
    })
}

/// All segments of the rendition: `story/0000000000000001/v720/`.
fn prefix(film: &Film) -> Outcome<String> {
    let segments = film.segments();
    let key = &segments.first().doing("a segment")?.key;
    let (prefix, _) = key.rsplit_once('/').doing("a prefix")?;
    Ok(format!("{prefix}/"))
}

async fn purge(node: &Node, scope: &str) -> Outcome {
    let (status, text) = talk(&node.admin, "POST", "/purge", scope).await.doing("POST /purge")?;
    if status == 200 { Ok(()) } else { Err(Failure::new(format!("POST /purge {scope}: {status} {text}"))) }
}

/// Each by its URL: how long until a viewer's request goes to the source.
async fn one_by_one(facts: &mut Facts, node: &Node, origin: &Origin, segments: &[Piece]) -> Outcome {
    let (mut viewer, mut times, mut wrong) = (Viewer::new(&node.viewer), Vec::new(), 0);
    for segment in segments {
        let asked = origin.asked(&segment.object, segment.start, segment.len()).len();
        let begun = Instant::now();
        purge(node, &format!("{{\"url\": \"{}\"}}", segment.path)).await?;
        let visible = until("the purge shows", Duration::from_secs(10), async || {
            wrong += usize::from(!viewer.ask(&Wish::whole(segment)).await.is_right());
            let bought = origin.asked(&segment.object, segment.start, segment.len()).len() > asked;
            bought.then(|| begun.elapsed())
        });
        times.push(visible.await?);
    }
    let good = wrong == 0 && percentile(&times, 100) <= VISIBLE;
    let name = format!("{} purges by URL: visible after, the new answer included", segments.len());
    facts.add(good, &name, spread(&times));
    Ok(())
}

/// Everything at once, and a restart before anybody looks.
async fn whole(facts: &mut Facts, node: &mut Node, origin: &Origin, film: &Film, scope: &str) -> Outcome {
    fetch_all(&node.viewer, &film.pieces, VIEWERS).await;
    node.settle().await?;
    purge(node, scope).await?;
    node.kill().await?;
    node.restart().await?;
    let before = origin.given();
    let seen = fetch_all(&node.viewer, &film.segments(), VIEWERS).await;
    let (bought, all) = (origin.given() - before, film.segments().iter().map(Piece::len).sum::<u64>());
    let good = seen.right == film.segments().len() as u64 && seen.hits == 0 && bought >= all;
    let figure = format!("{} hits, {bought} of {all} bytes bought again, {seen}", seen.hits);
    facts.add(good, &format!("{scope}, then kill -9: nothing is left"), figure);
    Ok(())
}

/// The fill goes on for its viewer, and is not stored.
async fn during_a_fill(facts: &mut Facts, node: &Node, origin: &Origin, film: &Film) -> Outcome {
    purge(node, "{\"title\": \"story\"}").await?;
    origin.follow(at_rate(SLOW));
    let segments = film.segments();
    let segment = segments.iter().max_by_key(|segment| segment.len()).doing("a segment")?;
    let asked = || origin.asked(&segment.object, segment.start, segment.len());
    let before = asked().len();
    let watching = tokio::spawn({
        let (mut viewer, segment) = (Viewer::new(&node.viewer), segment.clone());
        async move { viewer.ask(&Wish::whole(&segment)).await }
    });
    until("the fill is at a third", Duration::from_secs(10), async || {
        (asked().get(before)?.sent > segment.len() / 3).then_some(())
    })
    .await?;
    purge(node, "{\"title\": \"story\"}").await?;
    let seen = watching.await.doing("a viewer")?;
    node.settle().await?;
    origin.follow(at_rate(u64::MAX));
    let next = Viewer::new(&node.viewer).ask(&Wish::whole(segment)).await;
    let good = seen.is_right() && next.is_right() && !next.hit && asked().len() > before + 1;
    let figure = format!("its viewer {:?}, the next one a hit: {}", seen.ending, next.hit);
    facts.add(good, "a fill that began before a purge is not stored", figure);
    Ok(())
}

/// Still there for the day on which no source delivers.
async fn soft(facts: &mut Facts, node: &Node, origin: &Origin, film: &Film) -> Outcome {
    fetch_all(&node.viewer, &film.pieces, VIEWERS).await;
    node.settle().await?;
    purge(node, "{\"title\": \"story\", \"soft\": true}").await?;
    origin.follow(Script::new(|_, _| Behaviour::faulty(Fault::Refuse(sourcing::Reason::Unavailable))));
    let segments = film.segments();
    let some = &segments[..segments.len().min(5)];
    let seen = fetch_all(&node.viewer, some, VIEWERS).await;
    facts.add(seen.right == some.len() as u64, "purged softly, and no source delivers", &seen);
    origin.follow(at_rate(u64::MAX));
    // The source rests for a moment after its failures.
    sleep(Duration::from_secs(2)).await;
    let before = origin.given();
    let again = fetch_all(&node.viewer, some, VIEWERS).await;
    let bought = origin.given() - before;
    let good = again.right == some.len() as u64 && bought > 0;
    facts.add(good, "when the source is back, it is asked", format!("{bought} bytes bought, {again}"));
    Ok(())
}
