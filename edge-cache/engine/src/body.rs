//! A viewer's cursor: one range of one segment, wherever its bytes are.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use media::ByteRange;
use media::digest::{GROUP_LEN, groups_of};
use sourcing::SourceId;
use store::{DiskObject, ReadFault, SegmentBody};
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Described, Engine, Outcome};
use crate::error::{Failure, ServeError};
use crate::fill::Reader;
use crate::fill::table::Stored;

/// The bytes of one response, in pieces of at most 16 KiB. It ends after the last byte of the range or with
/// an error. Dropping it is leaving.
pub struct Body(Pin<Box<dyn Stream<Item = Result<Bytes, ServeError>> + Send>>);

impl Body {
    pub(crate) fn new(first: Bytes, cursor: Cursor) -> Self {
        let rest = stream::unfold(Some(cursor), |cursor| async {
            let mut cursor = cursor?;
            match cursor.next().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(cursor))),
                Err(error) => {
                    cursor.engine.metrics().failed(error.reason);
                    Some((Err(error), None))
                }
            }
        });
        Self(Box::pin(stream::once(async { Ok(first) }).chain(rest)))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, ServeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

/// Where a segment was found.
pub(crate) enum Found {
    Memory(SegmentBody),
    Disk(DiskObject),
    Fill(Reader),
}

impl Found {
    pub(crate) fn stored(stored: Stored) -> (Outcome, Self) {
        match stored {
            Stored::Memory(body) => (Outcome::Memory, Self::Memory(body)),
            Stored::Disk(object) => (Outcome::Disk, Self::Disk(object)),
        }
    }
}

/// What a cursor reads from.
enum Feed {
    Memory(SegmentBody),
    Disk(DiskFeed),
    Fill(Reader),
}

/// One viewer's place in one segment.
pub(crate) struct Cursor {
    engine: Engine,
    described: Described,
    /// The bytes still to come; empty at the end.
    rest: Range<u64>,
    outcome: Outcome,
    feed: Feed,
}

impl Cursor {
    /// `None` when the range reaches past the end of the segment.
    pub(crate) fn new(
        engine: Engine,
        described: Described,
        range: ByteRange,
    ) -> Option<Result<Self, ServeError>> {
        if range.end() > described.len() {
            return None;
        }
        let rest = range.start()..range.end();
        let found = engine.feed(&described, true);
        Some(found.map(|(outcome, found)| {
            let feed = Feed::new(&engine, found, &rest);
            Self { engine, described, rest, outcome, feed }
        }))
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(crate) fn source(&self) -> Option<SourceId> {
        match &self.feed {
            Feed::Fill(reader) => reader.source(),
            Feed::Memory(_) | Feed::Disk(_) => None,
        }
    }

    /// The next bytes; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ServeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let number = self.rest.start / GROUP_LEN;
        let group = match &mut self.feed {
            Feed::Memory(body) => body.group(number).cloned(),
            Feed::Fill(reader) => Some(reader.group(number).await?),
            Feed::Disk(disk) => disk.next().await.ok(),
        };
        let group = match group {
            Some(group) => group,
            None => self.group_elsewhere(number).await?,
        };
        let piece = self.piece(number, &group)?;
        self.rest.start += piece.len() as u64;
        self.engine.metrics().sent(self.outcome, piece.len());
        Ok(Some(piece))
    }

    /// The disk failed in the middle: go on from memory or from a fill, at the same byte.
    async fn group_elsewhere(&mut self, number: u64) -> Result<Bytes, ServeError> {
        let (outcome, found) = self.engine.feed(&self.described, false)?;
        (self.outcome, self.feed) = (outcome, Feed::new(&self.engine, found, &self.rest));
        let missing = || ServeError::new(Failure::SourcesExhausted, "a stored body lacks a group");
        match &mut self.feed {
            Feed::Memory(body) => body.group(number).cloned().ok_or_else(missing),
            Feed::Fill(reader) => reader.group(number).await,
            Feed::Disk(_) => Err(missing()),
        }
    }

    /// What of a group belongs to the rest of the range; never empty.
    fn piece(&self, number: u64, group: &Bytes) -> Result<Bytes, ServeError> {
        let base = number * GROUP_LEN;
        let end = (self.rest.end - base).min(group.len() as u64);
        let start = self.rest.start - base;
        if start >= end {
            return Err(ServeError::new(Failure::Changed, "a group is shorter than the index says"));
        }
        Ok(group.slice(start as usize..end as usize))
    }
}

impl Feed {
    fn new(engine: &Engine, found: Found, rest: &Range<u64>) -> Self {
        match found {
            Found::Memory(body) => Self::Memory(body),
            Found::Fill(reader) => Self::Fill(reader),
            Found::Disk(object) => {
                let groups = ByteRange::new(rest.start, rest.end).map_or(0..0, groups_of);
                Self::Disk(DiskFeed::new(object, groups, engine.disk_batch_groups()))
            }
        }
    }
}

type Batch = Result<Vec<Bytes>, ReadFault>;

/// Groups from disk in order, one batch read ahead while the viewer takes the one before.
struct DiskFeed {
    object: DiskObject,
    ready: VecDeque<Bytes>,
    ahead: Option<AbortOnDropHandle<Batch>>,
    /// Groups not yet asked for.
    unread: Range<u64>,
    batch: u64,
}

impl DiskFeed {
    fn new(object: DiskObject, groups: Range<u64>, batch: u64) -> Self {
        Self { object, ready: VecDeque::new(), ahead: None, unread: groups, batch }
    }

    async fn next(&mut self) -> Result<Bytes, ReadFault> {
        if self.ready.is_empty() {
            let batch = match self.ahead.take() {
                // A reader task that was stopped or broke read nothing: as good as an evicted object.
                Some(ahead) => ahead.await.unwrap_or(Err(ReadFault::Gone))?,
                None => {
                    let groups = self.next_batch();
                    self.object.read(groups).await?
                }
            };
            self.ready = batch.into();
            self.read_ahead();
        }
        self.ready.pop_front().ok_or(ReadFault::Gone)
    }

    fn next_batch(&mut self) -> Range<u64> {
        let start = self.unread.start;
        self.unread.start = self.unread.end.min(start + self.batch);
        start..self.unread.start
    }

    fn read_ahead(&mut self) {
        let groups = self.next_batch();
        if !groups.is_empty() {
            let object = self.object.clone();
            let read = tokio::spawn(async move { object.read(groups).await });
            self.ahead = Some(AbortOnDropHandle::new(read));
        }
    }
}
