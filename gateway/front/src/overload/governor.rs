//! From what is measured to a level. Pure: values and a time go in, a level comes out.
//!
//! Every signal says how much of its bound is used, in percent; the highest decides. A level is entered at its
//! threshold, one level for each look, so that a single spike does not turn viewers away. It is left when the
//! pressure has been well below the threshold for a moment, again one by one: from the highest level down to
//! none takes 2.5 seconds of calm, whatever happened before.

use std::time::Duration;

use engine::Level;
use tokio::time::Instant;

/// The pressure at which a level is entered.
const fn threshold(level: Level) -> u32 {
    match level {
        Level::Calm => 0,
        Level::NoPrefetch => 70,
        Level::NoUploads => 80,
        Level::NoDiskAdmission => 85,
        Level::NoNewSessions => 95,
        Level::Refusing => 100,
    }
}

/// The level `steps` above another, or below it; the last one where there is no further.
fn beside(level: Level, steps: i8) -> Level {
    let place = usize::from(level as u8).saturating_add_signed(isize::from(steps));
    Level::ALL[place.min(Level::ALL.len() - 1)]
}

/// How far below its threshold the pressure must be before a level is left.
const INERTIA: u32 = 10;

/// How long it must be there.
const CALM_FOR: Duration = Duration::from_millis(500);

/// How much of each bound is used, in percent; more than 100 where the bound is none that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Signals {
    /// Connections that are doing something.
    pub(crate) connections: u32,
    pub(crate) responses: u32,
    /// Bytes to viewers.
    pub(crate) egress: u32,
    /// How late the runtime is.
    pub(crate) lag: u32,
    /// Fills that wait for their turn.
    pub(crate) fills: u32,
    /// Bytes of segments being filled.
    pub(crate) buffer: u32,
}

impl Signals {
    pub(crate) fn pressure(&self) -> u32 {
        [self.connections, self.responses, self.egress, self.lag, self.fills, self.buffer]
            .into_iter()
            .fold(0, u32::max)
    }
}

/// A level, and since when the pressure is low enough to leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) level: Level,
    calm_since: Option<Instant>,
}

/// The state after a look at `now`.
pub(crate) fn decide(signals: &Signals, previous: State, now: Instant) -> State {
    let (pressure, level) = (signals.pressure(), previous.level);
    let next = beside(level, 1);
    if next > level && pressure >= threshold(next) {
        return State { level: next, calm_since: None };
    }
    if level == Level::Calm || pressure + INERTIA >= threshold(level) {
        return State { level, calm_since: None };
    }
    let since = previous.calm_since.unwrap_or(now);
    if now < since + CALM_FOR {
        return State { level, calm_since: Some(since) };
    }
    State { level: beside(level, -1), calm_since: Some(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(100);

    fn pressure(percent: u32) -> Signals {
        Signals { egress: percent, ..Signals::default() }
    }

    /// The level after each of these looks, a tenth of a second apart.
    async fn levels(from: &mut State, looks: &[u32]) -> Vec<Level> {
        let mut levels = Vec::new();
        for percent in looks {
            tokio::time::advance(LOOK).await;
            *from = decide(&pressure(*percent), *from, Instant::now());
            levels.push(from.level);
        }
        levels
    }

    #[test]
    fn the_highest_signal_decides() {
        let signals = Signals { connections: 5, responses: 7, egress: 1, lag: 90, fills: 3, buffer: 10 };
        assert_eq!(signals.pressure(), 90);
        assert_eq!(Signals { buffer: 91, ..signals }.pressure(), 91);
    }

    #[tokio::test(start_paused = true)]
    async fn levels_rise_one_by_one_and_only_as_far_as_they_must() {
        use Level::{Calm, NoDiskAdmission, NoNewSessions, NoPrefetch, NoUploads, Refusing};
        for (percent, expected) in [
            (0, [Calm; 6]),
            (69, [Calm; 6]),
            (70, [NoPrefetch; 6]),
            (84, [NoPrefetch, NoUploads, NoUploads, NoUploads, NoUploads, NoUploads]),
            (90, [NoPrefetch, NoUploads, NoDiskAdmission, NoDiskAdmission, NoDiskAdmission, NoDiskAdmission]),
            (99, [NoPrefetch, NoUploads, NoDiskAdmission, NoNewSessions, NoNewSessions, NoNewSessions]),
            (300, [NoPrefetch, NoUploads, NoDiskAdmission, NoNewSessions, Refusing, Refusing]),
        ] {
            assert_eq!(levels(&mut State::default(), &[percent; 6]).await, expected, "{percent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pressure_about_a_threshold_does_not_flap() {
        let mut state = State::default();
        levels(&mut state, &[96; 6]).await;
        let about: Vec<u32> = (0..200).map(|n| if n % 2 == 0 { 94 } else { 86 }).collect();
        assert!(levels(&mut state, &about).await.iter().all(|level| *level == Level::NoNewSessions));
        // A short calm is no calm.
        let pulsing: Vec<u32> = (0..200).map(|n| if n % 5 == 0 { 90 } else { 0 }).collect();
        assert!(levels(&mut state, &pulsing).await.iter().all(|level| *level == Level::NoNewSessions));
    }

    #[tokio::test(start_paused = true)]
    async fn calm_comes_back_by_itself_within_five_seconds() {
        for before in [100, 200, 10_000] {
            let mut state = State::default();
            levels(&mut state, &vec![before; 600]).await;
            assert_eq!(state.level, Level::Refusing);
            let after = levels(&mut state, &[40; 50]).await;
            assert_eq!(after.last(), Some(&Level::Calm), "{before}");
            assert!(after.is_sorted_by(|a, b| a >= b), "straight down: {after:?}");
        }
    }
}
