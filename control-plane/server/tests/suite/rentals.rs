//! What a rental is, as a table that every store passes: what happened to it when, and what a viewer who asks then is
//! told. Beside it the screens that may play, and beacons.

use std::sync::Arc;

use control::lease::{Lease, LeaseRules, Taken};
use control::purchase::Event;
use control::rights::{Decision, DenyReason, RentalRules};
use control_api::rest::EntitlementKind;
use control_api::{EntitlementId, SessionId, ViewerId};
use control_plane::adapters::redb::RedbRecords;
use control_plane::purchases::{PurchaseError, Purchases};
use control_plane::records::Records;
use control_plane::sessions::{Heard, allowed, bookmarks, hear, resume_at, take};
use control_plane::state::State;

use crate::dynamo;
use crate::purchases::{Till, shop, wish};
use crate::support::StandingClock;

const T: u64 = 1_800_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[derive(Debug, Clone, Copy)]
enum Do {
    Rent,
    Buy,
    /// Opens a session, which must be allowed.
    Play,
    /// Asks for a refund; the payment service is away.
    RefundInPlay,
    /// Asks for a refund, which is made.
    Refund,
    /// Asks for a refund, which fails.
    RefundFails,
    ChargedBack,
    Reversed,
    Revoked,
    Reinstated,
}

use Do::{Buy, ChargedBack, Play, Refund, RefundFails, RefundInPlay, Reinstated, Rent, Reversed, Revoked};

/// Until when a session may go on, in seconds after `T`, `None` for good; or why there is none.
type Told = Result<Option<u64>, DenyReason>;
const FOR_GOOD: Told = Ok(None);
const TOO_LATE: Told = Err(DenyReason::StartWindowOver);
const OVER: Told = Err(DenyReason::FinishWindowOver);
const NOTHING: Told = Err(DenyReason::NoEntitlement);
const REFUNDED: Told = Err(DenyReason::Refunded);
const BACK: Told = Err(DenyReason::ChargedBack);
const REVOKED: Told = Err(DenyReason::Revoked);

const fn until(after: u64) -> Told {
    Ok(Some(after))
}

type Row = (&'static str, &'static [(u64, Do)], u64, Told);

