//! The bytes of the index log.
//!
//! A log is a header and then frames, each appended by one write:
//!
//! ```text
//! header   8 magic "WEIRLOG1"   8 generation
//! frame    4 length of the records   4 flags   8 checksum   records
//! ```
//!
//! Flag 1 says that everything that stood when this log was begun has been said by now. The checksum is the first
//! 8 bytes of the BLAKE3 hash of generation, offset of the frame, flags, and records: neither a torn frame nor
//! one that lies in another place is believed. Reading ends at the first frame that does not check out, so what
//! is read is always a beginning of what was written.
//!
//! Records say what happened to the index, in the order in which it happened; integers are little-endian:
//!
//! ```text
//! 1 name   4 number   8 package   1+n title   1+n rendition   1 tags, each 1+n
//! 2 put    4 number of the name   4 part   8 root tag   4 length   4 born   1 warm
//!          2 extents, each 4 start 4 units   2 words of present groups (0: all), each 8
//! 3 drop   4 number of the name   4 part
//! 4 stale  4 number of the name   4 part
//! 5 purge  4 epoch   1 kind   1 scope   2+n text
//! ```
//!
//! A put of one extent costs 38 bytes and a drop 9; the segments themselves are never in the log.

mod reader;

use bytes::{BufMut, Bytes, BytesMut};
use media::{PackageId, Part, SegmentKey, Tag, TitleId};

pub(crate) use self::reader::Reader;
use super::names::Name;
use super::room::Extent;
use crate::fields::Fields;
use crate::purge::{Epoch, PurgeKind, Scope};

/// Bytes before the first frame.
pub(crate) const HEADER_LEN: u64 = 16;
/// Bytes before a frame's records.
pub(crate) const FRAME_HEAD: usize = 16;
/// The longest frame a reader believes in.
const MAX_FRAME: usize = 64 << 20;
/// A writer's frames are no longer than this, but for their last record.
const FRAME: usize = 1 << 20;

const MAGIC: [u8; 8] = *b"WEIRLOG1";

/// Where one object lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) name: u32,
    pub(crate) part: u32,
    pub(crate) root_tag: u64,
    pub(crate) len: u32,
    pub(crate) born: Epoch,
    /// It had earned its place in the policy's eyes.
    pub(crate) warm: bool,
    pub(crate) extents: Vec<Extent>,
    /// Which groups are there; empty when all are.
    pub(crate) present: Vec<u64>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Name { number: u32, name: Name },
    Put(Put),
    Drop { name: u32, part: u32 },
    Stale { name: u32, part: u32 },
    Purge { scope: Scope, epoch: Epoch, kind: PurgeKind },
}

/// A part as a number. `None` for the last three segment numbers, which no film reaches.
pub(crate) fn part_number(part: Part) -> Option<u32> {
    match part {
        Part::Playlist => Some(0),
        Part::IFrames => Some(1),
        Part::Init => Some(2),
        Part::Media(n) => n.checked_add(3),
    }
}

/// The part of a number.
pub(crate) fn part_of(number: u32) -> Part {
    match number {
        0 => Part::Playlist,
        1 => Part::IFrames,
        2 => Part::Init,
        n => Part::Media(n - 3),
    }
}

/// The first bytes of a log.
pub(crate) fn header(generation: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_LEN as usize);
    out.put_slice(&MAGIC);
    out.put_u64_le(generation);
    out.freeze()
}

/// What comes before the records of a frame that is appended at `at`.
pub(crate) fn frame_head(generation: u64, at: u64, complete: bool, records: &[u8]) -> Bytes {
    let flags = u32::from(complete);
    let mut out = BytesMut::with_capacity(FRAME_HEAD);
    out.put_u32_le(records.len() as u32);
    out.put_u32_le(flags);
    out.put_slice(&checksum(generation, at, flags, records));
    out.freeze()
}

fn checksum(generation: u64, at: u64, flags: u32, records: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&generation.to_le_bytes()).update(&at.to_le_bytes());
    hasher.update(&flags.to_le_bytes()).update(records);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    first
}

/// How many bytes of some records go into the next frame: whole records only, and what is said of an object with
/// the object.
pub(crate) fn frame_len(records: &[u8]) -> usize {
    if records.len() <= FRAME {
        return records.len();
    }
    let (mut fields, mut len) = (Fields(records), 0);
    while let Some(record) = fields.record() {
        if len >= FRAME && !matches!(record, Record::Stale { .. }) {
            break;
        }
        len = records.len() - fields.0.len();
    }
    if len == 0 { records.len() } else { len }
}

/// One frame that checks out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The log says all that stood when it was begun, up to here.
    pub(crate) complete: bool,
    pub(crate) records: &'a [u8],
}

