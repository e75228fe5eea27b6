//! This node's own tiers, memory and disk; never returns a byte it cannot vouch for.
