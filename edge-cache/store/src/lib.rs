//! This node's own tiers, memory and disks; never returns a byte it cannot vouch for.
//!
//! What it is for: keeping verified, immutable segments near the viewer, whole or in part. [`SegmentStore`]
//! answers a lookup from memory without copying, and names what the disks have; what is inserted is in memory
//! at once and on a disk a little later; what is purged is found by nobody any more.
//!
//! What it does not do: it knows no network, no source and no title's name but as part of a key. It never waits
//! for a disk on the way of a lookup or an insert, and it never starts a fill: on a miss or a fault the engine
//! goes to the sources.
//!
//! What can go wrong, and what the caller sees:
//! - a disk is full, read-only or broken: nothing; it is written no more, or left alone, and comes back by
//!   itself;
//! - a stored object rotted, was cut or was evicted: [`ReadFault`]; the object is already gone from the index
//!   and the fault is counted;
//! - a disk hangs: [`ReadFault::Slow`] after [`DiskConfig::read_timeout`]; that disk then answers no lookup until
//!   it answers us again;
//! - the process was killed: everything whose write had finished is found again by [`SegmentStore::open`].
//!
//! The on-disk layout, the order of writes and what each crash leaves are told in `DESIGN.md` beside this crate.

pub mod config;
pub mod device;
pub mod policy;

mod body;
mod disk;
mod fields;
mod format;
mod memory;
mod metrics;
mod purge;
mod store;
mod table;

pub use body::{SegmentBody, WeakBody};
pub use config::{ByteSize, DiskConfig, StoreConfig, SyncPolicy};
pub use device::{Device, DirDevice, DirOptions, FileName, IoBackend, MemoryDevice};
pub use disk::{DiskObject, ReadFault};
pub use purge::{Epoch, PurgeKind, Purged, Scope};
pub use store::{Held, OpenError, SegmentStore, Terms, Tier, TierUsage, Usage};
