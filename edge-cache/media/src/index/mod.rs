//! The segment index: the signed table of contents of a package.
//!
//! It says for every key of a title where its bytes lie (object, offset, length) and what their BLAKE3 root
//! is. It is the root of trust of the data path: whoever holds the index and the operator's public key can
//! check every byte from anybody.
//!
//! Two objects carry it, both stored beside the package:
//! - `index.weir`: this structure, signed; read once per title and kept in memory.
//! - `groups.weir`: the 16 KiB group digests of every segment, concatenated in index order; unsigned, because
//!   each list is checked against its signed root. A reader fetches only the list it needs.
//!
//! An [`Index`] exists only if every promise of [`Contents`] holds, so nobody behind it checks again: names
//! are unique, tags are sorted, [`MAIN`] stands first, and every segment lies inside its object. The bytes of
//! `index.weir` are laid out in the `codec` module; there is exactly one encoding of an index.
//!
//! What it does not do: it fetches nothing, and it does not know whether the objects exist.

mod check;
mod codec;
mod sign;
#[cfg(test)]
mod tests;

use std::ops::Deref;

use crate::digest::{Digest, GroupDigests, group_count};
use crate::key::{Extension, MAIN, Part, SegmentKey};
use crate::name::{NameError, PackageId, RenditionId, Tag, TitleId};
use crate::range::ByteRange;

pub use check::{
    MAX_OBJECT_PATH_LEN, MAX_OBJECTS, MAX_RENDITIONS, MAX_SEGMENT_LEN, MAX_SEGMENTS_PER_RENDITION, MAX_TAGS,
    PathFault,
};
pub use codec::{MAX_INDEX_LEN, VERSION};
pub use sign::{KeyId, KeyTextError, PublicKey, SigningKey};

/// The name of the index object within a package.
pub const INDEX_OBJECT: &str = "index.weir";
/// The name of the group digest object within a package.
pub const GROUPS_OBJECT: &str = "groups.weir";

/// What a rendition carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RenditionKind {
    /// CMAF video.
    Video,
    /// CMAF audio.
    Audio,
    /// WebVTT captions.
    Subtitles,
    /// JPEG thumbnail sheets.
    Images,
    /// A BIF archive, one per package.
    TrickPlay,
    /// Nothing but the multivariant playlist.
    Main,
    /// MPEG-2 transport stream segments (older packages).
    TransportStream,
}

impl RenditionKind {
    /// The file name extension of its media segments.
    #[must_use]
    pub const fn extension(self) -> Extension {
        match self {
            Self::Video | Self::Audio => Extension::M4s,
            Self::Subtitles => Extension::Vtt,
            Self::Images => Extension::Jpg,
            Self::TrickPlay => Extension::Bif,
            Self::Main => Extension::M3u8,
            Self::TransportStream => Extension::Ts,
        }
    }

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Subtitles => "subtitles",
            Self::Images => "images",
            Self::TrickPlay => "trick-play",
            Self::Main => "main",
            Self::TransportStream => "transport-stream",
        }
    }
}

/// Where the bytes of one key lie and what they hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which entry of [`Contents::objects`].
    pub object: u16,
    /// Where in that object, in bytes.
    pub offset: u64,
    /// How many bytes: 1 to [`MAX_SEGMENT_LEN`].
    pub len: u32,
    /// How long it plays, in milliseconds; 0 for what does not play.
    pub duration_ms: u32,
    /// The BLAKE3 hash of the bytes.
    pub root: Digest,
}

impl Segment {
    /// Its bytes within the object. Never `None` for a segment of an [`Index`].
    #[must_use]
    pub fn range(&self) -> Option<ByteRange> {
        ByteRange::whole(u64::from(self.len))?.shifted(self.offset)
    }

    /// Bytes that its list of group digests takes in `groups.weir`: none for a single group, whose digest
    /// is the root itself.
    fn list_len(&self) -> u64 {
        match group_count(u64::from(self.len)) {
            1 => 0,
            count => count * 32,
        }
    }
}

/// One object of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its path below the package prefix: `v720.mp4`.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
}

/// One rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Its name.
    pub id: RenditionId,
    /// What it carries.
    pub kind: RenditionKind,
    /// Peak bits per second as the multivariant playlist declares them; 0 where that means nothing.
    pub bandwidth: u32,
    /// Its playlist, rewritten to virtual segments.
    pub playlist: Option<Segment>,
    /// Its I-frame playlist, rewritten likewise.
    pub iframes: Option<Segment>,
    /// Its initialisation section.
    pub init: Option<Segment>,
    /// Its media segments in order.
    pub media: Vec<Segment>,
}

impl Rendition {
    /// The entry of one part.
    #[must_use]
    pub fn part(&self, part: Part) -> Option<&Segment> {
        match part {
            Part::Playlist => self.playlist.as_ref(),
            Part::IFrames => self.iframes.as_ref(),
            Part::Init => self.init.as_ref(),
            Part::Media(n) => self.media.get(n as usize),
        }
    }

