//! A synthetic audience: who watches what, when, at which rung and for how long, drawn from a seed.
//!
//! What it leaves out: audio and subtitle renditions, playlists and trick-play images (a few per cent of the bytes),
//! bots, broken players, purges and new packages, and whatever nobody has measured. Where no measurement was
//! at hand the parameter says so: it is an assumption, and the benches vary the ones that matter most.

mod catalogue;
mod dice;
mod session;

use self::catalogue::Catalogue;
use self::dice::Dice;
use crate::trace::{Raw, Trace, stream_key};

/// Tenths of a second in a day.
pub(crate) const DAY: f64 = 864_000.0;
/// Tenths of a second in an hour.
const HOUR: f64 = 36_000.0;

/// Everything an audience is drawn from.
///
/// "Assumption" marks what is not measured; the others name where the figure comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Makes everything.
    pub seed: u64,
    /// Days that are drawn.
    pub days: f64,
    /// Days at the beginning that warm the caches up and are not counted.
    pub warm_days: f64,
    /// Films there are at the beginning. Assumption: a regional shop's catalogue, scaled down by four together
    /// with the demand, which leaves the ratios nearly as they are.
    pub titles: usize,
    /// Films that are released each day. Assumption.
    pub releases_per_day: f64,
    /// Sessions on an average day for each film of the beginning. Assumption: a node of some hundred viewers and a
    /// thousand films; the fewer, the less any policy can know.
    pub sessions_per_title_day: f64,
    /// The exponent of popularity by rank. 0.7 to 1.1 are what studies of video on demand report. 0.8 gives the top
    /// tenth of the films about 43 % of the starts here; PowerInfo's traces had about 60 % (Yu et al., EuroSys 2006), so
    /// this audience is harder to serve from a small disk.
    pub exponent: f64,
    /// Ranks over which popularity is flat at the head: Mandelbrot's term. Assumption.
    pub plateau: f64,
    /// How much more a film is watched on the day of its release than long after. Assumption.
    pub release_boost: f64,
    /// Days after which half of that is gone. Interest in a video fades within days (Zhou et al., 2015), while the
    /// order of films changes over months (Griwodz et al., 1997).
    pub release_half_life_days: f64,
    /// Deviation of the logarithm of a film's popularity from day to day. Assumption.
    pub drift: f64,
    /// How steep evenings are: 1.8 gives a busiest five minutes of three times the mean, between the curves of
    /// PowerInfo and those of today's services. The daily curve is `exp(steepness x cos)`.
    pub steepness: f64,
    /// Share of the sessions that only look in. Viewers of the first minutes leave at an exponential rate
    /// (Chen et al., 2014).
    pub samplers: f64,
    /// Minutes after which such a session ends, on average (Chen et al., 2014, report a few minutes).
    pub sampler_minutes: f64,
    /// Share of the sessions that go on to the end: 20 % of all views in a study of 540 million sessions of free
    /// video; more, because films here are paid for. The rest leaves anywhere. Assumption.
    pub finishers: f64,
    /// Share of those who left anywhere and come back within two days. Assumption: 15 % of all sessions resume.
    pub resumers: f64,
    /// Median minutes of a film, and the deviation of the logarithm. Assumption: feature films.
    pub film_minutes: (f64, f64),
    /// Seconds of a segment (Apple's authoring specification for HLS).
    pub segment_seconds: f64,
    /// Bits a second of the rungs (Apple's authoring specification: 365 kbit/s for 360p up to 7.8 Mbit/s for 1080p).
    pub ladder: Vec<f64>,
    /// Shares of viewers whose line carries each rung. Assumption: televisions, so most see the highest.
    pub homes: Vec<f64>,
    /// Deviation of the logarithm of a segment's length: films are coded at a constant quality (Qin et al., 2018).
    pub size_spread: f64,
    /// Segments between two drops to a lower rung, and the segments until a viewer is back, on average. Assumption.
    pub drops: (f64, f64),
    /// Minutes between two jumps of a viewer, on average. Assumption: viewers of films jump rarely.
    pub seek_minutes: f64,
    /// Minutes between two pauses, on average. Assumption.
    pub pause_minutes: f64,
    /// Segments that a player takes at once at its start and after a jump. Roku's player buffers about half a minute.
    pub buffered: u32,
}

impl Demand {
    /// The audience that results are told of.
    #[must_use]
    pub fn base(seed: u64, exponent: f64) -> Self {
        Self {
            seed,
            days: 8.0,
            warm_days: 2.0,
            titles: 240,
            releases_per_day: 1.0,
            sessions_per_title_day: 3.6,
            exponent,
            plateau: 1.0,
            release_boost: 10.0,
            release_half_life_days: 4.0,
            drift: 0.1,
            steepness: 1.8,
            samplers: 0.35,
            sampler_minutes: 5.0,
            finishers: 0.25,
            resumers: 0.5,
            film_minutes: (104.0, 0.2),
            segment_seconds: 6.0,
            ladder: vec![365e3, 730e3, 2e6, 3e6, 4.5e6, 7.8e6],
            homes: vec![0.01, 0.02, 0.07, 0.15, 0.2, 0.55],
            size_spread: 0.35,
            drops: (150.0, 10.0),
            seek_minutes: 40.0,
            pause_minutes: 60.0,
            buffered: 5,
        }
    }

