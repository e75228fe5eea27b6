//! Every block that the disk tier stored is damaged in every way, with the gateway running and with it stopped. No
//! viewer sees it: the bytes come from the next source, and each fault is counted.

use testkit::{Behaviour, Chance, Script};

use crate::Stage;
use crate::facts::Facts;
use crate::failure::{Failure, Outcome};
use crate::film::{Film, lengths};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Tally, fetch_all};
use crate::wreck::{Block, Harm, blocks};

const VIEWERS: usize = 4;
/// What a read found bad, and what a start did: records that make no sense, disks that had to be emptied.
const COUNTED: [(&str, &str); 3] = [
    ("weir_store_disk_read_faults_total", ""),
    ("weir_store_recovered_total", "outcome=\"rejected\""),
    ("weir_store_recovered_total", "outcome=\"reformatted\""),
];

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let film = Film::of_segments(stage.seed, lengths(stage.seed, stage.pick(12, 60), 1_000, 200_000))?;
    let fast = || Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, fast()).await?;
    let cache = stage.home.join("cache");
    let setup = Setup::disk_only(Disk::new(&cache, "64MiB"));
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    let mut rounds = Rounds { stage, film: &film, origin: &origin, sum: Tally::default(), struck: 0 };
    rounds.fill(&node).await?;
    for harm in Harm::ALL {
        for stopped in [false, true] {
            // The short form leaves out what a stopped gateway makes no different.
            if stage.short && stopped && matches!(harm, Harm::Flip | Harm::Swap) {
                continue;
            }
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

async fn faults(node: &Node) -> Outcome<[u64; 3]> {
    let metrics = node.metrics().await?;
    let mut counted = [0; 3];
    for (count, (name, label)) in counted.iter_mut().zip(COUNTED) {
        *count = metrics.of(name, label)?;
    }
    Ok(counted)
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
        let (mut struck, mut seen, mut repaired, mut counted) = (0, Tally::default(), 0, [0; 3]);
        for pass in 0..passes {
            let mut before = faults(node).await?;
            if stopped {
                node.stop().await?;
                // A new process counts from nothing.
                before = [0; 3];
            }
            struck += self.strike(&blocks(cache)?, harm, pass, share);
            if stopped {
                node.restart().await?;
            }
            let asked = self.origin.count();
            let tally = fetch_all(&node.viewer, &self.film.pieces, VIEWERS).await;
            node.settle().await?;
            repaired += self.origin.count() - asked;
            let after = faults(node).await?;
            counted = std::array::from_fn(|n| counted[n] + after[n] - before[n]);
            seen.add(tally);
            self.heal(node).await?;
        }
        node.still_there()?;
        let state = if stopped { "stopped" } else { "running" };
        let name = format!("{}, gateway {state}: nothing wrong, all repaired", harm.as_str());
        let whole = seen.wrong == 0 && seen.right == seen.responses() && seen.unanswered == 0;
        let good = whole && repaired > 0 && counted.iter().sum::<u64>() > 0;
        let [reads, rejected, emptied] = counted;
        let counts = format!(
            "{struck} blocks struck; counted: {reads} reads, {rejected} records, {emptied} disks emptied; \
             {repaired} reads from the source"
        );
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
