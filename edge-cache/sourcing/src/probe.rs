//! Trying sources without a viewer: those whose rest has ended, and those that nobody has asked for long.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use crate::contest::Contender;
use crate::fetch::LastError;
use crate::leg::{Leg, Limits};
use crate::metrics::Probe;
use crate::source::SourceError;
use crate::sources::Sources;
use crate::transfer::Transfer;
use crate::want::Want;

/// As much as can be checked against one digest.
pub(crate) const PROBE_LEN: u64 = media::GROUP_LEN;

/// At least so often the sources are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Says that probes are sent for as long as it lives: viewers then leave resting sources to them.
struct OnDuty(Arc<Sources>);

impl OnDuty {
    fn new(sources: &Arc<Sources>) -> Self {
        sources.probed.store(true, Ordering::Relaxed);
        Self(Arc::clone(sources))
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        self.0.probed.store(false, Ordering::Relaxed);
    }
}

impl Sources {
    /// Probes for as long as it is polled; dropping it stops that. Returns at once when probes are switched off. It asks
    /// for the first 16 KiB of what a source delivered last, and asks nobody before that.
    pub async fn probe(self: Arc<Self>) {
        if !self.config.probe.enabled {
            return;
        }
        let duty = OnDuty::new(&self);
        let (since, mut running, mut asked) = (Instant::now(), FuturesUnordered::new(), HashSet::new());
        loop {
            let now = Instant::now();
            let (due, next) = self.due(since, now, &asked);
            for index in due {
                asked.insert(index);
                running.push(duty.0.probe_one(index));
            }
            tokio::select! {
                Some(index) = running.next() => {
                    asked.remove(&index);
                }
                () = self.changed.notified() => {}
                () = sleep_until(next.min(now + LOOK_AGAIN)) => {}
            }
        }
    }

    /// Whom to probe now, and when the next one is due.
    fn due(&self, since: Instant, now: Instant, asked: &HashSet<usize>) -> (Vec<usize>, Instant) {
        let Some(bought) = self.sampled() else { return (Vec::new(), now + LOOK_AGAIN) };
        let due = |index: usize| self.known[index].health().probe_due(since, bought, self.config.probe.idle);
        let others = (0..self.known.len()).filter(|index| !asked.contains(index));
        let times = others.filter_map(|index| Some((index, due(index)?)));
        let (due, later): (Vec<_>, Vec<_>) = times.partition(|(_, at)| *at <= now);
        let next = later.into_iter().map(|(_, at)| at).min().unwrap_or(now + LOOK_AGAIN);
        (due.into_iter().map(|(index, _)| index).collect(), next)
    }

    async fn probe_one(self: &Arc<Self>, index: usize) -> usize {
        let known = &self.known[index];
        let (Some(sample), Some(permit)) = (self.sample(), known.gate.try_enter(PROBE_LEN)) else {
            return index;
        };
        let transfer = Transfer::begin(Arc::clone(self), index, permit);
        let end = self.take(transfer, &sample).await;
        let answered = match &end {
            Ok(()) => true,
            // It is alive; that it does not hold this says nothing.
            Err(error) => error.reason.is_absence(),
        };
        if end.is_err() && answered {
            known.answered(Instant::now());
        }
        known.metrics.probed(if answered { Probe::Answered } else { Probe::Failed });
        index
    }

    async fn take(self: &Arc<Self>, transfer: Transfer, sample: &Want) -> Result<(), SourceError> {
        let deadline = transfer.started() + self.config.first_byte_timeout;
        let contender = Contender { transfer, until: deadline, fair: true };
        let begun = contender.first_bytes(sample).await.1?;
        let deadline = Instant::now() + self.config.stall_timeout;
        let limits = Limits { stall: self.config.stall_timeout, drip: 0, deadline: deadline + LOOK_AGAIN };
        let mut leg = Leg::new(begun, limits, LastError::default());
        while leg.chunk().await?.is_some() {}
        Ok(())
    }
}
