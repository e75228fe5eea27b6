//! A bucket that answers `503 SlowDown` above so many requests a second: the gateway buys elsewhere or waits, does
//! not insist, and no viewer hears of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sourcing::Reason;
use testkit::{Behaviour, Fault, Script};

use crate::Stage;
use crate::crowd::{Crowd, visit};
use crate::facts::{Facts, spread};
use crate::failure::Outcome;
use crate::film::{Film, lengths};
use crate::gateway::{Node, Setup};
use crate::origin::Origin;

/// What the bucket serves, and as many at once.
const EACH_SECOND: u32 = 20;
/// Viewers for each of those: more than it serves where there is another source, hardly more where there is none.
const CROWD_WITH_ANOTHER: f64 = 3.0;
const CROWD_ALONE: f64 = 1.2;
/// Alone for no longer than what it serves at once makes up for: then a viewer need not wait for long.
const SECONDS_ALONE: f64 = 5.0;
/// Refusals that the gateway may collect, in percent of its viewers; and as many as the bucket serves in a second while it
/// finds out what that is.
const REFUSED_PERCENT: usize = 10;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    for (name, with_another, times, seconds) in [
        ("with another source", true, CROWD_WITH_ANOTHER, stage.pick(5.0, 30.0)),
        ("alone", false, CROWD_ALONE, SECONDS_ALONE),
    ] {
        let rate = f64::from(EACH_SECOND) * times;
        let count = (rate * seconds) as u64;
        let film = Film::of_segments(stage.seed, lengths(stage.seed, count, 8_000, 24_000))?;
        let refused = Arc::default();
        let script = throttled(Arc::clone(&refused));
        let bucket = Origin::start("bucket", stage.seed, &film.package, script).await?.like_s3();
        let other = Origin::start("other", stage.seed, &film.package, quick()).await?;
        let origins = if with_another { vec![&bucket, &other] } else { vec![&bucket] };
        let setup = Setup { memory: "256MiB", ..Setup::default() };
        let home = stage.home.join(name.replace(' ', "-"));
        let mut node = Node::start(&stage.gateway, &home, &film, &origins, setup).await?;
        let crowd = visit(&node.viewer, film.segments(), Duration::from_secs_f64(1.0 / rate)).await?;
        let attempts = origins.iter().map(|origin| origin.count()).sum();
        let refused = *refused.lock().unwrap_or_else(PoisonError::into_inner);
        tell(facts, name, &crowd, attempts, refused);
        let figure = format!("{} of {} from the bucket", bucket.count() - refused, crowd.visits.len());
        facts.note(&format!("{name}: bought"), figure);
        node.still_there()?;
        node.stop().await?;
    }
    Ok(())
}

fn tell(facts: &mut Facts, name: &str, crowd: &Crowd, attempts: usize, refused: usize) {
    let viewers = crowd.visits.len();
    facts.add(crowd.is_served(), &format!("{name}: viewers served whole and right"), &crowd.tally);
    facts.note(&format!("{name}: first byte"), spread(&crowd.waits()));
    let limit = viewers * REFUSED_PERCENT / 100 + EACH_SECOND as usize;
    let figure = format!("{refused} for {viewers} viewers (limit {limit})");
    facts.add(refused <= limit, &format!("{name}: SlowDown heard"), figure);
    // Beside its segment, one viewer in a while needs a page of digests.
    let limit = viewers + viewers * REFUSED_PERCENT * 2 / 100 + EACH_SECOND as usize;
    let figure = format!("{attempts} for {viewers} viewers (limit {limit})");
    facts.add(attempts <= limit, &format!("{name}: questions to the origins"), figure);
}

fn quick() -> Script {
    Script::new(|_, _| Behaviour { latency: Duration::from_millis(20), rate: u64::MAX, fault: None })
}

/// A bucket of tokens that fills up while nobody asks.
struct Tokens {
    left: f64,
    seen: Duration,
}

impl Tokens {
    fn take(&mut self, at: Duration) -> bool {
        let earned = at.saturating_sub(self.seen).as_secs_f64() * f64::from(EACH_SECOND);
        self.left = (self.left + earned).min(f64::from(EACH_SECOND));
        self.seen = self.seen.max(at);
        let enough = self.left >= 1.0;
        self.left -= if enough { 1.0 } else { 0.0 };
        enough
    }
}

fn throttled(refused: Arc<Mutex<usize>>) -> Script {
    let tokens = Mutex::new(Tokens { left: f64::from(EACH_SECOND), seen: Duration::ZERO });
    Script::new(move |question, chance| {
        let behaviour = quick().answer(question, chance);
        if tokens.lock().unwrap_or_else(PoisonError::into_inner).take(question.at) {
            return behaviour;
        }
        *refused.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Behaviour { fault: Some(Fault::Refuse(Reason::Throttled)), ..behaviour }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_earned_and_spent() {
        let (mut tokens, second) = (Tokens { left: 2.0, seen: Duration::ZERO }, Duration::from_secs(1));
        let taken = |tokens: &mut Tokens, at| (0..100).filter(|_| tokens.take(at)).count();
        assert_eq!(taken(&mut tokens, Duration::ZERO), 2);
        assert_eq!(taken(&mut tokens, second / 4), 5);
        assert_eq!(taken(&mut tokens, second * 60), 20);
    }
}
