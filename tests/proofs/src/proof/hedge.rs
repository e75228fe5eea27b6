//! One answer in a hundred takes a second, and a second source is there: asking it before the second is over cuts
//! the tail and costs next to nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use testkit::{Behaviour, Script};

use crate::Stage;
use crate::crowd::{Crowd, visit};
use crate::facts::{Facts, ms, per_mille, percentile};
use crate::failure::Outcome;
use crate::film::{Film, lengths};
use crate::gateway::{Node, Setup};
use crate::origin::Origin;

/// The one answer in a hundred.
const SLOW: Duration = Duration::from_secs(1);
/// Who waits longer than this for a first byte has waited for the slow answer, or for patience to run out.
const LATE: Duration = Duration::from_millis(250);
/// A viewer comes this often.
const PAUSE: Duration = Duration::from_millis(10);
/// How many times shorter the tail must be.
const SHORTER: u32 = 3;
/// Bytes that may be bought twice, in percent.
const EXTRA_PERCENT: u64 = 3;

/// Rounds of each kind, in turn: the median of them leaves out those that the machine spoilt.
const ROUNDS: [u64; 2] = [1, 5];

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let count = stage.pick(600, 1_200);
    let film = Film::of_segments(stage.seed, lengths(stage.seed, count, 8_000, 16_000))?;
    let (mut with, mut without) = (Rounds::default(), Rounds::default());
    for n in 0..stage.pick(ROUNDS[0], ROUNDS[1]) {
        let hedged = Round::play(stage, &film, n, "with", "").await?;
        let has_hedges = hedged.config.contains("[sourcing.hedge]");
        if n == 0 {
            facts.add(has_hedges, "the gateway has sourcing.hedge.max_extra_percent", has_hedges);
        }
        let off = if has_hedges { "hedge.max_extra_percent = 0" } else { "" };
        with.0.push(hedged);
        without.0.push(Round::play(stage, &film, n, "without", off).await?);
    }
    tell(stage, facts, &with, &without);
    Ok(())
}

fn tell(stage: &Stage, facts: &mut Facts, with: &Rounds, without: &Rounds) {
    for (name, rounds) in [("with hedges", with), ("without", without)] {
        for round in &rounds.0 {
            let good = round.crowd.is_served();
            facts.add(good, &format!("{name}: viewers served whole and right"), &round.crowd.tally);
            facts.note(&format!("{name}: first byte"), round.tail());
        }
    }
    // A busy machine makes anybody late; what counts is who had to wait for a slow answer.
    let ((hedged, _), (plain, slow)) = (with.late(), without.late());
    let figure = format!("{hedged} instead of {plain}; slow answers {slow}");
    let name =
        format!("viewers of a slow answer who waited {} ms: a third of those without", LATE.as_millis());
    facts.add(plain > 0 && hedged * SHORTER as usize <= plain, &name, figure);
    if !stage.short {
        let (hedged, plain) = (with.tail(), without.tail());
        let figure = format!("{} instead of {} (medians)", ms(hedged), ms(plain));
        facts.add(hedged * SHORTER <= plain, "p99.9 of the first byte: a third of that without", figure);
    }
    let (bought, plain) = (with.bought(), without.bought());
    let extra = bought.saturating_sub(plain) * 10_000 / plain.max(1);
    let figure = format!("{:.2} % of {plain} bytes (limit {EXTRA_PERCENT} %)", extra as f64 / 100.0);
    facts.add(extra <= EXTRA_PERCENT * 100, "bytes that the origins gave beyond those without", figure);
}

/// All rounds of one kind.
#[derive(Default)]
struct Rounds(Vec<Round>);

impl Rounds {
    /// Of the viewers of slow answers, who was late, and how many there were.
    fn late(&self) -> (usize, usize) {
        let sum = |sum: (usize, usize), round: (usize, usize)| (sum.0 + round.0, sum.1 + round.1);
        self.0.iter().map(Round::late).fold((0, 0), sum)
    }

    fn bought(&self) -> u64 {
        self.0.iter().map(|round| round.bought).sum()
    }

    /// The median p99.9.
    fn tail(&self) -> Duration {
        percentile(&self.0.iter().map(|round| round.at(999)).collect::<Vec<_>>(), 50)
    }
}

/// The same viewers of the same film before the same sources.
struct Round {
    crowd: Crowd,
    /// Which of the viewers' segments had a slow answer, in their order.
    slow: Vec<bool>,
    /// What the origins gave.
    bought: u64,
    config: String,
}

impl Round {
    async fn play(stage: &Stage, film: &Film, n: u64, name: &str, sourcing: &'static str) -> Outcome<Self> {
        // Each round has slow answers of its own, the same for both kinds.
        let start = |id, script| Origin::start(id, stage.seed.wrapping_add(n), &film.package, script);
        let slow = Slow::default();
        let origins = [start("first", slow_at_times(&slow)).await?, start("second", quick()).await?];
        let setup = Setup { memory: "256MiB", sourcing, ..Setup::default() };
        let home = stage.home.join(format!("{name}-{n}"));
        let mut node = Node::start(&stage.gateway, &home, film, &[&origins[0], &origins[1]], setup).await?;
        let config = node.effective_config().await?;
        let segments = film.segments();
        let crowd = visit(&node.viewer, segments.clone(), PAUSE).await?;
        node.still_there()?;
        node.stop().await?;
        let slow = slow.lock().unwrap_or_else(PoisonError::into_inner);
        let slow = segments.iter().map(|segment| slow.contains(&segment.start)).collect();
        Ok(Self { crowd, slow, bought: origins.iter().map(Origin::given).sum(), config })
    }

    fn late(&self) -> (usize, usize) {
        let waits = self.crowd.waits();
        let of_slow = || waits.iter().zip(&self.slow).filter(|(_, slow)| **slow);
        (of_slow().filter(|(wait, _)| **wait > LATE).count(), of_slow().count())
    }

    fn at(&self, thousandths: u32) -> Duration {
        per_mille(&self.crowd.waits(), thousandths)
    }

    fn tail(&self) -> String {
        let at = |thousandths| ms(self.at(thousandths));
        format!("p50 {}, p95 {}, p99 {}, p99.9 {}, max {}", at(500), at(950), at(990), at(999), at(1_000))
    }
}

fn quick() -> Script {
    Script::new(|_, chance| Behaviour {
        latency: Duration::from_millis(chance.for_("latency").between(3, 9)),
        rate: u64::MAX,
        fault: None,
    })
}

/// Where the ranges begin that were answered slowly.
type Slow = Arc<Mutex<HashSet<u64>>>;

fn slow_at_times(slow: &Slow) -> Script {
    let slow = Arc::clone(slow);
    Script::new(move |question, chance| {
        let behaviour = quick().answer(question, chance);
        if !(question.is_media() && chance.for_("slow").happens(1)) {
            return behaviour;
        }
        slow.lock().unwrap_or_else(PoisonError::into_inner).insert(question.range.start());
        Behaviour { latency: SLOW, ..behaviour }
    })
}