    /// Just enough to see that everything works.
    #[must_use]
    pub fn tiny(seed: u64, exponent: f64) -> Self {
        Self { days: 3.0, warm_days: 1.0, titles: 30, ..Self::base(seed, exponent) }
    }

    /// Draws everybody's requests.
    #[must_use]
    pub fn draw(&self) -> Trace {
        let catalogue = Catalogue::draw(self);
        let mut raw: Vec<Raw> = Vec::new();
        let mut dice = Dice::new(self.seed, 1, 0);
        let mut nth = 0;
        for hour in 0..(self.days * 24.0) as usize {
            let popularity = catalogue.popularity(hour as f64 / 24.0);
            for _ in 0..arrivals(&mut dice, self.hourly(hour)) {
                let start = (hour as f64 + dice.unit()) * HOUR;
                let title = dice.pick(&popularity);
                session::watch(self, &catalogue, title, start, nth, &mut raw);
                nth += 1;
            }
        }
        let end = (self.days * DAY) as u32;
        raw.retain(|request| request.tenths < end);
        let rungs = self.ladder.len();
        let streams = (0..catalogue.len() * rungs).map(|at| stream_key(at / rungs, at % rungs));
        Trace::new(streams.collect(), raw, (self.warm_days * DAY) as u32)
    }

    /// Sessions that are to be expected in an hour: evenings at half past eight, and a quarter more at weekends.
    fn hourly(&self, hour: usize) -> f64 {
        let curve = |hour: f64| (self.steepness * ((hour - 20.5) / 24.0 * std::f64::consts::TAU).cos()).exp();
        let all: f64 = (0..24).map(|hour| curve(f64::from(hour) + 0.5)).sum();
        let weekend = if hour / 24 % 7 >= 5 { 1.25 } else { 1.0 };
        self.sessions_per_title_day * self.titles as f64 * curve((hour % 24) as f64 + 0.5) / all * weekend
    }
}

/// A number of arrivals around a mean (Poisson; near enough a normal draw where there are many).
fn arrivals(dice: &mut Dice, mean: f64) -> usize {
    if mean > 50.0 {
        return (mean + mean.sqrt() * dice.normal()).round().max(0.0) as usize;
    }
    let (mut count, mut left) = (0, (-mean).exp());
    let mut product = dice.unit();
    while product > left && count < 1_000 {
        count += 1;
        product *= dice.unit();
        left = left.max(f64::MIN_POSITIVE);
    }
    count
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use media::Part;

    use super::*;

    #[test]
    fn a_seed_is_an_audience() {
        let draw = |seed, exponent| Demand::tiny(seed, exponent).draw().witness();
        assert_eq!(draw(1, 0.8), draw(1, 0.8));
        assert_ne!(draw(1, 0.8), draw(2, 0.8));
        assert_ne!(draw(1, 0.8), draw(1, 0.9));
    }

    #[test]
    fn arrivals_have_their_mean() {
        for mean in [0.3, 7.0, 200.0] {
            let mut dice = Dice::new(1, 9, 0);
            let all: usize = (0..4_000).map(|_| arrivals(&mut dice, mean)).sum();
            assert!((all as f64 / 4_000.0 / mean - 1.0).abs() < 0.1, "{mean}");
        }
    }

    /// The figures that the parameters were chosen for.
    #[test]
    fn the_audience_is_the_one_described() {
        let demand = Demand { titles: 120, days: 4.0, ..Demand::base(3, 0.8) };
        let trace = demand.draw();
        let mut starts: HashMap<u32, usize> = HashMap::new();
        let mut by_hour = vec![0_f64; (demand.days * 24.0) as usize];
        let mut top = 0.0;
        let mut all = 0.0;
        for request in &trace.requests {
            let object = trace.objects[request.object as usize];
            if object.part == Part::Media(0) {
                *starts.entry(object.stream.0 / 6).or_default() += 1;
            }
            by_hour[(f64::from(request.tenths) / HOUR) as usize] += 1.0;
            all += f64::from(object.bytes);
            top += if object.stream.0 % 6 == 5 { f64::from(object.bytes) } else { 0.0 };
        }
        let mut starts: Vec<usize> = starts.into_values().collect();
        starts.sort_unstable_by(|a, b| b.cmp(a));
        let head: usize = starts[..starts.len() / 10].iter().sum();
        let share = head as f64 / starts.iter().sum::<usize>() as f64;
        assert!((0.3..0.65).contains(&share), "top tenth: {share}");
        assert!((0.6..0.8).contains(&(top / all)), "top rung: {}", top / all);
        let day = &by_hour[24..72];
        let peak = day.iter().fold(0.0_f64, |a, b| a.max(*b)) / (day.iter().sum::<f64>() / day.len() as f64);
        assert!((2.0..4.0).contains(&peak), "peak by mean: {peak}");
        let mean = trace.footprint() as f64 / trace.objects.len() as f64;
        assert!((2.0e6..4.0e6).contains(&mean), "{mean} bytes");
    }
}
