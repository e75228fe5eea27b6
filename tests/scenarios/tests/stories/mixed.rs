//! Everything at once: sources in trouble, one of them honest, and viewers of every kind.

use std::time::Duration;

use futures_util::future::join_all;
use media::ByteRange;
use testkit::{Chance, End, Event, Played, Script, Viewing, World, life, seeds, story};

const SEEDS: u64 = 60;
const SOURCES: u64 = 3;
const VIEWERS: u64 = 24;
/// Long enough for sources to rest and to be tried again.
const ARRIVALS_MS: u64 = 6_000;
const REGRESSIONS: &[u64] = &[];

/// Three sources in the order of their price, one of them honest.
fn world(seed: u64) -> World {
    let chance = Chance::new(seed).for_("cast");
    let honest = chance.for_("honest").below(SOURCES);
    (0..SOURCES).fold(World::new(seed), |world, n| {
        let chance = chance.nth(n);
        let birth = Duration::from_millis(chance.for_("birth").below(4_000));
        let script = if n == honest {
            Script::honest()
        } else if chance.for_("is-dead").happens(30) {
            Script::troubled().dead_until(birth)
        } else {
            Script::troubled()
        };
        world.source(&format!("source-{n}"), script)
    })
}

/// A viewer who wants some range of some part, perhaps reads slowly, perhaps leaves.
fn viewing(world: &World, n: u64) -> Viewing {
    let chance = world.chance.for_("viewer").nth(n);
    let keys = world.package.keys();
    let key = &keys[chance.for_("key").below(keys.len() as u64) as usize];
    let whole = Viewing::whole(key, &world.package);
    let (a, b) = (chance.for_("a").below(whole.range.len()), chance.for_("b").below(whole.range.len()));
    let part = ByteRange::new(a.min(b), a.max(b) + 1).expect("not empty");
    let range = if chance.for_("is-whole").happens(50) { whole.range } else { part };
    let some = |name: &str, percent, value| chance.for_(name).happens(percent).then_some(value);
    Viewing {
        range,
        arrives: Duration::from_millis(chance.for_("arrives").below(ARRIVALS_MS)),
        rate: some("is-slow", 30, chance.for_("rate").between(50_000, 500_000)),
        leaves_after: some("is-leaver", 25, chance.for_("leaves").below(range.len())),
        ..whole
    }
}

async fn tell(seed: u64) -> (Vec<(Viewing, Played)>, Vec<Event>) {
    let world = world(seed);
    let node = world.node().await;
    let viewers = (0..VIEWERS).map(|n| {
        let (node, viewing) = (&node, viewing(&world, n));
        async move {
            let played = node.play(&format!("viewer-{n}"), &viewing).await;
            (viewing, played)
        }
    });
    let played = join_all(viewers).await;
    node.until_no_fill_runs().await;
    (played, world.log.events())
}

#[test]
fn no_wrong_byte_and_no_broken_response_while_one_source_is_honest() {
    story("mixed", seeds(SEEDS, REGRESSIONS), |seed| async move {
        let (played, log) = tell(seed).await;
        for (viewing, played) in played {
            let told = || log.iter().map(|event| format!("{event}\n")).collect::<String>();
            assert_eq!(played.wrong, None, "{viewing:?} saw wrong bytes\n{}", told());
            match played.end {
                End::Clean => assert_eq!(played.bytes, viewing.range.len()),
                End::Left => assert!(viewing.leaves_after.is_some()),
                End::Failed(error) => panic!("{viewing:?} failed: {error}\n{}", told()),
            }
        }
    });
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in seeds(20, REGRESSIONS) {
        let (first, second) = (life(tell(seed)).1, life(tell(seed)).1);
        assert!(first.len() > VIEWERS as usize, "the log is not empty");
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first, life(tell(seed + 1_000)).1, "another seed tells another story");
    }
}
