//! What a node holds, exactly: a set of segments for each track, told to neighbours as differences.
//!
//! A track is one rendition of one package, named by 8 bytes of a hash: a map names nothing that a partner should not
//! read, and two tracks that share a name cost one request in vain. Its set is a roaring bitmap (Lemire et al., 2016), which
//! stores runs as runs: viewers watch in order, so a set is mostly runs.
//!
//! ```text
//! difference, at most MAX_DELTA_LEN bytes, big-endian
//!   u8  version = 1
//!   u64 from                the state it starts at; 0 is the empty map
//!   u64 to                  the state it leads to
//!   u32 tracks
//!   for each track, in the order of their names:
//!     u64 track
//!     u32 length of added   followed by a bitmap in the format of roaringbitmap.org
//!     u32 length of removed followed by a bitmap
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use media::{Digest, Part, SegmentKey};
use roaring::RoaringBitmap;

/// The longest difference that is read, in bytes: a full disk of 3.3 million segments takes 0.2 to 1.3 MB.
pub const MAX_DELTA_LEN: usize = 8 << 20;

const VERSION: u8 = 1;
const FIXED_LEN: usize = 1 + 8 + 8 + 4;

/// A difference that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HaveError {
    /// It is longer than [`MAX_DELTA_LEN`].
    #[error("the difference is longer than {MAX_DELTA_LEN} bytes")]
    TooLong,
    /// It ended within a field, or bytes follow its end.
    #[error("the difference has another length than it says")]
    Length,
    /// The other side speaks another version.
    #[error("the version is {0}, this node speaks {VERSION}")]
    Version(u8),
    /// A bitmap that is none.
    #[error("a bitmap of the difference cannot be read")]
    Bitmap,
    /// Tracks out of order, or one twice.
    #[error("the tracks are not in order")]
    Order,
    /// It starts at another state than the map is in: the whole map is to be asked for.
    #[error("the difference starts at state {from}, the map is at {at}")]
    Gap {
        /// Where it starts.
        from: u64,
        /// Where the map is.
        at: u64,
    },
}

/// What a node holds at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HaveMap {
    state: u64,
    tracks: BTreeMap<u64, RoaringBitmap>,
}

/// What changed from one state of a map to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    from: u64,
    to: u64,
    /// Added and removed.
    changes: BTreeMap<u64, (RoaringBitmap, RoaringBitmap)>,
}

impl HaveMap {
    /// An empty map in a numbered state.
    #[must_use]
    pub fn at(state: u64) -> Self {
        Self { state, tracks: BTreeMap::new() }
    }

    /// The number of its state; 0 before anything was told.
    #[must_use]
    pub fn state(&self) -> u64 {
        self.state
    }

    /// Whether the segment is held.
    #[must_use]
    pub fn has(&self, key: &SegmentKey) -> bool {
        self.tracks.get(&track(key)).is_some_and(|set| set.contains(number(key.part)))
    }

    /// Adds a segment.
    pub fn insert(&mut self, key: &SegmentKey) {
        self.tracks.entry(track(key)).or_default().insert(number(key.part));
    }

