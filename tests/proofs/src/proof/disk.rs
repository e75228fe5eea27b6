//! A disk that is full, and one that fails: no viewer sees an error, memory is as quick as before, the tier is left
//! alone within a second and comes back by itself.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testkit::{Behaviour, Script};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::Stage;
use crate::clock::until;
use crate::facts::{Facts, ms, percentile, spread};
use crate::failure::Outcome;
use crate::film::{Film, Piece};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Tally, Viewer, Wish, fetch_all};
use crate::volume::Volume;

const VIEWERS: usize = 4;
const SEGMENT: u32 = 300_000;
const COUNT: usize = 60;
/// Segments that memory holds throughout.
const HOT: usize = 4;
/// What the machine's scheduler may add to a percentile.
const NOISE: Duration = Duration::from_millis(20);
const ONLINE: (&str, &str) = ("weir_store_disk_mode", "mode=\"online\"");

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    full(stage, facts).await?;
    failing(stage, facts).await
}

fn honest() -> Script {
    Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() })
}

fn setup(folder: &Path) -> Setup {
    let disk = Some(Disk::new(folder, "16MiB").with("offline_for", "1s"));
    // Memory holds a few segments, so that the disk is asked for the rest.
    Setup { memory: "4MiB", disk, ..Setup::default() }
}

async fn full(stage: &Stage, facts: &mut Facts) -> Outcome {
    let Some(volume) = Volume::memory(&stage.home.join("full"), "24m").await? else {
        facts.note("left out", "a full disk: it takes root and a mount");
        return Ok(());
    };
    let film = Film::of_segments(stage.seed, vec![SEGMENT; COUNT])?;
    let origin = Origin::start("origin", stage.seed, &film.package, honest()).await?;
    let setup = setup(&volume.path.join("tier"));
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    let ballast = volume.path.join("ballast");
    // It ends where the space does.
    let _ = fs::write(&ballast, vec![1; 64 << 20]);
    let mut seen = Tally::default();
    for _ in 0..3 {
        seen.add(fetch_all(&node.viewer, &film.pieces, VIEWERS).await);
    }
    let clean = seen.right == seen.responses() && seen.unanswered == 0;
    facts.add(clean, "a full disk: viewers", format!("{seen}"));
    let _ = fs::remove_file(&ballast);
    returns(facts, &node, &film, "a full disk").await?;
    node.stop().await
}

async fn failing(stage: &Stage, facts: &mut Facts) -> Outcome {
    let Some(mut volume) = Volume::xfs(&stage.home.join("failing"), 512 << 20).await? else {
        facts.note("left out", "a failing disk: it takes root, a loop device and xfsprogs");
        return Ok(());
    };
    let film = Film::of_segments(stage.seed, vec![SEGMENT; COUNT])?;
    let origin = Origin::start("origin", stage.seed, &film.package, honest()).await?;
    let setup = setup(&volume.path.join("tier"));
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    let segments = film.segments();
    let (hot, cold) = segments.split_at(HOT);
    let mut seen = fetch_all(&node.viewer, &film.pieces, VIEWERS).await;
    node.settle().await?;
    let reading = read_on(&node, cold, stage.pick(2, 4));
    let before = hot_times(&node, hot, stage.pick(25, 100), &mut seen).await;
    seen.add(reading.await.unwrap_or_default());
    volume.lose_power().await?;
    let failed = Instant::now();
    let reading = read_on(&node, cold, stage.pick(2, 4));
    let offline = until("the tier is offline", Duration::from_secs(10), async || {
        (node.metrics().await.ok()?.of(ONLINE.0, ONLINE.1).ok()? == 0).then(|| failed.elapsed())
    });
    let offline = offline.await?;
    facts.add(offline <= Duration::from_secs(1), "a failing disk: offline after", ms(offline));
    let during = hot_times(&node, hot, stage.pick(25, 100), &mut seen).await;
    seen.add(reading.await.unwrap_or_default());
    let clean = seen.right == seen.responses() && seen.unanswered == 0;
    facts.add(clean, "a failing disk: viewers", format!("{seen}"));
    let (usual, meanwhile) = (percentile(&before, 99), percentile(&during, 99));
    let figure = format!("{}; before: {}", spread(&during), spread(&before));
    facts.add(meanwhile <= usual * 2 + NOISE, "a failing disk: memory hits meanwhile", figure);
    let free = volume.mend().await?;
    facts.note("the failed file system could be unmounted under the gateway", free);
    returns(facts, &node, &film, "a failing disk").await?;
    node.stop().await
}

/// Viewers of everything that memory does not hold.
fn read_on(node: &Node, cold: &[Piece], rounds: u32) -> JoinHandle<Tally> {
    let (address, cold) = (node.viewer.clone(), cold.to_vec());
    tokio::spawn(async move {
        let mut seen = Tally::default();
        for _ in 0..rounds {
            seen.add(fetch_all(&address, &cold, VIEWERS).await);
        }
        seen
    })
}

async fn hot_times(node: &Node, hot: &[Piece], times_each: u32, seen: &mut Tally) -> Vec<Duration> {
    let (mut viewer, mut times) = (Viewer::new(&node.viewer), Vec::new());
    for _ in 0..times_each {
        for piece in hot {
            let wish = Wish::whole(piece);
            let one = viewer.ask(&wish).await;
            seen.count(&wish, &one);
            times.push(one.took);
        }
    }
    times
}

/// The tier stores again: its writes are counted as good ones.
async fn returns(facts: &mut Facts, node: &Node, film: &Film, name: &str) -> Outcome {
    let begun = Instant::now();
    let written = ("weir_store_disk_writes_total", "outcome=\"written\"");
    let before = node.metrics().await?.of(written.0, written.1)?;
    let back = until("the tier is back", Duration::from_secs(30), async || {
        fetch_all(&node.viewer, &film.pieces, VIEWERS).await;
        let metrics = node.metrics().await.ok()?;
        let stored = metrics.of(written.0, written.1).ok()? > before;
        (stored && metrics.of(ONLINE.0, ONLINE.1).ok()? == 1).then(|| begun.elapsed())
    });
    let back = back.await;
    let figure = back.as_ref().map_or_else(ToString::to_string, |time| ms(*time));
    facts.add(back.is_ok(), &format!("{name}: the tier is back by itself after"), figure);
    Ok(())
}
