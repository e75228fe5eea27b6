//! Money and rights: stories of one order on every store, then many buyers at once among faults and deaths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::purchase::{Event, Order, Status, replay};
use control::rights::RentalRules;
use control_api::ViewerId;
use control_api::rest::{Entitlement, EntitlementKind, Price, Withdrawal};
use control_plane::adapters::redb::RedbRecords;
use control_plane::purchases::{PurchaseError, Purchases, Wish};
use control_plane::records::{Key, Record, Records, Stretch, Write};
use control_plane::seams::{BoxFuture, Charge, PaymentError, Payments, Refund, StateError};
use control_plane::state::{OpenOrder, State, keys};
use control_plane::telemetry::Metrics;
use prometheus::Registry;
use tokio::sync::Notify;

use crate::dynamo;
use crate::support::StandingClock;

const NOW: u64 = 1_800_000_000;

/// A payment service with a ledger. It keeps its promise, the same order is charged once; it does not always say
/// so: of its answers some are lost after the charge, some before, some come late.
#[derive(Default)]
pub(crate) struct Till {
    ledger: Mutex<BTreeMap<String, Order>>,
    refunds: Mutex<BTreeSet<String>>,
    asked: AtomicU64,
    moody: bool,
    declines: Mutex<bool>,
    away: Mutex<bool>,
}

impl Till {
    async fn mood(&self) -> u64 {
        if !self.moody {
            return 9;
        }
        let mood = self.asked.fetch_add(1, Ordering::SeqCst).wrapping_mul(2_654_435_761) >> 7 & 7;
        if mood == 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        mood
    }

    /// From now on it is away, or refuses.
    pub(crate) fn set(&self, away: bool, declines: bool) {
        *self.away.lock().expect("no panic") = away;
        *self.declines.lock().expect("no panic") = declines;
    }

    fn charges(&self) -> Vec<Order> {
        self.ledger.lock().expect("no panic").values().cloned().collect()
    }
}

impl Payments for Till {
    fn charge<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Charge, PaymentError>> {
        Box::pin(async move {
            let mood = self.mood().await;
            if mood == 0 || *self.away.lock().expect("no panic") {
                return Err(PaymentError("no connection".to_owned()));
            }
            if *self.declines.lock().expect("no panic") {
                return Ok(Charge::Declined { reason: "no money".to_owned() });
            }
            let reference = order.transaction.clone().unwrap_or_else(|| format!("charge-{}", order.id));
            self.ledger.lock().expect("no panic").entry(reference.clone()).or_insert_with(|| order.clone());
            if mood == 1 {
                return Err(PaymentError("the answer was lost".to_owned()));
            }
            Ok(Charge::Made { reference })
        })
    }

    fn refund<'a>(&'a self, _: &'a Order, reference: &'a str) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        Box::pin(async move {
            if *self.away.lock().expect("no panic") {
                return Err(PaymentError("no connection".to_owned()));
            }
            if *self.declines.lock().expect("no panic") {
                return Ok(Refund::Failed { reason: "too late".to_owned() });
            }
            self.refunds.lock().expect("no panic").insert(reference.to_owned());
            Ok(Refund::Made { refund: format!("refund-{reference}") })
        })
    }
}

pub(crate) fn shop(records: Arc<dyn Records>, till: &Arc<Till>, clock: &Arc<StandingClock>) -> Purchases {
    Purchases {
        state: State::new(records),
        payments: till.clone(),
        clock: clock.clone(),
        entropy: dynamo::entropy(),
        rentals: RentalRules::default(),
        metrics: Arc::new(Metrics::new(&Registry::new()).expect("metrics")),
    }
}

pub(crate) fn wish(key: &str, viewer: &str, kind: EntitlementKind) -> Wish {
    Wish {
        key: key.to_owned(),
        actor: "test".to_owned(),
        viewer: viewer.parse().expect("a viewer"),
        title: "bbb".parse().expect("a title"),
        kind,
        price: Some(Price { minor: 399, currency: "usd".parse().expect("a currency") }),
        transaction: None,
    }
}

