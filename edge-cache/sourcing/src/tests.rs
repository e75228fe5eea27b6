//! Stories in virtual time with scripted sources.
