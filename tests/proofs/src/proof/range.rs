//! A cold range in the middle of a large segment costs about itself; then it is a hit, and the whole segment costs
//! what is missing.

use testkit::{Behaviour, Script};

use crate::Stage;
use crate::facts::Facts;
use crate::failure::{Context, Outcome};
use crate::film::{Film, Piece};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Seen, Viewer, Wish};

const SEGMENT: u32 = 8 << 20;
/// A megabyte, not on the edge of a group.
const START: u64 = 3_456_789;
const LEN: u64 = 1 << 20;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let film = Film::of_segments(stage.seed, vec![SEGMENT])?;
    let script = Script::new(|_, _| Behaviour { rate: 100_000_000, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, script).await?;
    let disk = Some(Disk::new(&stage.home.join("cache"), "64MiB"));
    let setup = Setup { disk, ..Setup::default() };
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    let segments = film.segments();
    let segment = segments.first().doing("a segment")?;
    let mut counter = Counter { origin: &origin, segment, before: 0 };
    let part = Wish::part(segment, START, START + LEN);

    let (cold, bought) = counter.ask(&node, &part).await?;
    let figure = format!("{bought} for {LEN} ({:.3} x), {:?}", bought as f64 / LEN as f64, cold.ending);
    facts.add(cold.is_right() && bought * 4 <= LEN * 5, "a cold 1 MiB range: upstream bytes", figure);
    let (again, bought) = counter.ask(&node, &part).await?;
    let figure = format!("{bought} upstream bytes, hit: {}, {:?}", again.hit, again.ending);
    facts.add(again.is_right() && again.hit && bought == 0, "the same range again", figure);
    let inner = Wish::part(segment, START + 100_000, START + 200_000);
    let (inside, bought) = counter.ask(&node, &inner).await?;
    facts.add(inside.is_right() && bought == 0, "a range within it", format!("{bought} upstream bytes"));

    node.settle().await?;
    node.kill().await?;
    node.restart().await?;
    let (kept, bought) = counter.ask(&node, &part).await?;
    facts.add(
        kept.is_right() && bought == 0,
        "the same range after kill -9",
        format!("{bought} upstream bytes"),
    );

    let (whole, bought) = counter.ask(&node, &Wish::whole(segment)).await?;
    let missing = segment.len() - LEN;
    let good = whole.is_right() && bought <= missing;
    facts.add(good, "then the whole: upstream bytes", format!("{bought} where {missing} were missing"));
    let (hit, bought) = counter.ask(&node, &Wish::whole(segment)).await?;
    let figure = format!("{bought} upstream bytes, hit: {}", hit.hit);
    facts.add(hit.is_right() && hit.hit && bought == 0, "the whole again", figure);
    node.stop().await
}

/// Asks, and counts what that cost at the origin.
struct Counter<'a> {
    origin: &'a Origin,
    segment: &'a Piece,
    before: u64,
}

impl Counter<'_> {
    async fn ask(&mut self, node: &Node, wish: &Wish<'_>) -> Outcome<(Seen, u64)> {
        let seen = Viewer::new(&node.viewer).ask(wish).await;
        node.settle().await?;
        let asked = self.origin.asked(&self.segment.object, self.segment.start, self.segment.len());
        let sent: u64 = asked.iter().map(|asked| asked.sent).sum();
        Ok((seen, sent - std::mem::replace(&mut self.before, sent)))
    }
}
