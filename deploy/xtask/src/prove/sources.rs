//! The same film, taken in three times and bought from three kinds of source, reaches the viewer with the same
//! bytes.

use super::fresh;
use crate::demo::check::{self, Facts};
use crate::demo::world::SourceKind;
use crate::failure::Outcome;
use crate::setup::{self, Tool};

const FILM_SECONDS: u32 = 20;

pub(super) fn run() -> Outcome {
    setup::run(&[Tool::S3])?;
    let sources = [("directory", SourceKind::Directory), ("s3", SourceKind::S3), ("http", SourceKind::Http)];
    let mut delivered = Vec::new();
    for (name, source) in sources {
        delivered.push((name, check::run(fresh(&format!("sources-{name}"), source, FILM_SECONDS)?)?));
    }
    let mut facts = Facts::default();
    let first = delivered[0].1.clone();
    for (name, hash) in delivered {
        facts.add(hash == first, &format!("delivered from {name}"), hash);
    }
    facts.finish()
}
