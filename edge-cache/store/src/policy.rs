//! Which object goes when a tier is full: a decision behind a small interface.
//!
//! A policy sees keys, sizes, requests and their time and nothing else; it does no I/O, holds no lock and reads no
//! clock. The table that owns the objects tells it everything that happens, in order. [`Video`] knows that segments
//! are watched one after another; [`S3Fifo`], [`WTinyLfu`] and [`Lru`] know nothing, and stand beside it to compare
//! with and to fall back on.

mod lists;
mod lru;
mod s3fifo;
mod tinylfu;
mod video;

use std::time::Duration;

use media::SegmentKey;

pub use self::lru::Lru;
pub use self::s3fifo::S3Fifo;
pub use self::tinylfu::WTinyLfu;
pub use self::video::Video;

/// The place of an object in its table. Places are small numbers and are used again after [`Policy::forget`]
/// or [`Policy::victim`], so a policy may keep its state in a plain array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Decides which object goes when a tier is full.
pub trait Policy: Send {
    /// Somebody asks for a key, be the object here or not, so long after a beginning of the caller's choice.
    fn ask(&mut self, _key: &SegmentKey, _now: Duration) {}
    /// Whether an object is worth its write when room is scarce.
    fn earns(&mut self, _key: &SegmentKey) -> bool {
        true
    }
    /// An object came in. A warm one had earned its place before a restart, or before it was spared.
    fn admit(&mut self, slot: Slot, key: &SegmentKey, bytes: u64, warm: bool);
    /// An object was asked for.
    fn touch(&mut self, slot: Slot);
    /// Whether an object has earned its place, so that a restart can say so again.
    fn is_warm(&self, slot: Slot) -> bool;
    /// An object was taken out by somebody else.
    fn forget(&mut self, slot: Slot);
    /// Chooses the object to give up and forgets it; `None` only when there is none.
    fn victim(&mut self) -> Option<Slot>;
}