fn paid(key: &str, viewer: &str, transaction: &str) -> Wish {
    Wish { transaction: Some(transaction.to_owned()), ..wish(key, viewer, EntitlementKind::Rental) }
}

/// The trail of a viewer explains how each order stands, and names no other.
async fn explained(state: &State, viewer: &ViewerId) -> BTreeMap<String, Status> {
    let mut events: BTreeMap<String, BTreeMap<String, Event>> = BTreeMap::new();
    for line in state.audit(viewer, None, 500).await.expect("a trail") {
        let number = line.place.rsplit('/').next().unwrap_or_default().to_owned();
        let other = events.entry(line.value.order.to_string()).or_default().insert(number, line.value.event);
        assert_eq!(other, None, "one line for each event");
    }
    let mut orders = BTreeMap::new();
    for held in state
        .read_stretch::<Order>(Stretch::new(&keys::viewer(viewer), keys::ORDERS, 500))
        .await
        .expect("orders")
    {
        let order = held.value;
        let told = events.remove(order.id.as_str()).unwrap_or_default();
        assert_eq!(told.len() as u32, order.events);
        assert_eq!(replay(told.values()), Ok(Some(order.status.clone())), "{told:?}");
        let right = state.right(viewer, &order.title, &order.id).await.expect("read");
        let stands = right.is_some_and(|right| right.value.withdrawn.is_none());
        assert_eq!(stands, matches!(order.status, Status::Granted { .. }), "{order:?}");
        orders.insert(order.id.to_string(), order.status);
    }
    assert!(events.is_empty(), "lines without an order: {events:?}");
    orders
}

async fn open_orders(state: &State) -> usize {
    let mut open = 0;
    for shard in 0..keys::OPEN_SHARDS {
        let partition = keys::open_shard(shard);
        open +=
            state.read_stretch::<OpenOrder>(Stretch::new(&partition, "", 500)).await.expect("a list").len();
    }
    open
}

async fn stories(records: Arc<dyn Records>) {
    let (till, clock) = (Arc::new(Till::default()), StandingClock::at(NOW));
    let shop = shop(records, &till, &clock);
    let (rental, purchase) = (EntitlementKind::Rental, EntitlementKind::Purchase);
    let id = |bought: &control_plane::purchases::Bought| bought.right.id.clone();

    // The same key is the same purchase; what stands is not bought again; for good is more than for a while.
    let first = shop.buy(&wish("a1", "ann", rental)).await.expect("bought");
    assert_eq!((first.new, first.right.start_by), (true, Some(NOW + 30 * 86_400)));
    let again = shop.buy(&wish("a1", "ann", rental)).await.expect("bought");
    assert_eq!((again.new, id(&again)), (false, id(&first)));
    let other_key = shop.buy(&wish("a2", "ann", rental)).await.expect("bought");
    assert_eq!((other_key.new, id(&other_key)), (false, id(&first)));
    let for_good = shop.buy(&wish("a3", "ann", purchase)).await.expect("bought");
    assert!(for_good.new);
    let covered = shop.buy(&wish("a4", "ann", rental)).await.expect("bought");
    assert_eq!((covered.new, id(&covered)), (false, id(&for_good)));
    assert_eq!(shop.buy(&wish("a4", "ann", rental)).await.map(|b| id(&b)), Ok(id(&for_good)), "repeated");
    for other in [wish("a1", "bob", rental), wish("a1", "ann", purchase)] {
        assert_eq!(shop.buy(&other).await, Err(PurchaseError::KeyReused));
    }
    assert_eq!(till.charges().len(), 2);

    // Declined is declined under its key; another key may try again.
    *till.declines.lock().expect("no panic") = true;
    let declined = Err(PurchaseError::Declined("no money".to_owned()));
    assert_eq!(shop.buy(&wish("b1", "bob", rental)).await, declined);
    *till.declines.lock().expect("no panic") = false;
    assert_eq!(shop.buy(&wish("b1", "bob", rental)).await, declined);
    assert!(shop.buy(&wish("b2", "bob", rental)).await.expect("bought").new);

    // A service that is away leaves an order open: it can be gone on with, not doubled.
    *till.away.lock().expect("no panic") = true;
    let unsettled = |outcome: &Result<control_plane::purchases::Bought, PurchaseError>| {
        matches!(outcome, Err(PurchaseError::Unsettled(_)))
    };
    assert!(unsettled(&shop.buy(&wish("c1", "cat", rental)).await));
    assert!(unsettled(&shop.buy(&wish("c1", "cat", rental)).await));
    assert!(unsettled(&shop.buy(&wish("c2", "cat", rental)).await), "another key joins");
    let in_progress = shop.buy(&wish("c3", "cat", purchase)).await;
    assert!(matches!(in_progress, Err(PurchaseError::InProgress(_))), "{in_progress:?}");
    assert_eq!(shop.recover(0).await, Ok((0, 1)));
    *till.away.lock().expect("no panic") = false;
    assert_eq!(shop.recover(60).await, Ok((0, 0)), "too young for anybody but its buyer");
    assert_eq!(shop.recover(0).await, Ok((1, 0)));
    let late = shop.buy(&wish("c2", "cat", rental)).await.expect("bought");
    assert_eq!(
        (late.new, id(&shop.buy(&wish("c1", "cat", rental)).await.expect("bought"))),
        (false, id(&late))
    );

    refunds(&shop, &till).await;
    transactions(&shop, &till).await;
    let orders = [("ann", 2), ("bob", 2), ("cat", 1), ("dan", 2), ("eve", 1), ("fay", 2), ("gil", 1)];
    for (viewer, count) in orders {
        let viewer = viewer.parse().expect("a viewer");
        assert_eq!(explained(&shop.state, &viewer).await.len(), count, "{viewer}");
    }
    assert_eq!(open_orders(&shop.state).await, 0);
}

