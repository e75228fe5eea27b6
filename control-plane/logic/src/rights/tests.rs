//! One table of everything that can be asked, then the stories between several rights.

use proptest::prelude::*;

use super::*;

const DAY: u64 = 24 * 3600;
const HOUR: u64 = 3600;
/// When everything here was bought.
const T: u64 = 1_780_000_000;

/// The rental of a table row: what happened to it after `T`.
#[derive(Clone, Copy, Default)]
struct Given {
    kind: Option<EntitlementKind>,
    start_by: Option<u64>,
    played: Option<u64>,
    finish_by: Option<u64>,
    withdrawn: Option<Withdrawal>,
}

const RENTAL: Given = Given {
    kind: Some(EntitlementKind::Rental),
    start_by: None,
    played: None,
    finish_by: None,
    withdrawn: None,
};
/// What became of a right.
const REFUNDED: Option<Withdrawal> = Some(Withdrawal::Refunded);
const CHARGED_BACK: Option<Withdrawal> = Some(Withdrawal::ChargedBack);
const REVOKED: Option<Withdrawal> = Some(Withdrawal::Revoked);
const PURCHASE: Given = Given { kind: Some(EntitlementKind::Purchase), ..RENTAL };

const fn played(after: u64) -> Given {
    Given { played: Some(after), ..RENTAL }
}

fn right(id: &str, given: Given) -> Entitlement {
    Entitlement {
        id: id.parse().expect("valid"),
        viewer: "viewer".parse().expect("valid"),
        title: "bbb".parse().expect("valid"),
        kind: given.kind.expect("a kind"),
        bought_at: T,
        start_by: given.start_by.map(|after| T + after),
        first_played_at: given.played.map(|after| T + after),
        finish_by: given.finish_by.map(|after| T + after),
        withdrawn: given.withdrawn,
    }
}

fn decide_at(now: u64, rights: &[Entitlement]) -> Decision {
    decide(now, &"bbb".parse().expect("valid"), rights, &RentalRules::default())
}

/// What a row expects: `Ok((first play, end of the right in seconds after T))` or the reason.
type Expected = Result<(bool, Option<u64>), DenyReason>;

const FIRST: bool = true;
const AGAIN: bool = false;
const OVER: Expected = Err(DenyReason::FinishWindowOver);
const TOO_LATE: Expected = Err(DenyReason::StartWindowOver);

