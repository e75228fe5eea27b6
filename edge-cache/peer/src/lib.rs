//! The QUIC link between edges: a Source on one side, a server over the local store on the other.
