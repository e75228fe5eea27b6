//! Who sends the first byte: one source, or two when the first is late.

use std::sync::atomic::Ordering;

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

/// Why a second source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// The first takes longer than it usually does.
    Late,
    /// The first was found to be broken meanwhile, by others.
    Rests,
}

impl Fetch {
    /// Asks a source, and a second one when the first is late. `None` when none of them sent a byte; what they said is
    /// noted.
    pub(crate) async fn contest(&mut self, want: &Want, index: usize, permit: Permit) -> Option<Begun> {
        let sources = self.sources();
        let first = self.contender(index, permit);
        let (overtaken, started) = (first.transfer.overtaken(), first.transfer.started());
        let hedge_at = started + first.transfer.patience().hedge;
        let mut running = FuturesUnordered::new();
        running.push(first.first_bytes(want));
        let mut may_ask_another = true;
        loop {
            let why = tokio::select! {
                biased;
                Some((who, end)) = running.next() => match end {
                    Ok(begun) => {
                        overtaken.store(begun.transfer.started() > started, Ordering::Relaxed);
                        return Some(begun);
                    }
                    Err(error) => {
                        self.note(who, &error);
                        if running.is_empty() {
                            return None;
                        }
                        continue;
                    }
                },
                () = sources.known[index].ejected.notified(), if may_ask_another => Second::Rests,
                () = sleep_until(hedge_at), if may_ask_another => Second::Late,
            };
            may_ask_another = false;
            if let Some(second) = self.second(want, index, why) {
                running.push(second.first_bytes(want));
            }
        }
    }

    /// Another source in use; for want of one the same again, because it may be one connection that is stuck.
    fn second(&mut self, want: &Want, first: usize, why: Second) -> Option<Contender> {
        let (index, len) = (self.next_best(want, first, why)?, self.len_of(want));
        let known = &self.sources().known[index];
        let permit = known.gate.try_enter(len);
        let paid = permit.is_some() && (why == Second::Rests || self.sources().hedges.spend(len));
        known.metrics.hedged(if paid { Hedge::Sent } else { Hedge::Denied });
        let permit = permit.filter(|_| paid)?;
        tracing::trace!(source = %known.source.id(), ?why, "asking a second source");
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
