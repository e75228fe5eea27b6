//! Three times as many viewers as the node is built for, each refused one trying again: what it is built for is
//! served all the while, and when the crowd is gone everybody is served.

use std::sync::Arc;
use std::time::Duration;

use testkit::{Behaviour, Script};
use tokio::time::{Instant, sleep};

use crate::Stage;
use crate::crowd::{Crowd, Visit, gather};
use crate::facts::Facts;
use crate::failure::Outcome;
use crate::film::{Film, Piece};
use crate::gateway::{Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Ending, Viewer, Wish};

/// Responses at once that the node is told to be built for.
const BUILT_FOR: u32 = 40;
/// More than the kernel's buffers take: a response is under way until a viewer has nearly all of it.
const SEGMENT: u32 = 3_000_000;
/// How long a viewer takes for a segment.
const TAKES: Duration = Duration::from_secs(2);
/// When a refused viewer tries again, once.
const AGAIN: Duration = Duration::from_secs(2);
/// When everybody must be served again; the short form has no time for more.
const RECOVERY: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(5)];

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let film = Arc::new(Film::of_segments(stage.seed, vec![SEGMENT; 4])?);
    let script = Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, script).await?;
    let setup = Setup {
        // The machine of a proof is busy with the proof itself; the bound under test is the configured one.
        front: "[front.overload]\nmax_active_responses = 40\nscheduling_lag = \"2s\"",
        ..Setup::default()
    };
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    crate::viewer::fetch_all(&node.viewer, &film.pieces, 4).await;

    let seconds = stage.pick(5, 60);
    let during = rush(&node, &film, 3.0, seconds, true).await?;
    let after = rush(&node, &film, 0.8, stage.pick(5, 15), false).await?;

    // So many at once, each so long as it took at this time: what the machine adds is not the node's doing.
    let times = during.times();
    let takes = times.iter().sum::<Duration>().as_secs_f64() / times.len().max(1) as f64;
    let capacity = f64::from(BUILT_FOR) / takes;
    let goodput = during.good_between(TAKES, Duration::from_secs(seconds));
    let percent = goodput / capacity * 100.0;
    let figure = format!(
        "{goodput:.1} responses/s of {capacity:.1} ({BUILT_FOR} at once, {takes:.2} s each), {percent:.0} %; {}",
        during.crowd.tally
    );
    facts.add(percent >= 90.0, &format!("3 x capacity for {seconds} s: goodput"), figure);
    let tally = &during.crowd.tally;
    let bad = tally.wrong + tally.broken + tally.unanswered;
    facts.add(bad == 0, "nobody is cut off: refused or served whole", bad);
    let recovery = stage.pick(RECOVERY[0], RECOVERY[1]);
    let late = after.crowd.during(after.begun + recovery..);
    let (all, good) = late.fold((0, 0), |(all, good), seen| (all + 1, good + u32::from(seen.is_right())));
    let name = "0.8 x afterwards: served, of those who came 5 s later";
    facts.add(
        good == all && all > 0,
        name,
        format!("{good} of {all}; from the first moment {}", after.crowd.tally),
    );
    node.still_there()?;
    node.stop().await
}

/// A crowd, and when the first of it came.
struct Rush {
    begun: Instant,
    crowd: Crowd,
}

impl Rush {
    fn times(&self) -> Vec<Duration> {
        let right = self.crowd.visits.iter().filter(|visit| visit.seen.is_right());
        right.map(|visit| visit.seen.took).collect()
    }

    /// Whole responses for each second that ended in this time.
    fn good_between(&self, from: Duration, to: Duration) -> f64 {
        let ended = |visit: &&Visit| (from..to).contains(&(visit.at + visit.seen.took - self.begun));
        let good = self.crowd.visits.iter().filter(|visit| visit.seen.is_right()).filter(ended).count();
        good as f64 / (to - from).as_secs_f64()
    }
}

/// Viewers at so many times the capacity: each a session of its own.
async fn rush(
    node: &Node,
    film: &Arc<Film>,
    times_capacity: f64,
    seconds: u64,
    again: bool,
) -> Outcome<Rush> {
    let pause = TAKES.div_f64(f64::from(BUILT_FOR) * times_capacity);
    let count = Duration::from_secs(seconds).as_micros() / pause.as_micros();
    let begun = Instant::now();
    let segments = film.segments();
    let sessions = segments.iter().cycle().zip(0..count).map(|(segment, n)| {
        let token = film.token(&format!("s-{seconds}-{n}"))?;
        Ok(segment.with_token(&token))
    });
    let sessions = sessions.collect::<Outcome<Vec<_>>>()?;
    let crowd = gather(sessions, pause, |piece| come(Viewer::new(&node.viewer), piece, again)).await?;
    Ok(Rush { begun, crowd })
}

async fn come(viewer: Viewer, piece: Piece, again: bool) -> Vec<Visit> {
    let mut viewer = viewer.with_small_buffer(8 * 1024);
    let rate = Some(piece.len() * 1_000 / TAKES.as_millis() as u64);
    let wish = Wish { rate, ..Wish::whole(&piece) };
    let mut visits = vec![viewer.visit(&wish).await];
    if again && matches!(visits[0].seen.ending, Ending::Refused(_)) {
        sleep(AGAIN).await;
        visits.push(viewer.visit(&wish).await);
    }
    visits
}
