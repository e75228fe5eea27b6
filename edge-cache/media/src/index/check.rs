//! The promises of an index, checked once when it is made or read.

use std::collections::HashSet;
use std::fmt;

use super::codec::{MAX_INDEX_LEN, encoded_len};
use super::{Contents, IndexError, Object, Rendition, RenditionKind, Segment};
use crate::key::{MAIN, Part};
use crate::name::Tag;

/// The most tags of a title: who delivered it, under which licences, and some sets of the operator's own.
/// Few, because a node keeps them beside everything it keeps of the title.
pub const MAX_TAGS: usize = 16;
/// The most objects of a package: what [`Segment::object`] can name. A film of one object per segment at
/// nine rungs has about 11,000.
pub const MAX_OBJECTS: usize = 65_535;
/// The most renditions, [`MAIN`] included: nine rungs and some dozens of languages.
pub const MAX_RENDITIONS: usize = 128;
/// The most media segments of a rendition: 36 hours of two-second segments.
pub const MAX_SEGMENTS_PER_RENDITION: usize = 65_535;
/// The longest segment in bytes. Far above what a player's buffer takes (about 47 MB), and small enough that
/// a node can promise the memory for a fill.
pub const MAX_SEGMENT_LEN: u32 = 64 << 20;
/// The longest object path in bytes, below the package prefix.
pub const MAX_OBJECT_PATH_LEN: usize = 128;

/// What is wrong with an object path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    /// Empty or longer than [`MAX_OBJECT_PATH_LEN`].
    Length,
    /// A character besides ASCII letters, digits, `-`, `_`, `.` and `/`.
    Character,
    /// A part that is empty or begins with a dot: `/a`, `a//b`, `../a`, `.a`.
    Part,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "must have 1 to {MAX_OBJECT_PATH_LEN} bytes"),
            Self::Character => f.write_str("may hold only ASCII letters, digits, '-', '_', '.' and '/'"),
            Self::Part => f.write_str("has a part that is empty or begins with a dot"),
        }
    }
}

pub(super) fn contents(contents: &Contents) -> Result<(), IndexError> {
    at_most("tags", contents.tags.len(), MAX_TAGS)?;
    at_most("objects", contents.objects.len(), MAX_OBJECTS)?;
    at_most("renditions", contents.renditions.len(), MAX_RENDITIONS)?;
    tags(&contents.tags)?;
    objects(&contents.objects)?;
    main_first(&contents.renditions)?;
    let mut seen = HashSet::new();
    for rendition in &contents.renditions {
        if !seen.insert(&rendition.id) {
            return Err(IndexError::DuplicateRendition(rendition.id.clone()));
        }
        at_most("media segments of a rendition", rendition.media.len(), MAX_SEGMENTS_PER_RENDITION)?;
        for (part, entry) in rendition.segments() {
            segment(rendition, part, entry, &contents.objects)?;
        }
    }
    // What could be written but never read again is refused when it is made.
    match encoded_len(contents) {
        len if len > MAX_INDEX_LEN => Err(IndexError::TooLong { len }),
        _ => Ok(()),
    }
}

pub(super) fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), IndexError> {
    if count > max { Err(IndexError::TooMany { what, count, max }) } else { Ok(()) }
}

/// One order, so that the same tags are the same bytes.
fn tags(tags: &[Tag]) -> Result<(), IndexError> {
    match tags.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(IndexError::TagOrder(pair[1].clone())),
        None => Ok(()),
    }
}

fn objects(objects: &[Object]) -> Result<(), IndexError> {
    let mut seen = HashSet::with_capacity(objects.len());
    for Object { path, .. } in objects {
        if let Some(fault) = path_fault(path) {
            return Err(IndexError::ObjectPath {
                path: path.chars().take(MAX_OBJECT_PATH_LEN).collect(),
                fault,
            });
        }
        if !seen.insert(path) {
            return Err(IndexError::DuplicateObject(path.clone()));
        }
    }
    Ok(())
}

fn path_fault(path: &str) -> Option<PathFault> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if path.is_empty() || path.len() > MAX_OBJECT_PATH_LEN {
        Some(PathFault::Length)
    } else if !path.bytes().all(allowed) {
        Some(PathFault::Character)
    } else if path.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        Some(PathFault::Part)
    } else {
        None
    }
}

fn main_first(renditions: &[Rendition]) -> Result<(), IndexError> {
    let is_main = |r: &Rendition| r.id.as_str() == MAIN || r.kind == RenditionKind::Main;
    let well_formed = |r: &Rendition| {
        let alone = r.iframes.is_none() && r.init.is_none() && r.media.is_empty();
        r.id.as_str() == MAIN && r.kind == RenditionKind::Main && r.playlist.is_some() && alone
    };
    match renditions.split_first() {
        Some((first, rest)) if well_formed(first) && !rest.iter().any(is_main) => Ok(()),
        _ => Err(IndexError::MainNotFirst),
    }
}

fn segment(rendition: &Rendition, part: Part, entry: &Segment, objects: &[Object]) -> Result<(), IndexError> {
    let name = || format!("{}/{part}", rendition.id);
    if entry.len == 0 || entry.len > MAX_SEGMENT_LEN {
        return Err(IndexError::SegmentLen { segment: name(), len: entry.len });
    }
    let object = objects.get(usize::from(entry.object));
    let end = entry.offset.checked_add(u64::from(entry.len));
    match (object, end) {
        (Some(object), Some(end)) if end <= object.len => Ok(()),
        _ => Err(IndexError::SegmentOutside { segment: name() }),
    }
}
