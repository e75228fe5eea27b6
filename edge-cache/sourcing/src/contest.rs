//! Who sends the first byte: one source, or others too when it is late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::fetch::{Fetch, failure};
use crate::gate::Permit;
use crate::leg::{Begun, next_piece};
use crate::metrics::Hedge;
use crate::source::{Opened, Reason, SourceError};
use crate::transfer::Transfer;
use crate::want::Want;

/// A transfer that has not sent anything yet.
pub(crate) struct Contender {
    pub(crate) transfer: Transfer,
    pub(crate) until: Instant,
    /// Whether the source is to blame if nothing came until then.
    pub(crate) fair: bool,
}

/// Why another source is asked while one or more may still answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Another {
    /// The newest takes longer than it usually does.
    Late,
    /// The newest was found to be broken meanwhile, by others.
    Rests,
    /// One of them failed.
    Failed,
}

/// The transfers of one contest that have neither sent a byte nor failed.
#[derive(Default)]
struct Field(Vec<Runner>);

struct Runner {
    index: usize,
    started: Instant,
    overtaken: Arc<AtomicBool>,
}

impl Field {
    fn enter(&mut self, transfer: &Transfer) {
        let (index, started) = (transfer.index(), transfer.started());
        self.0.push(Runner { index, started, overtaken: transfer.overtaken() });
    }

    /// One has ended: the one of this source that was asked first, if there are two.
    fn leave(&mut self, index: usize) {
        if let Some(at) = self.0.iter().position(|runner| runner.index == index) {
            self.0.remove(at);
        }
    }

    /// Somebody sent a byte: whoever was asked before that one and has not was overtaken. The sources that lost.
    fn won_by(mut self, winner: &Transfer) -> impl Iterator<Item = usize> {
        self.0.retain(|runner| runner.index != winner.index() || runner.started != winner.started());
        let earlier = self.0.iter().filter(|runner| runner.started < winner.started());
        earlier.for_each(|runner| runner.overtaken.store(true, Ordering::Relaxed));
        self.0.into_iter().map(|runner| runner.index)
    }
}

impl Fetch {
    /// Asks a source, another when that one is late, and so on; the first who sends a byte is kept. `None` when none of
    /// them did; what they said is noted.
    pub(crate) async fn contest(
        &mut self,
        want: &Want,
        (index, permit): (usize, Permit),
        allowed: u32,
    ) -> Option<Begun> {
        let (sources, mut field, mut running) = (self.sources(), Field::default(), FuturesUnordered::new());
        let mut next = Some(self.contender(index, permit));
        let (mut newest, mut hedge_at, mut armed) = (index, Instant::now(), true);
        loop {
            if let Some(contender) = next.take() {
                let transfer = &contender.transfer;
                (newest, hedge_at) = (transfer.index(), transfer.started() + transfer.patience().hedge);
                field.enter(transfer);
                running.push(contender.first_bytes(want));
            }
            let why = tokio::select! {
                biased;
                Some((who, end)) = running.next() => match end {
                    Ok(begun) => {
                        field.won_by(&begun.transfer).for_each(|loser| self.lost(loser));
                        return Some(begun);
                    }
                    Err(error) => {
                        self.note(who, &error);
                        field.leave(who);
                        if running.is_empty() {
                            return None;
                        }
                        Another::Failed
                    }
                },
                () = sources.known[newest].ejected.notified(), if armed => Another::Rests,
                () = sleep_until(hedge_at), if armed => Another::Late,
            };
            next = if self.attempts() < allowed { self.another(want, newest, why) } else { None };
            armed = next.is_some() || armed && why == Another::Failed;
        }
    }

    /// The next source in use; for want of one the same again, because it may be one connection that is stuck.
    fn another(&mut self, want: &Want, newest: usize, why: Another) -> Option<Contender> {
        let (index, len) = (self.next_best(want, newest, why)?, self.len_of(want));
        let known = &self.sources().known[index];
        let permit = known.gate.try_enter(len);
        let paid = permit.is_some() && (why != Another::Late || self.sources().hedges.spend(len));
        if why == Another::Late {
            known.metrics.hedged(if paid { Hedge::Sent } else { Hedge::Denied });
        }
        let permit = permit.filter(|_| paid)?;
        tracing::trace!(source = %known.source.id(), ?why, "asking another source");
        Some(self.contender(index, permit))
    }
}

impl Contender {
    /// Opens the body and waits for its first bytes.
    pub(crate) async fn first_bytes(mut self, want: &Want) -> (usize, Result<Begun, SourceError>) {
        let (index, source) = (self.transfer.index(), self.transfer.source().clone());
        let opening = async {
            let Opened { len, body } = as_promised(source.open(want).await?, want)?;
            let mut body = body.fuse();
            let first = if len == 0 { None } else { next_piece(&mut body).await? };
            if len > 0 && first.is_none() {
                return Err(failure(Reason::Cut, format_args!("all {len} bytes are missing")));
            }
            Ok((len, body, first))
        };
        let end = match timeout_at(self.until, opening).await {
            Ok(end) => end.inspect_err(|error| self.transfer.failed(error)),
            Err(_) if self.fair => {
                let error = failure(Reason::Timeout, "no answer in time");
                self.transfer.failed(&error);
                Err(error)
            }
            Err(_) => Err(failure(Reason::Timeout, "the deadline came before an answer")),
        };
        let end = end.map(|(promised, body, first)| {
            self.transfer.saw_first_byte();
            Begun { transfer: self.transfer, body, promised, first }
        });
        (index, end)
    }
}

/// A body of another length than the index promises is another version.
fn as_promised(opened: Opened, want: &Want) -> Result<Opened, SourceError> {
    match want.len() {
        Some(len) if len != opened.len => {
            Err(failure(Reason::Changed, format_args!("offers {} bytes where {len} were asked", opened.len)))
        }
        _ => Ok(opened),
    }
}
