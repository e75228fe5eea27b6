//! The real program in processes of its own, with real directories of packages, real sockets and real viewers.

mod package;
mod process;

mod stories;
mod takeover;
