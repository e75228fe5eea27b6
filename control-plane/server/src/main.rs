//! The control plane: ingest, rights, playback sessions.

fn main() {}
