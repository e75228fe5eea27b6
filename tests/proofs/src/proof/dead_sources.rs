//! Sources that are dead: one of two, which no viewer may notice, and all of them, which must neither touch what is
//! cached nor make anybody wait, nor let the gateway fall upon its sources.

use std::time::Duration;

use testkit::{Behaviour, Script};
use tokio::time::Instant;

use crate::Stage;
use crate::crowd::{Crowd, visit};
use crate::facts::{Facts, ms, percentile, spread};
use crate::failure::{Failure, Outcome};
use crate::film::{Film, Piece, lengths};
use crate::gateway::{Node, Setup};
use crate::origin::{Origin, State};
use crate::trouble::Trouble;
use crate::viewer::{Ending, Seen};

/// A viewer comes this often, each with a wish of its own.
const PAUSE: Duration = Duration::from_millis(50);
const EACH_SECOND: usize = 20;
/// What a source answers within, as long as it is well.
const LATENCY: Duration = Duration::from_millis(5);

/// First byte at p99 while one of two sources is dead; the short form runs on busy machines.
const FIRST_BYTE: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_secs(1)];
/// By then the dead one must be known to be dead, and what it may add from then on.
const EJECTED_AFTER: Duration = Duration::from_secs(3);
const EJECTED_ADDS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(50)];
/// What a viewer who cannot be served waits at most.
const REFUSED_WITHIN: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(2)];
/// What dead sources may add to a cached first byte.
const CACHED_ADDS: [Duration; 2] = [Duration::from_millis(1_000), Duration::from_millis(50)];
/// Upstream attempts for ten requests of viewers; and in the short form, which has few of them, those that it takes
/// to find out that all are dead.
const ATTEMPTS_FOR_TEN: usize = 11;
const TO_FIND_OUT: [usize; 2] = [12, 0];
const RECOVERY: Duration = Duration::from_secs(30);

/// How all sources are dead.
const WAYS: [Trouble; 4] = [Trouble::Silent, Trouble::Killed, Trouble::Failing, Trouble::Vanished];

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    one_of_two(stage, facts).await?;
    for way in stage.pick(&WAYS[..2], &WAYS[..]) {
        all_of_them(stage, facts, *way).await?;
    }
    Ok(())
}

fn quick() -> Script {
    Script::new(|_, _| Behaviour { latency: LATENCY, rate: u64::MAX, fault: None })
}

async fn pair(stage: &Stage, film: &Film) -> Outcome<[Origin; 2]> {
    let start = |id| Origin::start(id, stage.seed, &film.package, quick());
    Ok([start("first").await?, start("second").await?])
}

async fn node(stage: &Stage, name: &str, film: &Film, origins: &[Origin]) -> Outcome<Node> {
    let origins: Vec<&Origin> = origins.iter().collect();
    let setup = Setup { memory: "256MiB", ..Setup::default() };
    Node::start(&stage.gateway, &stage.home.join(name), film, &origins, setup).await
}

/// The cheaper one takes every question and never answers.
async fn one_of_two(stage: &Stage, facts: &mut Facts) -> Outcome {
    let count = EACH_SECOND * stage.pick(5, 40);
    let film = Film::of_segments(stage.seed, lengths(stage.seed, count as u64, 8_000, 24_000))?;
    let origins = pair(stage, &film).await?;
    let mut calm_node = node(stage, "calm", &film, &origins).await?;
    let calm = visit(&calm_node.viewer, film.segments(), PAUSE).await?;
    calm_node.stop().await?;

    let origins = pair(stage, &film).await?;
    origins[0].turn(State::Silent).await?;
    let mut node = node(stage, "one", &film, &origins).await?;
    let begun = Instant::now();
    let dead = visit(&node.viewer, film.segments(), PAUSE).await?;
    let name = "one of two accepts and never answers: viewers served whole and right";
    let figure = format!("{} of {count}: {}", dead.tally.right, dead.tally);
    facts.add(dead.is_served(), name, figure);
    let limit = stage.pick(FIRST_BYTE[0], FIRST_BYTE[1]);
    let waits = dead.waits();
    let good = percentile(&waits, 99) <= limit;
    let figure = format!("{} (limit {} at p99)", spread(&waits), ms(limit));
    facts.add(good, "first byte, from the first request on", figure);
    let limit = stage.pick(EJECTED_ADDS[0], EJECTED_ADDS[1]);
    let late = dead.waits_during(begun + EJECTED_AFTER..);
    let added = percentile(&late, 99).saturating_sub(percentile(&calm.waits(), 99));
    let name = format!("added once it is ejected, from {} s on", EJECTED_AFTER.as_secs());
    let figure = format!("{} at p99, {} (limit {})", ms(added), spread(&late), ms(limit));
    facts.add(added <= limit, &name, figure);
    facts.note("with both alive", spread(&calm.waits()));
    facts.note("questions to the dead one", format!("{} for {count} viewers", origins[0].count()));
    node.stop().await
}

/// The segments of a film: some that are cached, some that are asked for in the outage, and some after it.
struct Parts {
    cached: Vec<Piece>,
    during: Vec<Piece>,
    after: Vec<Piece>,
}

