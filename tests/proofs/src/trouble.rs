//! What becomes of a source as a whole: the ways to be dead, or worse.

use std::time::Duration;

use sourcing::Reason;
use testkit::{Behaviour, Fault, Script};

use crate::failure::Outcome;
use crate::gateway::Node;
use crate::origin::{Origin, State};

/// A way to be no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Silent,
    Killed,
    Failing,
    Vanished,
    Dripping,
    Corrupting,
}

impl Trouble {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Killed => "killed",
            Self::Failing => "failing",
            Self::Vanished => "vanished",
            Self::Dripping => "dripping",
            Self::Corrupting => "corrupting",
        }
    }

    /// It begins. `calm` is what the origin did before.
    pub(crate) async fn strike(self, origin: &Origin, calm: &Script) -> Outcome {
        match self {
            Self::Silent => origin.turn(State::Silent).await,
            Self::Killed => origin.turn(State::Killed).await,
            Self::Vanished => origin.turn(State::Vanished).await,
            Self::Failing | Self::Dripping | Self::Corrupting => {
                let calm = calm.clone();
                origin.follow(Script::new(move |question, chance| {
                    let fault = self.fault(question.is_media(), question.range.len());
                    Behaviour { fault, ..calm.answer(question, chance) }
                }));
                Ok(())
            }
        }
    }

    /// What goes wrong with one answer.
    fn fault(self, is_media: bool, len: u64) -> Option<Fault> {
        match self {
            // A 500, without a word about coming back later.
            Self::Failing => Some(Fault::Refuse(Reason::Unsupported)),
            Self::Dripping if is_media => Some(Fault::Drip(len / 2)),
            Self::Corrupting if is_media => Some(Fault::Flip(len / 2)),
            _ => None,
        }
    }

    /// All is well again.
    pub(crate) async fn heal(origin: &Origin, calm: &Script) -> Outcome {
        origin.follow(calm.clone());
        origin.turn(State::Up).await
    }

    /// How long after an attempt begins it may be counted: only the gateway knows of attempts to reach who has
    /// vanished, and it counts those that have ended.
    pub(crate) fn counted_after(self) -> Duration {
        if self == Self::Vanished { Duration::from_secs(2) } else { Duration::ZERO }
    }

    /// Questions so far to the first sources, as these count them; or to those that nobody can reach, as the
    /// gateway counts its attempts.
    pub(crate) async fn questions(self, node: &Node, origins: &[Origin]) -> Outcome<usize> {
        if !matches!(self, Self::Killed | Self::Vanished) {
            return Ok(origins.iter().map(Origin::count).sum());
        }
        let (metrics, mut attempts) = (node.metrics().await?, 0);
        for n in 0..origins.len() {
            attempts += metrics.of("weir_sourcing_requests_total", &format!("source=\"origin-{n}\""))?;
        }
        Ok(attempts as usize)
    }
}
