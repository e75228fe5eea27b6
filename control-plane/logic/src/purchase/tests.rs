//! Every event in every state, and what covers what.

use super::*;

fn status(is: &str) -> Option<Status> {
    let (reference, reason) = ("c1".to_owned(), "why".to_owned());
    match is {
        "pending" => Some(Status::Pending),
        "granted" => Some(Status::Granted { reference }),
        "declined" => Some(Status::Declined { reason }),
        "refunding" => Some(Status::Refunding { reference, reason }),
        "refunded" => Some(Status::Refunded { reference, refund: "r1".to_owned() }),
        "charged-back" => Some(Status::ChargedBack { reference }),
        "revoked" => Some(Status::Revoked { reference }),
        _ => None,
    }
}

fn event(name: &str) -> Event {
    let text = |text: &str| text.to_owned();
    match name {
        "placed" => Event::Placed,
        "charged" => Event::Charged { reference: text("c1") },
        "declined" => Event::Declined { reason: text("why") },
        "refund-asked" => Event::RefundAsked { reason: text("why") },
        "refund-made" => Event::RefundMade { refund: text("r1") },
        "refund-failed" => Event::RefundFailed { reason: text("why") },
        "charged-back" => Event::ChargedBack,
        "revoked" => Event::Revoked { reason: text("why") },
        "reinstated" => Event::Reinstated { reason: text("why") },
        _ => Event::ChargebackReversed,
    }
}

const STATUSES: [&str; 8] =
    ["none", "pending", "granted", "declined", "refunding", "refunded", "charged-back", "revoked"];
const EVENTS: [&str; 10] = [
    "placed",
    "charged",
    "declined",
    "refund-asked",
    "refund-made",
    "refund-failed",
    "charged-back",
    "chargeback-reversed",
    "revoked",
    "reinstated",
];

/// All that may happen; everything else is refused.
const STEPS: &[(&str, &str, &str, RightChange)] = &[
    ("none", "placed", "pending", RightChange::Keep),
    ("pending", "charged", "granted", RightChange::Grant),
    ("pending", "declined", "declined", RightChange::Keep),
    ("granted", "refund-asked", "refunding", RightChange::Withdraw(Withdrawal::Refunded)),
    ("granted", "refund-made", "refunded", RightChange::Withdraw(Withdrawal::Refunded)),
    ("granted", "charged-back", "charged-back", RightChange::Withdraw(Withdrawal::ChargedBack)),
    ("granted", "revoked", "revoked", RightChange::Withdraw(Withdrawal::Revoked)),
    ("revoked", "reinstated", "granted", RightChange::Restore),
    ("revoked", "refund-asked", "refunding", RightChange::Withdraw(Withdrawal::Refunded)),
    ("revoked", "charged-back", "charged-back", RightChange::Withdraw(Withdrawal::ChargedBack)),
    ("refunding", "refund-made", "refunded", RightChange::Keep),
    ("refunding", "refund-failed", "granted", RightChange::Restore),
    ("refunding", "charged-back", "charged-back", RightChange::Withdraw(Withdrawal::ChargedBack)),
    ("charged-back", "chargeback-reversed", "granted", RightChange::Restore),
];

#[test]
fn every_event_in_every_state() {
    for from in STATUSES {
        for name in EVENTS {
            let row = STEPS.iter().find(|(status, event, ..)| (*status, *event) == (from, name));
            let expected = row.map(|(_, _, to, right)| (status(to), *right));
            let found = step(status(from).as_ref(), &event(name));
            let found = found.ok().map(|step| (Some(step.status), step.right));
            assert_eq!(found, expected, "{from} {name}");
        }
    }
}

/// Along every way through the machine: a right stands exactly while the charge does.
#[test]
fn a_right_stands_exactly_while_it_is_paid() {
    let mut ways = vec![(None::<Status>, false, 0)];
    let mut seen = 0;
    while let Some((from, stands, depth)) = ways.pop() {
        for name in EVENTS {
            let Ok(step) = step(from.as_ref(), &event(name)) else { continue };
            let now = match step.right {
                RightChange::Keep => stands,
                RightChange::Grant | RightChange::Restore => {
                    assert!(!stands, "{from:?} {name}: made twice");
                    true
                }
                RightChange::Withdraw(_) => false,
            };
            assert_eq!(now, matches!(step.status, Status::Granted { .. }), "{from:?} {name}");
            seen += 1;
            if depth < 7 {
                ways.push((Some(step.status), now, depth + 1));
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn events_explain_how_an_order_stands() {
    let events: Vec<_> = ["placed", "charged", "refund-asked", "refund-made"].map(event).into();
    assert_eq!(replay(&events), Ok(status("refunded")));
    assert_eq!(replay(&[]), Ok(None));
    let wrong: Vec<_> = ["placed", "refund-made"].map(event).into();
    let refused = replay(&wrong).expect_err("never charged");
    assert_eq!(refused.to_string(), "an order that is pending cannot become refund-made");
}

#[test]
fn what_is_written_can_be_read() {
    for name in EVENTS {
        let json = serde_json::to_string(&event(name)).expect("serialisable");
        assert!(json.contains(&format!("\"event\":\"{name}\"")), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).expect("readable"), event(name));
    }
    for is in STATUSES {
        let json = serde_json::to_string(&status(is)).expect("serialisable");
        assert_eq!(serde_json::from_str::<Option<Status>>(&json).expect("readable"), status(is));
    }
}

#[test]
fn nobody_pays_twice() {
    use EntitlementKind::{Purchase, Rental};
    const NOW: u64 = 1_800_000_000;
    let right = |id: &str, kind, withdrawn, bought_at| Entitlement {
        id: id.parse().expect("an id"),
        viewer: "ann".parse().expect("a viewer"),
        title: "one".parse().expect("a title"),
        kind,
        bought_at,
        start_by: None,
        first_played_at: None,
        finish_by: None,
        withdrawn,
    };
    let cases: &[(EntitlementKind, Vec<Entitlement>, Option<&str>)] = &[
        (Rental, vec![], None),
        (Rental, vec![right("a", Rental, None, NOW)], Some("a")),
        (Rental, vec![right("a", Purchase, None, NOW)], Some("a")),
        (Rental, vec![right("a", Rental, None, NOW), right("b", Purchase, None, NOW)], Some("b")),
        (Purchase, vec![right("a", Rental, None, NOW)], None),
        (Purchase, vec![right("a", Purchase, None, NOW)], Some("a")),
        (Rental, vec![right("a", Rental, Some(Withdrawal::Refunded), NOW)], None),
        (Purchase, vec![right("a", Purchase, Some(Withdrawal::Revoked), NOW)], None),
        (Rental, vec![right("a", Rental, None, NOW - 31 * 86_400)], None),
    ];
    for (kind, rights, expected) in cases {
        let title = "one".parse().expect("a title");
        let found = covered(NOW, &title, *kind, rights, &RentalRules::default());
        assert_eq!(found.map(|right| right.id.as_str()), *expected, "{kind:?} {rights:?}");
    }
    let other = "two".parse().expect("a title");
    let rights = [right("a", Purchase, None, NOW)];
    assert_eq!(covered(NOW, &other, Rental, &rights, &RentalRules::default()), None);
}
