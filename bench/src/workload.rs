//! How much is measured.

/// The size of every measurement. Both sides of a comparison get the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Makes the film's bytes and the arrivals.
    pub seed: u64,
    /// Media segments of the film.
    pub segments: u32,
    /// Bytes of the longest segment; the others are a little shorter, none is a whole number of groups.
    pub segment_bytes: u32,
    /// Runs of each side; one more of each warms up and is not counted.
    pub runs: usize,
    /// How often a run of `verify` goes over the film.
    pub verify_passes: u32,
    /// How often a run of `hot` goes over the film.
    pub hot_passes: u32,
    /// Requests of one run over HTTP.
    pub requests: u32,
    /// Requests that arrive in a second, on average.
    pub rate: u32,
    /// Connections that stay open.
    pub connections: usize,
    /// Months that `cost` buys, each from a seed of its own.
    pub months: usize,
    /// Slots of five minutes in each of them.
    pub month_slots: usize,
}

impl Workload {
    /// Segments of 2 MB (six seconds of 720p), a film that fits into memory and into no processor cache;
    /// 3.2 Gbit/s offered over HTTP.
    #[must_use]
    pub fn real(seed: u64) -> Self {
        Self {
            seed,
            segments: 32,
            segment_bytes: 2_000_003,
            runs: 5,
            verify_passes: 10,
            hot_passes: 50,
            requests: 800,
            rate: 200,
            connections: 64,
            months: 60,
            month_slots: 8_640,
        }
    }

    /// Just enough to see that every bench still works and that the hashes agree.
    #[must_use]
    pub fn tiny(seed: u64) -> Self {
        Self {
            seed,
            segments: 4,
            segment_bytes: 100_003,
            runs: 2,
            verify_passes: 1,
            hot_passes: 2,
            requests: 20,
            rate: 400,
            connections: 4,
            months: 1,
            month_slots: 8_640,
        }
    }
}