/// What a frame says of itself.
struct Head {
    len: usize,
    flags: u32,
    sum: [u8; 8],
}

impl Head {
    /// `None` when no writer would write it.
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let head = Self { len: fields.u32()? as usize, flags: fields.u32()?, sum: fields.array()? };
        (head.len <= MAX_FRAME && head.flags <= 1).then_some(head)
    }

    fn fits(&self, generation: u64, at: u64, records: &[u8]) -> bool {
        self.sum == checksum(generation, at, self.flags, records)
    }

    fn completes(&self) -> bool {
        self.flags == 1
    }
}

/// The records of one frame. Ends early at bytes that are no record.
pub(crate) struct Records<'a>(Fields<'a>);

impl<'a> Records<'a> {
    pub(crate) fn of(frame: &'a [u8]) -> Self {
        Self(Fields(frame))
    }
}

impl Iterator for Records<'_> {
    /// `None` stands for what is no record, and everything behind it.
    type Item = Option<Record>;

    fn next(&mut self) -> Option<Option<Record>> {
        if self.0.0.is_empty() {
            return None;
        }
        let record = self.0.record();
        if record.is_none() {
            self.0 = Fields(&[]);
        }
        Some(record)
    }
}

pub(crate) fn put_name(out: &mut Vec<u8>, number: u32, name: &Name) {
    out.put_u8(1);
    out.put_u32_le(number);
    out.put_u64_le(name.package.0);
    put_short(out, name.title.as_str());
    put_short(out, name.rendition.as_str());
    out.put_u8(name.tags.len().min(255) as u8);
    name.tags.iter().take(255).for_each(|tag| put_short(out, tag.as_str()));
}

pub(crate) fn put_put(out: &mut Vec<u8>, put: &Put) {
    out.put_u8(2);
    out.put_u32_le(put.name);
    out.put_u32_le(put.part);
    out.put_u64_le(put.root_tag);
    out.put_u32_le(put.len);
    out.put_u32_le(put.born.0);
    out.put_u8(u8::from(put.warm));
    out.put_u16_le(put.extents.len() as u16);
    for extent in &put.extents {
        out.put_u32_le(extent.start);
        out.put_u32_le(extent.units);
    }
    out.put_u16_le(put.present.len() as u16);
    put.present.iter().for_each(|word| out.put_u64_le(*word));
}

pub(crate) fn put_drop(out: &mut Vec<u8>, name: u32, part: u32) {
    put_place(out, 3, name, part);
}

pub(crate) fn put_stale(out: &mut Vec<u8>, name: u32, part: u32) {
    put_place(out, 4, name, part);
}

