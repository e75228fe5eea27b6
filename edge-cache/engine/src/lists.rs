//! The digests of each segment's groups, fetched for neighbouring segments at once.
//!
//! A viewer who plays one segment will play the next: one small range of the groups object covers about six
//! minutes of film. Every list is checked against the signed index when its page arrives, so a page in the
//! cache is as good as the index itself. That costs a merge of all chaining values, about 1 ms for a page.

use std::ops::Range;
use std::sync::Arc;

use media::digest::group_count;
use media::index::{Entry, GROUPS_OBJECT, Index};
use media::{ByteRange, GroupDigests, PackageId, Part, RenditionId, SegmentKey, TitleId};
use moka::future::Cache;
use sourcing::{Leg, Sources, Want};
use tokio::time::Instant;

use crate::catalog::receive;
use crate::config::EngineConfig;
use crate::engine::Described;
use crate::error::{Failure, ServeError};
use crate::metrics::Metrics;

/// Names a page: neighbouring media segments, or one of the other parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PageKey {
    title: TitleId,
    package: PackageId,
    rendition: RenditionId,
    /// The first part on the page.
    first: Part,
}

type Page = Arc<[Arc<GroupDigests>]>;

pub(crate) struct Lists {
    sources: Arc<Sources>,
    metrics: Arc<Metrics>,
    pages: Cache<PageKey, Page>,
    page_segments: u32,
}

impl Lists {
    pub(crate) fn new(config: &EngineConfig, sources: Arc<Sources>, metrics: Arc<Metrics>) -> Self {
        let pages = Cache::builder().max_capacity(config.digest_cache_bytes.bytes());
        let pages = pages.weigher(|_, page: &Page| page.iter().map(|list| weight(list)).sum()).build();
        Self { sources, metrics, pages, page_segments: config.digest_page_segments }
    }

    /// The digests of one segment; no I/O for a segment of a single group.
    pub(crate) async fn of(
        &self,
        described: &Described,
        deadline: Instant,
    ) -> Result<Arc<GroupDigests>, ServeError> {
        if described.entry.groups_want().is_none() {
            return checked(&described.entry, &[]).ok_or_else(|| impossible(&described.key));
        }
        let (first, place) = self.place(described.key.part);
        let SegmentKey { title, package, rendition, .. } = described.key.clone();
        let key = PageKey { title, package, rendition, first };
        let page = self.pages.try_get_with_by_ref(&key, self.load(described, first, deadline)).await;
        let page = page.map_err(|error| ServeError::clone(&error))?;
        page.get(place).cloned().ok_or_else(|| impossible(&described.key))
    }

    /// The first part on the page of a part, and where on it the part stands.
    fn place(&self, part: Part) -> (Part, usize) {
        match part {
            Part::Media(n) => (Part::Media(n - n % self.page_segments), (n % self.page_segments) as usize),
            single => (single, 0),
        }
    }

    async fn load(&self, described: &Described, first: Part, deadline: Instant) -> Result<Page, ServeError> {
        let index = described.index();
        let entries = self.entries(index, &described.key, first);
        let range = span(&entries).ok_or_else(|| impossible(&described.key))?;
        let want = Want {
            object: index.object_path(GROUPS_OBJECT),
            object_len: Some(index.groups_len()),
            range: Some(range),
            segment: None,
        };
        let mut fetch = self.sources.fetch(want, deadline);
        loop {
            let leg = fetch.next_leg(0).await;
            let leg = leg.map_err(|error| ServeError::exhausted(GROUPS_OBJECT, &error, deadline))?;
            if let Some(page) = self.read(leg, &entries, range).await {
                return Ok(page);
            }
        }
    }

    fn entries(&self, index: &Index, key: &SegmentKey, first: Part) -> Vec<Entry> {
        let part = |part| index.resolve(&SegmentKey { part, ..key.clone() });
        match first {
            Part::Media(n) => {
                (n..n.saturating_add(self.page_segments)).map_while(|n| part(Part::Media(n))).collect()
            }
            single => part(single).into_iter().collect(),
        }
    }

    /// `None` when the leg broke or its lists are not those of the index.
    async fn read(&self, mut leg: Leg, entries: &[Entry], range: ByteRange) -> Option<Page> {
        let bytes = match receive(&mut leg).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(source = %leg.source(), %error, "digest lists did not arrive");
                return None;
            }
        };
        let list = |entry: &Entry| {
            let own = entry.groups_want().map_or(0..0, |own| within(own, range));
            checked(entry, bytes.get(own)?)
        };
        match entries.iter().map(list).collect::<Option<Page>>() {
            // Everything is here already; a failure to end cleanly is the source's business.
            Some(page) => {
                let _ = leg.chunk().await;
                Some(page)
            }
            None => {
                self.metrics.verify_failed(leg.kind());
                leg.corrupt();
                None
            }
        }
    }
}

fn checked(entry: &Entry, list: &[u8]) -> Option<Arc<GroupDigests>> {
    GroupDigests::parse(u64::from(entry.segment.len), entry.segment.root, list).ok().map(Arc::new)
}

/// From the first list to the last; lists of neighbours follow each other.
fn span(entries: &[Entry]) -> Option<ByteRange> {
    let mut wants = entries.iter().filter_map(Entry::groups_want);
    let first = wants.next()?;
    let last = wants.next_back().unwrap_or(first);
    ByteRange::new(first.start(), last.end())
}

fn within(own: ByteRange, range: ByteRange) -> Range<usize> {
    let from = |at: u64| usize::try_from(at.saturating_sub(range.start())).unwrap_or(usize::MAX);
    from(own.start())..from(own.end())
}

fn weight(list: &GroupDigests) -> u32 {
    u32::try_from(group_count(list.len()) * 32 + 128).unwrap_or(u32::MAX)
}

/// What no checked index allows.
fn impossible(key: &SegmentKey) -> ServeError {
    ServeError::new(Failure::Untrusted, format_args!("the index contradicts itself about {key}"))
}
