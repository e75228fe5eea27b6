//! CMAF (ISO/IEC 14496-12 and 23000-19): as much of it as tells what a segment is.
//!
//! - [`boxes`] walks boxes; nothing is read past the input and nothing is allocated for what a box claims.
//! - [`Init::parse`] reads an initialisation section: time scale, handler, codec, defaults.
//! - [`Sidx::parse`] reads where a packager put its segments.
//! - [`segment_facts`] and [`Init::segment_facts`] read what a media segment promises: whether it can be
//!   decoded without the one before, when it begins, how long it plays.
//!
//! Two clocks: fragments state decode times, `sidx` presentation times. An edit list (AAC priming) sets them
//! apart by a constant; edit lists are not read here.
//!
//! Media data is never looked into, encryption is passed over, and a file of several tracks is refused,
//! because CMAF has none.

mod init;
mod reader;
mod segment;
mod sidx;
#[cfg(test)]
mod tests;

use std::fmt;

pub use init::{Handler, Init, SampleDefaults};
pub use reader::{Boxes, IsoBox, boxes};
pub use segment::{SegmentFacts, segment_facts};
pub use sidx::{Sidx, SidxEntry};

/// The type of a box, a handler or a codec.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why bytes are not the CMAF they should be, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}: {fault}")]
pub struct CmafError {
    /// Where the box begins, from the start of the input.
    pub at: usize,
    /// The box.
    pub kind: FourCc,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The box, or a field of it, reaches past the end.
    #[error("it is cut off")]
    CutOff,
    /// Its size is smaller than its own header.
    #[error("its size is less than its header")]
    Size,
    /// A box or value that has to be in it is not.
    #[error("it holds no {0}")]
    Missing(FourCc),
    /// A second box where one is allowed.
    #[error("it holds more than one {0}")]
    Twice(FourCc),
    /// A value that no field of that name may have.
    #[error("{0} has a value that means nothing")]
    Value(&'static str),
    /// Times that do not fit in 64 bits.
    #[error("its times overflow")]
    Overflow,
    /// The fragment leaves a value to the initialisation section, which was not given.
    #[error("{0} stands only in the initialisation section")]
    NeedsInit(&'static str),
}

/// The whole input, seen as a box in error messages.
const INPUT: FourCc = FourCc(*b"file");
