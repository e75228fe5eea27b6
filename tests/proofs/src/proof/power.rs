//! The power goes, again and again: an XFS that is shut down by force under the running gateway. With
//! `sync = "data"`, what the gateway had counted as stored is a hit afterwards, and no byte is ever wrong.

use testkit::{Behaviour, Script};

use crate::Stage;
use crate::facts::Facts;
use crate::failure::Outcome;
use crate::film::{Film, Piece, lengths};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Tally, Viewer, Wish, fetch_all};
use crate::volume::Volume;

const VIEWERS: usize = 8;
/// New objects of each round: some are counted as stored, some are on their way when the power goes.
const STORED: usize = 6;
const MOVING: usize = 6;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let rounds = stage.pick(2, 50);
    let Some(volume) = Volume::xfs(&stage.home.join("cache"), 512 << 20).await? else {
        facts.note("left out", "power losses: they take root, a loop device and xfsprogs");
        return Ok(());
    };
    let count = (rounds * (STORED + MOVING)) as u64;
    let film = Film::of_segments(stage.seed, lengths(stage.seed, count, 1_000, 250_000))?;
    let fast = Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, fast).await?;
    let disk = Disk::new(&volume.path.join("tier"), "256MiB").with("sync", "data");
    let setup = Setup::disk_only(disk);
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;

    let (mut stored, mut hits, mut of, mut seen) = (Vec::<Piece>::new(), 0, 0, Tally::default());
    for segments in film.segments().chunks(STORED + MOVING) {
        let (kept, moving) = segments.split_at(STORED.min(segments.len()));
        let before = node.written().await?;
        seen.add(fetch_all(&node.viewer, kept, STORED).await);
        node.until_written(before + kept.len() as u64).await?;
        stored.extend_from_slice(kept);
        // On their way: delivered to their viewers, and not waited for.
        seen.add(fetch_all(&node.viewer, moving, MOVING).await);
        volume.lose_power().await?;
        node.kill().await?;
        volume.restore_power().await?;
        node.restart().await?;
        let after = fetch_all(&node.viewer, &stored, VIEWERS).await;
        hits += after.hits;
        of += stored.len() as u64;
        seen.add(after);
        node.settle().await?;
    }
    let clean = seen.wrong == 0 && seen.right == seen.responses();
    facts.add(clean, "responses", format!("{seen}"));
    let name = format!("{rounds} power losses: objects counted as stored that were hits after");
    facts.add(hits * 1_000 >= of * 999, &name, format!("{hits} of {of}"));
    let before = origin.given();
    let last = Viewer::new(&node.viewer).ask(&Wish::whole(&film.pieces[0])).await;
    facts.add(
        last.is_right(),
        "no manual repair: it serves",
        format!("{} bytes bought", origin.given() - before),
    );
    node.stop().await
}
