//! A generated film: seeded bytes under a signed index.

use std::collections::HashMap;

use bytes::Bytes;
use media::index::{GROUPS_OBJECT, INDEX_OBJECT, PublicKey, SigningKey};
use media::{
    ByteRange, Contents, Digest, GroupDigests, Index, Object, PackageId, Part, Rendition, RenditionId,
    RenditionKind, Segment, SegmentKey,
};

use crate::chance::Chance;

const TITLE: &str = "story";
const SIGNING_SEED: [u8; 32] = [42; 32];
const INIT_LEN: usize = 800;
const SEGMENT_MS: u32 = 6_000;

/// What to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The renditions besides the main playlist.
    pub renditions: Vec<RenditionShape>,
}

/// One rendition to generate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionShape {
    /// Its name: `v720`.
    pub id: &'static str,
    /// What it carries.
    pub kind: RenditionKind,
    /// The length of each media segment in bytes; none may be 0.
    pub segments: Vec<u32>,
}

impl Default for Shape {
    /// Two videos and one audio: segments of many groups, of few, of exactly one, and of a byte more or less.
    fn default() -> Self {
        let shape = |id, kind, segments: &[u32]| RenditionShape { id, kind, segments: segments.to_vec() };
        Self {
            renditions: vec![
                shape("v720", RenditionKind::Video, &[1_000_000, 300_000, 16_385]),
                shape("v404", RenditionKind::Video, &[400_000, 150_000, 16_383]),
                shape("a-en", RenditionKind::Audio, &[64_000, 16_384, 1]),
            ],
        }
    }
}

/// A package as ingest would publish it: its objects by full path, its index signed.
#[derive(Debug)]
pub struct Package {
    index: Index,
    objects: HashMap<String, Bytes>,
}

impl Package {
    /// Generates a package; the same seed and shape give the same bytes.
    ///
    /// # Panics
    /// If the shape breaks a promise of an index: no name twice, no empty segment.
    #[must_use]
    pub fn generate(seed: u64, shape: &Shape) -> Self {
        let mut draft = Draft { chance: Chance::new(seed).for_("package"), objects: Vec::new() };
        let mut renditions = vec![draft.main(shape)];
        renditions.extend(shape.renditions.iter().map(|shape| draft.rendition(shape)));
        let object = |(path, bytes): &(String, Bytes)| Object { path: path.clone(), len: bytes.len() as u64 };
        let contents = Contents {
            title: TITLE.parse().expect("a good title"),
            package: PackageId(seed),
            created: 1_700_000_000,
            tags: Vec::new(),
            objects: draft.objects.iter().map(object).collect(),
            renditions,
        };
        let index = Index::new(contents).expect("the shape makes a good index");
        let lists: Vec<_> = index.segments().map(|(_, segment)| draft.digests(segment)).collect();
        let groups = index.group_lists(&lists).expect("digests of the package's own bytes");
        let mut objects = draft.objects;
        objects.push((GROUPS_OBJECT.to_owned(), groups.into()));
        objects.push((INDEX_OBJECT.to_owned(), index.sign(&signing_key()).into()));
        let objects = objects.into_iter().map(|(path, bytes)| (index.object_path(&path), bytes)).collect();
        Self { index, objects }
    }

    /// A package that somebody else made: its opened index, and every object by its full path.
    #[must_use]
    pub fn of(index: Index, objects: HashMap<String, Bytes>) -> Self {
        Self { index, objects }
    }

    /// The table of contents.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The key that every node of the world trusts.
    #[must_use]
    pub fn trusted() -> PublicKey {
        signing_key().public()
    }

    /// An object by its full path.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Bytes> {
        self.objects.get(path).cloned()
    }

    /// The key of media segment `n` of a rendition.
    ///
    /// # Panics
    /// If `rendition` is no rendition's name.
    #[must_use]
    pub fn media(&self, rendition: &str, n: u32) -> SegmentKey {
        let rendition: RenditionId = rendition.parse().expect("a rendition's name");
        let (title, package) = (self.index.title.clone(), self.index.package);
        SegmentKey { title, package, rendition, part: Part::Media(n) }
    }

    /// Every key of the package, playlists and init sections included, in index order.
    #[must_use]
    pub fn keys(&self) -> Vec<SegmentKey> {
        self.index.segments().map(|(key, _)| key).collect()
    }

    /// Where the bytes of a key lie: the object's full path and the range within it.
    ///
    /// # Panics
    /// If the package has no such key.
    #[must_use]
    pub fn location(&self, key: &SegmentKey) -> (String, ByteRange) {
        let entry = self.index.resolve(key).expect("a key of this package");
        let range = entry.segment.range().expect("no segment is empty");
        (entry.object, range)
    }

    /// The true bytes of a key.
    ///
    /// # Panics
    /// If the package has no such key.
    #[must_use]
    pub fn bytes(&self, key: &SegmentKey) -> Bytes {
        let (object, range) = self.location(key);
        let object = self.object(&object).expect("an object of this package");
        object.slice(range.start() as usize..range.end() as usize)
    }
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(SIGNING_SEED)
}

