//! Purchases: carries out what [`control::purchase`] allows, exactly once under races, retries and crashes.
//!
//! Three promises hold it together:
//!
//! 1. an order is in the records before the payment service hears of it, and is asked for under its own name, so
//!    that asking again is no second charge;
//! 2. every step is one commit: the order, the right, the viewer's item, the line of the audit trail and the
//!    index of open orders change together or not at all;
//! 3. an order that waits for the payment service is in that index. Whoever finds it there goes on with it: the
//!    repeated request, or [`Purchases::recover`] after a crash.
//!
//! Requests that would buy the same again join the open order or get the right that stands; nobody pays twice.

use std::sync::Arc;

use control::purchase::{Event, Order, RightChange, Status, covered, step};
use control::rights::RentalRules;
use control_api::rest::{Entitlement, EntitlementKind, Price};
use control_api::{EntitlementId, ViewerId};
use media::TitleId;

use crate::records::{Stretch, Write};
use crate::seams::{Charge, Entropy, Payments, Refund, StateError, WallClock, random_id};
use crate::state::{AuditEntry, Held, Item, KeyUse, OpenOrder, State, keys, write};
use crate::telemetry::Metrics;

/// How often a change is decided anew because somebody else was faster.
const ATTEMPTS: u32 = 40;
/// What a viewer is told whose transaction is spent.
const SPENT: &str = "the transaction has paid for another order";
/// How many open orders of a shard one recovery looks at.
const RECOVERY_PAGE: usize = 200;

