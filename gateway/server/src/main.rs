//! weir-gateway: wires one node together.

fn main() {}
