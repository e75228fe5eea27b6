//! Ten thousand idle connections and a thousand slow readers, each of another segment: the process stays within
//! what its configuration adds up to.

use std::time::Duration;

use testkit::{Behaviour, Script};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::Stage;
use crate::clock::until;
use crate::facts::Facts;
use crate::failure::{Context, Failure, Outcome};
use crate::film::{Film, Piece};
use crate::gateway::{Disk, Node, Setup, resident};
use crate::origin::Origin;
use crate::viewer::{Seen, Tally, Viewer, Wish};

const MIB: u64 = 1 << 20;
const SEGMENT: u32 = 1 << 20;
/// Bytes of the configured parts, as they stand in [`setup`].
const TIER: u64 = 128 * MIB;
const FILLS: u64 = 64 * MIB;
const CACHES: u64 = 16 * MIB;
const QUEUE: u64 = 32 * MIB;
const BUFFER: u64 = 16 * 1024;
/// An idle connection holds no buffer of ours; this is its bookkeeping, TLS aside.
const CONNECTION: u64 = 8 * 1024;
/// Some hundred segments are read in this time, so that every slow reader's segment is evicted while it reads.
const READING: Duration = Duration::from_secs(40);

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let (idle, slow) = (stage.pick(500, 10_000), stage.pick(200, 1_000));
    need_files(idle + slow)?;
    let film = Film::of_segments(stage.seed, vec![SEGMENT; slow])?;
    let script = Script::new(|_, _| Behaviour { rate: 50_000_000, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, script).await?;
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], setup(stage)).await?;
    let first = film.pieces.first().doing("a playlist")?;
    Viewer::new(&node.viewer).ask(&Wish::whole(first)).await;
    let start = resident(&node)?;

    let mut idlers = Vec::new();
    for _ in 0..idle {
        let mut viewer = Viewer::new(&node.viewer);
        viewer.connect().await.doing("an idle connection")?;
        idlers.push(viewer);
    }
    let all = idle as u64;
    let open = until("the gateway has all idle connections", Duration::from_secs(30), async || {
        let open = node.metrics().await.ok()?.sum("weir_front_connections").ok()?;
        (open >= all).then_some(open)
    });
    facts.note("connections open", open.await?);
    let with_idle = resident(&node)?;
    let reading = stage.pick(Duration::from_secs(4), READING);
    let readers: Vec<_> = film.segments().into_iter().map(|piece| read(&node, piece, reading)).collect();
    let (mut most, mut tally) = (with_idle, Tally::default());
    while readers.iter().any(|reader| !reader.is_finished()) {
        sleep(Duration::from_millis(100)).await;
        most = most.max(resident(&node)?);
    }
    for (piece, reader) in film.segments().iter().zip(readers) {
        tally.count(&Wish::whole(piece), &reader.await.doing("a reader")?);
    }
    let budget =
        start + TIER + FILLS + CACHES + QUEUE + slow as u64 * BUFFER + (idle + slow) as u64 * CONNECTION;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    facts.note("resident at the start", mib(start));
    facts.note(&format!("with {idle} idle connections"), mib(with_idle));
    let figure = format!(
        "{} of {}: start {}, tier {}, fills {}, caches {}, queue {}, {slow} x 16 KiB to write, {} x 8 KiB of connections",
        mib(most),
        mib(budget),
        mib(start),
        mib(TIER),
        mib(FILLS),
        mib(CACHES),
        mib(QUEUE),
        idle + slow
    );
    let name =
        format!("at most, with {slow} slow readers of {} together", mib(slow as u64 * u64::from(SEGMENT)));
    facts.add(most <= budget + budget / 10, &name, figure);
    let all = tally.right == slow as u64;
    facts.add(
        all,
        "slow readers with every byte",
        format!("{tally} {}", tally.first_broken.clone().unwrap_or_default()),
    );
    drop(idlers);
    node.stop().await
}

/// Both sides of every connection are files; ours are here.
fn need_files(connections: usize) -> Outcome {
    let (soft, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).doing("the limit of open files")?;
    let wanted = connections as u64 + 500;
    if soft >= wanted {
        Ok(())
    } else {
        Err(Failure::new(format!("{wanted} open files are needed, {soft} allowed")))
    }
}

fn setup(stage: &Stage) -> Setup {
    Setup {
        memory: "128MiB",
        disk: Some(Disk::new(&stage.home.join("cache"), "4GiB").with("write_queue", "32MiB")),
        front: "max_connections = 12000\nmax_connections_per_address = 0\nhttp1_buffer_bytes = 16384\nidle_timeout = \"10m\"\nheader_timeout = \"10m\"\nwrite_timeout = \"2m\"",
        engine: "fill_buffer_bytes = \"64MiB\"\nindex_cache_bytes = \"8MiB\"\ndigest_cache_bytes = \"8MiB\"\nmax_waiting_fills = 2048\nadmission_wait = \"20s\"\nfill_deadline = \"120s\"",
        ..Setup::default()
    }
}

/// Reads at an even pace. Small packets and a small window keep what it has not read out of the kernel.
fn read(node: &Node, piece: Piece, over: Duration) -> JoinHandle<Seen> {
    let mut viewer = Viewer::new(&node.viewer).with_small_buffer(8 * 1024);
    let rate = Some(piece.len() * 1_000 / over.as_millis() as u64);
    tokio::spawn(async move { viewer.ask(&Wish { rate, ..Wish::whole(&piece) }).await })
}