/// What it is about; what happened when, in seconds after `T`; when somebody asks; what they are told. The grace of
/// six hours is part of the end.
const TABLE: &[Row] = &[
    ("never rented", &[], 0, NOTHING),
    // The window to start.
    ("at once", &[(0, Rent)], 0, until(54 * HOUR)),
    ("asked by a slower clock", &[(10, Rent)], 5, until(54 * HOUR + 5)),
    ("the next day", &[(0, Rent)], DAY, until(DAY + 54 * HOUR)),
    ("the last second to start", &[(0, Rent)], 30 * DAY - 1, until(30 * DAY - 1 + 54 * HOUR)),
    ("the first second too late", &[(0, Rent)], 30 * DAY, TOO_LATE),
    ("years too late", &[(0, Rent)], 3000 * DAY, TOO_LATE),
    // The window to finish.
    ("again at once", &[(0, Rent), (HOUR, Play)], HOUR, until(55 * HOUR)),
    ("a day into it", &[(0, Rent), (HOUR, Play)], DAY, until(55 * HOUR)),
    ("the last second to watch", &[(0, Rent), (HOUR, Play)], 49 * HOUR - 1, until(55 * HOUR)),
    ("the first second over", &[(0, Rent), (HOUR, Play)], 49 * HOUR, OVER),
    ("in the grace no session begins", &[(0, Rent), (HOUR, Play)], 50 * HOUR, OVER),
    ("the last second of the grace", &[(0, Rent), (HOUR, Play)], 55 * HOUR - 1, OVER),
    ("after the grace", &[(0, Rent), (HOUR, Play)], 55 * HOUR, OVER),
    ("a second play moves nothing", &[(0, Rent), (HOUR, Play), (40 * HOUR, Play)], 49 * HOUR, OVER),
    (
        "started in the last second",
        &[(0, Rent), (30 * DAY - 1, Play)],
        31 * DAY,
        until(30 * DAY - 1 + 54 * HOUR),
    ),
    ("started late, over", &[(0, Rent), (30 * DAY - 1, Play)], 32 * DAY - 1, OVER),
    ("first played by a faster clock", &[(0, Rent), (2 * HOUR, Play)], HOUR, until(56 * HOUR)),
    ("played at the purchase", &[(0, Rent), (0, Play)], 48 * HOUR - 1, until(54 * HOUR)),
    ("played at the purchase, over", &[(0, Rent), (0, Play)], 48 * HOUR, OVER),
    // Renting again.
    ("rented twice is rented once", &[(0, Rent), (DAY, Rent)], 30 * DAY, TOO_LATE),
    ("rented again while begun", &[(0, Rent), (HOUR, Play), (2 * HOUR, Rent)], 49 * HOUR, OVER),
    (
        "rented again when it was over",
        &[(0, Rent), (0, Play), (3 * DAY, Rent)],
        4 * DAY,
        until(6 * DAY + 6 * HOUR),
    ),
    ("rented again when it had lapsed", &[(0, Rent), (31 * DAY, Rent)], 60 * DAY, until(62 * DAY + 6 * HOUR)),
    ("lapsed again", &[(0, Rent), (31 * DAY, Rent)], 61 * DAY, TOO_LATE),
    // For good.
    ("bought", &[(0, Buy)], 0, FOR_GOOD),
    ("bought years ago", &[(0, Buy), (HOUR, Play)], 3000 * DAY, FOR_GOOD),
    ("bought and rented is bought", &[(0, Buy), (1, Rent)], 40 * DAY, FOR_GOOD),
    ("rented, then bought", &[(0, Rent), (0, Play), (DAY, Buy)], 30 * DAY, FOR_GOOD),
    // Money that goes back.
    ("refund asked for", &[(0, Rent), (1, RefundInPlay)], 2, REFUNDED),
    ("refund asked for while watching", &[(0, Rent), (1, Play), (HOUR, RefundInPlay)], HOUR, REFUNDED),
    ("refunded", &[(0, Rent), (1, Refund)], 2, REFUNDED),
    ("refunded, asked by a slower clock", &[(0, Rent), (10, Refund)], 5, REFUNDED),
    ("refunded, long ago", &[(0, Rent), (1, Refund)], 90 * DAY, REFUNDED),
    ("a purchase refunded", &[(0, Buy), (DAY, Refund)], 2 * DAY, REFUNDED),
    ("a refund that failed", &[(0, Rent), (1, RefundFails)], 2, until(54 * HOUR + 2)),
    ("it failed and time went on", &[(0, Rent), (0, Play), (1, RefundFails)], 48 * HOUR, OVER),
    ("it failed and was asked for again", &[(0, Rent), (1, RefundFails), (2, Refund)], 3, REFUNDED),
    ("refunded and rented again", &[(0, Rent), (1, Refund), (2, Rent)], 3, until(54 * HOUR + 3)),
    ("the refunded of two", &[(0, Rent), (1, Buy), (2, Refund)], 3, until(54 * HOUR + 3)),
    ("charged back", &[(0, Rent), (DAY, ChargedBack)], DAY, BACK),
    ("charged back while watching", &[(0, Rent), (1, Play), (2, ChargedBack)], 3, BACK),
    ("charged back while the refund is in play", &[(0, Rent), (1, RefundInPlay), (2, ChargedBack)], 3, BACK),
    ("the bank changed its mind", &[(0, Rent), (1, ChargedBack), (2, Reversed)], 3, until(54 * HOUR + 3)),
    ("it did so too late", &[(0, Rent), (1, ChargedBack), (31 * DAY, Reversed)], 31 * DAY, TOO_LATE),
    // What the operator does.
    ("revoked", &[(0, Buy), (1, Revoked)], 2, REVOKED),
    ("reinstated", &[(0, Buy), (1, Revoked), (2, Reinstated)], 3, FOR_GOOD),
    ("revoked and refunded", &[(0, Buy), (1, Revoked), (2, Refund)], 3, REFUNDED),
];

struct Story<'a> {
    shop: &'a Purchases,
    till: &'a Till,
    clock: &'a StandingClock,
    viewer: ViewerId,
    newest: Option<EntitlementId>,
}

impl Story<'_> {
    async fn happens(&mut self, number: usize, after: u64, what: Do) {
        self.clock.set(T + after);
        let kind = if matches!(what, Buy) { EntitlementKind::Purchase } else { EntitlementKind::Rental };
        let told = match what {
            Rent | Buy => {
                let wish = wish(&format!("{}-{number}", self.viewer), self.viewer.as_str(), kind);
                self.newest = Some(self.shop.buy(&wish).await.expect("bought").right.id);
                return;
            }
            Play => {
                let decision = ask(self, after).await;
                assert!(decision.is_ok(), "{}: no play at {after}: {decision:?}", self.viewer);
                return;
            }
            RefundInPlay | Refund | RefundFails => return self.refund(what).await,
            ChargedBack => Event::ChargedBack,
            Reversed => Event::ChargebackReversed,
            Revoked => Event::Revoked { reason: "why".to_owned() },
            Reinstated => Event::Reinstated { reason: "why".to_owned() },
        };
        let id = self.newest.as_ref().expect("an order");
        self.shop.tell(&self.viewer, id, &told, "test").await.expect("told");
    }

    async fn refund(&self, what: Do) {
        self.till.set(matches!(what, RefundInPlay), matches!(what, RefundFails));
        let id = self.newest.as_ref().expect("an order");
        let outcome = self.shop.refund(&self.viewer, id, "not liked", "test").await;
        self.till.set(false, false);
        let unsettled = matches!(outcome, Err(PurchaseError::Unsettled(_)));
        assert_eq!((unsettled, outcome.is_ok()), (matches!(what, RefundInPlay), !unsettled), "{outcome:?}");
    }
}

