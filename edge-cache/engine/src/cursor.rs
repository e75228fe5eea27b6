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
use tokio::time::{Instant, sleep};

use crate::disk_feed::DiskFeed;
use crate::engine::{Described, Engine, Outcome};
use crate::error::{Failure, ServeError};
use crate::fill::Reader;
use crate::window::Window;

/// Looks for one group before a viewer is told that it cannot be had. A look that finds a place gives the group,
/// unless the place loses it in that moment; a disk is trusted with so many losses, a fill gives it or fails.
const MAX_LOOKS: u32 = 8;

/// Objects that may rot or go under a viewer before it leaves the disk for good.
const MAX_DISK_FAULTS: u32 = 3;

/// What a viewer looks for.
pub(crate) struct Ask {
    pub(crate) groups: Range<u64>,
    /// Whether on disk, too.
    pub(crate) disk: bool,
    /// Whether nothing was bought for it before: one who comes back for what was lost is no sign of a demand.
    pub(crate) newcomer: bool,
    /// When its player needs them; `None` when it did not say.
    pub(crate) needed_by: Option<Instant>,
}

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
    /// When the player needs them; `None` when it did not say.
    needed_by: Option<Instant>,
    /// Where the last piece came from.
    outcome: Outcome,
    memory: Option<WeakBody>,
    disk: Option<DiskObject>,
    feed: Option<DiskFeed>,
    fill: Option<(Outcome, Reader)>,
    /// `false` for a viewer whose disk failed or hesitated: it does not go back there.
    trusts_disk: bool,
    disk_faults: u32,
    /// The next look is not for bytes that were bought for it and lost: the disk let it down, or the node is full.
    excused: bool,
    /// Bytes went out.
    begun: bool,
    /// Until when this viewer, whose response has begun, tries again on a node that is full.
    patience: Option<Instant>,
    /// Groups before this one were looked for.
    sought: u64,
    window: Window,
    /// Nobody delivers, and what is sent was purged softly.
    stale: bool,
}

impl Cursor {
    /// `None` when the range reaches past the end of the segment.
    pub(crate) fn new(
        engine: Engine,
        described: Described,
        range: ByteRange,
        needed_by: Option<Instant>,
    ) -> Option<Self> {
        (range.end() <= described.len()).then(|| Self {
            engine,
            described,
            rest: range.start()..range.end(),
            needed_by,
            outcome: Outcome::Memory,
            memory: None,
            disk: None,
            feed: None,
            fill: None,
            trusts_disk: true,
            disk_faults: 0,
            excused: false,
            begun: false,
            patience: None,
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
        (self.begun, self.patience) = (true, None);
        self.engine.metrics().sent(self.outcome, piece.len());
        Ok(Some(piece))
    }

    async fn group(&mut self, n: u64) -> Result<Bytes, ServeError> {
        let mut looks = 0;
        let error = loop {
            match self.find(n).await {
                Ok(Some(group)) => return Ok(group),
                Ok(None) if looks < MAX_LOOKS => looks += 1,
                Ok(None) => break ServeError::new(Failure::SourcesExhausted, "a group was lost too often"),
                Err(error) if error.reason == Failure::Overloaded && self.may_wait() => {
                    (self.fill, self.excused) = (None, true);
                    sleep(self.engine.turn_wait()).await;
                }
                Err(error) => break error,
            }
        };
        self.last_resort(n, error).await
    }

    /// One round: what is at hand, the disk, the fill, and at last a new look.
    async fn find(&mut self, n: u64) -> Result<Option<Bytes>, ServeError> {
        if let Some(group) = self.at_hand(n) {
            return Ok(Some(group));
        }
        if let Some(group) = self.read_disk(n).await {
            return Ok(Some(group));
        }
        match self.await_fill(n).await? {
            None => self.look_again(n),
            found => Ok(found),
        }
    }

    /// Nobody is turned away in the middle of a response: whoever has begun waits, as long as a fill may take.
    fn may_wait(&mut self) -> bool {
        let now = Instant::now();
        let until = *self.patience.get_or_insert(now + self.engine.fill_deadline());
        self.begun && now < until
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
                (self.disk, self.feed) = (None, None);
                (self.excused, self.disk_faults) = (true, self.disk_faults + 1);
                self.trusts_disk &= departure.is_about_the_object() && self.disk_faults < MAX_DISK_FAULTS;
                None
            }
        }
    }

    async fn await_fill(&mut self, n: u64) -> Result<Option<Bytes>, ServeError> {
        let Some((outcome, reader)) = self.fill.as_ref().filter(|(_, reader)| reader.expects(n)) else {
            return Ok(None);
        };
        let group = reader.group(n).await?;
        self.outcome = *outcome;
        Ok(group)
    }

    /// Asks the tiers and the table anew for what is left. The first group, if it is in memory.
    fn look_again(&mut self, n: u64) -> Result<Option<Bytes>, ServeError> {
        let excused = std::mem::take(&mut self.excused);
        match self.sought {
            0 => {}
            sought if n >= sought => self.window.taken(),
            // Memory or the fill gave up what this viewer had not read yet.
            _ if !excused => self.window.cut(self.engine.first_window()),
            _ => {}
        }
        let newcomer = self.sought == 0 || excused;
        self.sought = self.window.end(n, self.end());
        let ask = Ask { groups: n..self.sought, disk: self.trusts_disk, newcomer, needed_by: self.needed_by };
        let found = self.engine.feed(&self.described, &ask)?;
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
