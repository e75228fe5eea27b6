//! How many of a viewer's screens may play at the same time.
//!
//! A screen that plays holds a lease, which its player renews while it plays. A lease that was not renewed in time is
//! over, so a screen that lost its power does not count for long. All leases of a viewer are one record: whoever
//! changes it names its version, so two screens cannot both take the last place.
//!
//! A screen that begins again takes over its own lease. If all places are taken, a viewer may take over the one that
//! began first; the screen that had it is told at its next renewal. Clocks of several machines may differ by some
//! seconds: a lease is over for others only after a tolerance.

use std::time::Duration;

use control_api::SessionId;
use media::TitleId;
use serde::{Deserialize, Serialize};

/// How many screens, and for how long without a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRules {
    /// Screens at the same time. Default 2.
    pub streams: usize,
    /// How long a lease lasts without being renewed. Default 90 s: three beacons of 30 s.
    pub lasts: Duration,
    /// How far the clocks of the control planes may be apart. Default 5 s.
    pub tolerance: Duration,
}

impl Default for LeaseRules {
    fn default() -> Self {
        Self { streams: 2, lasts: Duration::from_secs(90), tolerance: Duration::from_secs(5) }
    }
}

/// One screen that plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The session it plays.
    pub session: SessionId,
    /// Which screen, in the viewer's own words to us.
    pub device: String,
    /// What it plays.
    pub title: TitleId,
    /// When it began, in Unix seconds.
    pub since: u64,
    /// Until when it lasts, in Unix seconds.
    pub until: u64,
}

/// What became of a wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// These are the viewer's leases now, the new one last; the sessions that lost theirs.
    Granted(Vec<Lease>, Vec<SessionId>),
    /// All places are taken, by these.
    Full(Vec<Lease>),
}

/// What became of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// These are the viewer's leases now.
    Granted(Vec<Lease>),
    /// The session has none any more, and there is no place for it.
    Lost,
}

/// Takes a lease for a session that begins now. `since` and `until` of the wish are set here.
#[must_use]
pub fn take(now: u64, leases: &[Lease], wish: Lease, take_over: bool, rules: &LeaseRules) -> Taken {
    let (own, mut others): (Vec<Lease>, Vec<Lease>) =
        running(now, leases, rules).into_iter().partition(|lease| lease.device == wish.device);
    let mut ended: Vec<SessionId> = own.into_iter().map(|lease| lease.session).collect();
    if others.len() >= rules.streams {
        if !take_over || rules.streams == 0 {
            return Taken::Full(others);
        }
        others.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
        let too_many = others.len() + 1 - rules.streams;
        ended.extend(others.drain(..too_many).map(|lease| lease.session));
    }
    others.push(Lease { since: now, until: ends(now, rules), ..wish });
    Taken::Granted(others, ended)
}

/// Renews a session's lease. One that ran out is renewed as long as nobody else needed the place.
#[must_use]
pub fn renew(now: u64, leases: &[Lease], session: &SessionId, rules: &LeaseRules) -> Renewed {
    let Some(own) = leases.iter().find(|lease| lease.session == *session) else { return Renewed::Lost };
    let mut others = running(now, leases, rules);
    others.retain(|lease| lease.session != *session);
    if others.len() >= rules.streams {
        return Renewed::Lost;
    }
    // A clock that is behind does not shorten what one ahead has promised.
    others.push(Lease { until: own.until.max(ends(now, rules)), ..own.clone() });
    Renewed::Granted(others)
}

/// The leases without that of a session which ended.
#[must_use]
pub fn release(leases: &[Lease], session: &SessionId) -> Vec<Lease> {
    leases.iter().filter(|lease| lease.session != *session).cloned().collect()
}

fn running(now: u64, leases: &[Lease], rules: &LeaseRules) -> Vec<Lease> {
    let tolerance = rules.tolerance.as_secs();
    leases.iter().filter(|lease| now < lease.until.saturating_add(tolerance)).cloned().collect()
}