    /// All entries in index order: playlist, I-frame playlist, init, media.
    pub fn segments(&self) -> impl Iterator<Item = (Part, &Segment)> {
        let head =
            [(Part::Playlist, &self.playlist), (Part::IFrames, &self.iframes), (Part::Init, &self.init)];
        let head = head.into_iter().filter_map(|(part, entry)| entry.as_ref().map(|entry| (part, entry)));
        head.chain((0..).zip(&self.media).map(|(n, entry)| (Part::Media(n), entry)))
    }

    /// Where a part that exists stands in [`Rendition::segments`].
    fn position(&self, part: Part) -> usize {
        let (playlist, iframes) = (usize::from(self.playlist.is_some()), usize::from(self.iframes.is_some()));
        match part {
            Part::Playlist => 0,
            Part::IFrames => playlist,
            Part::Init => playlist + iframes,
            Part::Media(n) => playlist + iframes + usize::from(self.init.is_some()) + n as usize,
        }
    }
}

/// What stands in an index: plain values, as ingest gathers them. [`Index::new`] checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The film.
    pub title: TitleId,
    /// Which ingest of it.
    pub package: PackageId,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// What the operator calls the sets of titles this one belongs to: sorted, none twice, at most
    /// [`MAX_TAGS`].
    pub tags: Vec<Tag>,
    /// The objects that hold the bytes; no path twice.
    pub objects: Vec<Object>,
    /// The renditions, no name twice. The first is [`MAIN`], of the kind [`RenditionKind::Main`], and holds
    /// the multivariant playlist and nothing else.
    pub renditions: Vec<Rendition>,
}

/// The table of contents of one package: [`Contents`] that were checked.
///
/// Reads like [`Contents`] (`index.title`, `index.renditions`); it cannot be changed, only made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    contents: Contents,
    /// For each rendition and each of its segments in order: where its list begins in `groups.weir`.
    list_offsets: Vec<Vec<u64>>,
    groups_len: u64,
}

impl Deref for Index {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.contents
    }
}

/// One key, resolved: everything a fill needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the rendition carries.
    pub kind: RenditionKind,
    /// Where and what.
    pub segment: Segment,
    /// The full path of the object: `title/package/v720.mp4`.
    pub object: String,
    /// The full length of that object in bytes.
    pub object_len: u64,
    /// Where in `groups.weir` this segment's group digests begin, in bytes. Its list is
    /// 32 bytes for each group; a segment of one group has none (its root says it all).
    pub groups_offset: u64,
}

impl Entry {
    /// Where this segment's list of group digests lies in [`GROUPS_OBJECT`]; `None` when it needs none.
    /// The bytes go to [`GroupDigests::parse`].
    #[must_use]
    pub fn groups_want(&self) -> Option<ByteRange> {
        ByteRange::whole(self.segment.list_len())?.shifted(self.groups_offset)
    }
}

impl Index {
    /// Checks every promise of [`Contents`] and prepares the look-ups.
    ///
    /// # Errors
    /// [`IndexError`] names the first rendition, object or segment that breaks one.
    pub fn new(contents: Contents) -> Result<Self, IndexError> {
        check::contents(&contents)?;
        let mut groups_len = 0;
        let mut list_of = |segment: &Segment| {
            let offset = groups_len;
            groups_len += segment.list_len();
            offset
        };
        let offsets = |rendition: &Rendition| rendition.segments().map(|(_, s)| list_of(s)).collect();
        let list_offsets = contents.renditions.iter().map(offsets).collect();
        Ok(Self { contents, list_offsets, groups_len })
    }

    /// Reads `index.weir`: the signature is checked before anything in the body is looked at.
    ///
    /// # Errors
    /// [`IndexError`] says whether the file is no index, is not signed by a trusted key, or is signed but
    /// breaks a promise (then the ingest that made it is at fault).
    pub fn open(bytes: &[u8], trusted: &[PublicKey]) -> Result<Self, IndexError> {
        let body = sign::unseal(bytes, trusted)?;
        Self::new(codec::decode(body)?)
    }