/// (what, seconds after T, what was bought, what is decided)
const TABLE: &[(&str, u64, Given, Expected)] = &[
    // Rentals that were never played: the start window.
    ("at once", 0, RENTAL, Ok((FIRST, Some(54 * HOUR)))),
    ("a second later", 1, RENTAL, Ok((FIRST, Some(54 * HOUR + 1)))),
    ("next day", DAY, RENTAL, Ok((FIRST, Some(DAY + 54 * HOUR)))),
    ("day 29", 29 * DAY, RENTAL, Ok((FIRST, Some(29 * DAY + 54 * HOUR)))),
    ("last second to start", 30 * DAY - 1, RENTAL, Ok((FIRST, Some(30 * DAY - 1 + 54 * HOUR)))),
    ("first second too late", 30 * DAY, RENTAL, TOO_LATE),
    ("a day too late", 31 * DAY, RENTAL, TOO_LATE),
    ("years too late", 3000 * DAY, RENTAL, TOO_LATE),
    // What was promised at purchase stands.
    (
        "promised less, in time",
        6 * DAY,
        Given { start_by: Some(7 * DAY), ..RENTAL },
        Ok((FIRST, Some(6 * DAY + 54 * HOUR))),
    ),
    ("promised less, too late", 7 * DAY, Given { start_by: Some(7 * DAY), ..RENTAL }, TOO_LATE),
    (
        "promised more, in time",
        31 * DAY,
        Given { start_by: Some(60 * DAY), ..RENTAL },
        Ok((FIRST, Some(31 * DAY + 54 * HOUR))),
    ),
    ("promised more, too late", 60 * DAY, Given { start_by: Some(60 * DAY), ..RENTAL }, TOO_LATE),
    ("promised nothing", 0, Given { start_by: Some(0), ..RENTAL }, TOO_LATE),
    // Started rentals: the finish window, and not the start window any more.
    ("resumed at once", HOUR, played(HOUR), Ok((AGAIN, Some(55 * HOUR)))),
    ("resumed after an hour", 2 * HOUR, played(HOUR), Ok((AGAIN, Some(55 * HOUR)))),
    ("last second to watch", 49 * HOUR - 1, played(HOUR), Ok((AGAIN, Some(55 * HOUR)))),
    ("first second over", 49 * HOUR, played(HOUR), OVER),
    ("in the grace no session begins", 50 * HOUR, played(HOUR), OVER),
    ("after the grace", 56 * HOUR, played(HOUR), OVER),
    ("years later", 3000 * DAY, played(HOUR), OVER),
    (
        "started late, resumed after the start window",
        31 * DAY,
        played(30 * DAY - 1),
        Ok((AGAIN, Some(30 * DAY - 1 + 54 * HOUR))),
    ),
    (
        "started late, last second",
        32 * DAY - 2,
        played(30 * DAY - 1),
        Ok((AGAIN, Some(30 * DAY - 1 + 54 * HOUR))),
    ),
    ("started late, over", 32 * DAY - 1, played(30 * DAY - 1), OVER),
    ("played at the purchase", 48 * HOUR - 1, played(0), Ok((AGAIN, Some(54 * HOUR)))),
    ("played at the purchase, over", 48 * HOUR, played(0), OVER),
    // The recorded end stands.
    (
        "recorded less, in time",
        11 * HOUR,
        Given { finish_by: Some(12 * HOUR), ..played(0) },
        Ok((AGAIN, Some(18 * HOUR))),
    ),
    ("recorded less, over", 12 * HOUR, Given { finish_by: Some(12 * HOUR), ..played(0) }, OVER),
    (
        "recorded more, in time",
        71 * HOUR,
        Given { finish_by: Some(72 * HOUR), ..played(0) },
        Ok((AGAIN, Some(78 * HOUR))),
    ),
    ("recorded more, over", 72 * HOUR, Given { finish_by: Some(72 * HOUR), ..played(0) }, OVER),
    (
        "recorded end without a first play",
        HOUR,
        Given { finish_by: Some(2 * HOUR), ..RENTAL },
        Ok((FIRST, Some(8 * HOUR))),
    ),
    (
        "recorded end without a first play, over",
        2 * HOUR,
        Given { finish_by: Some(2 * HOUR), ..RENTAL },
        OVER,
    ),
    (
        "both promised",
        8 * DAY,
        Given { start_by: Some(DAY), finish_by: Some(9 * DAY), ..played(HOUR) },
        Ok((AGAIN, Some(9 * DAY + 6 * HOUR))),
    ),
    // Another machine's clock is ahead of ours.
    ("first play in the future", HOUR, played(2 * HOUR), Ok((AGAIN, Some(56 * HOUR)))),
    // Purchases are for good.
    ("bought", 0, PURCHASE, Ok((FIRST, None))),
    ("bought, watched", DAY, Given { played: Some(0), ..PURCHASE }, Ok((AGAIN, None))),
    ("bought years ago", 30_000 * DAY, Given { played: Some(0), ..PURCHASE }, Ok((AGAIN, None))),
    ("bought years ago, never watched", 30_000 * DAY, PURCHASE, Ok((FIRST, None))),
    (
        "stray windows do not bind a purchase",
        DAY,
        Given { start_by: Some(1), finish_by: Some(2), ..PURCHASE },
        Ok((FIRST, None)),
    ),
    // Refunds and revocations end everything.
    ("rental refunded", 0, Given { withdrawn: REFUNDED, ..RENTAL }, Err(DenyReason::Refunded)),
    (
        "rental refunded while watching",
        HOUR,
        Given { withdrawn: REFUNDED, ..played(0) },
        Err(DenyReason::Refunded),
    ),
    (
        "rental refunded after its time",
        90 * DAY,
        Given { withdrawn: REFUNDED, ..RENTAL },
        Err(DenyReason::Refunded),
    ),
    ("purchase refunded", 0, Given { withdrawn: REFUNDED, ..PURCHASE }, Err(DenyReason::Refunded)),
    ("rental revoked", 0, Given { withdrawn: REVOKED, ..RENTAL }, Err(DenyReason::Revoked)),
    (
        "rental revoked while watching",
        HOUR,
        Given { withdrawn: REVOKED, ..played(0) },
        Err(DenyReason::Revoked),
    ),
    ("purchase revoked", 0, Given { withdrawn: REVOKED, ..PURCHASE }, Err(DenyReason::Revoked)),
    ("rental charged back", 0, Given { withdrawn: CHARGED_BACK, ..RENTAL }, Err(DenyReason::ChargedBack)),
    (
        "charged back while watching",
        HOUR,
        Given { withdrawn: CHARGED_BACK, ..played(0) },
        Err(DenyReason::ChargedBack),
    ),
    (
        "purchase charged back",
        DAY,
        Given { withdrawn: CHARGED_BACK, ..PURCHASE },
        Err(DenyReason::ChargedBack),
    ),
];