impl Parts {
    fn of(film: &Film, during: usize, after: usize) -> Self {
        let mut cached = film.segments();
        let mut rest = cached.split_off(cached.len() - during - after);
        let after = rest.split_off(during);
        Self { cached, during: rest, after }
    }
}

async fn all_of_them(stage: &Stage, facts: &mut Facts, way: Trouble) -> Outcome {
    let during = EACH_SECOND * stage.pick(4, 20);
    let after = EACH_SECOND * (RECOVERY.as_secs() as usize + 5);
    let lengths = lengths(stage.seed, (EACH_SECOND * 3 + during + after) as u64, 8_000, 24_000);
    let film = Film::of_segments(stage.seed, lengths)?;
    let origins = pair(stage, &film).await?;
    let mut node = node(stage, way.as_str(), &film, &origins).await?;
    let parts = Parts::of(&film, during, after);
    let cold = visit(&node.viewer, parts.cached.clone(), PAUSE / 5).await?;
    let calm = visit(&node.viewer, parts.cached.clone(), PAUSE).await?;
    if !(cold.is_served() && calm.is_served()) {
        return Err(Failure::new(format!("not served with both alive: {}, {}", cold.tally, calm.tally)));
    }

    let asked = way.questions(&node, &origins).await?;
    for origin in &origins {
        way.strike(origin, &quick()).await?;
    }
    let cached = parts.cached.iter().cycle().take(during).cloned();
    let (cached, refused) =
        tokio::join!(visit(&node.viewer, cached, PAUSE), visit(&node.viewer, parts.during.clone(), PAUSE));
    let attempts = way.questions(&node, &origins).await? - asked;
    let way = way.as_str();
    tell_cached(stage, facts, way, &calm, &cached?);
    tell_refused(stage, facts, way, &refused?);
    let limit = during * ATTEMPTS_FOR_TEN / 10 + stage.pick(TO_FIND_OUT[0], TO_FIND_OUT[1]);
    let figure = format!("{attempts} for {during} viewers (limit {limit})");
    facts.add(attempts <= limit, &format!("all {way}: upstream attempts"), figure);

    for origin in &origins {
        Trouble::heal(origin, &quick()).await?;
    }
    recover(facts, way, &node, &origins, &parts.after).await?;
    node.still_there()?;
    node.stop().await
}

fn tell_cached(stage: &Stage, facts: &mut Facts, way: &str, calm: &Crowd, cached: &Crowd) {
    let all = cached.visits.len() as u64;
    let good = cached.is_served() && cached.tally.hits == all;
    let figure = format!("{} of {all} from the cache: {}", cached.tally.hits, cached.tally);
    facts.add(good, &format!("all {way}: cached segments"), figure);
    let limit = stage.pick(CACHED_ADDS[0], CACHED_ADDS[1]);
    let added = percentile(&cached.waits(), 99).saturating_sub(percentile(&calm.waits(), 99));
    let figure = format!("{} at p99 (limit {})", ms(added), ms(limit));
    facts.add(added <= limit, &format!("all {way}: added to a cached first byte"), figure);
}

fn tell_refused(stage: &Stage, facts: &mut Facts, way: &str, refused: &Crowd) {
    let told = |seen: &Seen| seen.ending == Ending::Refused(503) && seen.advised;
    let all = refused.visits.len();
    let good = refused.visits.iter().filter(|visit| told(&visit.seen)).count();
    let other = refused.visits.iter().find(|visit| !told(&visit.seen));
    let other = other.map_or_else(String::new, |visit| format!(", another: {:?}", visit.seen.ending));
    let figure = format!("{good} of {all}{other}");
    let name = format!("all {way}: the others get 503 with Retry-After and Proxy-Status");
    facts.add(good == all, &name, figure);
    let limit = stage.pick(REFUSED_WITHIN[0], REFUSED_WITHIN[1]);
    let took: Vec<Duration> = refused.visits.iter().map(|visit| visit.seen.took).collect();
    let figure = format!("{} (limit {})", spread(&took), ms(limit));
    facts.add(percentile(&took, 100) <= limit, &format!("all {way}: after"), figure);
}

/// Viewers go on coming, a second's worth after the other, until all of one are served.
async fn recover(facts: &mut Facts, way: &str, node: &Node, origins: &[Origin], after: &[Piece]) -> Outcome {
    let healed = Instant::now();
    let mut back = None;
    for pieces in after.chunks(EACH_SECOND) {
        let began = healed.elapsed();
        if visit(&node.viewer, pieces.to_vec(), PAUSE).await?.is_served() {
            back = Some(began);
            break;
        }
    }
    let moments = origins.iter().flat_map(Origin::moments);
    let second = healed..healed + Duration::from_secs(1);
    let asked = moments.filter(|moment| second.contains(moment)).count();
    // Each viewer needs a segment and perhaps its list of digests.
    let limit = 2 * EACH_SECOND;
    let figure = format!("{asked} for {EACH_SECOND} viewers (limit {limit})");
    facts.add(
        asked <= limit,
        &format!("all {way}: questions in the first second after their return"),
        figure,
    );
    let figure = back.map_or_else(|| "never".to_owned(), |back| format!("after {:.1} s", back.as_secs_f64()));
    let good = back.is_some_and(|back| back <= RECOVERY);
    facts.add(good, &format!("all {way}: everybody is served again"), format!("{figure} (limit 30 s)"));
    Ok(())
}
