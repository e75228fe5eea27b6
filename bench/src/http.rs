//! What a memory hit costs over loopback HTTP/1.1: through the viewer's edge, or through a map behind a server.
//!
//! The server is a process of its own (`bench serve`), so that its processor time can be told from the
//! clients'. Requests arrive on their own schedule, not when the last answer came back: a request that finds
//! every connection busy waits, and its wait counts. Both sides see the same arrivals.
//!
//! The naive server is the same HTTP library with a map of paths to bytes behind it, each response a copy: no
//! token, no index, no bounds, no access line.

mod arrivals;
mod client;
mod process;
mod server;

pub use server::{Ready, serve};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use media::Digest;
use tokio::time::{Instant, timeout};

use crate::film::{Film, witness};
use crate::report::{Comparison, Measure, Sample, compare};
use crate::stats::{Side, interleaved, percentile};
use crate::{Doing, Fault, Workload};

use arrivals::{Arrival, arrivals};
use client::{Connection, Timing, replay};
use process::Process;

/// Longest time for one run, beyond its schedule.
const PATIENCE: Duration = Duration::from_secs(60);

const MEASURES: [Measure; 8] = [
    Measure::less("server_cpu", "s/GB"),
    Measure::more("delivered", "Gbit/s"),
    Measure::less("first_byte_p50", "us"),
    Measure::less("first_byte_p99", "us"),
    Measure::less("whole_p50", "us"),
    Measure::less("whole_p99", "us"),
    Measure::less("queued_p99", "us"),
    Measure::less("client_timer_late_p99", "us"),
];

/// Runs both sides; `program` is this program, which is started once for each side.
///
/// # Errors
/// A server did not start or answered anything but the film, or a run took far too long.
pub async fn run(workload: &Workload, program: &Path, tiny: bool) -> Result<Vec<Comparison>, Fault> {
    let film = Film::new(workload)?;
    let [naive, ours] = Side::ALL;
    let rig = Rig {
        naive: Process::start(program, naive, workload.seed, tiny).await?,
        ours: Process::start(program, ours, workload.seed, tiny).await?,
        arrivals: arrivals(workload).into(),
        connections: workload.connections,
    };
    for side in Side::ALL {
        rig.measure(side, &film).await?;
    }
    let mut samples = Vec::new();
    for side in interleaved(workload.runs) {
        samples.push(rig.measure(side, &film).await?);
    }
    let delivered = [rig.hash(naive, &film).await?, rig.hash(ours, &film).await?];
    compare("http", &MEASURES, &samples, delivered)
}

/// Both servers, and what they are asked.
struct Rig {
    naive: Process,
    ours: Process,
    arrivals: Arc<[Arrival]>,
    connections: usize,
}

impl Rig {
    fn process(&self, side: Side) -> &Process {
        match side {
            Side::Naive => &self.naive,
            Side::Ours => &self.ours,
        }
    }

    async fn measure(&self, side: Side, film: &Film) -> Result<Sample, Fault> {
        let process = self.process(side);
        let connections = process.connect(self.connections).await?;
        let paths = film.pieces.iter().map(|piece| process.path(piece)).collect();
        let (cpu, began) = (process.cpu_seconds()?, Instant::now());
        let replaying = replay(connections, paths, Arc::clone(&self.arrivals));
        let limit = self.arrivals.last().map_or(PATIENCE, |last| last.at + PATIENCE);
        let timings = timeout(limit, replaying).await.doing("waiting for the clients")??;
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), process.cpu_seconds()? - cpu);
        Ok(Sample { side, figures: figures(&timings, seconds, cpu) })
    }

    async fn hash(&self, side: Side, film: &Film) -> Result<Digest, Fault> {
        let process = self.process(side);
        let mut connection = Connection::open(process.address()).await?;
        let mut digests = Vec::new();
        for piece in &film.pieces {
            let mut bytes = Vec::with_capacity(piece.bytes.len());
            connection.get(&process.path(piece), |chunk| bytes.extend_from_slice(chunk)).await?;
            digests.push(Digest::of(&bytes));
        }
        Ok(witness(digests))
    }
}

/// The figures of one run, in the order of [`MEASURES`].
fn figures(timings: &[Timing], seconds: f64, cpu: f64) -> Vec<f64> {
    let bytes = timings.iter().map(|timing| timing.bytes).sum::<u64>() as f64;
    let at = |of: fn(&Timing) -> Duration, per_mille| {
        let micros: Vec<f64> = timings.iter().map(|timing| of(timing).as_secs_f64() * 1e6).collect();
        percentile(&micros, per_mille).unwrap_or_default()
    };
    vec![
        cpu / (bytes / 1e9),
        bytes * 8.0 / 1e9 / seconds,
        at(|timing| timing.first, 500),
        at(|timing| timing.first, 990),
        at(|timing| timing.whole, 500),
        at(|timing| timing.whole, 990),
        at(|timing| timing.queued, 990),
        at(|timing| timing.timer_late, 990),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_the_order_of_the_measures() {
        let micros = Duration::from_micros;
        let timing = Timing {
            first: micros(100),
            whole: micros(900),
            queued: micros(7),
            timer_late: micros(3),
            bytes: 500_000_000,
        };
        let slow = Timing { first: micros(200), whole: micros(1900), ..timing };
        let expected = [0.25, 4.0, 100.0, 200.0, 900.0, 1900.0, 7.0, 3.0];
        let found = figures(&[timing, slow], 2.0, 0.25);
        assert_eq!(found.len(), MEASURES.len());
        let same = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(same, "{found:?}");
    }
}