fn ends(now: u64, rules: &LeaseRules) -> u64 {
    now.saturating_add(rules.lasts.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_800_000_000;

    fn lease(session: &str, device: &str, since: u64) -> Lease {
        Lease {
            session: session.parse().expect("a session"),
            device: device.to_owned(),
            title: "bbb".parse().expect("a title"),
            since: T + since,
            until: T + since + 90,
        }
    }

    fn names(leases: &[Lease]) -> String {
        leases.iter().map(|lease| lease.session.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// (what, seconds after T, who plays, the new screen, take over?, who plays then, who lost it)
    type Row = (
        &'static str,
        u64,
        &'static [(&'static str, &'static str, u64)],
        &'static str,
        bool,
        Result<(&'static str, &'static str), &'static str>,
    );

    const TABLE: &[Row] = &[
        ("the first screen", 0, &[], "tv", false, Ok(("new", ""))),
        ("the second screen", 10, &[("a", "pad", 0)], "tv", false, Ok(("a new", ""))),
        ("a third screen", 10, &[("a", "pad", 0), ("b", "pc", 1)], "tv", false, Err("a b")),
        ("a third that takes over", 10, &[("a", "pad", 0), ("b", "pc", 1)], "tv", true, Ok(("b new", "a"))),
        (
            "whatever order they stand in",
            10,
            &[("b", "pc", 1), ("a", "pad", 0)],
            "tv",
            true,
            Ok(("b new", "a")),
        ),
        ("taking over what is free", 10, &[("a", "pad", 0)], "tv", true, Ok(("a new", ""))),
        ("the same screen again", 10, &[("a", "tv", 0)], "tv", false, Ok(("new", "a"))),
        ("the same of two screens", 10, &[("a", "tv", 0), ("b", "pc", 1)], "tv", false, Ok(("b new", "a"))),
        ("in the last second of a lease", 89, &[("a", "pad", 0), ("b", "pc", 0)], "tv", false, Err("a b")),
        ("within the tolerance", 94, &[("a", "pad", 0), ("b", "pc", 0)], "tv", false, Err("a b")),
        ("after the tolerance", 95, &[("a", "pad", 0), ("b", "pc", 0)], "tv", false, Ok(("new", ""))),
        ("one of them is over", 95, &[("a", "pad", 0), ("b", "pc", 5)], "tv", false, Ok(("b new", ""))),
        ("begun by a faster clock", 0, &[("a", "pad", 30), ("b", "pc", 40)], "tv", false, Err("a b")),
        (
            "more than are allowed now",
            10,
            &[("a", "pad", 0), ("b", "pc", 1), ("c", "x", 2)],
            "tv",
            true,
            Ok(("c new", "a b")),
        ),
    ];

    #[test]
    fn who_may_play() {
        for (what, after, playing, device, take_over, expected) in TABLE {
            let leases: Vec<_> =
                playing.iter().map(|(id, device, since)| lease(id, device, *since)).collect();
            let wish = lease("new", device, 0);
            let taken = take(T + after, &leases, wish, *take_over, &LeaseRules::default());
            let found = match &taken {
                Taken::Granted(leases, ended) => {
                    let ended = ended.iter().map(SessionId::as_str).collect::<Vec<_>>().join(" ");
                    let new = leases.last().expect("the new one");
                    assert_eq!((new.since, new.until), (T + after, T + after + 90), "{what}");
                    Ok((names(leases), ended))
                }
                Taken::Full(leases) => Err(names(leases)),
            };
            let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).map_err(str::to_owned);
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn renewals() {
        let rules = LeaseRules::default();
        let until = |after: u64, leases: &[Lease], id: &str| match renew(
            T + after,
            leases,
            &id.parse().expect("a session"),
            &rules,
        ) {
            Renewed::Granted(leases) => Some(leases.last().expect("the renewed").until - T),
            Renewed::Lost => None,
        };
        let two = [lease("a", "pad", 0), lease("b", "pc", 20)];
        assert_eq!(until(30, &two, "a"), Some(120));
        assert_eq!(until(0, &two, "b"), Some(110), "a clock behind does not shorten it");
        assert_eq!(until(30, &two, "c"), None, "whose lease was taken over");
        assert_eq!(until(3000, &two, "a"), Some(3090), "late, and nobody needed the place");
        let late = [lease("a", "pad", 0), lease("b", "pc", 200), lease("c", "tv", 200)];
        assert_eq!(until(210, &late, "a"), None, "late, and others have the places");
    }

    #[test]
    fn an_ended_session_leaves_its_place() {
        let two = [lease("a", "pad", 0), lease("b", "pc", 20)];
        assert_eq!(names(&release(&two, &"a".parse().expect("a session"))), "b");
        assert_eq!(names(&release(&two, &"x".parse().expect("a session"))), "a b");
    }

    #[test]
    fn none_allowed_is_none_allowed() {
        let rules = LeaseRules { streams: 0, ..LeaseRules::default() };
        for take_over in [false, true] {
            assert_eq!(take(T, &[], lease("new", "tv", 0), take_over, &rules), Taken::Full(Vec::new()));
        }
    }
}
