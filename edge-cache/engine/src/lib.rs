//! The read-through cache: store, else join or start the one fill.
//!
//! [`Engine::describe`] answers what a key is, from the signed index of its package. [`Engine::serve`] gives
//! its bytes: from memory, from disk, or from a fill that all viewers of the segment share, that fetches only
//! the groups somebody lacks, and that streams to each of them as verified groups arrive. A source that breaks
//! off, falls silent or sends a wrong byte is replaced at the verified offset, and no viewer notices.
//! [`Engine::purge`] makes bytes unfindable, and [`Load`] says what is not done while the node is loaded.
//!
//! What it does not do: it knows no HTTP, no token and no protocol of any source; it keeps nothing itself but
//! indexes and digest lists (segments belong to the store); it follows no viewer's pace: a slow reader slows
//! nobody and holds nothing; a reader who leaves ends a fill only if nobody else waits and the rest is not worth
//! its price.
//!
//! What can go wrong, as [`Failure`] says it: the title or the segment does not exist, the index is not signed
//! by a trusted key, no source delivered, the time ran out, or the node is full. Before the first byte the
//! caller gets the error and can still answer it; after it the stream ends with the error.

mod body;
mod catalog;
mod completion;
mod config;
mod cursor;
mod disk_feed;
mod engine;
mod error;
mod fill;
mod flights;
mod heat;
mod lists;
mod load;
mod metrics;
mod outlived;
mod promotion;
mod window;

#[cfg(test)]
mod tests;

pub use body::Body;
pub use config::EngineConfig;
pub use engine::{ConfigError, Described, Engine, Outcome, Serving, Strain, Tiers};
pub use error::{Failure, ServeError};
pub use load::{Level, Load};
pub use store::{Epoch, PurgeKind, Purged, Scope};
