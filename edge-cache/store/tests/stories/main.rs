//! Stories of a store over a device that can be broken.

mod between;
mod crafted;
mod crashes;
mod disks;
mod faults;
mod model;
mod purges;
mod returns;
mod support;
mod tiers;
