//! A million objects on disk, killed: how long until the first of them is served, and what its index costs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::{GroupDigests, PackageId, Part, SegmentKey};
use prometheus::Registry;
use store::{ByteSize, DiskConfig, SegmentBody, SegmentStore, StoreConfig, Terms};
use testkit::{Behaviour, Script};
use tokio::time::{Instant, sleep};

use crate::Stage;
use crate::facts::{Facts, percentile, spread};
use crate::failure::{Context, Outcome};
use crate::film::{Film, Piece, lengths};
use crate::gateway::{Disk, Node, Setup, resident};
use crate::origin::Origin;
use crate::viewer::{Viewer, Wish, fetch_all};

const OBJECT: usize = 3_000;
const OF_A_TITLE: u32 = 1_000;
/// Objects offered at once: the store's queue is bounded.
const AT_ONCE: u32 = 2_000;
const LIMIT: Duration = Duration::from_secs(2);
const REST: Duration = Duration::from_secs(15);
const INDEX_BYTES: u64 = 100;
/// Below this an index drowns in the noise of an allocator.
const WORTH_WEIGHING: u32 = 500_000;

pub(super) async fn run(stage: &Stage, facts: &mut Facts) -> Outcome {
    let objects = stage.pick(10_000, 1_000_000);
    let cache = stage.home.join("cache");
    let film = Film::of_segments(stage.seed, lengths(stage.seed, 20, 1_000, 100_000))?;
    let script = Script::new(|_, _| Behaviour { rate: u64::MAX, ..Behaviour::default() });
    let origin = Origin::start("origin", stage.seed, &film.package, script).await?;
    let disk = |folder: &Path| Setup::disk_only(Disk::of_small_things(folder, "16GiB"));
    let empty = disk(&stage.home.join("empty"));
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], empty).await?;
    let alone = resident(&node)?;
    node.stop().await?;

    let begun = Instant::now();
    let stored = stock(&cache, objects).await?;
    let figure = format!("{stored} of {objects} objects in {:.1} s", begun.elapsed().as_secs_f64());
    // A disk that is slow for a moment takes nothing for a while; then there are a few less to find again.
    facts.add(stored >= u64::from(objects) * 9 / 10, "stocked", figure);
    let mut node = Node::start(&stage.gateway, &stage.home, &film, &[&origin], disk(&cache)).await?;
    fetch_all(&node.viewer, &film.pieces, 4).await;
    node.settle().await?;
    let piece = film.pieces.last().doing("a segment")?;
    let (mut rested, mut hurried) = (Vec::new(), Vec::new());
    for _ in 0..stage.pick(1, 5) {
        // What a start leaves to do in the background is done.
        sleep(stage.pick(Duration::from_secs(1), REST)).await;
        rested.push(kill_and_time(&mut node, piece, facts).await?);
    }
    for _ in 0..stage.pick(1, 5) {
        hurried.push(kill_and_time(&mut node, piece, facts).await?);
    }
    let held = node.metrics().await?.of("weir_store_objects", "tier=\"disk\"")?;
    facts.add(held >= stored, "objects found again", format!("{held} of {stored} and the film"));
    let good = percentile(&rested, 100) <= LIMIT;
    facts.add(good, "from start to the first served hit", spread(&rested));
    let good = percentile(&hurried, 100) <= LIMIT;
    facts.add(good, "the same, killed again as soon as it served", spread(&hurried));
    let each = resident(&node)?.saturating_sub(alone) / held.max(1);
    let good = each <= INDEX_BYTES || objects < WORTH_WEIGHING;
    facts.add(good, "memory of the index, bytes for each object", each);
    node.stop().await?;
    // Gigabytes that nobody wants to look at.
    fs::remove_dir_all(&cache).doing(cache.display())
}

/// Kills the gateway, starts it, and asks for something: how long from the start until it is here.
async fn kill_and_time(node: &mut Node, piece: &Piece, facts: &mut Facts) -> Outcome<Duration> {
    node.kill().await?;
    let begun = Instant::now();
    node.restart().await?;
    let seen = Viewer::new(&node.viewer).ask(&Wish::whole(piece)).await;
    if !seen.is_right() || !seen.hit {
        facts.add(false, "the first answer after a kill is a hit", format!("{:?}", seen.ending));
    }
    Ok(begun.elapsed())
}

/// Puts so many small objects on the disk, through the store itself. Returns how many it holds then.
async fn stock(folder: &Path, objects: u32) -> Outcome<u64> {
    let disk = DiskConfig {
        path: folder.to_owned(),
        capacity_bytes: ByteSize::gib(16),
        unit_bytes: ByteSize::from(4_096),
        ..DiskConfig::default()
    };
    let config = StoreConfig { memory_bytes: ByteSize::from(0), disk: vec![disk], ..StoreConfig::default() };
    let store = SegmentStore::open(&config, Vec::new(), &Registry::new()).await.doing("a store to fill")?;
    let bytes = Bytes::from(vec![7; OBJECT]);
    let (digests, body) = (Arc::new(GroupDigests::of(&bytes)), SegmentBody::of(&bytes));
    for n in 0..objects {
        let key = SegmentKey {
            title: format!("t{}", n / OF_A_TITLE).parse().doing("a title")?,
            package: PackageId(1),
            rendition: "v720".parse().doing("a rendition")?,
            part: Part::Media(n % OF_A_TITLE),
        };
        store.insert(&key, Arc::clone(&digests), body.clone(), &Terms::default());
        if n % AT_ONCE == AT_ONCE - 1 {
            store.flush().await;
        }
    }
    store.flush().await;
    Ok(store.usage().disk.objects)
}
