//! `kill -9` in the middle of fills, again and again. What had been stored is a hit after the restart, and no byte
//! is ever wrong.

use std::time::Duration;

use testkit::{Behaviour, Chance, Script};
use tokio::time::sleep;

use crate::Stage;
use crate::facts::Facts;
use crate::failure::Outcome;
use crate::film::{Film, Piece, lengths};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Seen, Tally, Viewer, Wish, fetch_all};

const VIEWERS: usize = 8;
/// New objects of each round: some are stored before the kill, some are being filled when it comes.
const STORED: usize = 3;
const FILLING: usize = 4;
/// Objects that are looked at after each kill; all of them after the last.
const LOOKED_AT: usize = 60;
/// Bytes per second of the origin while the gateway is being killed, so that fills take a while.
const SLOW: u64 = 400_000;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let rounds = stage.pick(5, 200);
    let count = rounds * (STORED + FILLING);
    let film = Film::of_segments(stage.seed, lengths(stage.seed, count as u64, 1_000, 120_000))?;
    let origin = Origin::start("origin", stage.seed, &film.package, at_rate(u64::MAX)).await?;
    let setup = Setup::disk_only(Disk::new(&stage.home.join("cache"), "256MiB"));
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    let segments = film.segments();
    let chance = Chance::new(stage.seed).for_("kill");
    let mut kills =
        Kills { origin: &origin, stored: Vec::new(), torn: Tally::default(), hits: Hits::default() };
    for (round, segments) in segments.chunks(STORED + FILLING).enumerate() {
        kills.round(&mut node, segments, chance.nth(round as u64)).await?;
    }
    let Kills { stored, torn, hits, .. } = kills;
    facts.add(torn.wrong == 0, "viewers during the kills: wrong bytes", format!("{torn}"));
    let cut_off = torn.broken + torn.unanswered + torn.refused;
    facts.add(cut_off > 0, "the kills came in mid-fill: viewers cut off", cut_off);
    facts.add(
        hits.tally.wrong + hits.tally.broken == 0,
        "looked at after each kill",
        format!("{}", hits.tally),
    );
    hits.tell(facts, rounds);
    let before = origin.given();
    let last = fetch_all(&node.viewer, &stored, VIEWERS).await;
    let (all, bought) = (stored.len() as u64, origin.given() - before);
    facts.add(
        last.right == all,
        "all stored objects after the last kill",
        format!("{last}, {bought} bytes bought again"),
    );
    facts.add(last.hits * 1_000 >= all * 999, "of them hits", format!("{} of {all}", last.hits));
    node.stop().await
}

fn at_rate(rate: u64) -> Script {
    Script::new(move |question, _| Behaviour {
        rate: if question.is_media() { rate } else { u64::MAX },
        latency: Duration::from_millis(1),
        ..Behaviour::default()
    })
}

#[derive(Default)]
struct Hits {
    hits: u64,
    of: u64,
    tally: Tally,
}

impl Hits {
    fn tell(&self, facts: &mut Facts, rounds: usize) {
        let good = self.hits * 1_000 >= self.of * 999;
        let name = format!("{rounds} kills: stored objects that were hits after");
        facts.add(good && self.of > 0, &name, format!("{} of {}", self.hits, self.of));
    }
}

struct Kills<'a> {
    origin: &'a Origin,
    stored: Vec<Piece>,
    /// What viewers saw whose gateway was killed.
    torn: Tally,
    hits: Hits,
}

impl Kills<'_> {
    async fn round(&mut self, node: &mut Node, segments: &[Piece], chance: Chance) -> Outcome {
        let (kept, filling) = segments.split_at(STORED.min(segments.len()));
        self.origin.follow(at_rate(u64::MAX));
        // Nothing else is on its way to the disk: what is counted from now on are these.
        node.settle().await?;
        let before = node.written().await?;
        fetch_all(&node.viewer, kept, STORED).await;
        node.until_written(before + kept.len() as u64).await?;
        self.stored.extend_from_slice(kept);

        self.origin.follow(at_rate(SLOW));
        let viewers: Vec<_> = filling.iter().map(|piece| view(node, piece)).collect();
        sleep(Duration::from_millis(chance.for_("after").between(5, 300))).await;
        node.kill().await?;
        for (piece, viewer) in filling.iter().zip(viewers) {
            if let Ok(seen) = viewer.await {
                self.torn.count(&Wish::whole(piece), &seen);
            }
        }
        node.restart().await?;
        self.look(node, chance).await
    }

    /// Some of what had been stored, newest first because the newest are the least safe.
    async fn look(&mut self, node: &Node, chance: Chance) -> Outcome {
        let newest = self.stored.iter().rev().take(LOOKED_AT / 2);
        let others = (0..LOOKED_AT as u64 / 2).filter_map(|n| {
            self.stored.get(chance.for_("look").nth(n).below(self.stored.len() as u64) as usize)
        });
        let some: Vec<Piece> = newest.chain(others).cloned().collect();
        let tally = fetch_all(&node.viewer, &some, VIEWERS).await;
        self.hits.hits += tally.hits;
        self.hits.of += some.len() as u64;
        self.hits.tally.add(tally);
        Ok(())
    }
}

fn view(node: &Node, piece: &Piece) -> tokio::task::JoinHandle<Seen> {
    let (mut viewer, piece) = (Viewer::new(&node.viewer), piece.clone());
    tokio::spawn(async move { viewer.ask(&Wish::whole(&piece)).await })
}
