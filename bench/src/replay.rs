//! Traces replayed through the real policies of the store: who hits how much, at which price in writes and in time.
//!
//! The audiences are drawn from seeds, or one is read from an access log. A disk is as large as a share of the
//! footprint, which is everything that is asked for at least once. The policies stand beside each other, and beside
//! two bounds of what could have been hit with all requests known. The first quarter of the time warms up and is
//! not counted.
//!
//! What it leaves out: a fill takes no time here, so nobody joins one; there is no memory tier in front of the disk;
//! nothing is purged. The parameters of [`Video`] were chosen on two seeds; results are of others.

mod cost;
mod offline;
mod shelf;

use media::SegmentKey;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use store::policy::{Lru, Policy, S3Fifo, Video, WTinyLfu};

use self::shelf::{Answer, Shelf};
use crate::demand::Demand;
use crate::goals::Figure;
use crate::trace::Trace;

/// Added to seeds: the parameters of the policy were chosen on audiences of the seeds 1 and 2, so results are told of
/// others.
const HELD_OUT: u64 = 100;
/// The share of a trace that warms up and is not counted.
pub const WARM_SHARE: f64 = 0.25;
/// Sizes of the disk, in per cent of the footprint.
const SIZES: [u32; 4] = [2, 5, 10, 20];
/// Sizes at which writes are looked at.
const WRITE_SIZES: [u32; 2] = [5, 10];
/// Prices of a write in requests: the points of the curve between hits and writes.
const PRICES: [f64; 4] = [0.1, 0.2, 0.5, 1.0];
/// The exponent that most is told of.
const BASE_EXPONENT: f64 = 0.8;

/// What is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The audiences; goals are about the first.
    pub cases: Vec<Demand>,
    /// Objects of the measurement of a decision's time.
    pub objects: u32,
}

impl Plan {
    /// The audience of a seed, and others: of the next seed, and of each exponent of popularity that is reported of
    /// video on demand.
    #[must_use]
    pub fn real(seed: u64) -> Self {
        let seed = seed + HELD_OUT;
        let mut cases = vec![Demand::base(seed, BASE_EXPONENT), Demand::base(seed + 1, BASE_EXPONENT)];
        cases.extend([0.7, 0.9, 1.0, 1.1].map(|exponent| Demand::base(seed, exponent)));
        Self { cases, objects: 1_000_000 }
    }

    /// Just enough to see that it works.
    #[must_use]
    pub fn tiny(seed: u64) -> Self {
        Self { cases: vec![Demand::tiny(seed, BASE_EXPONENT), Demand::tiny(seed, 1.0)], objects: 10_000 }
    }
}

/// One policy on one disk under one audience.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which bench.
    pub bench: &'static str,
    /// The audience.
    pub audience: String,
    /// Bytes of the disk, in per cent of the footprint.
    pub disk_percent: u32,
    /// Who decided.
    pub policy: String,
    /// Bytes from the disk by bytes asked for.
    pub byte_hit: f64,
    /// Requests answered from the disk by requests; the upper bound has none.
    pub object_hit: Option<f64>,
    /// Bytes written to the disk by bytes bought; the upper bound has none.
    pub written_by_bought: Option<f64>,
    /// CPU nanoseconds for each request: policy and bookkeeping of the replay; the bounds have none.
    pub request_ns: Option<f64>,
}

/// What happened to the requests that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    requests: u64,
    hits: u64,
    bytes: u64,
    bytes_hit: u64,
    bytes_written: u64,
}

impl Tally {
    fn count(&mut self, bytes: u64, hit: bool, written: bool) {
        self.requests += 1;
        self.bytes += bytes;
        self.hits += u64::from(hit);
        self.bytes_hit += if hit { bytes } else { 0 };
        self.bytes_written += if written { bytes } else { 0 };
    }

    fn byte_hit(&self) -> f64 {
        ratio(self.bytes_hit, self.bytes)
    }

    fn row(&self, policy: impl Into<String>, request_ns: Option<f64>) -> Row {
        Row {
            bench: "replay",
            audience: String::new(),
            disk_percent: 0,
            policy: policy.into(),
            byte_hit: self.byte_hit(),
            object_hit: Some(ratio(self.hits, self.requests)),
            written_by_bought: Some(ratio(self.bytes_written, self.bytes - self.bytes_hit)),
            request_ns,
        }
    }
}