/// The right ends before the money moves, and comes back only if the money stays.
async fn refunds(shop: &Purchases, till: &Till) {
    let dan: ViewerId = "dan".parse().expect("a viewer");
    let bought = shop.buy(&wish("d1", "dan", EntitlementKind::Rental)).await.expect("bought").right;
    let withdrawn = async || {
        let right = shop.state.right(&dan, &bought.title, &bought.id).await.expect("read").expect("there");
        right.value.withdrawn
    };
    *till.away.lock().expect("no panic") = true;
    let outcome = shop.refund(&dan, &bought.id, "not liked", "test").await;
    assert!(matches!(outcome, Err(PurchaseError::Unsettled(_))), "{outcome:?}");
    assert_eq!(withdrawn().await, Some(Withdrawal::Refunded), "in play, the right is gone");
    *till.away.lock().expect("no panic") = false;
    *till.declines.lock().expect("no panic") = true;
    let refused = shop.refund(&dan, &bought.id, "not liked", "test").await.expect("an answer");
    assert_eq!((refused.value.status.as_str(), withdrawn().await), ("granted", None));
    *till.declines.lock().expect("no panic") = false;
    for _ in 0..2 {
        let done = shop.refund(&dan, &bought.id, "not liked", "test").await.expect("paid back");
        assert_eq!(done.value.status.as_str(), "refunded");
    }
    assert_eq!(till.refunds.lock().expect("no panic").len(), 1);
    let repeated = shop.buy(&wish("d1", "dan", EntitlementKind::Rental)).await;
    assert_eq!(repeated, Err(PurchaseError::Withdrawn("refunded")), "the same key does not buy again");
    assert!(shop.buy(&wish("d2", "dan", EntitlementKind::Rental)).await.expect("bought").new);

    let eve: ViewerId = "eve".parse().expect("a viewer");
    let bought = shop.buy(&wish("e1", "eve", EntitlementKind::Purchase)).await.expect("bought").right;
    let reason = || "why".to_owned();
    for (event, status, why) in [
        (Event::ChargedBack, "charged-back", Some(Withdrawal::ChargedBack)),
        (Event::ChargebackReversed, "granted", None),
        (Event::Revoked { reason: reason() }, "revoked", Some(Withdrawal::Revoked)),
        (Event::Reinstated { reason: reason() }, "granted", None),
    ] {
        let told = shop.tell(&eve, &bought.id, &event, "test").await.expect("told");
        assert_eq!(told.value.status.as_str(), status);
        let right = shop.state.right(&eve, &bought.title, &bought.id).await.expect("read").expect("there");
        assert_eq!(right.value.withdrawn, why);
        if event != (Event::Reinstated { reason: reason() }) {
            let twice = shop.tell(&eve, &bought.id, &event, "test").await;
            assert!(matches!(twice, Err(PurchaseError::OutOfStep(_))), "{twice:?}");
        }
    }
    let nothing = shop.refund(&eve, &"none".parse().expect("an id"), "why", "test").await;
    assert_eq!(nothing, Err(PurchaseError::Missing));
}

