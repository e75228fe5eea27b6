//! The read-through cache: store, else join or start the one fill.
