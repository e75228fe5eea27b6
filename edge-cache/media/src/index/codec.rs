//! The bytes of an index.
//!
//! ```text
//! magic       8   "WEIRIDX\0": tells a wrong file from a broken one, and keeps what this key signs apart
//!                 from anything else it may ever sign
//! version     2   before everything that a later version may lay out differently
//! key id      8   which public key to check with: a node may trust two while keys are being changed
//! body        .   see below
//! signature  64   Ed25519 over every byte before it; last, so that those bytes are one slice in place
//! ```
//!
//! The body begins with what a person looks for first in a dump, then the objects, because the renditions
//! refer to them. Lists carry their count; a segment is a fixed 50 bytes, so a count can be held against the
//! bytes that are left before anything is allocated for it.
//!
//! ```text
//! title       1 + n       length, text
//! package     8
//! created     8           Unix seconds
//! tags        1           count, then for each:
//!   name      1 + n
//! objects     2           count, then for each:
//!   path      1 + n
//!   len       8
//! renditions  1           count, then for each:
//!   name      1 + n
//!   kind      1           see `kind_code`
//!   bandwidth 4
//!   parts     1           bit 0 playlist, bit 1 I-frame playlist, bit 2 init; those segments follow in that order
//!   media     2           count, then the segments
//! segment    50           object 2, offset 8, len 4, duration 4, root 32
//! ```
//!
//! Integers are little-endian and of fixed width, so every index has exactly one encoding: what decodes
//! encodes to the same bytes again.

use std::str::FromStr;

use super::check::{MAX_OBJECTS, MAX_RENDITIONS, MAX_SEGMENTS_PER_RENDITION, MAX_TAGS, at_most};
use super::{Contents, IndexError, Object, Rendition, RenditionKind, Segment};
use crate::digest::Digest;
use crate::name::{NameError, PackageId, Tag};

/// The first bytes of every index.
pub(super) const MAGIC: [u8; 8] = *b"WEIRIDX\0";
/// The format version this code reads and writes. Version 1 had no tags and was never released.
pub const VERSION: u16 = 2;
/// The longest index in bytes, signature included: about 160,000 segments. A three-hour film of nine rungs
/// in six-second segments takes 0.9 MB.
pub const MAX_INDEX_LEN: usize = 8 << 20;

/// Magic, version and key id.
pub(super) const HEADER_LEN: usize = 18;
/// An Ed25519 signature.
pub(super) const SIGNATURE_LEN: usize = 64;
const SEGMENT_LEN: usize = 50;

const HAS_PLAYLIST: u8 = 1;
const HAS_IFRAMES: u8 = 2;
const HAS_INIT: u8 = 4;

/// How many bytes the signed index will have.
pub(super) fn encoded_len(contents: &Contents) -> usize {
    let tags: usize = contents.tags.iter().map(|tag| 1 + tag.as_str().len()).sum();
    let objects: usize = contents.objects.iter().map(|object| 1 + object.path.len() + 8).sum();
    let rendition =
        |r: &Rendition| 1 + r.id.as_str().len() + 1 + 4 + 1 + 2 + r.segments().count() * SEGMENT_LEN;
    let renditions: usize = contents.renditions.iter().map(rendition).sum();
    let head = 1 + contents.title.as_str().len() + 8 + 8;
    HEADER_LEN + head + 1 + tags + 2 + objects + 1 + renditions + SIGNATURE_LEN
}

/// Writes a body. The lengths fit their fields because the contents were checked.
pub(super) fn encode(contents: &Contents) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_len(contents));
    put_text(&mut out, contents.title.as_str());
    out.extend(contents.package.0.to_le_bytes());
    out.extend(contents.created.to_le_bytes());
    out.push(contents.tags.len() as u8);
    for tag in &contents.tags {
        put_text(&mut out, tag.as_str());
    }
    out.extend((contents.objects.len() as u16).to_le_bytes());
    for object in &contents.objects {
        put_text(&mut out, &object.path);
        out.extend(object.len.to_le_bytes());
    }
    out.push(contents.renditions.len() as u8);
    for rendition in &contents.renditions {
        put_rendition(&mut out, rendition);
    }
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

fn put_rendition(out: &mut Vec<u8>, rendition: &Rendition) {
    put_text(out, rendition.id.as_str());
    out.push(kind_code(rendition.kind));
    out.extend(rendition.bandwidth.to_le_bytes());
    let bit = |part: &Option<Segment>, bit| if part.is_some() { bit } else { 0 };
    let playlist = bit(&rendition.playlist, HAS_PLAYLIST);
    out.push(playlist | bit(&rendition.iframes, HAS_IFRAMES) | bit(&rendition.init, HAS_INIT));
    for part in [&rendition.playlist, &rendition.iframes, &rendition.init].into_iter().flatten() {
        put_segment(out, part);
    }
    out.extend((rendition.media.len() as u16).to_le_bytes());
    for segment in &rendition.media {
        put_segment(out, segment);
    }
}

fn put_segment(out: &mut Vec<u8>, segment: &Segment) {
    out.extend(segment.object.to_le_bytes());
    out.extend(segment.offset.to_le_bytes());
    out.extend(segment.len.to_le_bytes());
    out.extend(segment.duration_ms.to_le_bytes());
    out.extend(segment.root.0);
}

