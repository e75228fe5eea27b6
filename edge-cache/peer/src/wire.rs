//! What two edges say to each other: one request and one answer on each bidirectional stream.
//!
//! This module does no I/O: it turns values into bytes and bytes into values, so that every rule below is
//! tested without a socket. All numbers are big-endian and of fixed width: the request is small, and a
//! decoder without variable-length numbers has no second spelling to refuse.
//!
//! ```text
//! request, at most MAX_REQUEST_LEN bytes, ended by the end of the sender's side of the stream
//!   u8  version = 1         first, so that everything after it may change
//!   u8  operation           1 = fetch
//!   u64 segment length      before the names: the sender's idea of the bytes, checked against the store
//!   32  segment root
//!   u64 first byte wanted
//!   u64 one past the last byte wanted
//!   u64 package
//!   u8  part                0 playlist, 1 I-frame playlist, 2 init, 3 media segment
//!   u32 segment number      0 unless the part is 3
//!   u8  length of title     followed by the title
//!   u8  length of rendition followed by the rendition
//!
//! answer
//!   u8  version = 1
//!   u8  status              see Status; anything but `found` ends the answer
//!   32  x group digests     all groups of the segment; none if it has only one (its root says it all)
//!   the groups that the range touches, whole and in order
//! ```
//!
//! The answer carries no lengths: both sides derive them from the request, so a liar has nothing to lie about.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use media::digest::{group_count, group_range, groups_of};
use media::{ByteRange, Digest, GroupDigests, PackageId, Part, SegmentKey};

/// The protocol's name in the TLS handshake. A version that cannot be spoken side by side gets a new one.
pub const ALPN: &[u8] = b"weir/1";

/// The version byte that starts every request and every answer.
pub const VERSION: u8 = 1;

/// Bytes before the names in a request.
const FIXED_LEN: usize = 1 + 1 + 8 + 32 + 8 + 8 + 8 + 1 + 4;

/// The longest request there can be: a server reads no further.
pub const MAX_REQUEST_LEN: usize = FIXED_LEN + 2 + media::TitleId::MAX_LEN + media::RenditionId::MAX_LEN;

/// The longest segment, in bytes: what the signed index can express.
pub const MAX_SEGMENT_LEN: u64 = u32::MAX as u64;

const FETCH: u8 = 1;
const HEAD_LEN: usize = 2;
const DIGEST_LEN: usize = 32;

/// What was received is not what this protocol allows, or not what the root promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ended within a field.
    #[error("the message is too short")]
    Short,
    /// Bytes follow where the message should have ended.
    #[error("the message is too long")]
    Long,
    /// The other side speaks another version.
    #[error("the version is {0}, this node speaks {VERSION}")]
    Version(u8),
    /// An operation this version does not have.
    #[error("the operation {0} is unknown")]
    Operation(u8),
    /// A status this version does not have.
    #[error("the status {0} is unknown")]
    Status(u8),
    /// A title, rendition or part that names nothing.
    #[error("the segment key is malformed")]
    Key,
    /// The range is empty or leaves the segment, or the segment is longer than an index can say.
    #[error("the byte range does not lie within the segment")]
    Range,
    /// The group digests are not those of the root.
    #[error("the group digests do not belong to the segment's root")]
    Digests,
    /// A group's bytes are not those of its digest.
    #[error("group {0} does not match its digest")]
    Group(u64),
}

/// One fetch: a run of bytes of one segment, named so exactly that only one answer is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which segment.
    pub key: SegmentKey,
    /// How long it is, in bytes.
    pub len: u64,
    /// Its BLAKE3 root from the signed index.
    pub root: Digest,
    /// Which of its bytes.
    pub range: ByteRange,
}

