//! The toolbox behind cargo xtask.

fn main() {}
