//! The control plane: takes films in, keeps who may watch what, opens playback sessions.
//!
//! One process, three jobs:
//! - **ingest** ([`ingest`]): a mezzanine file becomes a signed package in an object store. What to do next is
//!   decided by [`control::ingest`]; this crate carries the effects out and journals what happened, so that a
//!   killed process resumes where it stood and publishes once;
//! - **rights** ([`purchases`], [`http`]): purchases and rentals, exactly once under races, retries and crashes;
//! - **sessions** ([`sessions`], [`http`]): a right becomes a playback URL with a signed token in its path.
//!
//! It serves no media byte and no gateway ever waits for it: tokens verify offline, packages are read from the
//! object store. What can go wrong: a tool or a store fails (the ingest retries a bounded number of times and
//! then stands as `failed` with its reason), the disk is full (every effect writes beside its place and renames),
//! the process dies (the journal is replayed at the next start).

pub mod adapters;
pub mod clock;
pub mod config;
pub mod entropy;
pub mod http;
pub mod ingest;
pub mod init;
pub mod keys;
pub mod language;
pub mod purchases;
pub mod records;
pub mod seams;
pub mod serve;
pub mod sessions;
pub mod state;
pub mod telemetry;
