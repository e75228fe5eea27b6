//! A film of noise: every byte follows from the seed, so that two processes have the same film.

use std::collections::HashMap;

use bytes::Bytes;
use media::index::{GROUPS_OBJECT, INDEX_OBJECT, SigningKey};
use media::{
    Contents, Digest, GroupDigests, Index, Object, PackageId, Part, Rendition, RenditionKind, Segment,
    SegmentKey,
};

use crate::{Doing, Fault, Workload};

const TITLE: &str = "bench";
const PACKAGE: PackageId = PackageId(1);
const VIDEO: &str = "v720";

/// When the film was made, in Unix seconds; the benches' whole day lies around it.
pub(crate) const DAY: u64 = 1_800_000_000;

/// One media segment.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Its name.
    pub key: SegmentKey,
    /// Its path below the token.
    pub path: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// What they must hash to, group by group.
    pub digests: GroupDigests,
}

/// The media segments of one rendition.
#[derive(Debug)]
pub struct Film {
    /// In order.
    pub pieces: Vec<Piece>,
}

impl Film {
    /// The film of this workload.
    ///
    /// # Errors
    /// Never in practice: the names are literals.
    pub fn new(workload: &Workload) -> Result<Self, Fault> {
        let pieces = (0..workload.segments).map(|n| piece(workload, n));
        Ok(Self { pieces: pieces.collect::<Result<_, _>>()? })
    }

    /// All bytes of the film once.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes.len() as u64).sum()
    }

    /// Whether there is nothing to measure.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The package as an object store holds it, signed with this key.
    pub(crate) fn objects(&self, key: &SigningKey) -> Result<HashMap<String, Bytes>, Fault> {
        let playlist = Bytes::from_static(b"#EXTM3U\n");
        let video: Bytes = self.pieces.iter().flat_map(|piece| &piece.bytes).copied().collect();
        let index = self.index(&playlist, &video)?;
        let lists = std::iter::once(GroupDigests::of(&playlist));
        let lists: Vec<_> = lists.chain(self.pieces.iter().map(|piece| piece.digests.clone())).collect();
        let groups = index.group_lists(&lists).doing("laying out the group digests")?;
        let objects = [
            ("main.m3u8", playlist),
            ("v720.mp4", video),
            (INDEX_OBJECT, index.sign(key).into()),
            (GROUPS_OBJECT, groups.into()),
        ];
        Ok(objects.into_iter().map(|(path, bytes)| (index.object_path(path), bytes)).collect())
    }

    fn index(&self, playlist: &Bytes, video: &Bytes) -> Result<Index, Fault> {
        let object = |path: &str, bytes: &Bytes| Object { path: path.to_owned(), len: bytes.len() as u64 };
        let main = Rendition {
            playlist: Some(segment(0, 0, playlist, Digest::of(playlist))),
            ..rendition("main", RenditionKind::Main)?
        };
        let mut offset = 0;
        let media = self.pieces.iter().map(|piece| {
            let segment = segment(1, offset, &piece.bytes, piece.digests.root());
            offset += piece.bytes.len() as u64;
            segment
        });
        let video_rendition = Rendition { media: media.collect(), ..rendition(VIDEO, RenditionKind::Video)? };
        let contents = Contents {
            title: TITLE.parse().doing("naming the film")?,
            package: PACKAGE,
            created: DAY,
            tags: Vec::new(),
            objects: vec![object("main.m3u8", playlist), object("v720.mp4", video)],
            renditions: vec![main, video_rendition],
        };
        Index::new(contents).doing("making the index")
    }
}

/// A hash over what was delivered, segment by segment in the order of the film.
#[must_use]
pub fn witness(segments: impl IntoIterator<Item = Digest>) -> Digest {
    let all: Vec<u8> = segments.into_iter().flat_map(|digest| digest.0).collect();
    Digest::of(&all)
}

fn piece(workload: &Workload, n: u32) -> Result<Piece, Fault> {
    let len = workload.segment_bytes.saturating_sub(n * 997 % 16_384).max(1);
    let bytes = noise(workload.seed ^ (u64::from(n) << 32), len as usize);
    let key = SegmentKey {
        title: TITLE.parse().doing("naming the film")?,
        package: PACKAGE,
        rendition: VIDEO.parse().doing("naming the rendition")?,
        part: Part::Media(n),
    };
    let digests = GroupDigests::of(&bytes);
    Ok(Piece { path: key.path(RenditionKind::Video), key, bytes, digests })
}

fn rendition(name: &str, kind: RenditionKind) -> Result<Rendition, Fault> {
    let id = name.parse().doing("naming a rendition")?;
    Ok(Rendition { id, kind, bandwidth: 0, playlist: None, iframes: None, init: None, media: Vec::new() })
}

fn segment(object: u16, offset: u64, bytes: &Bytes, root: Digest) -> Segment {
    Segment { object, offset, len: bytes.len() as u32, duration_ms: 6000, root }
}

/// Numbers that look random and follow from a seed (splitmix64).
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

fn noise(seed: u64, len: usize) -> Bytes {
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
    for number in numbers(seed).take(len.div_ceil(8)) {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_film() {
        let film = |seed| Film::new(&Workload::tiny(seed)).expect("a film");
        let roots = |film: &Film| film.pieces.iter().map(|piece| piece.digests.root()).collect::<Vec<_>>();
        assert_eq!(roots(&film(1)), roots(&film(1)));
        assert_ne!(roots(&film(1)), roots(&film(2)));
        assert_eq!(film(1).pieces[1].bytes.len(), 99_006);
        assert_eq!(film(1).len(), 4 * 100_003 - 6 * 997);
    }

    #[test]
    fn the_package_is_a_package() {
        let key = SigningKey::from_seed([7; 32]);
        let film = Film::new(&Workload::tiny(1)).expect("a film");
        let objects = film.objects(&key).expect("objects");
        let index = &objects["bench/0000000000000001/index.weir"];
        let index = Index::open(index, &[key.public()]).expect("an index");
        let entry = index.resolve(&film.pieces[2].key).expect("there");
        let range = entry.segment.range().expect("not empty");
        let bytes = &objects[&entry.object][range.start() as usize..range.end() as usize];
        assert_eq!(Digest::of(bytes), film.pieces[2].digests.root());
    }
}
