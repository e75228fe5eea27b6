//! A new process takes over while five hundred viewers download, twice: as an upgrade, and as a reload. Nobody is
//! refused, nobody is cut off, and what was cached is still a hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testkit::{Behaviour, Script};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::Stage;
use crate::facts::Facts;
use crate::failure::{Context, Outcome};
use crate::film::{Film, Piece};
use crate::gateway::{Disk, Node, Setup};
use crate::origin::Origin;
use crate::viewer::{Tally, Viewer, Wish, fetch_all};

const SEGMENT: u32 = 400_000;
const SEGMENTS: usize = 10;
/// Viewers of short requests, each on a new connection, all the while.
const PASSERS_BY: usize = 8;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let film = Film::of_segments(stage.seed, vec![SEGMENT; SEGMENTS])?;
    let script = Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, script).await?;
    let disk = Some(Disk::new(&stage.home.join("cache"), "64MiB"));
    let setup = Setup { disk, ..Setup::default() };
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup).await?;
    fetch_all(&node.viewer, &film.pieces, 4).await;
    node.settle().await?;

    let downloads = stage.pick(100, 500);
    let over = stage.pick(Duration::from_secs(2), Duration::from_secs(12));
    for reload in [false, true] {
        let name = if reload { "reload" } else { "upgrade" };
        let stop = Arc::new(AtomicBool::new(false));
        let passing: Vec<_> = (0..PASSERS_BY).map(|_| pass_by(&node, &film, &stop)).collect();
        let under_way = download(&node, &film, downloads, over);
        sleep(over / 4).await;
        let before = origin.given();
        let old = if reload { node.reload().await? } else { node.take_over().await? };
        let mut seen = Tally::default();
        for task in under_way {
            seen.add(task.await.doing("a download")?);
        }
        facts.add(seen.right == downloads as u64, &format!("{name} under {downloads} downloads"), &seen);
        old.gone().await?;
        stop.store(true, Ordering::Relaxed);
        let mut short = Tally::default();
        for task in passing {
            short.add(task.await.doing("a viewer")?);
        }
        let clean = short.right == short.responses() && short.unanswered == 0;
        facts.add(clean, &format!("{name}: new requests meanwhile"), &short);
        let bought = origin.given() - before;
        let figure = format!("{bought} bytes bought, {} of {} hits", short.hits, short.right);
        facts.add(bought == 0, &format!("{name}: the cache stays warm"), figure);
    }
    node.stop().await
}

/// Downloads at an even pace that a viewer's buffers cannot hide.
fn download(node: &Node, film: &Film, count: usize, over: Duration) -> Vec<JoinHandle<Tally>> {
    let segments = film.segments();
    let downloads = segments.iter().cycle().take(count).map(|piece| {
        let (mut viewer, piece) = (Viewer::new(&node.viewer).with_small_buffer(8 * 1024), piece.clone());
        tokio::spawn(async move {
            let rate = Some(piece.len() * 1_000 / over.as_millis() as u64);
            let wish = Wish { rate, ..Wish::whole(&piece) };
            let (seen, mut tally) = (viewer.ask(&wish).await, Tally::default());
            tally.count(&wish, &seen);
            tally
        })
    });
    downloads.collect()
}

/// One short request after the other, each on a new connection.
fn pass_by(node: &Node, film: &Film, stop: &Arc<AtomicBool>) -> JoinHandle<Tally> {
    let (address, pieces, stop) = (node.viewer.clone(), film.pieces.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut tally = Tally::default();
        let pieces: Vec<&Piece> = pieces.iter().collect();
        for piece in pieces.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let wish = Wish::part(piece, 0, piece.len().min(1_000));
            let seen = Viewer::new(&address).ask(&wish).await;
            tally.count(&wish, &seen);
            sleep(Duration::from_millis(10)).await;
        }
        tally
    })
}