/// These numbers are on disk: never reuse one.
const fn kind_code(kind: RenditionKind) -> u8 {
    match kind {
        RenditionKind::Main => 0,
        RenditionKind::Video => 1,
        RenditionKind::Audio => 2,
        RenditionKind::Subtitles => 3,
        RenditionKind::Images => 4,
        RenditionKind::TrickPlay => 5,
        RenditionKind::TransportStream => 6,
    }
}

fn kind_of(code: u8) -> Result<RenditionKind, IndexError> {
    Ok(match code {
        0 => RenditionKind::Main,
        1 => RenditionKind::Video,
        2 => RenditionKind::Audio,
        3 => RenditionKind::Subtitles,
        4 => RenditionKind::Images,
        5 => RenditionKind::TrickPlay,
        6 => RenditionKind::TransportStream,
        _ => return Err(IndexError::Value { field: "rendition kind", value: code.into() }),
    })
}

/// Reads a body that must end exactly where its last field ends. Only the shape is checked here.
pub(super) fn decode(body: &[u8]) -> Result<Contents, IndexError> {
    let mut reader = Reader { left: body };
    let contents = Contents {
        title: reader.name("title")?,
        package: PackageId(reader.u64("package")?),
        created: reader.u64("created")?,
        tags: reader.tags()?,
        objects: reader.objects()?,
        renditions: reader.renditions()?,
    };
    match reader.left.len() {
        0 => Ok(contents),
        trailing => Err(IndexError::Trailing(trailing)),
    }
}

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], IndexError> {
        let (head, rest) = self.left.split_first_chunk::<N>().ok_or(IndexError::Truncated(field))?;
        self.left = rest;
        Ok(*head)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, IndexError> {
        self.array(field).map(u8::from_le_bytes)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, IndexError> {
        self.array(field).map(u16::from_le_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, IndexError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, IndexError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, IndexError> {
        let len = usize::from(self.u8(field)?);
        let (head, rest) = self.left.split_at_checked(len).ok_or(IndexError::Truncated(field))?;
        self.left = rest;
        std::str::from_utf8(head).map_err(|_| IndexError::NotText(field))
    }

    fn name<T: FromStr<Err = NameError>>(&mut self, field: &'static str) -> Result<T, IndexError> {
        Ok(self.text(field)?.parse()?)
    }

    /// A list of `count` things of at least `least` bytes each: a count that cannot be true is refused
    /// before it is believed.
    fn list<T>(
        &mut self,
        field: &'static str,
        count: usize,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, IndexError>,
    ) -> Result<Vec<T>, IndexError> {
        if count > self.left.len() / least {
            return Err(IndexError::Truncated(field));
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn tags(&mut self) -> Result<Vec<Tag>, IndexError> {
        let count = usize::from(self.u8("tags")?);
        at_most("tags", count, MAX_TAGS)?;
        self.list("tags", count, 2, |reader| reader.name("tag"))
    }

    fn objects(&mut self) -> Result<Vec<Object>, IndexError> {
        let count = usize::from(self.u16("objects")?);
        at_most("objects", count, MAX_OBJECTS)?;
        self.list("objects", count, 9, |reader| {
            let path = reader.text("object path")?.to_owned();
            Ok(Object { path, len: reader.u64("object length")? })
        })
    }

    fn renditions(&mut self) -> Result<Vec<Rendition>, IndexError> {
        let count = usize::from(self.u8("renditions")?);
        at_most("renditions", count, MAX_RENDITIONS)?;
        self.list("renditions", count, 9, Self::rendition)
    }

    fn rendition(&mut self) -> Result<Rendition, IndexError> {
        let id = self.name("rendition name")?;
        let kind = kind_of(self.u8("rendition kind")?)?;
        let bandwidth = self.u32("bandwidth")?;
        let parts = self.u8("rendition parts")?;
        if parts & !(HAS_PLAYLIST | HAS_IFRAMES | HAS_INIT) != 0 {
            return Err(IndexError::Value { field: "rendition parts", value: parts.into() });
        }
        let playlist = self.part(parts & HAS_PLAYLIST)?;
        let iframes = self.part(parts & HAS_IFRAMES)?;
        let init = self.part(parts & HAS_INIT)?;
        let count = usize::from(self.u16("media segments")?);
        at_most("media segments of a rendition", count, MAX_SEGMENTS_PER_RENDITION)?;
        let media = self.list("media segments", count, SEGMENT_LEN, Self::segment)?;
        Ok(Rendition { id, kind, bandwidth, playlist, iframes, init, media })
    }

    fn part(&mut self, bit: u8) -> Result<Option<Segment>, IndexError> {
        if bit == 0 { Ok(None) } else { self.segment().map(Some) }
    }

    fn segment(&mut self) -> Result<Segment, IndexError> {
        Ok(Segment {
            object: self.u16("segment object")?,
            offset: self.u64("segment offset")?,
            len: self.u32("segment length")?,
            duration_ms: self.u32("segment duration")?,
            root: Digest(self.array("segment root")?),
        })
    }
}
