//! Stories in virtual time: the real engine, sourcing and store; only the sources and the disk are scripted.

mod faults;
mod index;
mod partial;
mod purge;
mod sharing;
mod slow;
pub(crate) mod world;
