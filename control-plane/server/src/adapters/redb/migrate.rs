//! Rewrites a state file of before there were records: four tables become one. All in the transaction that opens
//! the file, so it is done once or not at all.

use control::purchase::{Event, Order, Status};
use control_api::rest::Entitlement;
use media::PackageId;
use redb::{ReadableTable, TableDefinition, TableHandle, WriteTransaction};
use serde::de::DeserializeOwned;

use super::{RECORDS, unavailable};
use crate::records::{Key, Write};
use crate::seams::{CatalogEntry, StateError};
use crate::state::{self, AuditEntry, KeyUse, keys};

const TITLES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("titles");
const EVENTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("events");
const ENTITLEMENTS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("entitlements");
const PURCHASES: TableDefinition<'_, &str, (&str, &str)> = TableDefinition::new("purchases");

/// What the audit trail names as the one who did it.
const ACTOR: &str = "migration";

/// Moves what the old tables hold into records, and drops them.
///
/// # Errors
/// [`StateError::Corrupt`] if an old record cannot be understood.
pub(super) fn migrate(transaction: &WriteTransaction) -> Result<(), StateError> {
    let names: Vec<String> =
        transaction.list_tables().map_err(unavailable)?.map(|table| table.name().to_owned()).collect();
    let old = |table: &str| names.iter().any(|name| name == table);
    if old("titles") {
        titles(transaction)?;
    }
    if old("events") {
        events(transaction)?;
    }
    if old("entitlements") {
        entitlements(transaction)?;
    }
    if old("purchases") {
        purchases(transaction)?;
    }
    Ok(())
}

fn titles(transaction: &WriteTransaction) -> Result<(), StateError> {
    {
        let table = transaction.open_table(TITLES).map_err(unavailable)?;
        for row in table.iter().map_err(unavailable)? {
            let (_, bytes) = row.map_err(unavailable)?;
            let entry: CatalogEntry = parse(bytes.value())?;
            insert(transaction, &keys::title(&entry.title), entry.version.max(1), bytes.value())?;
        }
    }
    transaction.delete_table(TITLES).map_err(unavailable).map(drop)
}

fn events(transaction: &WriteTransaction) -> Result<(), StateError> {
    {
        let table = transaction.open_table(EVENTS).map_err(unavailable)?;
        for row in table.iter().map_err(unavailable)? {
            let (key, bytes) = row.map_err(unavailable)?;
            let (package, at) = key.value();
            insert(transaction, &keys::event(PackageId(package), at), 1, bytes.value())?;
        }
    }
    transaction.delete_table(EVENTS).map_err(unavailable).map(drop)
}

/// Every old right becomes the right of an order that was granted when it was bought.
fn entitlements(transaction: &WriteTransaction) -> Result<(), StateError> {
    {
        let table = transaction.open_table(ENTITLEMENTS).map_err(unavailable)?;
        for row in table.iter().map_err(unavailable)? {
            let (_, bytes) = row.map_err(unavailable)?;
            let right: Entitlement = parse(bytes.value())?;
            for write in granted(&right)? {
                let bytes = write.body().map(|body| body.bytes.as_slice()).unwrap_or_default();
                insert(transaction, write.key(), 1, bytes)?;
            }
        }
    }
    transaction.delete_table(ENTITLEMENTS).map_err(unavailable).map(drop)
}

fn granted(right: &Entitlement) -> Result<Vec<Write>, StateError> {
    let reference = right.id.to_string();
    let order = Order {
        id: right.id.clone(),
        viewer: right.viewer.clone(),
        title: right.title.clone(),
        kind: right.kind,
        price: None,
        transaction: None,
        placed_at: right.bought_at,
        status: Status::Granted { reference: reference.clone() },
        events: 2,
    };
    let mut writes = vec![
        state::write(keys::order(&right.viewer, &right.id), 0, &order)?,
        state::write(keys::right(&right.viewer, &right.title, &right.id), 0, right)?,
    ];
    for (number, event) in (0..).zip([Event::Placed, Event::Charged { reference }]) {
        let entry =
            AuditEntry { at: right.bought_at, actor: ACTOR.to_owned(), order: right.id.clone(), event };
        writes.push(state::write(keys::audit(&right.viewer, right.bought_at, &right.id, number), 0, &entry)?);
    }
    Ok(writes)
}

fn purchases(transaction: &WriteTransaction) -> Result<(), StateError> {
    {
        let table = transaction.open_table(PURCHASES).map_err(unavailable)?;
        for row in table.iter().map_err(unavailable)? {
            let (key, made) = row.map_err(unavailable)?;
            let (viewer, order) = made.value();
            let text = |e: control_api::name::IdError| StateError::Corrupt(e.to_string());
            let used = KeyUse { viewer: viewer.parse().map_err(text)?, order: order.parse().map_err(text)? };
            let write = state::write(keys::purchase_key(key.value()), 0, &used)?;
            let bytes = write.body().map(|body| body.bytes.as_slice()).unwrap_or_default();
            insert(transaction, write.key(), 1, bytes)?;
        }
    }
    transaction.delete_table(PURCHASES).map_err(unavailable).map(drop)
}

fn insert(transaction: &WriteTransaction, key: &Key, version: u64, bytes: &[u8]) -> Result<(), StateError> {
    let mut table = transaction.open_table(RECORDS).map_err(unavailable)?;
    let at = (key.partition.as_str(), key.place.as_str());
    table.insert(at, (version, 0, bytes)).map_err(unavailable).map(drop)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|e| StateError::Corrupt(e.to_string()))
}
