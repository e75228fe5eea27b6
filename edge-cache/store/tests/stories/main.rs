//! Stories of the whole store: it is opened, used, broken and opened again.

mod crashes;
mod devices;
mod faults;
mod model;
mod support;
mod tiers;
