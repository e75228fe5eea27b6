//! Bit rates of segments, as RFC 8216 section 4.1 defines them.

use super::SegmentFacts;

/// The peak segment bit rate in bits per second: the highest rate of any run of whole segments that plays
/// between half and one and a half target durations. A short last segment alone is no such run; a track that
/// is shorter than every run is one run.
#[must_use]
pub fn peak_bits(segments: &[SegmentFacts], target_s: u32) -> u64 {
    let target_us = u64::from(target_s) * 1_000_000;
    let runs = (0..segments.len()).flat_map(|first| runs_from(&segments[first..], target_us));
    runs.max().unwrap_or_else(|| average_bits(segments))
}

/// The rates of the runs that begin with the first of these segments.
fn runs_from(segments: &[SegmentFacts], target_us: u64) -> impl Iterator<Item = u64> {
    let sums = segments.iter().scan((0, 0), |(bytes, duration), segment| {
        *bytes += segment.bytes;
        *duration += segment.duration_us;
        Some((*bytes, *duration))
    });
    let within = sums.take_while(move |(_, duration)| *duration * 2 <= target_us * 3);
    within
        .filter(move |(_, duration)| *duration * 2 >= target_us)
        .map(|(bytes, duration)| rate(bytes, duration))
}

/// The average bit rate of all segments together, in bits per second.
#[must_use]
pub fn average_bits(segments: &[SegmentFacts]) -> u64 {
    rate(segments.iter().map(|segment| segment.bytes).sum(), duration_us(segments))
}

/// How long all segments together play, in microseconds.
pub(super) fn duration_us(segments: &[SegmentFacts]) -> u64 {
    segments.iter().map(|segment| segment.duration_us).sum()
}

/// Rounded up: a rate that is a little too high errs on the safe side.
fn rate(bytes: u64, duration_us: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000;
    u64::try_from(bits.div_ceil(u128::from(duration_us.max(1)))).unwrap_or(u64::MAX)
}
