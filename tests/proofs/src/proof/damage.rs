//! Every block that the disk tier stored is damaged in every way, with the gateway running and with it stopped. No
//! viewer sees it: the bytes come from the next source, and each fault is counted.

use testkit::{Behaviour, Chance, Script};

use crate::Stage;
use crate::facts::Facts;
use crate::failure::{Failure, Outcome};
use crate::film::{Film, lengths};
use crate::gateway::{Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Tally, fetch_all};
use crate::wreck::{Block, Harm, blocks};

const VIEWERS: usize = 4;
const FAULTS: &str = "weir_store_disk_read_faults_total";

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let film = Film::of_segments(stage.seed, lengths(stage.seed, stage.pick(12, 60), 1_000, 200_000))?;
    let fast = || Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, fast()).await?;
    let cache = stage.home.join("cache");
    let setup = Setup::disk_only(&cache, "64MiB");
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    let mut rounds = Rounds { stage, film: &film, origin: &origin, sum: Tally::default(), struck: 0 };
    rounds.fill(&node).await?;
    for harm in Harm::ALL {
        for stopped in [false, true] {
            rounds.every_block(&mut node, &cache, harm, stopped, facts).await?;
        }
    }
    let Rounds { sum, struck, .. } = rounds;
    facts.add(sum.wrong == 0, "responses with a wrong byte", format!("{} of {}", sum.wrong, sum.responses()));
    let clean = sum.right == sum.responses();
    let first = sum.first_wrong.or(sum.first_broken).unwrap_or_default();
    facts.add(
        clean,
        "responses that were whole and right",
        format!("{} of {} {first}", sum.right, sum.right + sum.broken + sum.refused + sum.wrong),
    );
    facts.note("blocks struck", struck);
    node.stop().await
}

struct Rounds<'a> {
    stage: &'a Stage,
    film: &'a Film,
    origin: &'a Origin,
    sum: Tally,
    struck: usize,
}

impl Rounds<'_> {
    /// Everything is on disk afterwards: the second time nothing is bought.
    async fn fill(&self, node: &Node) -> Outcome {
        for _ in 0..2 {
            fetch_all(&node.viewer, &self.film.pieces, VIEWERS).await;
            node.settle().await?;
        }
        let before = self.origin.given();
        fetch_all(&node.viewer, &self.film.pieces, VIEWERS).await;
        match self.origin.given() - before {
            0 => Ok(()),
            bought => Err(Failure::new(format!("{bought} bytes of a film that fits were bought again"))),
        }
    }

    /// Each block once, spread over passes; after each pass everything is asked for.
    async fn every_block(
        &mut self,
        node: &mut Node,
        cache: &std::path::Path,
        harm: Harm,
        stopped: bool,
        facts: &mut Facts,
    ) -> Outcome {
        // The short form strikes every third block, once.
        let (share, passes) = self.stage.pick((3, 1), (8, 8));
        let (mut struck, mut seen, mut repaired, mut counted) = (0, Tally::default(), 0, 0);
        for pass in 0..passes {
            if stopped {
                node.stop().await?;
            }
            struck += self.strike(&blocks(cache)?, harm, pass, share);
            if stopped {
                node.restart().await?;
            }
            let before = (self.origin.count(), node.metrics().await?.sum(FAULTS)?);
            let tally = fetch_all(&node.viewer, &self.film.pieces, VIEWERS).await;
            node.settle().await?;
            repaired += self.origin.count() - before.0;
            counted += node.metrics().await?.sum(FAULTS)? - before.1;
            seen.add(tally);
            self.heal(node).await?;
        }
        node.still_there()?;
        let state = if stopped { "stopped" } else { "running" };
        let name = format!("{}, gateway {state}: nothing wrong, all repaired", harm.as_str());
        let good = seen.wrong == 0 && seen.right == seen.responses() && seen.unanswered == 0;
        let counts =
            format!("{struck} blocks struck, {counted} faults counted, {repaired} reads from the source");
        facts.add(good, &name, format!("{seen}; {counts}"));
        self.struck += struck;
        self.sum.add(seen);
        Ok(())
    }

    fn strike(&self, blocks: &[Block], harm: Harm, pass: usize, share: usize) -> usize {
        let chance = Chance::new(self.stage.seed).for_(harm.as_str()).nth(pass as u64);
        // From the end, so that a file that is cut twice is cut at its earlier block last.
        let ours = blocks.iter().enumerate().rev().filter(|(n, _)| n % share == pass);
        ours.filter(|(n, block)| harm.strike(block, chance.nth(*n as u64)).is_ok()).count()
    }

    /// What was damaged is bought and stored again; then nothing is bought any more.
    async fn heal(&self, node: &Node) -> Outcome {
        for _ in 0..4 {
            let before = self.origin.given();
            fetch_all(&node.viewer, &self.film.pieces, VIEWERS).await;
            node.settle().await?;
            if self.origin.given() == before {
                return Ok(());
            }
        }
        Err(Failure::new("the damage does not heal: the same bytes are bought again and again"))
    }
}
