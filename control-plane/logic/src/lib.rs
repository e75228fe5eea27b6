//! Decisions without a cloud: who may watch, how an ingest advances, whether a package is fit to publish.
//!
//! - [`rights`]: may this viewer watch this title now, and until when;
//! - [`purchase`]: which step of an order may follow which, and what it does to the right;
//! - [`session`]: when a playback token ends and what its URL is;
//! - [`ingest`]: what to do next to make a package of a film, as a journalled state machine;
//! - [`ladder`]: which renditions to encode of a given source;
//! - [`lease`]: how many of a viewer's screens may play at the same time;
//! - [`lint`]: whether a finished package will play on Roku and everywhere else;
//! - [`package`]: the name of what an ingest makes.
//!
//! Everything is a function of its arguments. There is no clock, no chance, no store, no tool and no network
//! here: programs bring the time and the facts, and carry out what was decided. So every rule is tested with a
//! table, and a journal replays to the same state on every machine.

pub mod ingest;
pub mod ladder;
pub mod lease;
pub mod lint;
pub mod package;
pub mod purchase;
pub mod rights;
pub mod session;
