//! Stories in virtual time and end-to-end runs with real processes.
