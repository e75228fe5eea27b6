//! What group verification costs: hash the whole segment after it arrived, or each group as it arrives.
//!
//! Both sides get the same chunks, keep the segment, and let nothing out before it is checked. The real side
//! makes of the chunks what a fill makes of them: groups with buffers of their own, each verified alone, put
//! together as the store keeps them. The chunks come from memory, so `first_byte` is the processor's share
//! only: over a network the naive side also waits for the whole transfer.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use media::digest::{group_count, group_range};
use media::{Digest, GroupDigests};
use store::SegmentBody;
use tokio::time::Instant;

use crate::film::{Film, Piece, witness};
use crate::report::{Comparison, Measure, Sample, compare};
use crate::stats::{Side, interleaved, percentile};
use crate::{Fault, Workload};

/// What a read of a socket gives at best; no multiple of a group.
const CHUNK_LEN: usize = 40_000;

const MEASURES: [Measure; 3] = [
    Measure::more("throughput", "GB/s"),
    Measure::less("first_byte_p50", "us"),
    Measure::less("whole_p50", "us"),
];

/// Runs both sides.
///
/// # Errors
/// A side refused right bytes, or the sides kept different ones.
pub fn run(workload: &Workload) -> Result<Vec<Comparison>, Fault> {
    let film = Film::new(workload)?;
    for side in Side::ALL {
        measure(side, &film, 1)?;
    }
    let mut samples = Vec::new();
    for side in interleaved(workload.runs) {
        samples.push(measure(side, &film, workload.verify_passes)?);
    }
    let delivered = [hash(Side::Naive, &film)?, hash(Side::Ours, &film)?];
    compare("verify", &MEASURES, &samples, delivered)
}

/// A verified segment, and when its first byte could have been sent.
struct Kept {
    body: SegmentBody,
    first: Instant,
}

fn measure(side: Side, film: &Film, passes: u32) -> Result<Sample, Fault> {
    let (mut firsts, mut wholes) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for piece in (0..passes).flat_map(|_| &film.pieces) {
        let start = Instant::now();
        let kept = black_box(receive(side, piece)?);
        wholes.push(start.elapsed().as_secs_f64() * 1e6);
        firsts.push((kept.first - start).as_secs_f64() * 1e6);
    }
    let seconds = began.elapsed().as_secs_f64();
    let throughput = film.len() as f64 * f64::from(passes) / seconds / 1e9;
    let p50 = |values: &[f64]| percentile(values, 500).unwrap_or_default();
    Ok(Sample { side, figures: vec![throughput, p50(&firsts), p50(&wholes)] })
}

fn hash(side: Side, film: &Film) -> Result<Digest, Fault> {
    let digest =
        |piece| Ok(Digest::of(&receive(side, piece)?.body.groups().cloned().collect::<Vec<_>>().concat()));
    Ok(witness(film.pieces.iter().map(digest).collect::<Result<Vec<_>, Fault>>()?))
}

fn receive(side: Side, piece: &Piece) -> Result<Kept, Fault> {
    let kept = match side {
        Side::Naive => whole(&piece.bytes, piece.digests.root()),
        Side::Ours => grouped(&piece.bytes, &piece.digests),
    };
    kept.ok_or_else(|| Fault::new("verifying", format_args!("{} refused right bytes", side.as_str())))
}

fn whole(bytes: &[u8], root: Digest) -> Option<Kept> {
    let mut all = Vec::with_capacity(bytes.len());
    bytes.chunks(CHUNK_LEN).for_each(|chunk| all.extend_from_slice(chunk));
    let right = Digest::of(&all) == root;
    right.then(|| Kept { body: SegmentBody::of(&all.into()), first: Instant::now() })
}

fn grouped(bytes: &[u8], digests: &GroupDigests) -> Option<Kept> {
    let mut groups: Vec<Bytes> = Vec::with_capacity(group_count(digests.len()) as usize);
    let (mut partial, mut first) = (BytesMut::new(), None);
    for mut chunk in bytes.chunks(CHUNK_LEN) {
        while !chunk.is_empty() {
            let group = groups.len() as u64;
            let range = group_range(digests.len(), group);
            let size = (range.end - range.start) as usize;
            let (now, later) = chunk.split_at(chunk.len().min(size - partial.len()));
            partial.reserve(size - partial.len());
            partial.extend_from_slice(now);
            chunk = later;
            if partial.len() == size {
                let bytes = std::mem::take(&mut partial).freeze();
                if !digests.verify(group, &bytes) {
                    return None;
                }
                first.get_or_insert_with(Instant::now);
                groups.push(bytes);
            }
        }
    }
    Some(Kept { body: SegmentBody::new(digests.len(), groups)?, first: first? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_keep_right_bytes_and_refuse_wrong_ones() {
        for len in [1, 16_384, 16_385, 100_000] {
            let right: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let digests = GroupDigests::of(&right);
            let mut wrong = right.clone();
            wrong[len - 1] ^= 1;
            let naive = whole(&right, digests.root()).expect("kept");
            let ours = grouped(&right, &digests).expect("kept");
            assert_eq!(naive.body.groups().cloned().collect::<Vec<_>>().concat(), right);
            assert_eq!(ours.body.groups().cloned().collect::<Vec<_>>().concat(), right);
            assert!(whole(&wrong, digests.root()).is_none() && grouped(&wrong, &digests).is_none());
        }
    }
}
