//! `kill -9` in the middle of fills: what was cached is served again without upstream reads, and no byte is
//! ever wrong.

use std::time::Duration;

use super::fresh;
use crate::clock::{nap, wait_for};
use crate::demo::check::{Facts, token_of};
use crate::demo::origin::Origin;
use crate::demo::package::{Package, Rendition};
use crate::demo::world::{SourceKind, World};
use crate::failure::{Failure, Outcome};
use crate::metrics::Metrics;
use crate::{http, term};

/// Kills, each at another moment of the fills.
const ROUNDS: u64 = 5;
/// Bytes per second of the origin while the gateway is being killed, so that fills take a while.
const SLOW: u64 = 2_000_000;
const FLUSH_LIMIT: Duration = Duration::from_secs(20);

/// What viewers got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    right: u32,
    /// Delivered in full and different.
    wrong: u32,
    /// Cut off or refused.
    broken: u32,
}

pub(super) fn run() -> Outcome {
    let mut playing = fresh("kill", SourceKind::Http, 20)?;
    let package = Package::read(&playing.world, &playing.view)?;
    let (base, _) = token_of(&playing.url)?;
    let base = format!("{base}/{}", package.path);
    let [kept, rest @ ..] = package.renditions.as_slice() else { return Err(Failure::new("no renditions")) };
    let mut facts = Facts::default();
    let filled = fetch_all(&base, std::slice::from_ref(kept));
    facts.add(
        filled.wrong + filled.broken == 0,
        "cold fills",
        format!("{} objects of {}", filled.right, kept.id),
    );
    settle(&playing.world)?;

    for round in 1..=ROUNDS {
        let torn = kill_in_mid_fill(&mut playing.world, &base, rest, round)?;
        let name = format!("kill {round}: nothing wrong was delivered");
        facts.add(torn.wrong == 0, &name, format!("{} right, {} cut off", torn.right, torn.broken));
        let given = |world: &World| world.origin().map_or(0, Origin::given);
        let before = given(&playing.world);
        let again = fetch_all(&base, std::slice::from_ref(kept));
        let read = given(&playing.world) - before;
        let good = again == filled && read == 0;
        let name = format!("kill {round}: {} comes from the cache", kept.id);
        facts.add(good, &name, format!("{} objects right, {read} bytes from the origin", again.right));
    }
    let whole = fetch_all(&base, &package.renditions);
    facts.add(
        whole.wrong + whole.broken == 0,
        "the whole film afterwards",
        format!("{} objects right", whole.right),
    );
    playing.world.stop()?;
    facts.finish()
}

/// Starts fetching everything else from a slow origin, kills the gateway meanwhile, and starts it again.
fn kill_in_mid_fill(world: &mut World, base: &str, rest: &[Rendition], round: u64) -> Outcome<Tally> {
    let origin = world.origin().cloned().ok_or_else(|| Failure::new("no origin to slow down"))?;
    origin.pace(SLOW);
    let torn = std::thread::scope(|scope| {
        let viewers: Vec<_> =
            rest.iter().map(|r| scope.spawn(|| fetch_all(base, std::slice::from_ref(r)))).collect();
        nap(Duration::from_millis(100 * round));
        world.crash_and_restart_gateway()?;
        origin.pace(0);
        let tallies = viewers.into_iter().map(|viewer| viewer.join().unwrap_or_default());
        Ok(tallies.fold(Tally::default(), |sum, one| Tally {
            right: sum.right + one.right,
            wrong: sum.wrong + one.wrong,
            broken: sum.broken + one.broken,
        }))
    })?;
    if torn.broken == 0 {
        term::say("    the kill hit no transfer this time");
    }
    Ok(torn)
}

fn fetch_all(base: &str, renditions: &[Rendition]) -> Tally {
    let mut tally = Tally::default();
    for piece in renditions.iter().flat_map(Rendition::pieces) {
        match http::fetch(&format!("{base}/{}", piece.url)) {
            Ok(bytes) if bytes == piece.bytes => tally.right += 1,
            Ok(_) => tally.wrong += 1,
            Err(_) => tally.broken += 1,
        }
    }
    tally
}

/// Waits until everything filled so far has reached the disk.
fn settle(world: &World) -> Outcome {
    let mut last = 0;
    let still = wait_for(FLUSH_LIMIT, Duration::from_millis(500), || {
        let bytes = Metrics::read(&world.admin).ok()?.of("weir_store_bytes", "tier", "disk");
        let settled = bytes > 0 && bytes == std::mem::replace(&mut last, bytes);
        settled.then_some(())
    });
    still.ok_or_else(|| Failure::new("the disk tier does not come to rest"))
}
