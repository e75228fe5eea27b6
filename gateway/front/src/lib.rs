//! HTTP at the viewer's edge: listeners, TLS, a strict door, routes, authorisation, ranges, and the drain.
//!
//! [`Front`] serves viewers: `GET` and `HEAD` below `/p/<token>/`, over plain HTTP/1.1 and HTTP/2 and over
//! TLS 1.2 and 1.3. It takes its bytes from an [`engine::Engine`] and knows neither which sources exist nor
//! what a byte costs. [`Admin`] is the operator's listener beside it.
//!
//! What it does not do: it does not rewrite playlists (every viewer gets the same bytes; who they are stands
//! only in the token), it does not redirect (but for new sessions at overload, and then to the CDN), it does
//! not limit how fast anybody asks, and it never waits for the control plane.
//!
//! What can go wrong, and what a viewer sees then:
//! - before the first byte, an error with a short text and a code from a closed list;
//! - after it, an aborted connection or stream: never a body that ends early and looks whole;
//! - too many connections: the longest idle one makes room, or the newest is closed at once; a silent, slow or
//!   idle one is closed in time;
//! - too much to do: `DESIGN.md` says what is given up in which order.
//!
//! `DESIGN.md` beside the sources says why things are as they are.

pub mod admin;
mod authorise;
mod body;
mod cmcd;
pub mod config;
#[doc(hidden)]
pub mod examine;
mod explain;
mod fields;
mod front;
mod guard;
mod metrics;
mod multipart;
mod overload;
mod plan;
mod pulse;
mod query;
mod record;
mod refusal;
mod request;
mod route;
mod secret;
mod server;
pub mod tls;
mod viewer;

pub use admin::{Admin, AdminParts, Purge, Purging, Readiness};
pub use config::{AdminConfig, FrontConfig, OverloadConfig};
pub use explain::{Debugging, Explain, Explaining, Unexplained};
pub use front::{Front, FrontParts, StartError};
pub use record::{AccessSink, WallClock};
pub use server::{Drained, Inheritance, ListenError, Listening};
