//! The films: how long, how popular, since when.

use super::Demand;
use super::dice::Dice;

pub(super) struct Catalogue {
    films: Vec<Film>,
    release_boost: f64,
    half_life: f64,
}

pub(super) struct Film {
    /// Media segments of each of its renditions.
    pub(super) segments: u32,
    /// Popularity long after the release, day by day.
    weights: Vec<f64>,
    /// The day of the release; far back for what was there at the beginning.
    released: f64,
}

impl Catalogue {
    pub(super) fn draw(demand: &Demand) -> Self {
        let releases = (demand.releases_per_day * demand.days) as usize;
        let count = demand.titles + releases;
        let ranks = shuffled(count, &mut Dice::new(demand.seed, 3, 0));
        let film = |(nth, rank): (usize, usize)| {
            let mut dice = Dice::new(demand.seed, 2, nth as u64);
            let minutes = dice.lognormal(demand.film_minutes.0, demand.film_minutes.1).clamp(60.0, 200.0);
            let released = if nth < demand.titles {
                // The same rate of releases before the beginning, as far back as that reaches.
                -((nth + 1) as f64) / demand.releases_per_day.max(0.01)
            } else {
                (nth - demand.titles) as f64 / demand.releases_per_day + 19.0 / 24.0
            };
            Film {
                segments: (minutes * 60.0 / demand.segment_seconds) as u32,
                weights: walk(demand, rank, &mut dice),
                released,
            }
        };
        let films = ranks.into_iter().enumerate().map(film).collect();
        Self { films, release_boost: demand.release_boost, half_life: demand.release_half_life_days }
    }

    pub(super) fn len(&self) -> usize {
        self.films.len()
    }

    pub(super) fn film(&self, title: usize) -> &Film {
        &self.films[title]
    }

    /// Cumulative popularity of the films at a time in days.
    pub(super) fn popularity(&self, day: f64) -> Vec<f64> {
        let mut sum = 0.0;
        let cumulate = |film: &Film| {
            sum += self.weight(film, day);
            sum
        };
        self.films.iter().map(cumulate).collect()
    }

    fn weight(&self, film: &Film, day: f64) -> f64 {
        let age = day - film.released;
        if age < 0.0 {
            return 0.0;
        }
        let lasting = film.weights[(day as usize).min(film.weights.len() - 1)];
        lasting * (1.0 + self.release_boost * (-age / self.half_life).exp2())
    }
}

/// A film's lasting popularity from day to day.
fn walk(demand: &Demand, rank: usize, dice: &mut Dice) -> Vec<f64> {
    let mut weight = (rank as f64 + 1.0 + demand.plateau).powf(-demand.exponent);
    let step = |_| {
        weight = dice.lognormal(weight, demand.drift);
        weight
    };
    (0..=demand.days as usize).map(step).collect()
}

/// Ranks in any order: how popular a film becomes has nothing to do with when it was released.
fn shuffled(count: usize, dice: &mut Dice) -> Vec<usize> {
    let mut ranks: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        ranks.swap(at, (dice.unit() * (at + 1) as f64) as usize);
    }
    ranks
}
