//! May this viewer watch this title now, and until when.
//!
//! A purchase is for good. A rental is to be started within a window after it was bought, and once started
//! can be watched for another window. A session is opened only within these windows; the token it gets lives
//! on for a grace, so that a film begun in time can be seen to its end.
//!
//! Windows are half-open: at their last second they are over. What was promised at the time of purchase
//! (`start_by`, `finish_by` of the entitlement) stands, even if the rules have changed since.

use std::cmp::Reverse;
use std::time::Duration;

use control_api::rest::{Entitlement, EntitlementKind, Withdrawal};
use control_api::{EntitlementId, ProblemCode};
use media::TitleId;

/// How long rentals last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RentalRules {
    /// Within how long after the purchase a rental must be started. Default 30 days.
    pub start_window: Duration,
    /// For how long after its first play it can be watched. Default 48 hours.
    pub finish_window: Duration,
    /// For how long after that a running session goes on. Default 6 hours; a longer film gets its runtime
    /// anyway, see [`crate::session::expires_at`].
    pub grace: Duration,
}

impl Default for RentalRules {
    fn default() -> Self {
        Self {
            start_window: Duration::from_hours(30 * 24),
            finish_window: Duration::from_hours(48),
            grace: Duration::from_hours(6),
        }
    }
}

impl RentalRules {
    /// Until when a rental bought at this time may be started: what a new entitlement promises.
    #[must_use]
    pub fn start_by(&self, bought_at: u64) -> u64 {
        bought_at.saturating_add(self.start_window.as_secs())
    }

    /// Until when a rental first played at this time may be watched.
    #[must_use]
    pub fn finish_by(&self, first_played_at: u64) -> u64 {
        first_played_at.saturating_add(self.finish_window.as_secs())
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The viewer may watch.
    Allow(Allowed),
    /// The viewer may not.
    Deny(DenyReason),
}

/// By which right, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The entitlement that allows it.
    pub entitlement: EntitlementId,
    /// When no session may go on any more, grace included, in Unix seconds; `None` for a purchase.
    pub expires_at: Option<u64>,
    /// When no further session may begin, in Unix seconds; `None` for a purchase. To be recorded with the
    /// first play.
    pub finish_by: Option<u64>,
    /// Whether this is the first play, which is to be recorded before the session is opened.
    pub first_play: bool,
}

/// Why not. Ordered: of several reasons the greatest, which is the most useful to know, is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DenyReason {
    /// Never bought.
    NoEntitlement,
    /// Taken away by the operator.
    Revoked,
    /// Paid back.
    Refunded,
    /// The money was taken back by the viewer's bank.
    ChargedBack,
    /// Rented, and not started in time.
    StartWindowOver,
    /// Rented, started, and the time is over.
    FinishWindowOver,
}

impl DenyReason {
    /// Every reason, in order.
    pub const ALL: [Self; 6] = [
        Self::NoEntitlement,
        Self::Revoked,
        Self::Refunded,
        Self::ChargedBack,
        Self::StartWindowOver,
        Self::FinishWindowOver,
    ];

    /// The API's code for it.
    #[must_use]
    pub const fn code(self) -> ProblemCode {
        match self {
            Self::NoEntitlement => ProblemCode::NoEntitlement,
            Self::Revoked => ProblemCode::Revoked,
            Self::Refunded => ProblemCode::Refunded,
            Self::ChargedBack => ProblemCode::ChargedBack,
            Self::StartWindowOver => ProblemCode::StartWindowOver,
            Self::FinishWindowOver => ProblemCode::FinishWindowOver,
        }
    }

    /// The word used in logs and metrics, the same as in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.code().as_str()
    }
}

/// Decides by all rights of one viewer, those to other titles included. Of several that allow it the best
/// wins: a purchase; else the started rental that lasts longest, so that no second one is begun; else the
/// unstarted one that would lapse first.
#[must_use]
pub fn decide(now: u64, title: &TitleId, rights: &[Entitlement], rules: &RentalRules) -> Decision {
    let to_title = rights.iter().filter(|right| right.title == *title);
    let verdicts: Vec<_> = to_title.map(|right| judge(now, right, rules)).collect();
    let denied = verdicts.iter().filter_map(|verdict| verdict.as_ref().err()).copied().max();
    match verdicts.into_iter().flatten().max_by_key(|(rank, _)| *rank) {
        Some((_, allowed)) => Decision::Allow(allowed),
        None => Decision::Deny(denied.unwrap_or(DenyReason::NoEntitlement)),
    }
}

/// How good a right is, the greatest being the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Unstarted { lapses: Reverse<u64> },
    Started { ends: u64 },
    Purchase,
}

/// Whether a session could be opened by this right alone.
pub(crate) fn usable(now: u64, right: &Entitlement, rules: &RentalRules) -> bool {
    judge(now, right, rules).is_ok()
}

fn judge(now: u64, right: &Entitlement, rules: &RentalRules) -> Result<(Rank, Allowed), DenyReason> {
    match (right.withdrawn, right.kind) {
        (Some(Withdrawal::Refunded), _) => Err(DenyReason::Refunded),
        (Some(Withdrawal::ChargedBack), _) => Err(DenyReason::ChargedBack),
        (Some(Withdrawal::Revoked), _) => Err(DenyReason::Revoked),
        (None, EntitlementKind::Purchase) => Ok((Rank::Purchase, purchase(right))),
        (None, EntitlementKind::Rental) => rental(now, right, rules),
    }
}

fn purchase(entitlement: &Entitlement) -> Allowed {
    let first_play = entitlement.first_played_at.is_none();
    Allowed { entitlement: entitlement.id.clone(), expires_at: None, finish_by: None, first_play }
}

fn rental(now: u64, entitlement: &Entitlement, rules: &RentalRules) -> Result<(Rank, Allowed), DenyReason> {
    let start_by = entitlement.start_by.unwrap_or_else(|| rules.start_by(entitlement.bought_at));
    let first_play = entitlement.first_played_at.is_none();
    let first_played_at = entitlement.first_played_at.unwrap_or(now);
    let finish_by = entitlement.finish_by.unwrap_or_else(|| rules.finish_by(first_played_at));
    if first_play && now >= start_by {
        return Err(DenyReason::StartWindowOver);
    }
    if now >= finish_by {
        return Err(DenyReason::FinishWindowOver);
    }
    let rank = if first_play {
        Rank::Unstarted { lapses: Reverse(start_by) }
    } else {
        Rank::Started { ends: finish_by }
    };
    let expires_at = Some(finish_by.saturating_add(rules.grace.as_secs()));
    Ok((
        rank,
        Allowed { entitlement: entitlement.id.clone(), expires_at, finish_by: Some(finish_by), first_play },
    ))
}

#[cfg(test)]
mod tests;
