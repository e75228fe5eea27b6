//! What a memory hit costs inside the process: through the engine, or as a copy out of a map.
//!
//! The naive side is `HashMap<SegmentKey, Vec<u8>>` and a clone of the bytes, as the body of a response needs
//! them to be its own. The real side describes the segment from its signed index, looks it up with its
//! popularity counted, and hands out its groups without copying; it pays for what the map does not have.
//! So `handed_out` is no rate of moving bytes on the real side: nobody moves them before the socket does.

use std::collections::HashMap;
use std::hint::black_box;

use bytes::Bytes;
use engine::Outcome;
use futures_util::TryStreamExt;
use media::{Digest, SegmentKey};
use tokio::time::Instant;

use crate::film::{Film, witness};
use crate::node::Node;
use crate::report::{Comparison, Measure, Sample, compare};
use crate::stats::{Side, interleaved, percentile};
use crate::{Doing, Fault, Workload};

const MEASURES: [Measure; 4] = [
    Measure::more("handed_out", "GB/s"),
    Measure::less("first_byte_p50", "us"),
    Measure::less("whole_p50", "us"),
    Measure::less("whole_p99", "us"),
];

/// Runs both sides.
///
/// # Errors
/// The engine failed, something was no memory hit, or the sides delivered different bytes.
pub async fn run(workload: &Workload) -> Result<Vec<Comparison>, Fault> {
    let film = Film::new(workload)?;
    let copies = film.pieces.iter().map(|piece| (piece.key.clone(), piece.bytes.to_vec())).collect();
    let tiers = Tiers { copies, node: Node::warm(&film).await? };
    for side in Side::ALL {
        tiers.measure(side, &film, 1).await?;
    }
    let mut samples = Vec::new();
    for side in interleaved(workload.runs) {
        samples.push(tiers.measure(side, &film, workload.hot_passes).await?);
    }
    let delivered = [tiers.hash(Side::Naive, &film).await?, tiers.hash(Side::Ours, &film).await?];
    compare("hot", &MEASURES, &samples, delivered)
}

/// The film in memory, in both ways.
struct Tiers {
    copies: HashMap<SegmentKey, Vec<u8>>,
    node: Node,
}

impl Tiers {
    async fn measure(&self, side: Side, film: &Film, passes: u32) -> Result<Sample, Fault> {
        let (mut firsts, mut wholes) = (Vec::new(), Vec::new());
        let began = Instant::now();
        for piece in (0..passes).flat_map(|_| &film.pieces) {
            let start = Instant::now();
            let (first, pieces) = self.hit(side, &piece.key).await?;
            drop(black_box(pieces));
            wholes.push(start.elapsed().as_secs_f64() * 1e6);
            firsts.push((first - start).as_secs_f64() * 1e6);
        }
        let handed_out = film.len() as f64 * f64::from(passes) / began.elapsed().as_secs_f64() / 1e9;
        let at = |values: &[f64], per_mille| percentile(values, per_mille).unwrap_or_default();
        Ok(Sample { side, figures: vec![handed_out, at(&firsts, 500), at(&wholes, 500), at(&wholes, 990)] })
    }

    async fn hash(&self, side: Side, film: &Film) -> Result<Digest, Fault> {
        let mut digests = Vec::new();
        for piece in &film.pieces {
            let (_, pieces) = self.hit(side, &piece.key).await?;
            digests.push(Digest::of(&pieces.concat()));
        }
        Ok(witness(digests))
    }

    /// One hit: when its first byte was at hand, and all of it.
    async fn hit(&self, side: Side, key: &SegmentKey) -> Result<(Instant, Vec<Bytes>), Fault> {
        match side {
            Side::Naive => {
                let copy =
                    self.copies.get(key).cloned().ok_or_else(|| Fault::new("copying", "no such key"))?;
                Ok((Instant::now(), vec![Bytes::from(copy)]))
            }
            Side::Ours => {
                let serving = self.node.open(key).await?;
                let first = Instant::now();
                if serving.outcome != Outcome::Memory {
                    let outcome = serving.outcome.as_str();
                    return Err(Fault::new("a memory hit", format_args!("{key} came from {outcome}")));
                }
                Ok((first, serving.body.try_collect().await.doing("reading a segment")?))
            }
        }
    }
}
