//! What the control plane remembers, as records: the same over every store.
//!
//! A change is always: read, decide with [`control`], commit with the versions that were read, and on a conflict
//! begin again. [`keys`] is the one place that says where what lies. `DESIGN.md` beside this crate lists access
//! patterns and costs.

mod catalog;
pub mod keys;
mod rights;

use std::sync::Arc;

use control::purchase::{Event, Order};
use control_api::{EntitlementId, ViewerId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::records::{Body, Key, Record, Records, Stretch, Write};
use crate::seams::StateError;

/// A value, and the version of the record that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<T> {
    /// What it says.
    pub value: T,
    /// The version a write must name.
    pub version: u64,
    /// Its place in its partition.
    pub place: String,
}

/// What an idempotency key was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// By whom.
    pub viewer: ViewerId,
    /// The order it placed or joined.
    pub order: EntitlementId,
}

/// What a viewer does about a title. It outlives every order: whoever places one names its version, so of many
/// who find no right at the same time one places an order and the others find it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Item {
    /// The order that is being paid.
    pub open: Option<EntitlementId>,
}

/// Where an order that waits for the payment service is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOrder {
    /// Whose it is.
    pub viewer: ViewerId,
    /// Its name.
    pub order: EntitlementId,
    /// Since when it waits, in Unix seconds.
    pub since: u64,
}

/// One line of the audit trail of a viewer's money and rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, in Unix seconds.
    pub at: u64,
    /// Who did it.
    pub actor: String,
    /// To which order.
    pub order: EntitlementId,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Everything that is remembered.
#[derive(Clone)]
pub struct State {
    records: Arc<dyn Records>,
}

impl State {
    /// Over this store.
    #[must_use]
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }

    /// One value.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] if the record is none of this kind.
    pub async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Held<T>>, StateError> {
        self.records.get(key).await?.map(held).transpose()
    }

    /// Some values of a partition.
    ///
    /// # Errors
    /// As [`State::read`].
    pub async fn read_stretch<T: DeserializeOwned>(
        &self,
        stretch: Stretch<'_>,
    ) -> Result<Vec<Held<T>>, StateError> {
        self.records.list(stretch).await?.into_iter().map(held).collect()
    }

    /// Makes all changes or none.
    ///
    /// # Errors
    /// As [`Records::commit`].
    pub async fn commit(&self, writes: &[Write]) -> Result<(), StateError> {
        self.records.commit(writes).await
    }

    /// One order.
    ///
    /// # Errors
    /// As [`State::read`].
    pub async fn order(
        &self,
        viewer: &ViewerId,
        order: &EntitlementId,
    ) -> Result<Option<Held<Order>>, StateError> {
        self.read(&keys::order(viewer, order)).await
    }
}

/// The write that makes `value` follow the record of this version; 0 creates it.
///
/// # Errors
/// [`StateError::Corrupt`] if the value cannot be written as JSON.
pub fn write(key: Key, version: u64, value: &impl Serialize) -> Result<Write, StateError> {
    let bytes = serde_json::to_vec(value).map_err(|e| StateError::Corrupt(e.to_string()))?;
    let body = Body { bytes, keep_until: None };
    Ok(if version == 0 { Write::Create(key, body) } else { Write::Replace(key, version, body) })
}

fn held<T: DeserializeOwned>(record: Record) -> Result<Held<T>, StateError> {
    let corrupt = |e: serde_json::Error| StateError::Corrupt(format!("{}: {e}", record.key));
    let value = serde_json::from_slice(&record.body).map_err(corrupt)?;
    Ok(Held { value, version: record.version, place: record.key.place })
}
