//! The control plane from outside: every adapter against its seam's contract, the API over a real socket, and
//! ingests with real tools that are killed wherever they can be.

mod api;
mod crashes;
mod doors;
mod dynamo;
mod films;
mod process;
mod purchases;
mod records;
mod rentals;
mod replicas;
mod roku;
mod stores;
mod support;
