//! One viewer in front of one film: buffers, watches, drops to a lower rung and back, jumps, pauses, leaves,
//! and maybe comes back.

use media::Part;

use super::catalogue::Catalogue;
use super::dice::Dice;
use super::{DAY, Demand};
use crate::trace::{Raw, Stream};

/// Tenths of a second between the requests of a player that fills its buffer.
const BURST: f64 = 5.0;
/// The rung that a player begins with, and for how many segments.
const FIRST_RUNG: usize = 2;
const FIRST_SEGMENTS: u32 = 2;

/// Lets somebody watch a film from a time on; puts down what is asked for.
pub(super) fn watch(
    demand: &Demand,
    catalogue: &Catalogue,
    title: usize,
    start: f64,
    nth: u64,
    raw: &mut Vec<Raw>,
) {
    let mut dice = Dice::new(demand.seed, 4, nth);
    let segments = catalogue.film(title).segments;
    let home = home(demand, &mut dice);
    let mut viewer = Viewer { demand, title, segments, home, dice, now: start, raw };
    let (until, comes_back) = viewer.until();
    viewer.sit(0, until);
    if comes_back {
        // At about the same hour, one day later or two.
        viewer.now = start + DAY * if viewer.dice.chance(0.7) { 1.0 } else { 2.0 };
        viewer.now += viewer.dice.normal() * 9_000.0;
        viewer.sit(until, segments);
    }
}

fn home(demand: &Demand, dice: &mut Dice) -> usize {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = demand.homes.iter().map(|share| (sum += share, sum).1).collect();
    dice.pick(&cumulative)
}

struct Viewer<'a> {
    demand: &'a Demand,
    title: usize,
    segments: u32,
    /// The rung that this viewer's line carries.
    home: usize,
    dice: Dice,
    now: f64,
    raw: &'a mut Vec<Raw>,
}

impl Viewer<'_> {
    /// Where this viewer leaves, and whether to return.
    fn until(&mut self) -> (u32, bool) {
        let kind = self.dice.unit();
        let per_minute = 60.0 / self.demand.segment_seconds;
        if kind < self.demand.samplers {
            let sampled = self.dice.exponential(self.demand.sampler_minutes * per_minute) as u32 + 1;
            return (sampled.min(self.segments), false);
        }
        if kind < self.demand.samplers + self.demand.finishers {
            return (self.segments, false);
        }
        let left = (self.dice.unit() * f64::from(self.segments)) as u32 + 1;
        (left, self.dice.chance(self.demand.resumers))
    }

    /// Watches from one segment to another.
    fn sit(&mut self, from: u32, until: u32) {
        let per_minute = 60.0 / self.demand.segment_seconds;
        let (mut at, mut buffering) = (from, self.demand.buffered);
        let mut rung = FIRST_RUNG.min(self.home);
        let mut until_change = FIRST_SEGMENTS;
        let mut until_jump = self.dice.exponential(self.demand.seek_minutes * per_minute);
        let mut until_pause = self.dice.exponential(self.demand.pause_minutes * per_minute);
        while at < until.min(self.segments) {
            self.ask(at, rung);
            (at, until_jump, until_pause) = (at + 1, until_jump - 1.0, until_pause - 1.0);
            if until_change == 0 {
                (rung, until_change) = self.change(rung);
            }
            until_change -= 1;
            if until_jump < 0.0 {
                at = self.jump(at);
                buffering = self.demand.buffered;
                until_jump = self.dice.exponential(self.demand.seek_minutes * per_minute);
            }
            if until_pause < 0.0 {
                self.now += self.dice.lognormal(1_800.0, 1.0);
                until_pause = self.dice.exponential(self.demand.pause_minutes * per_minute);
            }
            let pace = self.demand.segment_seconds * 10.0 + self.dice.normal();
            self.now += if buffering > 0 { BURST } else { pace };
            buffering = buffering.saturating_sub(1);
        }
    }

    /// Another rung, and for how many segments.
    fn change(&mut self, rung: usize) -> (usize, u32) {
        let (apart, away) = self.demand.drops;
        if rung < self.home {
            return (self.home, self.dice.exponential(apart) as u32 + 1);
        }
        let drop = if self.dice.chance(0.7) { 1 } else { 2 };
        (rung.saturating_sub(drop), self.dice.exponential(away) as u32 + 1)
    }

    /// A jump ahead of up to ten minutes, or back by half a minute, as the buttons of a remote control do.
    fn jump(&mut self, at: u32) -> u32 {
        if self.dice.chance(0.6) { at + 1 + (self.dice.unit() * 100.0) as u32 } else { at.saturating_sub(6) }
    }

    fn ask(&mut self, at: u32, rung: usize) {
        let rungs = self.demand.ladder.len();
        let bytes = self.demand.ladder[rung] * self.demand.segment_seconds / 8.0 * self.busyness(at);
        self.raw.push(Raw {
            tenths: self.now.max(0.0) as u32,
            stream: Stream((self.title * rungs + rung) as u32),
            part: Part::Media(at),
            bytes: bytes as u32,
        });
    }

    /// How much longer than the average this segment is, in every rung alike.
    fn busyness(&self, at: u32) -> f64 {
        let spread = self.demand.size_spread;
        let which = (self.title as u64) << 32 | u64::from(at);
        // Such that the mean is 1.
        Dice::new(self.demand.seed, 5, which).lognormal((-spread * spread / 2.0).exp(), spread)
    }
}