fn ratio(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

/// The policies that are compared with, by name.
const GENERAL: [&str; 3] = ["lru", "s3-fifo", "w-tinylfu"];
const OURS: &str = "video";
const BELADY: &str = "belady by size";
const BOUND: &str = "upper bound";

fn policy(name: &str, capacity: u64) -> Box<dyn Policy> {
    match name {
        "lru" => Box::new(Lru::new()),
        "s3-fifo" => Box::new(S3Fifo::new(capacity)),
        "w-tinylfu" => Box::new(WTinyLfu::new(capacity)),
        _ => Box::new(Video::new()),
    }
}

/// Replays everything; tells each row as soon as it is known. Gives the figures that goals are about.
///
/// # Errors
/// Whatever telling fails with.
pub fn run<E>(plan: &Plan, mut tell: impl FnMut(&Row) -> Result<(), E>) -> Result<Vec<Figure>, E> {
    let mut rows = Vec::new();
    for (nth, demand) in plan.cases.iter().enumerate() {
        let audience = format!("seed {}, exponent {}", demand.seed, demand.exponent);
        let mut case = replay(&demand.draw(), &audience, &mut tell, nth == 0)?;
        rows.append(&mut case);
    }
    let mut figures = figures(&rows);
    figures.push(Figure::new("decision_p99_us", cost::decision_p99_us(plan.objects)));
    Ok(figures)
}

/// Replays one trace under every policy and size.
///
/// # Errors
/// Whatever telling fails with.
pub fn replay<E>(
    trace: &Trace,
    audience: &str,
    tell: &mut impl FnMut(&Row) -> Result<(), E>,
    with_curve: bool,
) -> Result<Vec<Row>, E> {
    let mut rows = Vec::new();
    let next = offline::next_requests(trace);
    let footprint = trace.footprint();
    for size in SIZES {
        let capacity = footprint * u64::from(size) / 100;
        let mut add = |row: Row| {
            let row = Row { audience: audience.to_owned(), disk_percent: size, ..row };
            tell(&row)?;
            rows.push(row);
            Ok(())
        };
        for name in GENERAL.into_iter().chain([OURS]) {
            add(online(trace, name, capacity, policy(name, capacity)))?;
        }
        if with_curve && WRITE_SIZES.contains(&size) {
            for price in PRICES {
                let name = format!("video, price {price}");
                add(online(trace, &name, capacity, Box::new(Video::with_price(price))))?;
            }
        }
        add(offline::belady(trace, &next, capacity).row(BELADY, None))?;
        let byte_hit = offline::upper_bound(trace, &next, capacity);
        let bound = Tally::default().row(BOUND, None);
        add(Row { byte_hit, object_hit: None, written_by_bought: None, ..bound })?;
    }
    Ok(rows)
}

fn online(trace: &Trace, name: &str, capacity: u64, policy: Box<dyn Policy>) -> Row {
    let mut shelf = Shelf::new(capacity, trace.objects.len(), policy);
    let mut keys: Vec<SegmentKey> = trace.streams.clone();
    let mut tally = Tally::default();
    let begun = cpu_seconds();
    for (at, request) in trace.requests.iter().enumerate() {
        let object = trace.objects[request.object as usize];
        let key = &mut keys[object.stream.0 as usize];
        key.part = object.part;
        let answer = shelf.ask(request.object, key, object.bytes, request.tenths);
        if at >= trace.measured_from {
            tally.count(u64::from(object.bytes), answer == Answer::Hit, answer == Answer::Written);
        }
    }
    let took = cpu_seconds() - begun;
    tally.row(name, Some(took * 1e9 / trace.requests.len().max(1) as f64))
}

/// What this thread has taken so far: other processes on the machine do not count.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Gains over the best of the general policies, in points: under the first audience by size, and the worst of all.
#[must_use]
pub fn figures(rows: &[Row]) -> Vec<Figure> {
    let Some(first) = rows.first().map(|row| &row.audience) else { return Vec::new() };
    let mut figures = Vec::new();
    let of = |audience: &str, size, policy: &str| {
        rows.iter().find(|row| row.audience == audience && row.disk_percent == size && row.policy == policy)
    };
    for size in SIZES {
        let name = |figure: &str| format!("{figure}_at_{size}_percent");
        if let Some(gain) = gain(rows, first, size) {
            figures.push(Figure::new(name("gain"), gain));
        }
        if let (Some(ours), Some(belady)) = (of(first, size, OURS), of(first, size, BELADY)) {
            let best = ours.byte_hit - gain(rows, first, size).unwrap_or_default() / 100.0;
            figures.push(Figure::new(
                name("closed_to_belady"),
                (ours.byte_hit - best) / (belady.byte_hit - best),
            ));
            figures.extend(
                ours.written_by_bought.map(|written| Figure::new(name("written_by_bought"), written)),
            );
        }
    }
    let mut audiences: Vec<&str> = rows.iter().map(|row| row.audience.as_str()).collect();
    audiences.dedup();
    let gains = audiences.iter().flat_map(|audience| SIZES.map(|size| gain(rows, audience, size)));
    let worst = gains.flatten().fold(f64::INFINITY, f64::min);
    figures.push(Figure::new("worst_gain", worst));
    figures
}

fn gain(rows: &[Row], audience: &str, size: u32) -> Option<f64> {
    let here = || rows.iter().filter(|row| row.audience == audience && row.disk_percent == size);
    let general = here().filter(|row| GENERAL.contains(&row.policy.as_str())).map(|row| row.byte_hit);
    let best = general.fold(f64::NAN, f64::max);
    let ours = here().find(|row| row.policy == OURS)?;
    Some((ours.byte_hit - best) * 100.0)
}

/// The rows as a table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<24} {:>6} {:<18} {:>9} {:>11} {:>14} {:>10}\n",
        "audience", "disk %", "policy", "byte hit", "object hit", "written/bought", "ns/request"
    );
    for row in rows {
        let Row { audience, disk_percent, policy, byte_hit, .. } = row;
        let shown = |figure: Option<f64>, digits| {
            figure.map_or("-".to_owned(), |figure| format!("{figure:.digits$}"))
        };
        let (object_hit, written) = (shown(row.object_hit, 4), shown(row.written_by_bought, 3));
        let ns = shown(row.request_ns, 0);
        text += &format!(
            "{audience:<24} {disk_percent:>6} {policy:<18} {byte_hit:>9.4} {object_hit:>11} {written:>14} {ns:>10}\n"
        );
    }
    text
}
