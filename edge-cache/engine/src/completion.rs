//! Whether the rest of an object is bought although nobody waits for it.
//!
//! A purchase that nobody waits for is a bet: what it costs now against what it saves if somebody comes. The
//! rest costs its bytes at today's price and a little of our own for handling them. Each viewer expected later
//! would pay that price then, and wait. When the bet is expected to pay, and the node has nothing better to do,
//! the rest is bought.

use crate::load::Level;

/// What is known when the last viewer who waits has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    /// Bytes that no tier and no fill has.
    pub(crate) left: u64,
    /// All bytes of the object.
    pub(crate) len: u64,
    /// What one byte costs now, in picodollars.
    pub(crate) price: u64,
    /// Viewers this fill has had, all together.
    pub(crate) viewers: u64,
    /// Requests of the title lately, this viewer's own among them.
    pub(crate) title_requests: u64,
    /// A purge came since the fill began: nothing of it will be kept.
    pub(crate) purged: bool,
    /// How loaded the node is.
    pub(crate) level: Level,
}

/// How the operator values it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Percent of an object that are enough to have the rest, too.
    pub(crate) finish_percent: u8,
    /// What it is worth that a later viewer need not wait for a byte, in picodollars.
    pub(crate) wait_price: u64,
    /// What handling a byte costs the node itself, in picodollars.
    pub(crate) own_price: u64,
}

/// What was decided, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The rest is bought in the background.
    Worth,
    /// It would cost more than it is expected to save.
    NotWorth,
    /// The node is too loaded.
    Overloaded,
    /// So many are completed in the background already.
    Busy,
    /// A purge came meanwhile.
    Purged,
}

impl Verdict {
    /// Every verdict.
    pub(crate) const ALL: [Self; 5] =
        [Self::Worth, Self::NotWorth, Self::Overloaded, Self::Busy, Self::Purged];

    /// The word used in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Worth => "worth",
            Self::NotWorth => "not-worth",
            Self::Overloaded => "overloaded",
            Self::Busy => "busy",
            Self::Purged => "purged",
        }
    }
}

/// Requests that one viewer makes of a title in a minute: six seconds of video and of audio at a time.
const REQUESTS_OF_A_SESSION: u64 = 20;

/// Weighs the bet.
pub(crate) fn decide(case: &Case, policy: &Policy) -> Verdict {
    if case.level >= Level::NoDiskAdmission {
        return Verdict::Overloaded;
    }
    if case.purged {
        return Verdict::Purged;
    }
    let cost = case.left.saturating_mul(case.price.saturating_add(policy.own_price));
    let saved = case.left.saturating_mul(case.price.saturating_add(policy.wait_price));
    let gain = u128::from(saved) * u128::from(expected(case, policy)) / 1_000;
    if gain >= u128::from(cost) { Verdict::Worth } else { Verdict::NotWorth }
}

/// Thousandths of a viewer who is expected to ask for the rest while it is kept. Each other viewer of the object
/// is half of one, each other session of the title a tenth; an object of which most was wanted draws a whole one.
fn expected(case: &Case, policy: &Policy) -> u64 {
    let others = case.viewers.saturating_sub(1).saturating_mul(500);
    let sessions = (case.title_requests / REQUESTS_OF_A_SESSION).saturating_sub(1).saturating_mul(100);
    let present = u128::from(case.len.saturating_sub(case.left)) * 100;
    let mostly_here = present >= u128::from(case.len) * u128::from(policy.finish_percent);
    others.saturating_add(sessions).saturating_add(if mostly_here { 1_000 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const POLICY: Policy = Policy { finish_percent: 50, wait_price: 20, own_price: 1 };
    /// One viewer left a CDN fill of 8 MB after the first megabyte.
    const EARLY: Case = Case {
        left: 7 * MB,
        len: 8 * MB,
        price: 85,
        viewers: 1,
        title_requests: 20,
        purged: false,
        level: Level::Calm,
    };

    #[test]
    fn the_bet_is_weighed() {
        for (what, case, expected) in [
            ("one viewer left early", EARLY, Verdict::NotWorth),
            ("free bytes are not wanted either", Case { price: 0, ..EARLY }, Verdict::NotWorth),
            ("another viewer of a free source", Case { price: 0, viewers: 2, ..EARLY }, Verdict::Worth),
            ("two viewers of a CDN", Case { viewers: 2, ..EARLY }, Verdict::NotWorth),
            ("three viewers of a CDN", Case { viewers: 3, ..EARLY }, Verdict::Worth),
            ("two viewers of a neighbour", Case { viewers: 2, price: 10, ..EARLY }, Verdict::Worth),
            ("a title many watch", Case { title_requests: 400, ..EARLY }, Verdict::Worth),
            ("a title two watch", Case { title_requests: 40, ..EARLY }, Verdict::NotWorth),
            ("half is here", Case { left: 4 * MB, ..EARLY }, Verdict::Worth),
            ("a little less than half", Case { left: 4 * MB + 1, ..EARLY }, Verdict::NotWorth),
            ("too loaded", Case { left: 1, level: Level::NoDiskAdmission, ..EARLY }, Verdict::Overloaded),
            ("loaded, but not so much", Case { left: 1, level: Level::NoUploads, ..EARLY }, Verdict::Worth),
            ("purged", Case { left: 1, purged: true, ..EARLY }, Verdict::Purged),
            ("absurd prices", Case { left: u64::MAX, price: u64::MAX, ..EARLY }, Verdict::NotWorth),
        ] {
            assert_eq!(decide(&case, &POLICY), expected, "{what}");
        }
    }

    #[test]
    fn the_operator_may_turn_it_off_or_always_on() {
        let never = Policy { finish_percent: 101, wait_price: 0, ..POLICY };
        assert_eq!(decide(&Case { left: 1, ..EARLY }, &never), Verdict::NotWorth);
        let always = Policy { finish_percent: 0, ..POLICY };
        assert_eq!(decide(&Case { left: 8 * MB, ..EARLY }, &always), Verdict::Worth);
    }
}
