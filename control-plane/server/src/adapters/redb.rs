//! Records in one redb file: the embedded default.
//!
//! Every commit is one transaction that is on the disk before the call returns (about 2 ms for the fsync), and
//! every version is checked inside the transaction that writes. redb runs one writer at a time, so the conditions
//! hold under any concurrency. The file is locked: a second process cannot open it. Nothing is forgotten here:
//! `keep_until` is written down for a later sweep.

mod migrate;

use std::ops::Bound::{Excluded, Included};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::records::{Key, Record, Records, Stretch, Write, check};
use crate::seams::{BoxFuture, StateError};

/// Partition and place to version, `keep_until` (0 for none) and body.
const RECORDS: TableDefinition<'_, (&str, &str), (u64, u64, &[u8])> = TableDefinition::new("records");

/// The state file.
#[derive(Clone)]
pub struct RedbRecords {
    db: Arc<Database>,
}

impl RedbRecords {
    /// Opens the file, creating it if absent; a file that an earlier process left in the middle of a write is
    /// rolled back to its last commit, one of before there were records is rewritten.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] if it cannot be opened, or another process holds it;
    /// [`StateError::Corrupt`] if an old file cannot be understood, which is then left as it is.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let db = Database::create(path)
            .map_err(|e| StateError::Unavailable(format!("{}: {e}", path.display())))?;
        let transaction = db.begin_write().map_err(unavailable)?;
        // Readers expect the table to exist.
        transaction.open_table(RECORDS).map_err(unavailable)?;
        migrate::migrate(&transaction)?;
        transaction.commit().map_err(unavailable)?;
        Ok(Self { db: Arc::new(db) })
    }
}

impl Records for RedbRecords {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, StateError>> {
        let (db, key) = (Arc::clone(&self.db), key.clone());
        blocking(move || get(&db.begin_read().map_err(unavailable)?, key))
    }

    fn list<'a>(&'a self, stretch: Stretch<'a>) -> BoxFuture<'a, Result<Vec<Record>, StateError>> {
        let (db, partition, after) =
            (Arc::clone(&self.db), stretch.partition.to_owned(), stretch.after.map(str::to_owned));
        let (bounds, backwards, limit) = (stretch.bounds(), stretch.backwards, stretch.limit);
        blocking(move || {
            let table = db.begin_read().map_err(unavailable)?.open_table(RECORDS).map_err(unavailable)?;
            let (low, high) =
                ((partition.as_str(), bounds.0.as_str()), (partition.as_str(), bounds.1.as_str()));
            if low > high {
                return Ok(Vec::new());
            }
            let (from, to) = match after.as_deref() {
                Some(after) if !backwards && bounds.0 == after => (Excluded(low), Included(high)),
                Some(after) if backwards && bounds.1 == after => (Included(low), Excluded(high)),
                _ => (Included(low), Included(high)),
            };
            let rows = table.range::<(&str, &str)>((from, to)).map_err(unavailable)?;
            if backwards {
                rows.rev().take(limit).map(record).collect()
            } else {
                rows.take(limit).map(record).collect()
            }
        })
    }

    fn commit<'a>(&'a self, writes: &'a [Write]) -> BoxFuture<'a, Result<(), StateError>> {
        let (db, writes) = (Arc::clone(&self.db), writes.to_vec());
        blocking(move || {
            check(&writes)?;
            let transaction = db.begin_write().map_err(unavailable)?;
            // Dropped on the way out, a transaction leaves no trace.
            writes.iter().try_for_each(|write| apply(&transaction, write))?;
            transaction.commit().map_err(unavailable)
        })
    }
}

fn get(transaction: &ReadTransaction, key: Key) -> Result<Option<Record>, StateError> {
    let table = transaction.open_table(RECORDS).map_err(unavailable)?;
    let row = table.get((key.partition.as_str(), key.place.as_str())).map_err(unavailable)?;
    Ok(row.map(|row| {
        let (version, _, body) = row.value();
        Record { key, version, body: body.to_vec() }
    }))
}

type Row<'a> =
    (redb::AccessGuard<'a, (&'static str, &'static str)>, redb::AccessGuard<'a, (u64, u64, &'static [u8])>);

fn record(row: Result<Row<'_>, redb::StorageError>) -> Result<Record, StateError> {
    let (key, value) = row.map_err(unavailable)?;
    let ((partition, place), (version, _, body)) = (key.value(), value.value());
    Ok(Record { key: Key::new(partition, place), version, body: body.to_vec() })
}

fn apply(transaction: &WriteTransaction, write: &Write) -> Result<(), StateError> {
    let mut table = transaction.open_table(RECORDS).map_err(unavailable)?;
    let key = write.key();
    let at = (key.partition.as_str(), key.place.as_str());
    let standing = table.get(at).map_err(unavailable)?.map_or(0, |row| row.value().0);
    let expected = match write {
        Write::Create(..) => 0,
        Write::Replace(_, version, _) | Write::Remove(_, version) | Write::Require(_, version) => *version,
    };
    // No record has version 0: only a creation finds nothing.
    if standing != expected {
        return Err(StateError::Conflict(key.to_string()));
    }
    if let Some(body) = write.body() {
        let row = (expected.saturating_add(1), body.keep_until.unwrap_or(0), body.bytes.as_slice());
        table.insert(at, row).map_err(unavailable)?;
    } else if matches!(write, Write::Remove(..)) {
        table.remove(at).map_err(unavailable)?;
    }
    Ok(())
}

/// Runs off the async threads. A caller that walks away does not stop a transaction that has begun.
fn blocking<'a, T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> BoxFuture<'a, Result<T, StateError>> {
    Box::pin(async move {
        let task = tokio::task::spawn_blocking(work);
        task.await.unwrap_or_else(|e| Err(StateError::Unavailable(e.to_string())))
    })
}

fn unavailable(error: impl std::fmt::Display) -> StateError {
    StateError::Unavailable(error.to_string())
}