pub(crate) fn put_purge(out: &mut Vec<u8>, scope: &Scope, epoch: Epoch, kind: PurgeKind) {
    let (word, text) = match scope {
        Scope::Segment(key) => (0, segment_text(key)),
        Scope::Title(title) => (1, title.to_string()),
        Scope::Prefix(prefix) => (2, prefix.clone()),
        Scope::Tag(tag) => (3, tag.to_string()),
    };
    out.put_u8(5);
    out.put_u32_le(epoch.0);
    out.put_u8(u8::from(kind == PurgeKind::Soft));
    out.put_u8(word);
    // No name is so long: a prefix that is cut off here covers nothing, as it did before.
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.put_u16_le(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn put_place(out: &mut Vec<u8>, word: u8, name: u32, part: u32) {
    out.put_u8(word);
    out.put_u32_le(name);
    out.put_u32_le(part);
}

/// Names are at most 64 characters.
fn put_short(out: &mut Vec<u8>, text: &str) {
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

fn segment_text(key: &SegmentKey) -> String {
    let part = part_number(key.part).unwrap_or(u32::MAX);
    format!("{}/{}/{}/{part}", key.title, key.package, key.rendition)
}

fn segment_of(text: &str) -> Option<SegmentKey> {
    let mut parts = text.splitn(4, '/');
    let mut next = || parts.next();
    let (title, package) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let rendition = next()?.parse().ok()?;
    Some(SegmentKey { title, package, rendition, part: part_of(next()?.parse().ok()?) })
}

impl Fields<'_> {
    fn record(&mut self) -> Option<Record> {
        match self.u8()? {
            1 => self.name(),
            2 => self.put().map(Record::Put),
            3 => Some(Record::Drop { name: self.u32()?, part: self.u32()? }),
            4 => Some(Record::Stale { name: self.u32()?, part: self.u32()? }),
            5 => self.purge(),
            _ => None,
        }
    }

    fn name(&mut self) -> Option<Record> {
        let (number, package) = (self.u32()?, PackageId(self.u64()?));
        let title: TitleId = self.short()?.parse().ok()?;
        let rendition = self.short()?.parse().ok()?;
        let count = self.u8()?;
        let tags: Option<Vec<Tag>> = (0..count).map(|_| self.short()?.parse().ok()).collect();
        let name = Name { title, package, rendition, tags: tags?.into() };
        Some(Record::Name { number, name })
    }

    fn put(&mut self) -> Option<Put> {
        let (name, part, root_tag, len) = (self.u32()?, self.u32()?, self.u64()?, self.u32()?);
        let (born, warm) = (Epoch(self.u32()?), self.u8()? != 0);
        let extents = self.u16()?;
        let extents: Option<Vec<Extent>> =
            (0..extents).map(|_| Some(Extent { start: self.u32()?, units: self.u32()? })).collect();
        let words = self.u16()?;
        let present: Option<Vec<u64>> = (0..words).map(|_| self.u64()).collect();
        Some(Put { name, part, root_tag, len, born, warm, extents: extents?, present: present? })
    }

    fn purge(&mut self) -> Option<Record> {
        let epoch = Epoch(self.u32()?);
        let kind = if self.u8()? == 0 { PurgeKind::Hard } else { PurgeKind::Soft };
        let word = self.u8()?;
        let len = usize::from(self.u16()?);
        let text = self.text(len)?;
        let scope = match word {
            0 => Scope::Segment(segment_of(text)?),
            1 => Scope::Title(text.parse().ok()?),
            2 => Scope::Prefix(text.to_owned()),
            3 => Scope::Tag(text.parse().ok()?),
            _ => return None,
        };
        Some(Record::Purge { scope, epoch, kind })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::device::{FileName, MemoryDevice};
    use crate::disk::drive::Drive;

    fn key() -> SegmentKey {
        SegmentKey::parse("film/00000000000000ff/v720/7.m4s").expect("a key").0
    }

    fn records() -> Vec<Record> {
        let tags = [("vendor-acme".parse().expect("a tag"))];
        let put = Put {
            name: 3,
            part: 9,
            root_tag: u64::MAX - 1,
            len: 3_000_000,
            born: Epoch(4),
            warm: true,
            extents: vec![Extent { start: 1, units: 2 }, Extent { start: 9, units: 1 }],
            present: vec![],
        };
        vec![
            Record::Name { number: 3, name: Name::of(&key(), &tags.into()) },
            Record::Put(put.clone()),
            Record::Put(Put { present: vec![5, 0, 1], warm: false, ..put }),
            Record::Stale { name: 3, part: 9 },
            Record::Drop { name: 3, part: 9 },
            Record::Purge { scope: Scope::Segment(key()), epoch: Epoch(5), kind: PurgeKind::Soft },
            Record::Purge {
                scope: Scope::Prefix("film/00".to_owned()),
                epoch: Epoch(6),
                kind: PurgeKind::Hard,
            },
            Record::Purge {
                scope: Scope::Title("film".parse().expect("a title")),
                epoch: Epoch(7),
                kind: PurgeKind::Hard,
            },
            Record::Purge {
                scope: Scope::Tag("vendor-acme".parse().expect("a tag")),
                epoch: Epoch(8),
                kind: PurgeKind::Hard,
            },
        ]
    }

    fn encode(records: &[Record]) -> Vec<u8> {
        let mut out = Vec::new();
        for record in records {
            match record {
                Record::Name { number, name } => put_name(&mut out, *number, name),
                Record::Put(put) => put_put(&mut out, put),
                Record::Drop { name, part } => put_drop(&mut out, *name, *part),
                Record::Stale { name, part } => put_stale(&mut out, *name, *part),
                Record::Purge { scope, epoch, kind } => put_purge(&mut out, scope, *epoch, *kind),
            }
        }
        out
    }

    fn log(generation: u64, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = header(generation).to_vec();
        for frame in frames {
            let head = frame_head(generation, out.len() as u64, false, frame);
            out.extend_from_slice(&head);
            out.extend_from_slice(frame);
        }
        out
    }

    /// Whether each frame of a log completes it; `None` when it is no log of that generation.
    fn read(log: &[u8], generation: u64) -> Option<Vec<bool>> {
        let (device, mut frames) = (MemoryDevice::new(), Vec::new());
        device.put(FileName::Log(generation), log);
        let drive = Drive::new(Arc::new(device), Duration::from_secs(1), Duration::from_secs(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("builds");
        runtime.block_on(async {
            let mut reader = Reader::open(&drive, generation, log.len() as u64).await.expect("reads")?;
            while let Some(frame) = reader.next().await.expect("reads") {
                frames.push(frame.complete);
            }
            Some(frames)
        })
    }

    fn count(log: &[u8], generation: u64) -> usize {
        read(log, generation).map_or(0, |frames| frames.len())
    }

    #[test]
    fn records_survive_the_round_trip() {
        let bytes = encode(&records());
        assert_eq!(Records::of(&bytes).flatten().collect::<Vec<_>>(), records());
        let cut = Records::of(&bytes[..bytes.len() - 1]).collect::<Vec<_>>();
        assert_eq!(cut.last(), Some(&None), "the last is none");
    }

    #[test]
    fn a_prefix_of_any_length_leaves_a_record_that_can_be_read() {
        for prefix in ["x".repeat(70_000), "x".to_owned() + &"\u{e4}".repeat(40_000)] {
            let purge =
                Record::Purge { scope: Scope::Prefix(prefix), epoch: Epoch(1), kind: PurgeKind::Hard };
            let bytes = encode(&[purge, records()[4].clone()]);
            let read = Records::of(&bytes).collect::<Vec<_>>();
            assert!(read.len() == 2 && read.iter().all(Option::is_some));
        }
    }

    #[test]
    fn long_records_are_several_frames_of_whole_records() {
        let bytes = encode(&records()).repeat(20_000);
        let (mut rest, mut frames, mut count) = (&bytes[..], 0, 0);
        while !rest.is_empty() {
            let (frame, left) = rest.split_at(frame_len(rest));
            assert!(frame.len() <= FRAME + 200, "{}", frame.len());
            assert_ne!(frame[0], 4, "what is stale is with its object");
            count += Records::of(frame).map(|record| usize::from(record.is_some())).sum::<usize>();
            (rest, frames) = (left, frames + 1);
        }
        assert_eq!((count, frames), (20_000 * records().len(), bytes.len().div_ceil(FRAME)));
        assert_eq!((frame_len(&[]), frame_len(&bytes[..9])), (0, 9));
    }

    #[test]
    fn the_layout_is_what_the_document_says() {
        let put = encode(&records()[1..2]);
        assert_eq!(put.len(), 30 + 2 * 8);
        assert_eq!(put[..9], [2, 3, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(encode(&records()[4..5]), [3, 3, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(header(258)[..], *b"WEIRLOG1\x02\x01\0\0\0\0\0\0");
    }

    #[test]
    fn a_log_reads_as_far_as_it_is_whole() {
        let frames: Vec<Vec<u8>> = records().chunks(3).map(encode).collect();
        let whole = log(7, &frames);
        assert_eq!(read(&whole, 8), None, "another generation");
        assert_eq!(count(&whole, 7), frames.len());
        let mut ends = vec![HEADER_LEN as usize];
        frames.iter().for_each(|frame| ends.push(ends[ends.len() - 1] + FRAME_HEAD + frame.len()));
        for cut in 0..whole.len() {
            let complete = ends.iter().skip(1).filter(|end| **end <= cut).count();
            assert_eq!(count(&whole[..cut], 7), complete, "cut at {cut}");
        }
        for at in HEADER_LEN as usize..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            let before = ends.iter().skip(1).filter(|end| **end <= at).count();
            assert_eq!(count(&wrong, 7), before, "flipped at {at}");
        }
    }

    #[test]
    fn a_log_says_when_it_is_complete() {
        let mut log = log(7, &[encode(&records())]);
        let head = frame_head(7, log.len() as u64, true, b"");
        log.extend_from_slice(&head);
        assert_eq!(read(&log, 7), Some(vec![false, true]));
        let at = log.len() - FRAME_HEAD + 4;
        log[at] = 0;
        assert_eq!(read(&log, 7), Some(vec![false]), "the checksum covers it");
    }

    #[test]
    fn a_frame_in_another_place_is_not_believed() {
        let frame = encode(&records());
        let good = log(7, &[frame.clone(), frame]);
        let mut moved = good[..HEADER_LEN as usize].to_vec();
        moved.extend_from_slice(&good[(good.len() + HEADER_LEN as usize) / 2..]);
        assert_eq!(read(&moved, 7), Some(vec![]));
    }

    #[test]
    fn parts_are_numbers() {
        for part in [Part::Playlist, Part::IFrames, Part::Init, Part::Media(0), Part::Media(u32::MAX - 3)] {
            assert_eq!(part_number(part).map(part_of), Some(part));
        }
        assert_eq!(part_number(Part::Media(u32::MAX - 2)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_us_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), generation in any::<u64>()) {
            Records::of(&bytes).count();
            let mut log = header(generation).to_vec();
            log.extend_from_slice(&bytes);
            read(&log, generation);
        }
    }
}
