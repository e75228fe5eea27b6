//! Where to go on a miss: sources ordered by marginal price among the healthy.
//!
//! [`Sources`] knows every place this node may buy bytes from. A [`Fetch`] buys one [`Want`]: it asks the
//! planner for the next source, opens it, and hands out a [`Leg`]; when the leg breaks, the next one goes on
//! at the byte that its caller has verified. How a source behaved is remembered and shapes the next plan.
//!
//! What a source takes follows from the month: [`tariff`] is the price sheet, [`account`] says how each source is
//! paid, [`meter`] counts and derives what it comes to, [`policy`] keeps the order from swinging.
//!
//! What it does not do: it keeps no byte and checks no digest (the caller does, and says so through
//! [`Leg::corrupt`]), it knows no protocol (each [`Source`] does), and it never hides a version change: a
//! body of another length than promised is refused, not spliced.
//!
//! What can go wrong: no source delivers within the deadline and the attempts allowed; then [`Exhausted`]
//! carries the last reason. Sources that fail rest for a growing, capped time, but the last one is never
//! given up. The choice and its price are explained in `DESIGN.md` beside this crate.

pub mod account;
pub mod config;
pub mod health;
pub mod meter;
pub mod planner;
pub mod policy;
pub mod price;
pub mod quantile;
pub mod tariff;

mod budget;
mod contest;
mod fetch;
mod gate;
mod leg;
mod metrics;
mod probe;
mod source;
mod sources;
mod transfer;
mod want;

#[cfg(test)]
mod tests;

pub use config::{
    BreakerConfig, HedgeConfig, PatienceConfig, ProbeConfig, RetryConfig, SourcingConfig, UrgencyConfig,
};
pub use fetch::{Exhausted, Fetch};
pub use leg::Leg;
pub use price::Price;
pub use source::{
    BoxFuture, ByteStream, Opened, Reason, Source, SourceError, SourceId, SourceIdError, SourceKind,
};
pub use sources::{ConfigError, Explained, MAX_SOURCES, Offer, SourceReport, Sources};
pub use want::{SegmentWant, Want};
