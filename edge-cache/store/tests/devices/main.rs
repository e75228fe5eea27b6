//! One contract for every device, and what only one of them can get wrong.
#![expect(clippy::panic, reason = "a failure names the device and the place")]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what is skipped or measured is told to a person"
)]

mod contract;
mod directory;
mod histories;
mod measure;
mod memory;
mod mount;
mod power;
mod support;