    /// Takes a segment out.
    pub fn remove(&mut self, key: &SegmentKey) {
        if let Entry::Occupied(mut entry) = self.tracks.entry(track(key)) {
            entry.get_mut().remove(number(key.part));
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// How many segments are held.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.tracks.values().map(RoaringBitmap::len).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// What leads from this map to a newer one.
    #[must_use]
    pub fn delta(&self, newer: &Self) -> Delta {
        let none = RoaringBitmap::new();
        let tracks = self.tracks.keys().chain(newer.tracks.keys());
        let changes = tracks.map(|track| {
            let old = self.tracks.get(track).unwrap_or(&none);
            let new = newer.tracks.get(track).unwrap_or(&none);
            (*track, (new - old, old - new))
        });
        let changes = changes.filter(|(_, (added, removed))| !added.is_empty() || !removed.is_empty());
        Delta { from: self.state, to: newer.state, changes: changes.collect() }
    }

    /// Goes to the next state.
    ///
    /// # Errors
    /// [`HaveError::Gap`] when the difference starts elsewhere; the map is as before.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), HaveError> {
        if delta.from != self.state {
            return Err(HaveError::Gap { from: delta.from, at: self.state });
        }
        for (track, (added, removed)) in &delta.changes {
            let set = self.tracks.entry(*track).or_default();
            *set |= added;
            *set -= removed;
        }
        self.tracks.retain(|_, set| !set.is_empty());
        self.state = delta.to;
        Ok(())
    }
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The difference as it goes on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FIXED_LEN);
        out.put_u8(VERSION);
        out.put_u64(self.from);
        out.put_u64(self.to);
        out.put_u32(u32::try_from(self.changes.len()).unwrap_or(u32::MAX));
        for (track, (added, removed)) in &self.changes {
            out.put_u64(*track);
            put_set(&mut out, added);
            put_set(&mut out, removed);
        }
        out.freeze()
    }

    /// Reads a whole difference.
    ///
    /// # Errors
    /// [`HaveError`] says what is wrong; nothing that arrives makes this panic.
    pub fn decode(mut message: &[u8]) -> Result<Self, HaveError> {
        if message.len() > MAX_DELTA_LEN {
            return Err(HaveError::TooLong);
        }
        let version = message.try_get_u8().map_err(length)?;
        if version != VERSION {
            return Err(HaveError::Version(version));
        }
        let (from, to) = (message.try_get_u64().map_err(length)?, message.try_get_u64().map_err(length)?);
        let count = message.try_get_u32().map_err(length)?;
        let mut changes = BTreeMap::new();
        for _ in 0..count {
            let track = message.try_get_u64().map_err(length)?;
            if changes.last_key_value().is_some_and(|(last, _)| *last >= track) {
                return Err(HaveError::Order);
            }
            changes.insert(track, (take_set(&mut message)?, take_set(&mut message)?));
        }
        if message.is_empty() { Ok(Self { from, to, changes }) } else { Err(HaveError::Length) }
    }
}

fn length<E>(_: E) -> HaveError {
    HaveError::Length
}

fn put_set(out: &mut BytesMut, set: &RoaringBitmap) {
    let mut set = set.clone();
    set.optimize();
    let len = set.serialized_size();
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    out.reserve(len);
    // Memory takes any number of bytes.
    let _ = set.serialize_into(out.writer());
}

fn take_set(message: &mut &[u8]) -> Result<RoaringBitmap, HaveError> {
    let len = message.try_get_u32().map_err(length)? as usize;
    let (mut bytes, rest) = message.split_at_checked(len).ok_or(HaveError::Length)?;
    let set = RoaringBitmap::deserialize_from(&mut bytes).map_err(|_| HaveError::Bitmap)?;
    *message = rest;
    if bytes.is_empty() { Ok(set) } else { Err(HaveError::Length) }
}

/// The name of a track.
fn track(key: &SegmentKey) -> u64 {
    let mut first = [0; 8];
    let name = format!("{}/{}/{}", key.title, key.package, key.rendition);
    first.copy_from_slice(&Digest::of(name.as_bytes()).0[..8]);
    u64::from_be_bytes(first)
}

