//! The viewer's edge over real sockets, with the real engine, store and sourcing and an invented film.

mod client;
mod world;

mod admin;
mod answers;
mod endings;
mod hostile;
mod http2;
mod insight;
mod limits;
mod overload;
