//! The digests of each segment's groups, fetched for neighbouring segments at once.
//!
//! A viewer who plays one segment will play the next: one small range of the groups object covers minutes of
//! film. Pages are bounded in segments and in bytes, and their borders follow from the index alone, so that no
//! list lies on two pages. Every list is checked against the signed index when its page arrives, so a page in
//! the cache is as good as the index itself. That costs a merge of all chaining values, about 0.1 ms for a page.

use std::ops::Range;
use std::sync::Arc;

use media::digest::group_count;
use media::index::{Entry, GROUPS_OBJECT, Index};
use media::{ByteRange, GroupDigests, PackageId, Part, RenditionId, SegmentKey, TitleId};
use moka::future::Cache;
use sourcing::{Leg, Sources, Want};
use store::SegmentStore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::catalog::receive;
use crate::config::EngineConfig;
use crate::engine::Described;
use crate::error::{Failure, ServeError};
use crate::flights::{Flights, Grounded};
use crate::metrics::Metrics;
use crate::outlived::Outlived;

/// Names a page: neighbouring media segments, or one of the other parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PageKey {
    title: TitleId,
    package: PackageId,
    rendition: RenditionId,
    /// The first part on the page.
    first: Part,
}

#[derive(Clone)]
struct Page {
    lists: Arc<[Arc<GroupDigests>]>,
    outlived: Arc<Outlived>,
}

pub(crate) struct Lists {
    flights: Arc<Flights<PageKey, Result<Page, ServeError>>>,
    loader: Arc<Loader>,
    tasks: TaskTracker,
    limits: PageLimits,
}

/// What loads share; they outlive whoever began them.
struct Loader {
    sources: Arc<Sources>,
    store: Arc<SegmentStore>,
    metrics: Arc<Metrics>,
    pages: Cache<PageKey, Page>,
}

/// How much goes on a page.
#[derive(Debug, Clone, Copy)]
struct PageLimits {
    segments: u32,
    bytes: u64,
}

impl Lists {
    pub(crate) fn new(
        config: &EngineConfig,
        (sources, store): (&Arc<Sources>, &Arc<SegmentStore>),
        metrics: Arc<Metrics>,
        tasks: &TaskTracker,
    ) -> Self {
        let pages = Cache::builder().max_capacity(config.digest_cache_bytes.bytes());
        let pages = pages.weigher(|_, page: &Page| page.lists.iter().map(|list| weight(list)).sum()).build();
        let loader = Loader { sources: Arc::clone(sources), store: Arc::clone(store), metrics, pages };
        let limits =
            PageLimits { segments: config.digest_page_segments, bytes: config.digest_page_bytes.bytes() };
        // Only fills ask.
        let flights = Flights::new(config.max_fills);
        Self { flights, loader: Arc::new(loader), tasks: tasks.clone(), limits }
    }

    /// The digests of one segment; no I/O for a segment of a single group. Walking away leaves the load to others.
    pub(crate) async fn of(
        &self,
        described: &Described,
        deadline: Instant,
    ) -> Result<Arc<GroupDigests>, ServeError> {
        if described.entry.groups_want().is_none() {
            return checked(&described.entry, &[]).ok_or_else(|| impossible(&described.key));
        }
        let (parts, place) = self.place(described).ok_or_else(|| impossible(&described.key))?;
        let first = *parts.first().ok_or_else(|| impossible(&described.key))?;
        let SegmentKey { title, package, rendition, .. } = described.key.clone();
        let key = PageKey { title, package, rendition, first };
        let page = match self.loader.kept(&key, described).await {
            Some(page) => page,
            None => self.load(key, described, parts, deadline).await?,
        };
        page.lists.get(place).cloned().ok_or_else(|| impossible(&described.key))
    }

    async fn load(
        &self,
        key: PageKey,
        described: &Described,
        parts: Vec<Part>,
        deadline: Instant,
    ) -> Result<Page, ServeError> {
        let load = || {
            let (loader, key, described) = (Arc::clone(&self.loader), key.clone(), described.clone());
            async move { loader.load(&key, &described, &parts, deadline).await }
        };
        self.flights.join(&key, &self.tasks, load).await.unwrap_or_else(|why| {
            Err(match why {
                Grounded::Full => {
                    ServeError::new(Failure::Overloaded, "too many digest lists are being loaded")
                }
                Grounded::Stopped => {
                    ServeError::new(Failure::SourcesExhausted, "the load of digests was stopped")
                }
            })
        })
    }

