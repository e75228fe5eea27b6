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

use crate::digest::{Digest, group_count};
use crate::key::{Extension, MAIN, Part, SegmentKey};
use crate::name::{PackageId, RenditionId, TitleId};

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
    /// Which entry of [`Index::objects`].
    pub object: u16,
    /// Where in that object, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
    /// How long it plays, in milliseconds; 0 for what does not play.
    pub duration_ms: u32,
    /// The BLAKE3 hash of the bytes.
    pub root: Digest,
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
        let head = [(Part::Playlist, &self.playlist), (Part::IFrames, &self.iframes), (Part::Init, &self.init)];
        let head = head.into_iter().filter_map(|(part, entry)| entry.as_ref().map(|entry| (part, entry)));
        head.chain((0..).zip(&self.media).map(|(n, entry)| (Part::Media(n), entry)))
    }
}

/// The table of contents of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The film.
    pub title: TitleId,
    /// Which ingest of it.
    pub package: PackageId,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// The objects that hold the bytes.
    pub objects: Vec<Object>,
    /// The renditions; [`MAIN`] is the first.
    pub renditions: Vec<Rendition>,
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

impl Index {
    /// Looks a key up. `None` if the key belongs to another package or names nothing here.
    #[must_use]
    pub fn resolve(&self, key: &SegmentKey) -> Option<Entry> {
        if key.title != self.title || key.package != self.package {
            return None;
        }
        let mut groups_offset = 0;
        for rendition in &self.renditions {
            if rendition.id == key.rendition {
                return self.entry_in(rendition, key.part, groups_offset);
            }
            groups_offset += groups_len(rendition);
        }
        None
    }

    fn entry_in(&self, rendition: &Rendition, part: Part, mut groups_offset: u64) -> Option<Entry> {
        let segment = *rendition.part(part)?;
        for (other, before) in rendition.segments() {
            if other == part {
                break;
            }
            groups_offset += list_len(before);
        }
        let object = self.objects.get(usize::from(segment.object))?;
        Some(Entry {
            kind: rendition.kind,
            segment,
            object: self.object_path(&object.path),
            object_len: object.len,
            groups_offset,
        })
    }

    /// The full path of one of this package's objects.
    #[must_use]
    pub fn object_path(&self, path: &str) -> String {
        object_path(&self.title, self.package, path)
    }

    /// The multivariant playlist's entry, if the package has one.
    #[must_use]
    pub fn main(&self) -> Option<&Rendition> {
        self.renditions.iter().find(|rendition| rendition.id.as_str() == MAIN)
    }
}

/// The full path of an object in any store: `title/package/path`.
#[must_use]
pub fn object_path(title: &TitleId, package: PackageId, path: &str) -> String {
    format!("{title}/{package}/{path}")
}

fn groups_len(rendition: &Rendition) -> u64 {
    rendition.segments().map(|(_, segment)| list_len(segment)).sum()
}

/// Bytes that a segment's list takes in `groups.weir`.
fn list_len(segment: &Segment) -> u64 {
    match group_count(u64::from(segment.len)) {
        1 => 0,
        count => count * 32,
    }
}