/// Media segments follow the three parts that there is one of each.
fn number(part: Part) -> u32 {
    match part {
        Part::Playlist => 0,
        Part::IFrames => 1,
        Part::Init => 2,
        Part::Media(n) => n.saturating_add(3),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(rendition: u8, part: Part) -> SegmentKey {
        let (title, rendition) = ("film".parse().expect("a title"), format!("v{rendition}"));
        let rendition = rendition.parse().expect("a rendition");
        SegmentKey { title, package: media::PackageId(7), rendition, part }
    }

    fn map(state: u64, held: &[(u8, u32)]) -> HaveMap {
        let mut map = HaveMap::at(state);
        held.iter().for_each(|(rendition, n)| map.insert(&key(*rendition, Part::Media(*n))));
        map
    }

    #[test]
    fn every_part_has_its_place() {
        let mut map = HaveMap::at(1);
        let parts = [Part::Playlist, Part::IFrames, Part::Init, Part::Media(0), Part::Media(u32::MAX - 3)];
        for (at, part) in parts.into_iter().enumerate() {
            assert!(!map.has(&key(1, part)));
            map.insert(&key(1, part));
            assert_eq!((map.has(&key(1, part)), map.len()), (true, at as u64 + 1));
        }
        parts.into_iter().for_each(|part| map.remove(&key(1, part)));
        assert!(map.is_empty());
    }

    /// The bytes of a small difference, so that another build says the same.
    #[test]
    fn a_golden_difference() {
        let delta = map(3, &[(1, 0)]).delta(&map(4, &[(1, 1), (1, 2)]));
        let encoded = delta.encode();
        let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "010000000000000003000000000000000400000001\
             84931bb606315e76000000143a30000001000000000001001000000004000500\
             000000123a3000000100000000000000100000000300"
        );
        assert_eq!(Delta::decode(&encoded), Ok(delta));
    }

    #[test]
    fn a_gap_is_noticed_and_changes_nothing() {
        let (old, newer) = (map(3, &[(1, 0)]), map(4, &[(2, 9)]));
        let delta = old.delta(&newer);
        let mut other = map(2, &[(1, 5)]);
        assert_eq!(other.apply(&delta), Err(HaveError::Gap { from: 3, at: 2 }));
        assert_eq!(other, map(2, &[(1, 5)]));
    }

    #[test]
    fn runs_are_small() {
        let mut all = HaveMap::at(1);
        (0..20u8).for_each(|rendition| (0..1_200).for_each(|n| all.insert(&key(rendition, Part::Media(n)))));
        let encoded = HaveMap::default().delta(&all).encode();
        assert!(encoded.len() * 8 <= 24_000 / 2, "{} bytes for 24,000 segments", encoded.len());
    }

    #[test]
    fn what_is_no_difference_is_refused() {
        let good = map(1, &[(1, 0)]).delta(&map(2, &[(2, 9), (3, 1)])).encode();
        assert_eq!(Delta::decode(&[&good[..], &[0]].concat()), Err(HaveError::Length));
        assert_eq!(Delta::decode(&[]), Err(HaveError::Length));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            Delta::decode(&bytes)
        };
        assert_eq!(with(0, 2), Err(HaveError::Version(2)));
        assert_eq!(with(17, 0xff), Err(HaveError::Length));
        assert_eq!(with(29, 0xff), Err(HaveError::Length));
        assert_eq!(with(33, 0xff), Err(HaveError::Bitmap));
        assert_eq!(Delta::decode(&vec![1; MAX_DELTA_LEN + 1]), Err(HaveError::TooLong));
        for end in 0..good.len() {
            assert!(Delta::decode(&good[..end]).is_err(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_the_old_to_the_new(
            old in proptest::collection::vec((0u8..3, 0u32..50), 0..60),
            new in proptest::collection::vec((0u8..3, 0u32..50), 0..60)
        ) {
            let (mut old, new) = (map(1, &old), map(2, &new));
            let delta = Delta::decode(&old.delta(&new).encode()).expect("reads");
            old.apply(&delta).expect("follows");
            prop_assert_eq!(old, new);
        }

        #[test]
        fn no_bytes_make_us_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..100, flip: u8) {
            let _ = Delta::decode(&bytes);
            let mut near = map(1, &[(1, 0)]).delta(&map(2, &[(2, 9), (3, 1)])).encode().to_vec();
            if let Some(byte) = near.get_mut(at) {
                *byte ^= flip;
            }
            if let Ok(delta) = Delta::decode(&near) {
                let _ = HaveMap::at(1).apply(&delta);
            }
        }
    }
}
