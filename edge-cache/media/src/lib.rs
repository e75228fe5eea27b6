//! The language every room speaks: titles, segment keys, byte ranges, digests, playlists and the signed
//! segment index.
//!
//! Pure values only: this crate does no I/O, reads no clock and draws no random number. Everything that
//! arrives from a stranger (a URL, a `Range` header, a playlist, an index file) is parsed here into a value
//! that can only make sense, or refused with an error that names the field.

pub mod cmaf;
pub mod digest;
pub mod groups;
pub mod human_duration;
pub mod index;
pub mod key;
pub mod name;
pub mod playlist;
pub mod range;
pub mod size;
pub mod validator;

pub use digest::{Digest, GROUP_LEN, GroupDigests};
pub use groups::GroupSet;
pub use index::{Contents, Index, Object, Rendition, RenditionKind, Segment};
pub use key::{Part, SegmentKey};
pub use name::{PackageId, RenditionId, Tag, TitleId};
pub use range::ByteRange;
pub use size::ByteSize;
