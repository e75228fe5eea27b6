//! This node's own tiers, memory and disk; never returns a byte it cannot vouch for.
//!
//! What it is for: keeping whole, verified, immutable segments near the viewer. [`SegmentStore`] answers a
//! lookup from memory without copying, else names the object on disk, else says nothing; what is inserted is
//! in memory at once and on disk a little later.
//!
//! What it does not do: it knows no network, no source and no title. It never waits for the disk on the way
//! of a lookup or an insert, and it never starts a fill: on a miss or a fault the engine goes to the sources.
//!
//! What can go wrong, and what the caller sees:
//! - the disk is full, read-only or broken: nothing; writes pause for a while and resume by themselves;
//! - a stored object rotted, was truncated or vanished: [`ReadFault`]; the object is already gone from the
//!   index and the fault is counted;
//! - the disk hangs: [`ReadFault::Slow`] after [`DiskConfig::read_timeout`]; the disk tier then answers no
//!   lookup until [`DiskConfig::offline_for`] has passed;
//! - the process was killed: everything whose write had finished is found again by [`SegmentStore::open`].
//!
//! The on-disk layout, the order of writes and what each crash leaves are told in `DESIGN.md` beside this crate.

pub mod config;
pub mod device;
pub mod policy;

mod body;
mod disk;
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
