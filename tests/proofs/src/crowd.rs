//! Viewers that come at an even pace, whatever became of those before: what a crowd is, seen from a gateway.

use std::ops::RangeBounds;
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::failure::{Context, Outcome};
use crate::film::Piece;
use crate::viewer::{Seen, Tally, Viewer, Wish};

/// One request of one viewer.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) at: Instant,
    pub(crate) seen: Seen,
}

/// What all of them saw.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) visits: Vec<Visit>,
    pub(crate) tally: Tally,
}

/// One viewer for each piece, the next so long after the one before; each does what `come` says.
pub(crate) async fn gather<F>(
    pieces: impl IntoIterator<Item = Piece>,
    pause: Duration,
    mut come: impl FnMut(Piece) -> F,
) -> Outcome<Crowd>
where
    F: Future<Output = Vec<Visit>> + Send + 'static,
{
    let (mut tick, mut viewers) = (interval(pause), Vec::new());
    for piece in pieces {
        tick.tick().await;
        viewers.push((piece.clone(), tokio::spawn(come(piece))));
    }
    let mut crowd = Crowd::default();
    for (piece, viewer) in viewers {
        for visit in viewer.await.doing("a viewer")? {
            crowd.tally.count(&Wish::whole(&piece), &visit.seen);
            crowd.visits.push(visit);
        }
    }
    Ok(crowd)
}

/// The same, where each wants the whole piece once, on a connection of its own.
pub(crate) async fn visit(
    address: &str,
    pieces: impl IntoIterator<Item = Piece>,
    pause: Duration,
) -> Outcome<Crowd> {
    gather(pieces, pause, |piece| {
        let mut viewer = Viewer::new(address);
        async move { vec![viewer.visit(&Wish::whole(&piece)).await] }
    })
    .await
}

impl Viewer {
    /// Asks, and notes when.
    pub(crate) async fn visit(&mut self, wish: &Wish<'_>) -> Visit {
        Visit { at: Instant::now(), seen: self.ask(wish).await }
    }
}

impl Crowd {
    /// What those saw who came in this time.
    pub(crate) fn during(&self, time: impl RangeBounds<Instant>) -> impl Iterator<Item = &Seen> {
        self.visits.iter().filter(move |visit| time.contains(&visit.at)).map(|visit| &visit.seen)
    }

    /// How long they waited for their first byte; the refused, for their refusal.
    pub(crate) fn waits_during(&self, time: impl RangeBounds<Instant>) -> Vec<Duration> {
        self.during(time).map(|seen| seen.first_byte.unwrap_or(seen.took)).collect()
    }

    /// How long all waited.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.waits_during(..)
    }

    /// Whether everybody was served, and served right.
    pub(crate) fn is_served(&self) -> bool {
        self.tally.right == self.visits.len() as u64
    }
}
