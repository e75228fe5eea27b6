//! How long a decision takes when a million objects are here.

use std::hint::black_box;
use std::time::Duration;

use media::Part;
use store::policy::{Policy, Slot, Video};
use tokio::time::Instant;

use crate::film::numbers;
use crate::stats::percentile;
use crate::trace::stream_key;

/// Segments of each rendition, and renditions of each title.
const SEGMENTS: u32 = 1_000;
const RENDITIONS: u32 = 4;
const DECISIONS: usize = 200_000;
/// Viewers who watch at the same time, each asking every six seconds.
const VIEWERS: usize = 2_000;

/// The 99th percentile over decisions, each with everything it entails: the request, whether a miss is worth a
/// write, who goes, and the newcomer.
pub(super) fn decision_p99_us(objects: u32) -> f64 {
    let mut policy = Video::new();
    let streams = objects.div_ceil(SEGMENTS);
    let mut keys: Vec<_> = (0..2 * streams)
        .map(|at| stream_key((at / RENDITIONS) as usize, (at % RENDITIONS) as usize))
        .collect();
    for object in 0..objects {
        let key = &mut keys[(object / SEGMENTS) as usize];
        key.part = Part::Media(object % SEGMENTS);
        policy.admit(Slot(object), key, 3_000_000, false);
    }
    let mut draws = numbers(7);
    // Half of the streams are here, half are not.
    let mut draw = |upto: u32| (draws.next().unwrap_or_default() % u64::from(upto.max(1))) as u32;
    let mut viewers: Vec<(u32, u32)> = (0..VIEWERS).map(|_| (draw(2 * streams), draw(SEGMENTS))).collect();
    let mut took = Vec::with_capacity(DECISIONS);
    for nth in 0..DECISIONS {
        let (stream, at) = &mut viewers[nth % VIEWERS];
        if *at == SEGMENTS {
            (*stream, *at) = (draw(2 * streams), 0);
        }
        let key = &mut keys[*stream as usize];
        key.part = Part::Media(*at);
        *at += 1;
        let now = Duration::from_millis(nth as u64 * 6_000 / VIEWERS as u64);
        let missed = *stream >= streams;
        let begun = Instant::now();
        policy.ask(key, now);
        if missed
            && policy.earns(key)
            && let Some(slot) = policy.victim()
        {
            policy.admit(slot, key, 3_000_000, false);
        }
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    black_box(&policy);
    percentile(&took, 990).unwrap_or_default()
}