async fn ask(story: &Story<'_>, after: u64) -> Told {
    let title = "bbb".parse().expect("a title");
    let state = &story.shop.state;
    match allowed(state, &RentalRules::default(), &story.viewer, &title, T + after).await.expect("read") {
        Decision::Allow(allowed) => Ok(allowed.expires_at.map(|at| at - T)),
        Decision::Deny(reason) => Err(reason),
    }
}

async fn rentals(records: Arc<dyn Records>) {
    assert!(TABLE.len() >= 40);
    let (till, clock) = (Arc::new(Till::default()), StandingClock::at(T));
    let shop = shop(records, &till, &clock);
    for (row, (what, happened, after, told)) in TABLE.iter().enumerate() {
        let viewer = format!("row-{row}").parse().expect("a viewer");
        let mut story = Story { shop: &shop, till: &till, clock: &clock, viewer, newest: None };
        for (number, (after, what)) in happened.iter().enumerate() {
            story.happens(number, *after, *what).await;
        }
        assert_eq!(ask(&story, *after).await, *told, "{what}");
    }
}

fn lease(session: &str, device: &str) -> Lease {
    Lease {
        session: session.parse().expect("a session"),
        device: device.to_owned(),
        title: "bbb".parse().expect("a title"),
        since: 0,
        until: 0,
    }
}

/// Two devices, a third, its takeover, and what the one that lost its place hears.
async fn screens(records: Arc<dyn Records>) {
    let (state, rules) = (State::new(records), LeaseRules::default());
    let viewer: ViewerId = "ann".parse().expect("a viewer");
    let session = |name: &str| name.parse::<SessionId>().expect("a session");
    let open = async |name: &str, device: &str, take_over, after: u64| {
        take(&state, &rules, &viewer, lease(name, device), take_over, T + after).await.expect("an answer")
    };
    let beacon = async |name: &str, position_ms, ended, after: u64| {
        let heard = Heard { position_ms, ended, at: T + after };
        let until = hear(&state, &rules, &viewer, &session(name), heard).await.expect("an answer");
        until.map(|until| until - T)
    };
    let ended = |taken: Taken| match taken {
        Taken::Granted(_, ended) => Some(ended),
        Taken::Full(_) => None,
    };
    assert_eq!(ended(open("a", "tv", false, 0).await), Some(vec![]));
    assert_eq!(ended(open("b", "pad", false, 1).await), Some(vec![]));
    assert_eq!(ended(open("c", "pc", false, 2).await), None, "two screens play");
    assert_eq!(ended(open("d", "tv", false, 3).await), Some(vec![session("a")]), "the same screen again");
    assert_eq!(beacon("a", 1000, false, 4).await, None);
    assert_eq!(beacon("b", 61_000, false, 30).await, Some(120));
    assert_eq!(ended(open("c", "pc", true, 31).await), Some(vec![session("b")]), "the one that began first");
    assert_eq!(beacon("b", 62_000, false, 32).await, None, "it is told");
    let bbb = "bbb".parse().expect("a title");
    assert_eq!(resume_at(&state, &viewer, &bbb).await, Ok(61_000), "and where it was is kept");
    assert_eq!(beacon("c", 5000, true, 33).await, Some(33));
    assert_eq!(ended(open("e", "pad", false, 34).await), Some(vec![]), "an ended one left its place");
    assert_eq!(ended(open("f", "phone", false, 3 + 95).await), Some(vec![]), "d has not been heard for long");
    let list = bookmarks(&state, &viewer, None, 10).await.expect("a list");
    assert_eq!(list.iter().map(|mark| (mark.position_ms, mark.at - T)).collect::<Vec<_>>(), [(5000, 33)]);
    assert_eq!(bookmarks(&state, &viewer, Some(&bbb), 10).await, Ok(Vec::new()));

    // Ten screens at once on two places.
    let bob: ViewerId = "bob".parse().expect("a viewer");
    let clients = (0..10).map(|n| {
        let (state, bob) = (state.clone(), bob.clone());
        tokio::spawn(async move {
            let wish = lease(&format!("s{n}"), &format!("d{n}"));
            take(&state, &LeaseRules::default(), &bob, wish, false, T).await.expect("an answer")
        })
    });
    let mut granted = 0;
    for client in clients.collect::<Vec<_>>() {
        granted += usize::from(matches!(client.await.expect("no panic"), Taken::Granted(..)));
    }
    assert_eq!(granted, 2);
}

async fn all(records: Arc<dyn Records>) {
    rentals(Arc::clone(&records)).await;
    screens(records).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redb() {
    let directory = tempfile::tempdir().expect("a directory");
    all(Arc::new(RedbRecords::open(&directory.path().join("state.redb")).expect("opened"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_ministack() {
    let Some(server) = dynamo::ministack().await else { return };
    all(server.table("rentals").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_dynamodb_local() {
    let Some(server) = dynamo::dynamodb_local().await else { return };
    all(server.table("rentals").await).await;
}
