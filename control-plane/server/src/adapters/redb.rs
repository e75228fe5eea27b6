//! Catalogue, journal and entitlements in one redb file.
//!
//! Every write is one transaction that is on the disk before the call returns (about 2 ms for the fsync), and
//! every condition (a version, a journal length, an idempotency key) is checked inside the transaction that
//! writes. redb runs one writer at a time, so the conditions hold under any concurrency. The file is locked:
//! a second process cannot open it.

use std::path::Path;
use std::sync::Arc;

use control::ingest::Event;
use control_api::rest::Entitlement;
use media::{PackageId, TitleId};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::seams::{BoxFuture, Catalog, CatalogEntry, EntitlementStore, Journal, Purchased, StateError};

/// Title to [`CatalogEntry`] as JSON.
const TITLES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("titles");
/// Package and event number to [`Event`] as JSON.
const EVENTS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("events");
/// Viewer and entitlement id to [`Entitlement`] as JSON.
const ENTITLEMENTS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("entitlements");
/// Idempotency key to the viewer and id of the entitlement it made.
const PURCHASES: TableDefinition<'_, &str, (&str, &str)> = TableDefinition::new("purchases");

/// The state file.
#[derive(Clone)]
pub struct RedbState {
    db: Arc<Database>,
}

impl RedbState {
    /// Opens the file, creating it if absent; a file that an earlier process left in the middle of a write is
    /// rolled back to its last commit.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] if it cannot be opened, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let db = Database::create(path)
            .map_err(|e| StateError::Unavailable(format!("{}: {e}", path.display())))?;
        let transaction = db.begin_write().map_err(unavailable)?;
        // Readers expect the tables to exist.
        transaction.open_table(TITLES).map_err(unavailable)?;
        transaction.open_table(EVENTS).map_err(unavailable)?;
        transaction.open_table(ENTITLEMENTS).map_err(unavailable)?;
        transaction.open_table(PURCHASES).map_err(unavailable)?;
        transaction.commit().map_err(unavailable)?;
        Ok(Self { db: Arc::new(db) })
    }

    /// Runs `work` in a write transaction off the async threads and commits if it succeeds. A caller that walks
    /// away does not stop a transaction that has begun.
    fn write<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StateError> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StateError>> {
        let db = Arc::clone(&self.db);
        blocking(move || {
            let transaction = db.begin_write().map_err(unavailable)?;
            let done = work(&transaction)?;
            transaction.commit().map_err(unavailable)?;
            Ok(done)
        })
    }

    fn read<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StateError> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StateError>> {
        let db = Arc::clone(&self.db);
        blocking(move || work(&db.begin_read().map_err(unavailable)?))
    }
}

impl Catalog for RedbState {
    fn get<'a>(&'a self, title: &'a TitleId) -> BoxFuture<'a, Result<Option<CatalogEntry>, StateError>> {
        let title = title.clone();
        self.read(move |transaction| {
            let table = transaction.open_table(TITLES).map_err(unavailable)?;
            get_json(&table, title.as_str())
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a TitleId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<CatalogEntry>, StateError>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = after.cloned();
        self.read(move |transaction| {
            let table = transaction.open_table(TITLES).map_err(unavailable)?;
            let from = after.as_ref().map_or(Unbounded, |title| Excluded(title.as_str()));
            let rows = table.range::<&str>((from, Unbounded)).map_err(unavailable)?;
            rows.take(limit).map(|row| from_json(row.map_err(unavailable)?.1.value())).collect()
        })
    }

    fn put<'a>(&'a self, entry: &'a CatalogEntry) -> BoxFuture<'a, Result<CatalogEntry, StateError>> {
        let mut entry = entry.clone();
        self.write(move |transaction| {
            let mut table = transaction.open_table(TITLES).map_err(unavailable)?;
            let standing: Option<CatalogEntry> = get_json(&table, entry.title.as_str())?;
            if standing.map_or(0, |standing| standing.version) != entry.version {
                return Err(StateError::Conflict(format!("title {}", entry.title)));
            }
            entry.version += 1;
            table.insert(entry.title.as_str(), to_json(&entry)?.as_slice()).map_err(unavailable)?;
            Ok(entry)
        })
    }
}

impl Journal for RedbState {
    fn load(&self, package: PackageId) -> BoxFuture<'_, Result<Vec<Event>, StateError>> {
        self.read(move |transaction| {
            let table = transaction.open_table(EVENTS).map_err(unavailable)?;
            let rows = table.range((package.0, 0)..=(package.0, u64::MAX)).map_err(unavailable)?;
            rows.map(|row| from_json(row.map_err(unavailable)?.1.value())).collect()
        })
    }

    fn append<'a>(
        &'a self,
        package: PackageId,
        at: u64,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        let event = event.clone();
        self.write(move |transaction| {
            let mut table = transaction.open_table(EVENTS).map_err(unavailable)?;
            let stand = table.range((package.0, 0)..=(package.0, u64::MAX)).map_err(unavailable)?.count();
            if stand as u64 != at {
                return Err(StateError::Conflict(format!("the journal of package {package}")));
            }
            table.insert((package.0, at), to_json(&event)?.as_slice()).map_err(unavailable)?;
            Ok(())
        })
    }
}

