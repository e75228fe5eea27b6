//! The small fake world: seeded sources, packages and devices for stories in virtual time.
