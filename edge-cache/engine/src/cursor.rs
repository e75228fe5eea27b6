//! A viewer's cursor: one range of one segment, wherever its bytes are.
//!
//! It takes each group from the nearest place that has it: memory, the fill it reads, the disk, else the fill
//! that it then joins or begins. It keeps none of them alive, but while it waits; when a tier or a fill gave up
//! what it counted on, it looks again and goes on at the same group.

use std::ops::Range;

use bytes::Bytes;
use media::ByteRange;
use media::digest::{GROUP_LEN, groups_of};
use sourcing::SourceId;
use store::{DiskObject, Held, WeakBody};

use crate::disk_feed::DiskFeed;
use crate::engine::{Described, Engine, Outcome};
use crate::error::{Failure, ServeError};
use crate::fill::Reader;
use crate::window::Window;

/// Looks for one group before a viewer is told that it cannot be had. Each look that finds a place gives a group or
/// excludes a place, so more than three are a bug.
const MAX_LOOKS: u32 = 8;

/// Where the groups of a range are.
pub(crate) struct Found {
    pub(crate) held: Held,
    /// For what no tier has, with how the viewer came by it.
    pub(crate) fill: Option<(Outcome, Reader)>,
}

/// One viewer's place in one segment.
pub(crate) struct Cursor {
    engine: Engine,
    described: Described,
    /// The bytes still to come; empty at the end.
    rest: Range<u64>,
    /// Where the last piece came from.
    outcome: Outcome,
    memory: Option<WeakBody>,
    disk: Option<DiskObject>,
    feed: Option<DiskFeed>,
    fill: Option<(Outcome, Reader)>,
    /// `false` for a viewer who met a disk fault: it does not go back to the disk.
    trusts_disk: bool,
    /// Groups before this one were looked for.
    sought: u64,
    window: Window,
    /// Nobody delivers, and what is sent was purged softly.
    stale: bool,
}

impl Cursor {
    /// `None` when the range reaches past the end of the segment.
    pub(crate) fn new(engine: Engine, described: Described, range: ByteRange) -> Option<Self> {
        (range.end() <= described.len()).then(|| Self {
            engine,
            described,
            rest: range.start()..range.end(),
            outcome: Outcome::Memory,
            memory: None,
            disk: None,
            feed: None,
            fill: None,
            trusts_disk: true,
            sought: 0,
            window: Window::default(),
            stale: false,
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Who delivered the last piece to the fill it came from.
    pub(crate) fn source(&self) -> Option<SourceId> {
        match (self.outcome, &self.fill) {
            (Outcome::Joined | Outcome::Filled, Some((_, reader))) => reader.source(),
            _ => None,
        }
    }

    /// The next bytes; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ServeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let number = self.rest.start / GROUP_LEN;
        let group = self.group(number).await?;
        let piece = self.piece(number, &group)?;
        self.rest.start += piece.len() as u64;
        self.engine.metrics().sent(self.outcome, piece.len());
        Ok(Some(piece))
    }

    async fn group(&mut self, n: u64) -> Result<Bytes, ServeError> {
        let mut error = ServeError::new(Failure::SourcesExhausted, "a group was found and lost too often");
        for _ in 0..MAX_LOOKS {
            if let Some(group) = self.at_hand(n) {
                return Ok(group);
            }
            if let Some(group) = self.read_disk(n).await {
                return Ok(group);
            }
            let found = match self.await_fill(n).await {
                Ok(None) => self.look_again(n),
                found => found,
            };
            match found {
                Ok(Some(group)) => return Ok(group),
                Ok(None) => {}
                Err(failed) => {
                    error = failed;
                    break;
                }
            }
        }
        self.last_resort(n, error).await
    }

    fn at_hand(&mut self, n: u64) -> Option<Bytes> {
        if let Some(group) = self.memory.as_ref().and_then(|body| body.group(n)) {
            self.outcome = Outcome::Memory;
            return Some(group);
        }
        let (outcome, reader) = self.fill.as_ref()?;
        let group = reader.at_hand(n)?;
        self.outcome = *outcome;
        Some(group)
    }

    async fn read_disk(&mut self, n: u64) -> Option<Bytes> {
        let object = self.disk.as_ref().filter(|object| object.has(n))?;
        if !self.feed.as_ref().is_some_and(|feed| feed.is_at(n)) {
            let end = object.present().next_missing(n).unwrap_or(u64::MAX).min(self.end());
            self.feed = Some(DiskFeed::new(object.clone(), n..end, self.engine.reading()));
        }
        match self.feed.as_mut()?.next().await {
            Ok(group) => {
                self.outcome = Outcome::Disk;
                Some(group)
            }
            Err(departure) => {
                let (key, why) = (&self.described.key, departure.as_str());
                tracing::debug!(%key, group = n, why, "a viewer leaves the disk");
                self.engine.metrics().departed(departure);
                (self.disk, self.feed, self.trusts_disk) = (None, None, false);
                None
            }
        }
    }

    async fn await_fill(&mut self, n: u64) -> Result<Option<Bytes>, ServeError> {
        let Some((outcome, reader)) = self.fill.as_mut().filter(|(_, reader)| reader.expects(n)) else {
            return Ok(None);
        };
        let group = reader.group(n).await?;
        self.outcome = *outcome;
        Ok(group)
    }

    /// Asks the tiers and the table anew for what is left. The first group, if it is in memory.
    fn look_again(&mut self, n: u64) -> Result<Option<Bytes>, ServeError> {
        match self.sought {
            0 => {}
            sought if n >= sought => self.window.taken(),
            // Memory or the fill gave up what this viewer had not read yet. Leaving the disk is another matter.
            _ if self.trusts_disk || self.fill.is_some() => self.window.cut(self.engine.first_window()),
            _ => {}
        }
        self.sought = self.window.end(n, self.end());
        let found = self.engine.feed(&self.described, n..self.sought, self.trusts_disk)?;
        self.fill = found.fill;
        Ok(self.hold(found.held, n))
    }

    /// Remembers the tiers without keeping anything alive.
    fn hold(&mut self, held: Held, n: u64) -> Option<Bytes> {
        self.memory = held.memory.as_ref().map(store::SegmentBody::downgrade);
        (self.disk, self.feed) = (held.disk, None);
        let group = held.memory.as_ref()?.group(n)?.clone();
        self.outcome = Outcome::Memory;
        Some(group)
    }

    /// No source delivers: what a soft purge left may be served, and a disk may be asked once more.
    async fn last_resort(&mut self, n: u64, error: ServeError) -> Result<Bytes, ServeError> {
        if !error.reason.is_absence_of_sources() {
            return Err(error);
        }
        let (held, stale) = self.engine.leftovers(&self.described, n).ok_or_else(|| error.clone())?;
        if stale && !self.stale {
            tracing::info!(key = %self.described.key, reason = error.reason.as_str(), "serving what was purged softly");
            self.engine.metrics().stale.inc();
            self.stale = true;
        }
        if let Some(group) = self.hold(held, n) {
            return Ok(group);
        }
        self.read_disk(n).await.ok_or(error)
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

    /// One past the last group of the range.
    fn end(&self) -> u64 {
        ByteRange::new(self.rest.start, self.rest.end).map_or(0, |rest| groups_of(rest).end)
    }
}
