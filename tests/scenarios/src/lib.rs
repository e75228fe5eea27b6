//! Stories of a whole node in virtual time: the real store, sourcing and engine between scripted sources and
//! scripted viewers. The stories are in `tests/stories`; what they are told with is the crate `testkit`.