#[test]
fn one_right_at_any_time() {
    assert!(TABLE.len() >= 40, "{}", TABLE.len());
    for (what, after, given, expected) in TABLE {
        let decided = match decide_at(T + after, &[right("e", *given)]) {
            Decision::Allow(allowed) => Ok((allowed.first_play, allowed.expires_at.map(|at| at - T))),
            Decision::Deny(reason) => Err(reason),
        };
        assert_eq!(decided, *expected, "{what}");
    }
}

#[test]
fn a_purchase_made_by_a_faster_clock_counts() {
    let decided = decide_at(T - 60, &[right("e", RENTAL)]);
    assert!(matches!(decided, Decision::Allow(Allowed { first_play: true, .. })), "{decided:?}");
}

#[test]
fn the_best_of_several_rights_wins() {
    let check = |after: u64, rights: &[(&str, Given)], expected: Result<&str, DenyReason>| {
        let mut rights: Vec<_> = rights.iter().map(|(id, given)| right(id, *given)).collect();
        for _ in 0..2 {
            let decided = match decide_at(T + after, &rights) {
                Decision::Allow(allowed) => Ok(allowed.entitlement.to_string()),
                Decision::Deny(reason) => Err(reason),
            };
            assert_eq!(decided, expected.map(ToOwned::to_owned), "{rights:?}");
            rights.reverse();
        }
    };
    let refunded = |given: Given| Given { withdrawn: REFUNDED, ..given };
    let until = |start_by: u64| Given { start_by: Some(start_by), ..RENTAL };
    check(0, &[], Err(DenyReason::NoEntitlement));
    check(HOUR, &[("rented", played(0)), ("bought", PURCHASE)], Ok("bought"));
    check(HOUR, &[("rented", played(0)), ("bought", refunded(PURCHASE))], Ok("rented"));
    check(HOUR, &[("begun", played(0)), ("new", RENTAL)], Ok("begun"));
    check(49 * HOUR, &[("begun", played(0)), ("new", RENTAL)], Ok("new"));
    check(3 * HOUR, &[("first", played(0)), ("second", played(2 * HOUR))], Ok("second"));
    check(DAY, &[("soon", until(2 * DAY)), ("later", until(20 * DAY))], Ok("soon"));
    check(3 * DAY, &[("soon", until(2 * DAY)), ("later", until(20 * DAY))], Ok("later"));
    check(90 * DAY, &[("watched", played(0)), ("lapsed", RENTAL)], Err(DenyReason::FinishWindowOver));
    check(90 * DAY, &[("lapsed", RENTAL), ("back", refunded(PURCHASE))], Err(DenyReason::StartWindowOver));
}

#[test]
fn a_right_to_another_title_is_none() {
    let other = decide(T, &"other".parse().expect("valid"), &[right("e", PURCHASE)], &RentalRules::default());
    assert_eq!(other, Decision::Deny(DenyReason::NoEntitlement));
}

#[test]
fn reasons_are_the_apis() {
    let words: Vec<_> = DenyReason::ALL.iter().map(|reason| reason.as_str()).collect();
    let expected =
        ["no-entitlement", "revoked", "refunded", "charged-back", "start-window-over", "finish-window-over"];
    assert_eq!(words, expected);
    assert!(DenyReason::ALL.iter().all(|reason| reason.code().status() == 403));
}

proptest! {
    #[test]
    fn once_over_it_stays_over(
        played_after in proptest::option::of(0..60 * DAY), first in 0..200 * DAY, later in 0..200 * DAY,
    ) {
        let rights = [right("e", Given { played: played_after, ..RENTAL })];
        let allowed = |now: u64| matches!(decide_at(now, &rights), Decision::Allow(_));
        prop_assert!(allowed(T + first) || !allowed(T + first + later));
    }

    #[test]
    fn no_time_makes_us_panic(now in any::<u64>(), bought in any::<u64>(), played in any::<Option<u64>>()) {
        let mut right = right("e", RENTAL);
        right.bought_at = bought;
        right.first_played_at = played;
        let endless = RentalRules { start_window: Duration::MAX, finish_window: Duration::MAX, grace: Duration::MAX };
        let _ = decide_at(now, std::slice::from_ref(&right));
        let _ = decide(now, &"bbb".parse().expect("valid"), &[right], &endless);
    }
}