impl Request {
    /// The request as it goes on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (part, number) = part_code(self.key.part);
        let mut out = BytesMut::with_capacity(MAX_REQUEST_LEN);
        out.put_u8(VERSION);
        out.put_u8(FETCH);
        out.put_u64(self.len);
        out.put_slice(&self.root.0);
        out.put_u64(self.range.start());
        out.put_u64(self.range.end());
        out.put_u64(self.key.package.0);
        out.put_u8(part);
        out.put_u32(number);
        put_name(&mut out, self.key.title.as_str());
        put_name(&mut out, self.key.rendition.as_str());
        out.freeze()
    }

    /// Reads a whole request.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong; nothing that arrives makes this panic.
    pub fn decode(mut message: &[u8]) -> Result<Self, WireError> {
        let version = message.try_get_u8().map_err(short)?;
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let operation = message.try_get_u8().map_err(short)?;
        if operation != FETCH {
            return Err(WireError::Operation(operation));
        }
        let len = message.try_get_u64().map_err(short)?;
        let mut root = [0; DIGEST_LEN];
        message.try_copy_to_slice(&mut root).map_err(short)?;
        let (start, end) = (message.try_get_u64().map_err(short)?, message.try_get_u64().map_err(short)?);
        let package = PackageId(message.try_get_u64().map_err(short)?);
        let part = message.try_get_u8().map_err(short)?;
        let part = part_of(part, message.try_get_u32().map_err(short)?)?;
        let title = take_name(&mut message)?.parse().map_err(|_| WireError::Key)?;
        let rendition = take_name(&mut message)?.parse().map_err(|_| WireError::Key)?;
        if !message.is_empty() {
            return Err(WireError::Long);
        }
        let range = ByteRange::new(start, end).filter(|range| range.end() <= len && len <= MAX_SEGMENT_LEN);
        let key = SegmentKey { title, package, rendition, part };
        Ok(Self { key, len, root: Digest(root), range: range.ok_or(WireError::Range)? })
    }

    /// The groups that the range touches, as a half-open range of group numbers.
    #[must_use]
    pub fn groups(&self) -> std::ops::Range<u64> {
        groups_of(self.range)
    }
}

fn short(_: bytes::TryGetError) -> WireError {
    WireError::Short
}

fn part_code(part: Part) -> (u8, u32) {
    match part {
        Part::Playlist => (0, 0),
        Part::IFrames => (1, 0),
        Part::Init => (2, 0),
        Part::Media(number) => (3, number),
    }
}

fn part_of(code: u8, number: u32) -> Result<Part, WireError> {
    match (code, number) {
        (0, 0) => Ok(Part::Playlist),
        (1, 0) => Ok(Part::IFrames),
        (2, 0) => Ok(Part::Init),
        (3, number) => Ok(Part::Media(number)),
        _ => Err(WireError::Key),
    }
}

/// Names are at most 64 bytes by their types, so their length fits a byte.
fn put_name(out: &mut BytesMut, name: &str) {
    out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.put_slice(name.as_bytes());
}

fn take_name<'a>(message: &mut &'a [u8]) -> Result<&'a str, WireError> {
    let len = usize::from(message.try_get_u8().map_err(short)?);
    let (name, rest) = message.split_at_checked(len).ok_or(WireError::Short)?;
    *message = rest;
    std::str::from_utf8(name).map_err(|_| WireError::Key)
}

/// How an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The digests and the groups follow.
    Found,
    /// This node does not hold the segment (or holds other bytes under its name) and will not fetch it.
    NotFound,
    /// As many uploads as this node allows are running; ask again later.
    Busy,
    /// The request was not understood.
    Refused,
    /// The segment was there but could not be read.
    Fault,
}

impl Status {
    /// Every status, in wire order.
    pub const ALL: [Self; 5] = [Self::Found, Self::NotFound, Self::Busy, Self::Refused, Self::Fault];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not-found",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Fault => "fault",
        }
    }

    fn decode(code: u8) -> Result<Self, WireError> {
        Self::ALL.get(usize::from(code)).copied().ok_or(WireError::Status(code))
    }
}

/// The first bytes of an answer: its status and, if the segment was found, its group digests.
#[must_use]
pub fn answer_head(status: Status, digests: &[[u8; DIGEST_LEN]]) -> Bytes {
    let listed = if status == Status::Found && digests.len() > 1 { digests } else { &[] };
    let mut out = BytesMut::with_capacity(HEAD_LEN + listed.len() * DIGEST_LEN);
    out.put_u8(VERSION);
    out.put_u8(status as u8);
    listed.iter().for_each(|digest| out.put_slice(digest));
    out.freeze()
}

/// What an answer brought so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The status. Unless it is [`Status::Found`], nothing follows.
    Status(Status),
    /// The next bytes of the range, verified. Never empty.
    Bytes(Bytes),
}

/// Reads an answer as it arrives and lets nothing out that was not verified.
///
/// Memory: the digest list (0.2 % of the segment) and one group, whatever the sender does.
#[derive(Debug)]
pub struct Answer {
    len: u64,
    root: Digest,
    range: ByteRange,
    phase: Phase,
    held: BytesMut,
}

