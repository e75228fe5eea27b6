//! The control plane from outside: every adapter against its seam's contract, the API over a real socket, and
//! ingests with real tools that are killed wherever they can be.

mod api;
mod crashes;
mod films;
mod process;
mod records;
mod stores;
mod support;