/// Everything purchases need.
pub struct Purchases {
    /// What is remembered.
    pub state: State,
    /// Who takes the money.
    pub payments: Arc<dyn Payments>,
    /// The time.
    pub clock: Arc<dyn WallClock>,
    /// Names orders.
    pub entropy: Arc<dyn Entropy>,
    /// What a rental is.
    pub rentals: RentalRules,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What somebody wants to buy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Names the request: the same key is the same purchase.
    pub key: String,
    /// Who asks: for the audit trail.
    pub actor: String,
    /// Who buys.
    pub viewer: ViewerId,
    /// What.
    pub title: TitleId,
    /// For how long.
    pub kind: EntitlementKind,
    /// What it costs.
    pub price: Option<Price>,
    /// By which transaction the viewer's device has paid.
    pub transaction: Option<String>,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bought {
    /// The right that stands.
    pub right: Entitlement,
    /// Whether this request made it.
    pub new: bool,
}

/// Why nothing was bought or paid back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurchaseError {
    /// The key was used for another viewer, title or kind.
    #[error("the idempotency key was used for another purchase")]
    KeyReused,
    /// An order of the other kind for the title is being paid.
    #[error("order {0} for this title is being paid")]
    InProgress(EntitlementId),
    /// The payment service will not charge.
    #[error("{0}")]
    Declined(String),
    /// The right was withdrawn since: the same key does not buy again.
    #[error("the purchase was made and has been withdrawn since ({0})")]
    Withdrawn(&'static str),
    /// Not known yet whether it is charged: the same request goes on with it.
    #[error("the payment service did not answer: {0}")]
    Unsettled(String),
    /// The order does not stand so that this can be done.
    #[error("{0}")]
    OutOfStep(String),
    /// No such order.
    #[error("no such entitlement")]
    Missing,
    /// The records.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Purchases {
    /// Buys, or finds what was bought.
    ///
    /// # Errors
    /// [`PurchaseError`]; after [`PurchaseError::Unsettled`] the same wish goes on where this one stopped.
    pub async fn buy(&self, wish: &Wish) -> Result<Bought, PurchaseError> {
        for attempt in 0..ATTEMPTS {
            match self.place(wish).await {
                Ok((order, new)) => {
                    let order = self.advance(&order, &wish.actor).await?;
                    return self.bought(&order.value, new).await;
                }
                Err(PurchaseError::State(StateError::Conflict(_))) => self.pause(attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(StateError::Unavailable("too many buy the same at once".to_owned()).into())
    }

    /// The order of a wish, and whether it is a new one.
    async fn place(&self, wish: &Wish) -> Result<(Held<Order>, bool), PurchaseError> {
        if let Some(used) = self.state.read::<KeyUse>(&keys::purchase_key(&wish.key)).await? {
            return Ok((self.placed_before(wish, &used.value).await?, false));
        }
        // The item before the rights: if a right is made in between, the item is another one and the commit fails.
        let item = self.state.read::<Item>(&keys::item(&wish.viewer, &wish.title)).await?;
        let (item, version) = item.map_or((Item::default(), 0), |held| (held.value, held.version));
        if let Some(open) = item.open {
            return Ok((self.join(wish, &open, version).await?, false));
        }
        let now = self.clock.now_unix();
        if let Some(order) = self.paid_or_covered(wish, now).await? {
            self.use_key(wish, &order.value.id, version).await?;
            return Ok((order, false));
        }
        Ok((self.place_new(wish, now, version).await?, true))
    }

    /// The order that makes another one pointless. A device that has paid is different: its transaction either
    /// has made an order already, or money was taken that must become a right.
    async fn paid_or_covered(&self, wish: &Wish, now: u64) -> Result<Option<Held<Order>>, PurchaseError> {
        if let Some(transaction) = &wish.transaction {
            let Some(used) = self.state.read::<KeyUse>(&keys::payment(transaction)).await? else {
                return Ok(None);
            };
            let mine = Some(used.value).filter(|used| used.viewer == wish.viewer);
            let mine = mine.ok_or_else(|| PurchaseError::Declined(SPENT.to_owned()))?;
            let order = self.existing(&mine.viewer, &mine.order).await?;
            let same = order.value.title == wish.title && order.value.kind == wish.kind;
            return if same { Ok(Some(order)) } else { Err(PurchaseError::Declined(SPENT.to_owned())) };
        }
        let rights = self.state.rights_to(&wish.viewer, &wish.title).await?;
        match covered(now, &wish.title, wish.kind, &rights, &self.rentals) {
            Some(right) => self.existing(&wish.viewer, &right.id).await.map(Some),
            None => Ok(None),
        }
    }

    async fn placed_before(&self, wish: &Wish, used: &KeyUse) -> Result<Held<Order>, PurchaseError> {
        if used.viewer != wish.viewer {
            return Err(PurchaseError::KeyReused);
        }
        let order = self.existing(&used.viewer, &used.order).await?;
        // A rental that was asked for and found covered by a purchase is the same request when it is repeated.
        let kind = order.value.kind == wish.kind || order.value.kind == EntitlementKind::Purchase;
        let paid = wish.transaction.is_none()
            || order.value.transaction.is_none()
            || wish.transaction == order.value.transaction;
        let same = order.value.title == wish.title && kind && paid;
        same.then_some(order).ok_or(PurchaseError::KeyReused)
    }

    async fn existing(&self, viewer: &ViewerId, order: &EntitlementId) -> Result<Held<Order>, PurchaseError> {
        let held = self.state.order(viewer, order).await?;
        held.ok_or_else(|| StateError::Corrupt(format!("order {order} is named and not there")).into())
    }

    /// Another request pays for the same title: go on with its order.
    async fn join(
        &self,
        wish: &Wish,
        open: &EntitlementId,
        item_version: u64,
    ) -> Result<Held<Order>, PurchaseError> {
        let order = self.existing(&wish.viewer, open).await?;
        if order.value.kind != wish.kind || order.value.transaction != wish.transaction {
            return Err(PurchaseError::InProgress(open.clone()));
        }
        self.use_key(wish, open, item_version).await?;
        Ok(order)
    }

    /// From now on the key stands for this order, if the item still stands as it was read.
    async fn use_key(
        &self,
        wish: &Wish,
        order: &EntitlementId,
        item_version: u64,
    ) -> Result<(), PurchaseError> {
        let used = KeyUse { viewer: wish.viewer.clone(), order: order.clone() };
        let mut writes = vec![write(keys::purchase_key(&wish.key), 0, &used)?];
        if item_version > 0 {
            writes.push(Write::Require(keys::item(&wish.viewer, &wish.title), item_version));
        }
        Ok(self.state.commit(&writes).await?)
    }

    async fn place_new(
        &self,
        wish: &Wish,
        now: u64,
        item_version: u64,
    ) -> Result<Held<Order>, PurchaseError> {
        let id = random_id(self.entropy.as_ref()).map_err(|e| StateError::Unavailable(e.to_string()))?;
        let id: EntitlementId = id.parse().map_err(|e| StateError::Unavailable(format!("{e}")))?;
        let order = Order {
            id: id.clone(),
            viewer: wish.viewer.clone(),
            title: wish.title.clone(),
            kind: wish.kind,
            price: wish.price.clone(),
            transaction: wish.transaction.clone(),
            placed_at: now,
            status: Status::Pending,
            events: 1,
        };
        let entry =
            AuditEntry { at: now, actor: wish.actor.clone(), order: id.clone(), event: Event::Placed };
        let used = KeyUse { viewer: wish.viewer.clone(), order: id.clone() };
        let open = OpenOrder { viewer: wish.viewer.clone(), order: id.clone(), since: now };
        let place = keys::order(&wish.viewer, &id);
        let writes = [
            write(keys::purchase_key(&wish.key), 0, &used)?,
            write(keys::item(&wish.viewer, &wish.title), item_version, &Item { open: Some(id.clone()) })?,
            write(place.clone(), 0, &order)?,
            write(keys::open(&id), 0, &open)?,
            write(keys::audit(&wish.viewer, now, &id, 0), 0, &entry)?,
        ];
        self.state.commit(&writes).await?;
        Ok(Held { value: order, version: 1, place: place.place })
    }

    /// Asks the payment service for what an open order waits for, and writes down what it says. An order that
    /// waits for nothing is returned as it is.
    ///
    /// # Errors
    /// [`PurchaseError::Unsettled`] if the service does not answer.
    pub async fn advance(&self, order: &Held<Order>, actor: &str) -> Result<Held<Order>, PurchaseError> {
        let unsettled = |e: crate::seams::PaymentError| PurchaseError::Unsettled(e.to_string());
        let event = match &order.value.status {
            Status::Pending => match self.payments.charge(&order.value).await.map_err(unsettled)? {
                Charge::Made { reference } => Event::Charged { reference },
                Charge::Declined { reason } => Event::Declined { reason },
            },
            Status::Refunding { reference, .. } => {
                match self.payments.refund(&order.value, reference).await.map_err(unsettled)? {
                    Refund::Made { refund } => Event::RefundMade { refund },
                    Refund::Failed { reason } => Event::RefundFailed { reason },
                }
            }
            _ => return Ok(order.clone()),
        };
        self.record(&order.value.viewer, &order.value.id, &event, actor).await
    }

    /// Writes an event down. One that somebody else wrote down first is not written twice: the order is returned
    /// as it stands.
    async fn record(
        &self,
        viewer: &ViewerId,
        order: &EntitlementId,
        event: &Event,
        actor: &str,
    ) -> Result<Held<Order>, PurchaseError> {
        for attempt in 0..ATTEMPTS {
            let held = self.existing(viewer, order).await?;
            let Ok(step) = step(Some(&held.value.status), event) else { return Ok(held) };
            match self.take_step(&held, event, &step, actor).await {
                Ok(next) => return Ok(next),
                Err(PurchaseError::State(StateError::Conflict(at))) => {
                    // A charge pays for one order. If it has paid for another one, this order is not paid.
                    if let Some(reason) = self.spent_elsewhere(&held.value, event).await? {
                        return Box::pin(self.record(viewer, order, &Event::Declined { reason }, actor))
                            .await;
                    }
                    tracing::debug!(%order, at, "somebody else was faster");
                    self.pause(attempt).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StateError::Unavailable(format!("order {order} is written by too many")).into())
    }

    async fn spent_elsewhere(&self, order: &Order, event: &Event) -> Result<Option<String>, PurchaseError> {
        let Event::Charged { reference } = event else { return Ok(None) };
        let used = self.state.read::<KeyUse>(&keys::payment(reference)).await?;
        let other = used.filter(|used| used.value.order != order.id);
        Ok(other.map(|_| SPENT.to_owned()))
    }

    /// One step, all of it in one commit.
    async fn take_step(
        &self,
        held: &Held<Order>,
        event: &Event,
        step: &control::purchase::Step,
        actor: &str,
    ) -> Result<Held<Order>, PurchaseError> {
        let (order, now) = (&held.value, self.clock.now_unix());
        let next = Order { status: step.status.clone(), events: order.events + 1, ..order.clone() };
        let entry =
            AuditEntry { at: now, actor: actor.to_owned(), order: order.id.clone(), event: event.clone() };
        let mut writes = vec![
            write(keys::order(&order.viewer, &order.id), held.version, &next)?,
            write(keys::audit(&order.viewer, now, &order.id, order.events), 0, &entry)?,
        ];
        self.right_writes(order, step.right, now, &mut writes).await?;
        self.open_writes(order, &step.status, now, &mut writes).await?;
        if let Event::Charged { reference } = event {
            let used = KeyUse { viewer: order.viewer.clone(), order: order.id.clone() };
            writes.push(write(keys::payment(reference), 0, &used)?);
        }
        self.state.commit(&writes).await?;
        self.metrics.order_events.with_label_values(&[event.as_str()]).inc();
        tracing::info!(order = %order.id, viewer = %order.viewer, title = %order.title, event = event.as_str(),
            status = next.status.as_str(), actor, "order step");
        Ok(Held { value: next, version: held.version + 1, place: held.place.clone() })
    }

    async fn right_writes(
        &self,
        order: &Order,
        change: RightChange,
        now: u64,
        writes: &mut Vec<Write>,
    ) -> Result<(), PurchaseError> {
        let key = keys::right(&order.viewer, &order.title, &order.id);
        let withdrawn = match change {
            RightChange::Keep => return Ok(()),
            RightChange::Grant => {
                writes.push(write(key, 0, &self.right(order, now))?);
                return Ok(());
            }
            RightChange::Withdraw(why) => Some(why),
            RightChange::Restore => None,
        };
        let held = self.state.read::<Entitlement>(&key).await?;
        let held = held.ok_or_else(|| StateError::Corrupt(format!("order {} has no right", order.id)))?;
        writes.push(write(key, held.version, &Entitlement { withdrawn, ..held.value })?);
        Ok(())
    }

    fn right(&self, order: &Order, now: u64) -> Entitlement {
        let rental = order.kind == EntitlementKind::Rental;
        Entitlement {
            id: order.id.clone(),
            viewer: order.viewer.clone(),
            title: order.title.clone(),
            kind: order.kind,
            // The windows begin when the right does, not when a payment that took long was asked for.
            bought_at: now,
            start_by: rental.then(|| self.rentals.start_by(now)),
            first_played_at: None,
            finish_by: None,
            withdrawn: None,
        }
    }

    /// Keeps the index of open orders and the viewer's item true to the order.
    async fn open_writes(
        &self,
        order: &Order,
        next: &Status,
        now: u64,
        writes: &mut Vec<Write>,
    ) -> Result<(), PurchaseError> {
        let key = keys::open(&order.id);
        match (order.status.open(), next.open()) {
            (true, false) => writes.push(Write::Remove(key, 1)),
            (false, true) => {
                let open = OpenOrder { viewer: order.viewer.clone(), order: order.id.clone(), since: now };
                writes.push(write(key, 0, &open)?);
            }
            _ => {}
        }
        if order.status == Status::Pending {
            let key = keys::item(&order.viewer, &order.title);
            let held = self.state.read::<Item>(&key).await?;
            let version = held.map_or(0, |held| held.version);
            writes.push(write(key, version, &Item { open: None })?);
        }
        Ok(())
    }

    async fn bought(&self, order: &Order, new: bool) -> Result<Bought, PurchaseError> {
        match &order.status {
            Status::Declined { reason } => Err(PurchaseError::Declined(reason.clone())),
            Status::Pending => Err(PurchaseError::Unsettled("it is being asked".to_owned())),
            Status::Granted { .. } => {
                let right = self.state.right(&order.viewer, &order.title, &order.id).await?;
                let right =
                    right.ok_or_else(|| StateError::Corrupt(format!("order {} has no right", order.id)))?;
                Ok(Bought { right: right.value, new })
            }
            Status::Refunding { .. }
            | Status::Refunded { .. }
            | Status::ChargedBack { .. }
            | Status::Revoked { .. } => Err(PurchaseError::Withdrawn(order.status.as_str())),
        }
    }

    /// Withdraws the right at once, then pays back.
    ///
    /// # Errors
    /// [`PurchaseError::OutOfStep`] if there is nothing to pay back; [`PurchaseError::Unsettled`] if the payment
    /// service does not answer: the right is withdrawn all the same, and the refund is asked for again.
    pub async fn refund(
        &self,
        viewer: &ViewerId,
        order: &EntitlementId,
        reason: &str,
        actor: &str,
    ) -> Result<Held<Order>, PurchaseError> {
        let held = self.state.order(viewer, order).await?.ok_or(PurchaseError::Missing)?;
        let standing = match held.value.status {
            // Asked for twice is asked for once.
            Status::Refunding { .. } | Status::Refunded { .. } => held,
            _ => self.tell(viewer, order, &Event::RefundAsked { reason: reason.to_owned() }, actor).await?,
        };
        self.advance(&standing, actor).await
    }

    /// Writes down what the payment service or the bank did by itself: a refund, a chargeback, its reversal. Told
    /// twice, it is written once.
    ///
    /// # Errors
    /// [`PurchaseError::OutOfStep`] if it cannot happen to an order that stands so.
    pub async fn tell(
        &self,
        viewer: &ViewerId,
        order: &EntitlementId,
        event: &Event,
        actor: &str,
    ) -> Result<Held<Order>, PurchaseError> {
        let held = self.state.order(viewer, order).await?.ok_or(PurchaseError::Missing)?;
        if let Err(error) = step(Some(&held.value.status), event) {
            return Err(PurchaseError::OutOfStep(error.to_string()));
        }
        self.record(viewer, order, event, actor).await
    }

    /// Goes on with orders that wait for the payment service since `older_than` seconds or more. Returns how many
    /// were settled and how many still wait.
    ///
    /// # Errors
    /// [`StateError`] of the store; an order that cannot be settled now is counted, not an error.
    pub async fn recover(&self, older_than: u64) -> Result<(usize, usize), StateError> {
        let (mut settled, mut waiting) = (0, 0);
        let now = self.clock.now_unix();
        for shard in 0..keys::OPEN_SHARDS {
            let partition = keys::open_shard(shard);
            let stretch = Stretch::new(&partition, "", RECOVERY_PAGE);
            for open in self.state.read_stretch::<OpenOrder>(stretch).await? {
                if now.saturating_sub(open.value.since) < older_than {
                    continue;
                }
                match self.resume(&open.value).await {
                    Ok(true) => settled += 1,
                    Ok(false) => waiting += 1,
                    Err(error) => {
                        waiting += 1;
                        tracing::warn!(order = %open.value.order, %error, "an open order still waits");
                    }
                }
            }
        }
        Ok((settled, waiting))
    }

    async fn resume(&self, open: &OpenOrder) -> Result<bool, PurchaseError> {
        let Some(order) = self.state.order(&open.viewer, &open.order).await? else { return Ok(false) };
        Ok(!self.advance(&order, "recovery").await?.value.status.open())
    }

    /// Longer after each attempt, and differently long for each order of events.
    async fn pause(&self, attempt: u32) {
        let mut byte = [0; 1];
        let share = self.entropy.fill(&mut byte).map_or(128, |()| u64::from(byte[0]));
        let longest_us = 1000_u64 << attempt.min(6);
        tokio::time::sleep(std::time::Duration::from_micros(longest_us * share / 256)).await;
    }
}