#[derive(Debug)]
enum Phase {
    Head,
    Digests,
    Groups {
        digests: GroupDigests,
        next: u64,
    },
    End,
    /// After an error: whatever follows is one byte too many.
    Broken,
}

impl Answer {
    /// Starts reading the answer to this request.
    #[must_use]
    pub fn to(request: &Request) -> Self {
        let Request { len, root, range, .. } = *request;
        Self { len, root, range, phase: Phase::Head, held: BytesMut::new() }
    }

    /// Whether the answer is whole. If the stream ends before this is true, it was cut.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::End)
    }

    /// Takes what it can use of `input` and says what that completed. `None` means: all input is taken and
    /// more is needed (or, after the end, none is expected). Call again with the rest after each event.
    ///
    /// # Errors
    /// [`WireError`] when the answer breaks the protocol or a digest. The answer is worthless from then on.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Event>, WireError> {
        loop {
            let Some(piece) = self.piece(input)? else { return Ok(None) };
            if let Some(event) = self.accept(&piece)? {
                return Ok(Some(event));
            }
        }
    }

    /// Collects the next field, however the transport cut it into pieces. A field that arrived whole is not copied.
    fn piece(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, WireError> {
        let wanted = match &self.phase {
            Phase::Head => HEAD_LEN,
            Phase::Digests => self.digest_count() * DIGEST_LEN,
            Phase::Groups { next, .. } => {
                let group = group_range(self.len, *next);
                usize::try_from(group.end - group.start).map_err(|_| WireError::Range)?
            }
            Phase::End if input.is_empty() => return Ok(None),
            Phase::End | Phase::Broken => return Err(WireError::Long),
        };
        if self.held.is_empty() && input.len() >= wanted {
            return Ok(Some(input.split_to(wanted)));
        }
        let missing = wanted - self.held.len();
        self.held.reserve(missing.min(MAX_RESERVE));
        self.held.extend_from_slice(&input.split_to(missing.min(input.len())));
        Ok((self.held.len() == wanted).then(|| std::mem::take(&mut self.held).freeze()))
    }

    fn digest_count(&self) -> usize {
        match group_count(self.len) {
            1 => 0,
            count => usize::try_from(count).unwrap_or(usize::MAX / DIGEST_LEN),
        }
    }

    fn accept(&mut self, piece: &Bytes) -> Result<Option<Event>, WireError> {
        match std::mem::replace(&mut self.phase, Phase::Broken) {
            Phase::Head => self.accept_head(piece).map(|status| Some(Event::Status(status))),
            Phase::Digests => self.accept_digests(piece).map(|()| None),
            Phase::Groups { digests, next } => self.accept_group(digests, next, piece).map(Some),
            Phase::End | Phase::Broken => Err(WireError::Long),
        }
    }

    fn accept_head(&mut self, head: &Bytes) -> Result<Status, WireError> {
        if head[0] != VERSION {
            return Err(WireError::Version(head[0]));
        }
        let status = Status::decode(head[1])?;
        self.phase = if status == Status::Found { Phase::Digests } else { Phase::End };
        Ok(status)
    }

    fn accept_digests(&mut self, list: &Bytes) -> Result<(), WireError> {
        let (list, _) = list.as_chunks::<DIGEST_LEN>();
        let digests = GroupDigests::checked(self.len, self.root, list.to_vec());
        let digests = digests.map_err(|_| WireError::Digests)?;
        self.phase = Phase::Groups { digests, next: groups_of(self.range).start };
        Ok(())
    }

    fn accept_group(&mut self, digests: GroupDigests, group: u64, bytes: &Bytes) -> Result<Event, WireError> {
        if !digests.verify(group, bytes) {
            return Err(WireError::Group(group));
        }
        let more = group + 1 < groups_of(self.range).end;
        self.phase = if more { Phase::Groups { digests, next: group + 1 } } else { Phase::End };
        Ok(Event::Bytes(self.trimmed(group, bytes)))
    }

    /// The part of a group that was asked for: groups travel whole because only whole groups can be verified.
    fn trimmed(&self, group: u64, bytes: &Bytes) -> Bytes {
        let whole = group_range(self.len, group);
        let first = self.range.start().max(whole.start) - whole.start;
        let last = self.range.end().min(whole.end) - whole.start;
        // Both lie within a group of 16 KiB.
        bytes.slice(first as usize..last as usize)
    }
}

/// How much is set aside ahead of bytes that were announced but have not come.
const MAX_RESERVE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