    /// The bytes of `index.weir`. The same index and key always give the same bytes.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        key.seal(&codec::encode(&self.contents))
    }

    /// The plain values.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Looks a key up in constant time (plus a look at each rendition's name). `None` if the key belongs to
    /// another package or names nothing here.
    #[must_use]
    pub fn resolve(&self, key: &SegmentKey) -> Option<Entry> {
        if key.package != self.package || key.title != self.title {
            return None;
        }
        let at = self.renditions.iter().position(|rendition| rendition.id == key.rendition)?;
        let rendition = &self.renditions[at];
        let segment = *rendition.part(key.part)?;
        let object = self.objects.get(usize::from(segment.object))?;
        Some(Entry {
            kind: rendition.kind,
            segment,
            object: self.object_path(&object.path),
            object_len: object.len,
            groups_offset: *self.list_offsets.get(at)?.get(rendition.position(key.part))?,
        })
    }

    /// The full path of one of this package's objects.
    #[must_use]
    pub fn object_path(&self, path: &str) -> String {
        object_path(&self.title, self.package, path)
    }

    /// The rendition that holds the multivariant playlist: the first one.
    #[must_use]
    pub fn main(&self) -> Option<&Rendition> {
        self.renditions.first()
    }

    /// All segments of all renditions in index order, each with its key: the order of `groups.weir`.
    pub fn segments(&self) -> impl Iterator<Item = (SegmentKey, &Segment)> {
        self.renditions.iter().flat_map(|rendition| {
            let key = |part| SegmentKey {
                title: self.title.clone(),
                package: self.package,
                rendition: rendition.id.clone(),
                part,
            };
            rendition.segments().map(move |(part, segment)| (key(part), segment))
        })
    }

    /// The length of `groups.weir` in bytes; 0 when no segment is longer than one group.
    #[must_use]
    pub fn groups_len(&self) -> u64 {
        self.groups_len
    }

    /// Lays out `groups.weir`, given the digests of every segment in the order of [`Index::segments`].
    ///
    /// # Errors
    /// [`IndexError::GroupLists`] names the first segment whose digests are missing or of other bytes.
    pub fn group_lists<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a GroupDigests>,
    ) -> Result<Vec<u8>, IndexError> {
        let mut digests = digests.into_iter();
        let mut bytes = Vec::with_capacity(usize::try_from(self.groups_len).unwrap_or(0));
        for (key, segment) in self.segments() {
            let fits = |d: &&GroupDigests| d.len() == u64::from(segment.len) && d.root() == segment.root;
            let list = digests.next().filter(fits).ok_or_else(|| IndexError::GroupLists(key.to_string()))?;
            if segment.list_len() > 0 {
                bytes.extend_from_slice(list.as_slice().as_flattened());
            }
        }
        match digests.next() {
            Some(_) => Err(IndexError::GroupLists("more lists than segments".to_owned())),
            None => Ok(bytes),
        }
    }
}

/// The full path of an object in any store: `title/package/path`.
#[must_use]
pub fn object_path(title: &TitleId, package: PackageId, path: &str) -> String {
    format!("{title}/{package}/{path}")
}

/// Why an index was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// More bytes than any index may have: not even hashed.
    #[error("the index has {len} bytes, allowed are {MAX_INDEX_LEN}")]
    TooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// The file does not begin like an index.
    #[error("this is no segment index: the magic bytes are missing")]
    Magic,
    /// A format of another time.
    #[error("index format version {0} is not understood, only {VERSION}")]
    Version(u16),
    /// Signed by a key that this node was not told to trust.
    #[error("the index is signed by key {0}, which is not among the trusted keys")]
    UnknownKey(KeyId),
    /// The bytes are not what the key signed.
    #[error("the signature of the index does not fit its bytes")]
    Signature,
    /// The bytes end inside a field.
    #[error("the index ends within {0}")]
    Truncated(&'static str),
    /// Bytes follow the last field.
    #[error("{0} bytes follow the end of the index")]
    Trailing(usize),
    /// A value that no field of that name may have.
    #[error("{field} has the value {value}, which means nothing")]
    Value {
        /// Which field.
        field: &'static str,
        /// What stood there.
        value: u64,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name or path that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    /// A list longer than allowed.
    #[error("{count} {what}, allowed are {max}")]
    TooMany {
        /// A list of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// An object path that could leave the package or that a store would not accept.
    #[error("object path {path:?} {fault}")]
    ObjectPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// A tag that stands twice, or before one that it sorts behind.
    #[error("tag {0} does not sort behind the tag before it")]
    TagOrder(Tag),
    /// Two objects of the same path.
    #[error("object {0:?} stands twice in the index")]
    DuplicateObject(String),
    /// Two renditions of the same name.
    #[error("rendition {0} stands twice in the index")]
    DuplicateRendition(RenditionId),
    /// The first rendition is not the multivariant playlist, or another one claims to be.
    #[error("the first rendition, and only that, must be {MAIN:?} and hold one playlist and nothing else")]
    MainNotFirst,
    /// A segment of no bytes or of more than a node is ready to hold.
    #[error("segment {segment} has {len} bytes, allowed are 1 to {MAX_SEGMENT_LEN}")]
    SegmentLen {
        /// `rendition/part`.
        segment: String,
        /// Its length.
        len: u32,
    },
    /// A segment that names no object or reaches past its end.
    #[error("segment {segment} does not lie inside its object")]
    SegmentOutside {
        /// `rendition/part`.
        segment: String,
    },
    /// Digests that do not belong to the segments.
    #[error("the group digests do not fit the index: {0}")]
    GroupLists(String),
}
