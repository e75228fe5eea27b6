//! A purchase or rental as money and right: which step may follow which, and what it does to the right.
//!
//! ```text
//! placed -> pending --charged--> granted --refund asked--> refunding --refund made--> refunded
//!              \--declined--> declined   \--charged back--> charged back   \--refund failed--> granted
//!                                <--chargeback reversed--
//!                                |--revoked--> revoked --reinstated--> granted
//! ```
//!
//! [`step`] is asked before every change. Whoever carries a step out writes the order, the right and the event in
//! one transaction: so a right stands exactly when its charge does, and the events of an order, read again by
//! [`replay`], explain how it stands. An order and the right it makes have one name; a second right of one order
//! has no place to be.
//!
//! What this does not do: it moves no money. Asking for a charge twice under the order's name must be one charge;
//! that is the payment service's promise.

use std::fmt;

use control_api::rest::{Entitlement, EntitlementKind, Price, Withdrawal};
use control_api::{EntitlementId, ViewerId};
use media::TitleId;
use serde::{Deserialize, Serialize};

use crate::rights::{RentalRules, usable};

/// What was ordered, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name, and that of the right it makes.
    pub id: EntitlementId,
    /// Who buys.
    pub viewer: ViewerId,
    /// What.
    pub title: TitleId,
    /// For how long.
    pub kind: EntitlementKind,
    /// What it cost when it was placed; `None` where the operator settles prices elsewhere.
    pub price: Option<Price>,
    /// The transaction by which the viewer's device has paid, if it did.
    pub transaction: Option<String>,
    /// When it was placed, in Unix seconds.
    pub placed_at: u64,
    /// How far it is.
    pub status: Status,
    /// How many events made it so: the number of the next one.
    pub events: u32,
}

/// How far an order is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Status {
    /// The charge is asked for; it may have been made already.
    Pending,
    /// Charged; the right stands.
    Granted {
        /// How the payment service names the charge.
        reference: String,
    },
    /// Not charged; there is no right.
    Declined {
        /// Why.
        reason: String,
    },
    /// The money is to go back; the right is withdrawn.
    Refunding {
        /// The charge.
        reference: String,
        /// Why.
        reason: String,
    },
    /// The money went back.
    Refunded {
        /// The charge.
        reference: String,
        /// How the payment service names the refund.
        refund: String,
    },
    /// The viewer's bank took the money back.
    ChargedBack {
        /// The charge.
        reference: String,
    },
    /// The operator took the right away and keeps the money.
    Revoked {
        /// The charge.
        reference: String,
    },
}

impl Status {
    /// The word used in logs, metrics and the audit trail.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Granted { .. } => "granted",
            Self::Declined { .. } => "declined",
            Self::Refunding { .. } => "refunding",
            Self::Refunded { .. } => "refunded",
            Self::ChargedBack { .. } => "charged-back",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// Whether the payment service is to be asked, again if the process that asked is gone.
    #[must_use]
    pub const fn open(&self) -> bool {
        matches!(self, Self::Pending | Self::Refunding { .. })
    }
}

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It was placed.
    Placed,
    /// The charge stands.
    Charged {
        /// How the payment service names it.
        reference: String,
    },
    /// There will be no charge.
    Declined {
        /// Why.
        reason: String,
    },
    /// Somebody wants the money to go back.
    RefundAsked {
        /// Why.
        reason: String,
    },
    /// It went back.
    RefundMade {
        /// How the payment service names the refund.
        refund: String,
    },
    /// It will not go back.
    RefundFailed {
        /// Why.
        reason: String,
    },
    /// The viewer's bank took it back.
    ChargedBack,
    /// The bank changed its mind.
    ChargebackReversed,
    /// The operator takes the right away.
    Revoked {
        /// Why.
        reason: String,
    },
    /// The operator gives it back.
    Reinstated {
        /// Why.
        reason: String,
    },
}

impl Event {
    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Charged { .. } => "charged",
            Self::Declined { .. } => "declined",
            Self::RefundAsked { .. } => "refund-asked",
            Self::RefundMade { .. } => "refund-made",
            Self::RefundFailed { .. } => "refund-failed",
            Self::ChargedBack => "charged-back",
            Self::ChargebackReversed => "chargeback-reversed",
            Self::Revoked { .. } => "revoked",
            Self::Reinstated { .. } => "reinstated",
        }
    }
}

/// What becomes of the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RightChange {
    /// It stays as it is.
    Keep,
    /// It begins.
    Grant,
    /// It ends.
    Withdraw(Withdrawal),
    /// It stands again.
    Restore,
}