impl EntitlementStore for RedbState {
    fn purchase<'a>(
        &'a self,
        key: &'a str,
        entitlement: &'a Entitlement,
    ) -> BoxFuture<'a, Result<Purchased, StateError>> {
        let (key, new) = (key.to_owned(), entitlement.clone());
        self.write(move |transaction| {
            let mut purchases = transaction.open_table(PURCHASES).map_err(unavailable)?;
            let mut entitlements = transaction.open_table(ENTITLEMENTS).map_err(unavailable)?;
            let standing = purchases.get(key.as_str()).map_err(unavailable)?.map(|made| owned(made.value()));
            if let Some((viewer, id)) = standing {
                let made: Entitlement = get_json(&entitlements, (viewer.as_str(), id.as_str()))?
                    .ok_or_else(|| StateError::Corrupt(format!("purchase {key} names no entitlement")))?;
                let same = made.viewer == new.viewer && made.title == new.title && made.kind == new.kind;
                let conflict = || StateError::Conflict(format!("the request with idempotency key {key}"));
                return same.then_some(Purchased { entitlement: made, replayed: true }).ok_or_else(conflict);
            }
            let at = (new.viewer.as_str(), new.id.as_str());
            entitlements.insert(at, to_json(&new)?.as_slice()).map_err(unavailable)?;
            purchases.insert(key.as_str(), at).map_err(unavailable)?;
            Ok(Purchased { entitlement: new, replayed: false })
        })
    }

    fn of_viewer<'a>(&'a self, viewer: &'a str) -> BoxFuture<'a, Result<Vec<Entitlement>, StateError>> {
        let viewer = viewer.to_owned();
        self.read(move |transaction| {
            let table = transaction.open_table(ENTITLEMENTS).map_err(unavailable)?;
            let mut held: Vec<Entitlement> = Vec::new();
            for row in table.range((viewer.as_str(), "")..).map_err(unavailable)? {
                let (key, value) = row.map_err(unavailable)?;
                if key.value().0 != viewer {
                    break;
                }
                held.push(from_json(value.value())?);
            }
            held.sort_by(|a, b| (a.bought_at, &a.id).cmp(&(b.bought_at, &b.id)));
            Ok(held)
        })
    }

    fn first_play<'a>(
        &'a self,
        entitlement: &'a Entitlement,
        played_at: u64,
        finish_by: Option<u64>,
    ) -> BoxFuture<'a, Result<Entitlement, StateError>> {
        let (viewer, id) = owned((entitlement.viewer.as_str(), entitlement.id.as_str()));
        self.write(move |transaction| {
            let mut table = transaction.open_table(ENTITLEMENTS).map_err(unavailable)?;
            let at = (viewer.as_str(), id.as_str());
            let standing: Option<Entitlement> = get_json(&table, at)?;
            let mut standing = standing.ok_or_else(|| StateError::Missing(format!("entitlement {id}")))?;
            if standing.first_played_at.is_none() {
                standing.first_played_at = Some(played_at);
                standing.finish_by = finish_by;
                table.insert(at, to_json(&standing)?.as_slice()).map_err(unavailable)?;
            }
            Ok(standing)
        })
    }
}

async fn join<T>(task: tokio::task::JoinHandle<Result<T, StateError>>) -> Result<T, StateError> {
    task.await.unwrap_or_else(|e| Err(StateError::Unavailable(e.to_string())))
}

fn blocking<'a, T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> BoxFuture<'a, Result<T, StateError>> {
    Box::pin(async move { join(tokio::task::spawn_blocking(work)).await })
}

fn get_json<'k, K, T>(
    table: &impl ReadableTable<K, &'static [u8]>,
    key: K::SelfType<'k>,
) -> Result<Option<T>, StateError>
where
    K: redb::Key + 'static,
    K::SelfType<'k>: std::borrow::Borrow<K::SelfType<'k>>,
    T: DeserializeOwned,
{
    match table.get(key).map_err(unavailable)? {
        Some(row) => from_json(row.value()).map(Some),
        None => Ok(None),
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value).map_err(|e| StateError::Corrupt(e.to_string()))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|e| StateError::Corrupt(e.to_string()))
}

fn owned((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

fn unavailable(error: impl std::fmt::Display) -> StateError {
    StateError::Unavailable(error.to_string())
}
