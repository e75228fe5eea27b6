//! The QUIC link between edges: a [`sourcing::Source`] on one side, a server over the local
//! [`store::SegmentStore`] on the other.
//!
//! One [`Link`] is one UDP socket. It serves the segments that this node already holds to its pinned
//! neighbours, and hands out one [`PeerSource`] for each of them so that a fill can buy bytes there.
//!
//! What it does not do: it never starts a fill (a neighbour that asks for something absent hears so within
//! one round trip), it takes no byte on trust (the digest list is checked against the segment's signed root,
//! each 16 KiB group against the list, before anybody sees it), and it talks to nobody whose key is not
//! pinned in the configuration.
//!
//! What can go wrong: a neighbour may be dead (`unavailable`, `timeout`), full (`throttled`), without the
//! segment (`not-found`), or lying (`corrupt`). All of these are reasons of [`sourcing::SourceError`]; the
//! planner decides what they cost the neighbour.

pub mod have;
pub mod ownership;
pub mod wire;

mod client;
mod config;
mod identity;
mod keeper;
mod link;
mod metrics;
mod server;
mod tls;

#[cfg(test)]
mod tests;

pub use client::PeerSource;
pub use config::LinkConfig;
pub use identity::{Fingerprint, FingerprintError, Identity, IdentityError};
pub use link::{BindError, Link, Neighbour};
pub use server::Gate;
