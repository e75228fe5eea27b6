//! Looks at the node ten times a second and sets its level.

use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, Level};
use tokio::time::{Instant, sleep_until};

use super::Overload;
use super::governor::{Signals, State, decide};
use crate::metrics::Metrics;
use crate::server::Server;

const LOOK: Duration = Duration::from_millis(100);

/// Just below the level at which everything unknown is refused.
const FULL: u32 = 99;

/// Looks over which bytes are averaged: a segment leaves in a burst.
const EGRESS_LOOKS: usize = 10;

/// Looks of which the least late one counts: a machine that is late once is not overloaded.
const LAG_LOOKS: usize = 3;

/// What the governor looks at.
pub(crate) struct Gauges {
    pub(crate) overload: Arc<Overload>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) server: Arc<Server>,
    pub(crate) engine: Engine,
    pub(crate) max_connections: usize,
}

/// Runs until it is dropped.
pub(crate) async fn watch(gauges: Gauges) {
    let (mut state, mut recent) = (State::default(), Recent::default());
    let mut planned = Instant::now() + LOOK;
    loop {
        sleep_until(planned).await;
        let now = Instant::now();
        recent.note(now, now - planned, gauges.metrics.bytes_sent());
        let signals = gauges.signals(&recent);
        let next = decide(&signals, state, now);
        if next.level != state.level {
            gauges.turn(state.level, next.level, &signals);
        }
        state = next;
        planned = now + LOOK;
    }
}

impl Gauges {
    fn signals(&self, recent: &Recent) -> Signals {
        let config = self.overload.config();
        let strain = self.engine.strain();
        Signals {
            connections: percent(self.server.busy() as u64, self.max_connections as u64),
            // Each request is held against this bound by itself: refusing all of them would leave places empty.
            responses: percent(self.metrics.responses(), config.max_active_responses as u64).min(FULL),
            egress: percent(recent.bits_per_second(), config.egress_bits_per_second),
            lag: percent(micros(recent.lag()), micros(config.scheduling_lag)),
            fills: strain.waiting_fills_percent,
            buffer: strain.fill_buffer_percent,
        }
    }

    fn turn(&self, from: Level, to: Level, signals: &Signals) {
        self.engine.load().set(to);
        self.metrics.level.set(i64::from(to as u8));
        let Signals { connections, responses, egress, lag, fills, buffer } = *signals;
        let (was, level) = (from.as_str(), to.as_str());
        // One line for each change, louder when something is given up.
        if to > from {
            tracing::warn!(level, was, connections, responses, egress, lag, fills, buffer, "overload rises");
        } else {
            tracing::info!(level, was, connections, responses, egress, lag, fills, buffer, "overload falls");
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// `used` of a bound; 0 when there is none.
fn percent(used: u64, bound: u64) -> u32 {
    let percent = (u128::from(used) * 100).checked_div(u128::from(bound)).unwrap_or(0);
    u32::try_from(percent).unwrap_or(u32::MAX)
}

/// What the last looks saw.
#[derive(Default)]
struct Recent {
    /// When, and the bytes ever sent by then; oldest first.
    sent: Vec<(Instant, u64)>,
    lags: Vec<Duration>,
}

impl Recent {
    fn note(&mut self, now: Instant, lag: Duration, sent: u64) {
        push(&mut self.sent, (now, sent), EGRESS_LOOKS + 1);
        push(&mut self.lags, lag, LAG_LOOKS);
    }

    fn bits_per_second(&self) -> u64 {
        let (Some((from, first)), Some((to, last))) = (self.sent.first(), self.sent.last()) else { return 0 };
        let bits = u128::from(last.saturating_sub(*first)) * 8 * 1_000_000;
        let rate = bits.checked_div((*to - *from).as_micros()).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    fn lag(&self) -> Duration {
        let seen = self.lags.len() == LAG_LOOKS;
        self.lags.iter().min().copied().filter(|_| seen).unwrap_or_default()
    }
}

fn push<T>(list: &mut Vec<T>, item: T, most: usize) {
    if list.len() >= most {
        list.remove(0);
    }
    list.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_are_averaged_and_one_late_look_is_none() {
        let mut recent = Recent::default();
        assert_eq!((recent.bits_per_second(), recent.lag()), (0, Duration::ZERO));
        for n in 0..30 {
            let lag = Duration::from_millis(if n == 15 { 900 } else { 3 });
            recent.note(Instant::now(), lag, n * 125_000);
            assert!(recent.lag() <= Duration::from_millis(3), "look {n}");
            tokio::time::advance(LOOK).await;
        }
        assert_eq!(recent.bits_per_second(), 10_000_000);
        for n in 30..33 {
            recent.note(Instant::now(), Duration::from_millis(400 + n), 0);
        }
        assert_eq!(recent.lag(), Duration::from_millis(430));
    }

    #[test]
    fn shares_of_bounds() {
        for (used, bound, expected) in
            [(0, 10, 0), (5, 10, 50), (30, 10, 300), (7, 0, 0), (u64::MAX, 1, u32::MAX)]
        {
            assert_eq!(percent(used, bound), expected, "{used} of {bound}");
        }
    }
}