    /// The parts on the page of a part, and where among them it stands.
    fn place(&self, described: &Described) -> Option<(Vec<Part>, usize)> {
        let Part::Media(n) = described.key.part else { return Some((vec![described.key.part], 0)) };
        let mut renditions = described.index().renditions.iter();
        let rendition = renditions.find(|rendition| rendition.id == described.key.rendition)?;
        let lens = rendition.media.iter().map(|segment| u64::from(segment.len));
        let page = page_of(lens, n, self.limits);
        Some((page.clone().map(Part::Media).collect(), (n - page.start) as usize))
    }
}

/// The segments on the page of segment `n`. Pages are filled from the first segment on.
fn page_of(lens: impl Iterator<Item = u64>, n: u32, limits: PageLimits) -> Range<u32> {
    let (mut page, mut bytes) = (0..0, 0);
    for len in lens {
        let list = group_count(len) * 32;
        let full =
            page.end - page.start >= limits.segments || (!page.is_empty() && bytes + list > limits.bytes);
        if full {
            if n < page.end {
                break;
            }
            (page, bytes) = (page.end..page.end, 0);
        }
        page.end += 1;
        bytes += list;
    }
    page
}

impl Loader {
    /// A page that no purge has come over.
    async fn kept(&self, key: &PageKey, described: &Described) -> Option<Page> {
        let page = self.pages.get(key).await?;
        let first = SegmentKey { part: key.first, ..described.key.clone() };
        let purged = page.outlived.purged(&self.store, &first, &described.tags());
        purged.is_none().then_some(page)
    }

    async fn load(
        &self,
        key: &PageKey,
        described: &Described,
        parts: &[Part],
        deadline: Instant,
    ) -> Result<Page, ServeError> {
        // The load that landed just before this one began may have brought it.
        if let Some(page) = self.kept(key, described).await {
            return Ok(page);
        }
        let outlived = Arc::new(Outlived::new(self.store.epoch()));
        let lists = self.fetch(described, parts, deadline).await?;
        let page = Page { lists, outlived };
        self.pages.insert(key.clone(), page.clone()).await;
        Ok(page)
    }

    async fn fetch(
        &self,
        described: &Described,
        parts: &[Part],
        deadline: Instant,
    ) -> Result<Arc<[Arc<GroupDigests>]>, ServeError> {
        let index = described.index();
        let entry = |part: &Part| index.resolve(&SegmentKey { part: *part, ..described.key.clone() });
        let entries: Vec<Entry> = parts.iter().filter_map(entry).collect();
        let range = span(&entries).ok_or_else(|| impossible(&described.key))?;
        let mut fetch = self.sources.fetch(want(index, range), deadline);
        loop {
            let leg = fetch.next_leg(0).await;
            let leg = leg.map_err(|error| ServeError::exhausted(GROUPS_OBJECT, &error, deadline))?;
            if let Some(lists) = self.read(leg, &entries, range).await {
                return Ok(lists);
            }
        }
    }

    /// `None` when the leg broke or its lists are not those of the index.
    async fn read(
        &self,
        mut leg: Leg,
        entries: &[Entry],
        range: ByteRange,
    ) -> Option<Arc<[Arc<GroupDigests>]>> {
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
        match entries.iter().map(list).collect::<Option<Arc<[_]>>>() {
            // Everything is here already; a failure to end cleanly is the source's business.
            Some(lists) => {
                let _ = leg.chunk().await;
                Some(lists)
            }
            None => {
                self.metrics.verify_failed(leg.kind());
                leg.corrupt();
                None
            }
        }
    }
}

fn want(index: &Index, range: ByteRange) -> Want {
    Want {
        object: index.object_path(GROUPS_OBJECT),
        object_len: Some(index.groups_len()),
        range: Some(range),
        segment: None,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: PageLimits = PageLimits { segments: 64, bytes: 64 * 1024 };

    #[test]
    fn large_segments_make_short_pages() {
        for (len, n, expected) in [
            (1_000_000, 0, 0..33),
            (1_000_000, 33, 33..66),
            (8 << 20, 5, 4..8),
            (100_000, 70, 64..100),
            (64 << 20, 7, 7..8),
        ] {
            assert_eq!(page_of(std::iter::repeat_n(len, 100), n, LIMITS), expected, "{len} {n}");
        }
    }

    proptest! {
        #[test]
        fn every_segment_is_on_one_page(lens in proptest::collection::vec(1u64..40_000_000, 1..200)) {
            let pages: Vec<_> = (0..lens.len() as u32).map(|n| page_of(lens.iter().copied(), n, LIMITS)).collect();
            for (n, page) in (0..).zip(&pages) {
                prop_assert!(page.contains(&n));
                prop_assert!(page.clone().all(|other| pages[other as usize] == *page));
                let bytes: u64 = page.clone().map(|n| group_count(lens[n as usize]) * 32).sum();
                prop_assert!(page.len() == 1 || (page.len() <= 64 && bytes <= LIMITS.bytes));
            }
        }
    }
}
