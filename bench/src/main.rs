//! Load and measurement of the real rooms.

fn main() {}