/// What a device has paid becomes one right, whoever sends it how often; what it pays again is another one.
async fn transactions(shop: &Purchases, till: &Till) {
    let before = till.charges().len();
    let first = shop.buy(&paid("f1", "fay", "t1")).await.expect("bought");
    for key in ["f1", "f2", "f3"] {
        assert_eq!(shop.buy(&paid(key, "fay", "t1")).await.map(|b| b.right.id), Ok(first.right.id.clone()));
    }
    let spent = PurchaseError::Declined("the transaction has paid for another order".to_owned());
    assert_eq!(shop.buy(&paid("g1", "gil", "t1")).await, Err(spent.clone()), "somebody else's");
    let good = Wish { kind: EntitlementKind::Purchase, ..paid("f4", "fay", "t1") };
    assert_eq!(shop.buy(&good).await, Err(spent), "another product");
    assert_eq!(shop.buy(&paid("f1", "fay", "t2")).await, Err(PurchaseError::KeyReused));
    let second = shop.buy(&paid("f5", "fay", "t2")).await.expect("money was taken: it becomes a right");
    assert!(second.new && second.right.id != first.right.id);
    assert!(shop.buy(&paid("g2", "gil", "t3")).await.expect("bought").new);
    assert_eq!(till.charges().len() - before, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stories_on_redb() {
    let directory = tempfile::tempdir().expect("a directory");
    stories(Arc::new(RedbRecords::open(&directory.path().join("state.redb")).expect("opened"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stories_on_ministack() {
    let Some(server) = dynamo::ministack().await else { return };
    stories(server.table("stories").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stories_on_dynamodb_local() {
    let Some(server) = dynamo::dynamodb_local().await else { return };
    stories(server.table("stories").await).await;
}

/// Records of a process that dies at one touch of them: before it took effect or after.
struct Mortal {
    inner: Arc<dyn Records>,
    touches_left: AtomicI64,
    died: Notify,
}

impl Mortal {
    async fn touch(&self) {
        if self.touches_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    async fn mortally<T>(&self, work: BoxFuture<'_, T>) -> T {
        self.touch().await;
        let done = work.await;
        self.touch().await;
        done
    }
}

impl Records for Mortal {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, StateError>> {
        Box::pin(self.mortally(self.inner.get(key)))
    }

    fn list<'a>(&'a self, stretch: Stretch<'a>) -> BoxFuture<'a, Result<Vec<Record>, StateError>> {
        Box::pin(self.mortally(self.inner.list(stretch)))
    }

    fn commit<'a>(&'a self, writes: &'a [Write]) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(self.mortally(self.inner.commit(writes)))
    }
}

/// The world of the great rush.
#[derive(Clone)]
struct Rush {
    records: Arc<dyn Records>,
    till: Arc<Till>,
    clock: Arc<StandingClock>,
    deaths: Arc<AtomicU64>,
}

impl Rush {
    /// One client, who repeats the request until there is an answer that says something. The processes that serve
    /// it die at other touches each time.
    async fn client(&self, wish: Wish, seed: u64) -> Entitlement {
        for attempt in 0..200 {
            // Half of the processes live.
            let fate = (seed << 8 | attempt).wrapping_mul(6_364_136_223_846_793_005) >> 33;
            let touches_left =
                if fate & 1 == 0 { i64::MAX } else { i64::try_from(fate % 40).expect("small") };
            let mortal = Arc::new(Mortal {
                inner: Arc::clone(&self.records),
                touches_left: AtomicI64::new(touches_left),
                died: Notify::new(),
            });
            let shop = shop(mortal.clone(), &self.till, &self.clock);
            tokio::select! {
                outcome = shop.buy(&wish) => match outcome {
                    Ok(bought) => return bought.right,
                    Err(PurchaseError::Unsettled(_) | PurchaseError::State(StateError::Unavailable(_))) => {}
                    Err(error) => unreachable!("{error}"),
                },
                () = mortal.died.notified() => drop(self.deaths.fetch_add(1, Ordering::SeqCst)),
            }
        }
        unreachable!("two hundred attempts and no answer")
    }
}

/// So many accounts buy the same film with so many requests each, every key twice, all at once. Answers of the
/// payment service are lost and processes die. One charge and one right each; the trail explains every one.
async fn rush(records: Arc<dyn Records>, accounts: usize, requests: usize) {
    let till = Arc::new(Till { moody: true, ..Till::default() });
    let clock = StandingClock::at(NOW);
    let rush = Rush { records, till, clock, deaths: Arc::default() };
    let clients = (0..accounts * requests).map(|n| {
        let (rush, account) = (rush.clone(), n % accounts);
        let key = format!("key-{account}-{}", n / accounts / 2);
        let wish = wish(&key, &format!("account-{account}"), EntitlementKind::Rental);
        tokio::spawn(async move { (account, rush.client(wish, n as u64 + 1).await) })
    });
    let mut got: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for client in clients.collect::<Vec<_>>() {
        let (account, right) = client.await.expect("no panic");
        got.entry(account).or_default().insert(right.id.to_string());
    }
    assert!(rush.deaths.load(Ordering::SeqCst) > (accounts * requests / 10) as u64, "processes died");

    let shop = shop(Arc::clone(&rush.records), &rush.till, &rush.clock);
    let mut rounds = 0;
    while open_orders(&shop.state).await > 0 {
        shop.recover(0).await.expect("recovered");
        rounds += 1;
        assert!(rounds < 100, "orders that stay open");
    }
    let charges = rush.till.charges();
    assert_eq!(charges.len(), accounts, "one charge each");
    for (account, rights) in got {
        let viewer: ViewerId = format!("account-{account}").parse().expect("a viewer");
        let held = shop.state.rights_of(&viewer).await.expect("a list");
        assert_eq!(held.len(), 1, "one right each");
        assert_eq!(rights, BTreeSet::from([held[0].id.to_string()]), "everybody was told of this one");
        let charged: Vec<_> = charges.iter().filter(|order| order.viewer == viewer).collect();
        assert_eq!(
            (charged.len(), &charged[0].id),
            (1, &held[0].id),
            "the charge and the right are of one order"
        );
        let orders = explained(&shop.state, &viewer).await;
        assert_eq!(orders.len(), 1, "no order but this one: {orders:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rush_on_redb() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    rush(Arc::new(RedbRecords::open(&path).expect("opened")), 50, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_rush_on_ministack() {
    let Some(server) = dynamo::ministack().await else { return };
    rush(server.table("rush").await, 6, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_rush_on_dynamodb_local() {
    let Some(server) = dynamo::dynamodb_local().await else { return };
    rush(server.table("rush").await, 6, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `cargo test -p control-plane --test suite -- --ignored rush`"]
async fn a_great_rush_on_ministack() {
    let Some(server) = dynamo::ministack().await else { return };
    rush(server.table("rush").await, 50, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `cargo test -p control-plane --test suite -- --ignored rush`"]
async fn a_great_rush_on_dynamodb_local() {
    let Some(server) = dynamo::dynamodb_local().await else { return };
    rush(server.table("rush").await, 50, 20).await;
}
