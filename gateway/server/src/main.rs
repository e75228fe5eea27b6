//! weir-gateway: wires one node together.

mod clock;
mod entropy;
mod sources;

fn main() {}
