//! What could have been hit by somebody who knows all requests in advance.
//!
//! With segments of different lengths the optimum is not computable in practice, so it is enclosed. Belady's rule by
//! size (whoever is asked for latest goes, and who would have to go at once is not written) is a schedule that
//! exists, so the optimum is at least that. The other side is a relaxation: every pair of successive requests for an
//! object is an interval that takes its bytes for its length, all intervals together may take no more than the disk's
//! bytes for the whole time, and the shortest are taken first (PFOO-L: Berger, Beckmann and Harchol-Balter,
//! "Practical bounds on optimal caching with variable object sizes", 2018).

use std::collections::BTreeSet;

use super::Tally;
use crate::trace::Trace;

const NEVER: u32 = u32::MAX;

/// For each request, which one asks for the same object next.
pub(super) fn next_requests(trace: &Trace) -> Vec<u32> {
    let mut coming = vec![NEVER; trace.objects.len()];
    let mut next = vec![NEVER; trace.requests.len()];
    for (at, request) in trace.requests.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut coming[request.object as usize], at as u32);
    }
    next
}

/// Belady's rule by size, with bypass: a lower bound of the optimum.
pub(super) fn belady(trace: &Trace, next: &[u32], capacity: u64) -> Tally {
    let mut due: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut here = vec![false; trace.objects.len()];
    let (mut used, mut tally) = (0, Tally::default());
    for (at, request) in trace.requests.iter().enumerate() {
        let object = request.object as usize;
        let bytes = u64::from(trace.objects[object].bytes);
        let hit = std::mem::take(&mut here[object]);
        if hit {
            due.remove(&(at as u32, request.object));
            used -= bytes;
        }
        let mut written = next[at] != NEVER && bytes <= capacity;
        while written && used + bytes > capacity {
            match due.last().copied() {
                Some((latest, other)) if latest > next[at] => {
                    due.pop_last();
                    here[other as usize] = false;
                    used -= u64::from(trace.objects[other as usize].bytes);
                }
                _ => written = false,
            }
        }
        if written {
            due.insert((next[at], request.object));
            here[object] = true;
            used += bytes;
        }
        if at >= trace.measured_from {
            tally.count(bytes, hit, written && !hit);
        }
    }
    tally
}

/// The share of bytes that nobody can exceed.
pub(super) fn upper_bound(trace: &Trace, next: &[u32], capacity: u64) -> f64 {
    let from = trace.measured_from;
    let mut intervals: Vec<(u32, u32)> = Vec::new();
    let mut asked = 0_u64;
    for (at, request) in trace.requests.iter().enumerate() {
        let bytes = trace.objects[request.object as usize].bytes;
        asked += if at >= from { u64::from(bytes) } else { 0 };
        if next[at] != NEVER && next[at] as usize >= from {
            // What lies before the measured time is not charged: the bound stays one.
            intervals.push((next[at] - at.max(from) as u32, bytes));
        }
    }
    intervals.sort_unstable();
    let room = u128::from(capacity) * (trace.requests.len() - from) as u128;
    let (mut taken, mut hit) = (0_u128, 0_u64);
    for (length, bytes) in intervals {
        taken += u128::from(length) * u128::from(bytes);
        if taken > room {
            break;
        }
        hit += u64::from(bytes);
    }
    hit as f64 / asked.max(1) as f64
}

#[cfg(test)]
mod tests {
    use media::Part;

    use super::*;
    use crate::trace::{Raw, Stream, stream_key};

    fn trace(asked: &[u32]) -> Trace {
        let raw = |(at, n): (usize, &u32)| Raw {
            tenths: at as u32,
            stream: Stream(0),
            part: Part::Media(*n),
            bytes: 10,
        };
        Trace::new(vec![stream_key(0, 0)], asked.iter().enumerate().map(raw).collect(), 0)
    }

    #[test]
    fn belady_keeps_what_comes_soonest() {
        // Room for two: 3 is never asked for again and not written; 2 comes later than 1 and goes for 4.
        let trace = trace(&[1, 2, 3, 1, 4, 4, 1, 2]);
        let next = next_requests(&trace);
        assert_eq!(next[..3], [3, 7, NEVER]);
        let tally = belady(&trace, &next, 20);
        assert_eq!((tally.hits, tally.requests, tally.bytes_written), (3, 8, 30));
        assert!(belady(&trace, &next, 30).hits == 4 && belady(&trace, &next, 0).hits == 0);
    }

    #[test]
    fn the_upper_bound_is_one() {
        let trace = trace(&[1, 2, 3, 1, 4, 4, 1, 2, 3, 1, 2, 4, 1, 3, 2, 1]);
        let next = next_requests(&trace);
        for capacity in [10, 20, 30, 40] {
            let tally = belady(&trace, &next, capacity);
            assert!(upper_bound(&trace, &next, capacity) >= tally.byte_hit(), "{capacity}");
        }
    }
}