/// The next state of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How far it is then.
    pub status: Status,
    /// What becomes of the right.
    pub right: RightChange,
}

/// The event cannot happen to an order that stands so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfOrder {
    /// The event.
    pub event: &'static str,
    /// How the order stands.
    pub status: &'static str,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an order that is {} cannot become {}", self.status, self.event)
    }
}

impl std::error::Error for OutOfOrder {}

/// What an event makes of an order that stands so; `None` for one that was not placed yet.
///
/// # Errors
/// [`OutOfOrder`] when the event has no place here: somebody else was faster, or it is told twice.
pub fn step(status: Option<&Status>, event: &Event) -> Result<Step, OutOfOrder> {
    let possible = match (status, event) {
        (None, Event::Placed) => Some((Status::Pending, RightChange::Keep)),
        (Some(Status::Pending), event) => paid(event),
        (Some(Status::Granted { reference }), event) => ended(reference, event),
        (Some(Status::Refunding { reference, .. }), event) => paid_back(reference, event),
        (Some(Status::ChargedBack { reference }), Event::ChargebackReversed)
        | (Some(Status::Revoked { reference }), Event::Reinstated { .. }) => {
            Some((Status::Granted { reference: reference.clone() }, RightChange::Restore))
        }
        // Whom the right was taken from may still get the money back, or take it.
        (Some(Status::Revoked { reference }), Event::RefundAsked { .. } | Event::ChargedBack) => {
            ended(reference, event)
        }
        _ => None,
    };
    let refused =
        || OutOfOrder { event: event.as_str(), status: status.map_or("not placed", Status::as_str) };
    possible.map(|(status, right)| Step { status, right }).ok_or_else(refused)
}

type Possible = Option<(Status, RightChange)>;

/// What becomes of an order that waits for its charge.
fn paid(event: &Event) -> Possible {
    match event {
        Event::Charged { reference } => {
            Some((Status::Granted { reference: reference.clone() }, RightChange::Grant))
        }
        Event::Declined { reason } => Some((Status::Declined { reason: reason.clone() }, RightChange::Keep)),
        _ => None,
    }
}

/// What ends a right. The payment service may tell of a refund that nobody here asked for.
fn ended(reference: &str, event: &Event) -> Possible {
    let reference = reference.to_owned();
    let (status, why) = match event {
        Event::RefundAsked { reason } => {
            (Status::Refunding { reference, reason: reason.clone() }, Withdrawal::Refunded)
        }
        Event::RefundMade { refund } => {
            (Status::Refunded { reference, refund: refund.clone() }, Withdrawal::Refunded)
        }
        Event::ChargedBack => (Status::ChargedBack { reference }, Withdrawal::ChargedBack),
        Event::Revoked { .. } => (Status::Revoked { reference }, Withdrawal::Revoked),
        _ => return None,
    };
    Some((status, RightChange::Withdraw(why)))
}

/// What becomes of an order that waits for its refund. Its right is withdrawn already.
fn paid_back(reference: &str, event: &Event) -> Possible {
    let reference = reference.to_owned();
    match event {
        Event::RefundMade { refund } => {
            Some((Status::Refunded { reference, refund: refund.clone() }, RightChange::Keep))
        }
        Event::RefundFailed { .. } => Some((Status::Granted { reference }, RightChange::Restore)),
        Event::ChargedBack => {
            Some((Status::ChargedBack { reference }, RightChange::Withdraw(Withdrawal::ChargedBack)))
        }
        _ => None,
    }
}

/// How an order stands after these events.
///
/// # Errors
/// [`OutOfOrder`] names the first event that could not have happened.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Option<Status>, OutOfOrder> {
    let mut status = None;
    for event in events {
        status = Some(step(status.as_ref(), event)?.status);
    }
    Ok(status)
}

/// The right that makes buying this pointless now: one as good or better that can be watched. Nobody pays twice
/// for what they have.
#[must_use]
pub fn covered<'a>(
    now: u64,
    title: &TitleId,
    kind: EntitlementKind,
    rights: &'a [Entitlement],
    rules: &RentalRules,
) -> Option<&'a Entitlement> {
    let enough = |right: &&Entitlement| {
        right.title == *title
            && (right.kind == EntitlementKind::Purchase || kind == EntitlementKind::Rental)
            && usable(now, right, rules)
    };
    let rank = |right: &&Entitlement| right.kind == EntitlementKind::Purchase;
    rights.iter().filter(enough).max_by_key(rank)
}

#[cfg(test)]
mod tests;
