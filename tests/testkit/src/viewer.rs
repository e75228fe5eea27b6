//! What a viewer does and sees.

use std::time::Duration;

use engine::{Body, Outcome, ServeError};
use futures_util::StreamExt;
use media::{ByteRange, SegmentKey};
use sourcing::SourceId;
use tokio::time::{Instant, sleep_until};

use crate::node::Node;
use crate::package::Package;

/// One request of a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewing {
    /// What.
    pub key: SegmentKey,
    /// Which bytes of it.
    pub range: ByteRange,
    /// When, since the world began; at once if that has passed.
    pub arrives: Duration,
    /// How fast it reads, in bytes per virtual second; `None` is as fast as they come.
    pub rate: Option<u64>,
    /// After how many bytes it walks away; `None` is never.
    pub leaves_after: Option<u64>,
}

impl Viewing {
    /// All of a segment, at once, as fast as it comes, to the end.
    ///
    /// # Panics
    /// If the package has no such key.
    #[must_use]
    pub fn whole(key: &SegmentKey, package: &Package) -> Self {
        let range = ByteRange::whole(package.bytes(key).len() as u64).expect("no segment is empty");
        Self { key: key.clone(), range, arrives: Duration::ZERO, rate: None, leaves_after: None }
    }
}

/// What became of a request. Times count from the beginning of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// When it was asked.
    pub arrived: Duration,
    /// When its first byte was at hand.
    pub first_byte: Option<Duration>,
    /// When it ended.
    pub ended: Duration,
    /// Where the first byte came from.
    pub outcome: Option<Outcome>,
    /// Who delivered it, if it came from a fill.
    pub source: Option<SourceId>,
    /// Bytes received.
    pub bytes: u64,
    /// The first piece, by its place in the response, that is not what the package says.
    pub wrong: Option<u64>,
    /// How it ended.
    pub end: End,
}

/// How a response ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It ended cleanly.
    Clean,
    /// The viewer walked away.
    Left,
    /// With an error, before or after the first byte.
    Failed(ServeError),
}

impl Played {
    /// Whether it ended cleanly with right bytes only. That it was not short is checked while it plays.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.end == End::Clean && self.wrong.is_none()
    }

    /// From the question to the first byte.
    #[must_use]
    pub fn ttfb(&self) -> Option<Duration> {
        Some(self.first_byte?.saturating_sub(self.arrived))
    }
}

impl Node {
    /// Plays: waits for the viewer's time, asks, reads at the viewer's pace, compares every byte. A response
    /// that ends cleanly but short counts as wrong where it ended.
    pub async fn play(&self, viewer: &str, viewing: &Viewing) -> Played {
        sleep_until(self.log.begun() + viewing.arrives).await;
        let mut seen = Played {
            arrived: self.log.now(),
            first_byte: None,
            ended: Duration::ZERO,
            outcome: None,
            source: None,
            bytes: 0,
            wrong: None,
            end: End::Clean,
        };
        seen.end = self.watch(viewing, &mut seen).await.unwrap_or_else(End::Failed);
        seen.ended = self.log.now();
        if seen.end == End::Clean && seen.bytes != viewing.range.len() {
            seen.wrong.get_or_insert(seen.bytes);
        }
        let Played { outcome, bytes, wrong, end, .. } = &seen;
        self.log.note(format_args!(
            "{viewer} {} {}: {end:?}, {bytes} bytes from {outcome:?}, wrong {wrong:?}",
            viewing.key, viewing.range
        ));
        seen
    }

    async fn watch(&self, viewing: &Viewing, seen: &mut Played) -> Result<End, ServeError> {
        let described = self.engine.describe(&viewing.key).await?;
        let serving = self.engine.serve(&described, viewing.range, None).await?;
        seen.first_byte = Some(self.log.now());
        (seen.outcome, seen.source) = (Some(serving.outcome), serving.source);
        self.read(viewing, serving.body, seen).await
    }

    async fn read(&self, viewing: &Viewing, mut body: Body, seen: &mut Played) -> Result<End, ServeError> {
        let truth = self.package.bytes(&viewing.key);
        let truth = truth.slice(viewing.range.start() as usize..viewing.range.end() as usize);
        let begun = Instant::now();
        loop {
            if viewing.leaves_after.is_some_and(|limit| seen.bytes >= limit) {
                return Ok(End::Left);
            }
            let Some(piece) = body.next().await.transpose()? else { return Ok(End::Clean) };
            let at = seen.bytes as usize;
            if truth.get(at..at + piece.len()) != Some(&piece[..]) {
                seen.wrong.get_or_insert(seen.bytes);
            }
            seen.bytes += piece.len() as u64;
            if let Some(rate) = viewing.rate {
                let micros = seen.bytes.saturating_mul(1_000_000) / rate.max(1);
                sleep_until(begun + Duration::from_micros(micros)).await;
            }
        }
    }
}
