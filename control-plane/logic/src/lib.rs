//! Decisions without a cloud: who may watch, how an ingest advances, whether a package is fit to publish.
