//! A source is cut, reset, or falls silent at 1 to 99 % of a segment that ten viewers wait for. A second source has
//! the rest.

use std::time::Duration;

use media::GROUP_LEN;
use testkit::{Behaviour, Fault, Script};

use crate::Stage;
use crate::facts::{Facts, ms, percentile, spread};
use crate::failure::{Failure, Outcome};
use crate::film::{Film, Piece};
use crate::gateway::{Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Ending, Seen, Viewer, Wish};

const VIEWERS: usize = 10;
const SEGMENT: u32 = 512 * 1024 + 321;
/// Fast enough to be many, slow enough that all ten wait when the source fails.
const RATE: u64 = 8_000_000;
const STALL: Duration = Duration::from_millis(500);
/// What a change of sources may add; the short form runs on machines that are busy with other things.
const ALLOWED: [Duration; 2] = [Duration::from_millis(900), Duration::from_millis(300)];

type Way = (&'static str, fn(u64) -> Fault, Duration);

/// The ways to fail, and what each may cost before the next source is asked.
const WAYS: [Way; 3] = [
    ("cut", Fault::Cut, Duration::ZERO),
    ("reset", Fault::Reset, Duration::ZERO),
    ("stall", Fault::Stall, STALL),
];

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let step = stage.pick(24, 1);
    let points: Vec<u64> = (1..100).step_by(step).collect();
    // One segment for each way and point, and as many that are delivered without a fault, to compare with.
    let count = points.len() * (WAYS.len() + 1);
    let film = Film::of_segments(stage.seed, vec![SEGMENT; count])?;
    let steady = || Script::new(|_, _| Behaviour { rate: RATE, ..Behaviour::default() });
    let first = Origin::start("first", stage.seed, &film.package, steady()).await?;
    let second = Origin::start("second", stage.seed, &film.package, steady()).await?;
    let setup = Setup {
        memory: "512MiB",
        sourcing: "stall_timeout = \"500ms\"",
        // The first source must be asked every time, however often it failed.
        breaker: "failures = 1000000\nleast_transfers = 1000000",
        ..Setup::default()
    };
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&first, &second], setup).await?;

    let segments = film.segments();
    let mut segments = segments.iter();
    let mut smooth = Vec::new();
    for segment in segments.by_ref().take(points.len()) {
        let seen = crowd(&node, segment).await;
        smooth.extend(seen.iter().map(|seen| seen.took));
    }
    facts.note("without a fault, a viewer's whole segment", spread(&smooth));
    for (name, fault, patience) in WAYS {
        let round: Vec<&Piece> = segments.by_ref().take(points.len()).collect();
        let mut found = Found::default();
        for (percent, segment) in points.iter().zip(round) {
            let at = segment.len() * percent / 100;
            first.follow(failing(fault(at)));
            let seen = crowd(&node, segment).await;
            found.look(segment, at, &seen, &second)?;
        }
        found.tell(facts, name, &smooth, patience + stage.pick(ALLOWED[0], ALLOWED[1]));
        node.still_there()?;
    }
    node.stop().await
}

fn failing(fault: Fault) -> Script {
    Script::new(move |question, _| Behaviour {
        rate: RATE,
        fault: question.is_media().then_some(fault),
        ..Behaviour::default()
    })
}

/// Ten viewers at once, each on a connection of its own.
async fn crowd(node: &Node, segment: &Piece) -> Vec<Seen> {
    let viewers = (0..VIEWERS).map(|_| {
        let (mut viewer, segment) = (Viewer::new(&node.viewer), segment.clone());
        tokio::spawn(async move { viewer.ask(&Wish::whole(&segment)).await })
    });
    let mut seen = Vec::new();
    for viewer in viewers.collect::<Vec<_>>() {
        seen.extend(viewer.await);
    }
    seen
}

/// What one way to fail did.
#[derive(Default)]
struct Found {
    crowds: usize,
    complete: usize,
    broken: Option<Ending>,
    /// For each segment, the bytes of the second source beyond those that were missing.
    again: Vec<u64>,
    resumed_once: usize,
    took: Vec<Duration>,
}

impl Found {
    fn look(&mut self, segment: &Piece, at: u64, seen: &[Seen], second: &Origin) -> Outcome {
        self.crowds += 1;
        self.complete += seen.iter().filter(|seen| seen.is_right()).count();
        if let Some(bad) = seen.iter().find(|seen| !seen.is_right()) {
            self.broken.get_or_insert(bad.ending.clone());
        }
        let resumed = second.asked(&segment.object, segment.start, segment.len());
        let sent: u64 = resumed.iter().map(|asked| asked.sent).sum();
        let missing = segment.len() - at;
        let again = sent.checked_sub(missing);
        self.again.push(again.ok_or_else(|| {
            Failure::new(format!("the second source sent {sent} bytes where {missing} were missing"))
        })?);
        self.resumed_once += usize::from(resumed.len() == 1);
        self.took.extend(seen.iter().map(|seen| seen.took));
        Ok(())
    }

    fn tell(&self, facts: &mut Facts, name: &str, smooth: &[Duration], limit: Duration) {
        let (crowds, viewers) = (self.crowds, self.crowds * VIEWERS);
        let all = self.complete == viewers;
        let broken =
            self.broken.as_ref().map_or(String::new(), |ending| format!(", first other: {ending:?}"));
        let figure = format!("{} of {viewers}{broken}", self.complete);
        facts.add(all, &format!("{name} at {crowds} points: viewers served whole and right"), figure);
        let most = self.again.iter().max().copied().unwrap_or(0);
        let figure =
            format!("p50 {}, p99 {}, max {most}", percentile(&self.again, 50), percentile(&self.again, 99));
        facts.add(most <= GROUP_LEN, &format!("{name}: bytes read again beyond the missing tail"), figure);
        let once = self.resumed_once == crowds;
        facts.add(
            once,
            &format!("{name}: the second source was asked once"),
            format!("{} of {crowds}", self.resumed_once),
        );
        // Like with like: a busy machine makes the slowest of both slower.
        let added = |percent| percentile(&self.took, percent).saturating_sub(percentile(smooth, percent));
        let figure = format!(
            "p50 {}, p99 {}, max {} (limit {} at p99)",
            ms(added(50)),
            ms(added(99)),
            ms(added(100)),
            ms(limit)
        );
        facts.add(added(99) <= limit, &format!("{name}: time added for a viewer"), figure);
    }
}