/// A package in the making: its objects by path below the package.
struct Draft {
    chance: Chance,
    objects: Vec<(String, Bytes)>,
}

impl Draft {
    fn main(&mut self, shape: &Shape) -> Rendition {
        let line = |shape: &RenditionShape| {
            format!("#EXT-X-STREAM-INF:BANDWIDTH=1000000\n{}/index.m3u8\n", shape.id)
        };
        let text: String = shape.renditions.iter().map(line).collect();
        let playlist = self.playlist("hls/main.m3u8".to_owned(), format!("#EXTM3U\n{text}"));
        Rendition {
            id: media::key::MAIN.parse().expect("a name"),
            kind: RenditionKind::Main,
            bandwidth: 0,
            playlist: Some(playlist),
            iframes: None,
            init: None,
            media: Vec::new(),
        }
    }

    fn rendition(&mut self, shape: &RenditionShape) -> Rendition {
        let names = (0..shape.segments.len()).map(|n| format!("#EXTINF:6.0,\n{n}.m4s\n"));
        let text = names.collect::<String>();
        let text = format!("#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n{text}#EXT-X-ENDLIST\n");
        let playlist = self.playlist(format!("hls/{}.m3u8", shape.id), text);
        let lengths = || std::iter::once(INIT_LEN).chain(shape.segments.iter().map(|len| *len as usize));
        let bytes = noise(self.chance.for_(shape.id), lengths().sum());
        let object = self.add(format!("{}.mp4", shape.id), bytes.clone());
        let mut parts = lengths().scan(0, |start, len| {
            let range = *start..*start + len;
            *start = range.end;
            Some(segment(object, range.start as u64, &bytes[range]))
        });
        Rendition {
            id: shape.id.parse().expect("a rendition's name"),
            kind: shape.kind,
            bandwidth: 1_000_000,
            playlist: Some(playlist),
            iframes: None,
            init: parts.next(),
            media: parts.collect(),
        }
    }

    fn playlist(&mut self, path: String, text: String) -> Segment {
        let bytes = Bytes::from(text);
        let object = self.add(path, bytes.clone());
        Segment { duration_ms: 0, ..segment(object, 0, &bytes) }
    }

    fn add(&mut self, path: String, bytes: Bytes) -> u16 {
        self.objects.push((path, bytes));
        u16::try_from(self.objects.len() - 1).expect("a story has few objects")
    }

    fn digests(&self, segment: &Segment) -> GroupDigests {
        let (start, len) = (segment.offset as usize, segment.len as usize);
        GroupDigests::of(&self.objects[usize::from(segment.object)].1[start..start + len])
    }
}

fn segment(object: u16, offset: u64, bytes: &[u8]) -> Segment {
    let len = u32::try_from(bytes.len()).expect("a story's segments are short");
    Segment { object, offset, len, duration_ms: SEGMENT_MS, root: Digest::of(bytes) }
}

/// Bytes that differ everywhere, so that a splice or a shift shows.
fn noise(chance: Chance, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    // A multiplicative step is enough between draws, and cheap where nothing is optimised.
    let (mut word, step) = (chance.bits(), chance.for_("step").bits() | 1);
    for piece in bytes.chunks_mut(8) {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(step);
        piece.copy_from_slice(&word.rotate_left(29).to_le_bytes()[..piece.len()]);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_what_its_seed_says_and_opens_like_a_real_one() {
        let package = Package::generate(3, &Shape::default());
        let again = Package::generate(3, &Shape::default());
        assert_eq!(package.objects, again.objects);
        let other = Package::generate(4, &Shape::default());
        let key = package.media("v720", 0);
        assert_ne!(package.bytes(&key), other.bytes(&other.media("v720", 0)));
        let signed = package.object(&package.index.object_path(INDEX_OBJECT)).expect("it has an index");
        assert_eq!(Index::open(&signed, &[Package::trusted()]), Ok(package.index.clone()));
        assert_eq!(package.keys().len(), 1 + 3 * (1 + 1 + 3));
        for (key, segment) in package.index.segments() {
            assert_eq!(Digest::of(&package.bytes(&key)), segment.root, "{key}");
        }
    }
}
