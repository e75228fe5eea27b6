//! A small film, scripted sources that hold it, and an engine over them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use media::index::{Contents, GROUPS_OBJECT, INDEX_OBJECT, Index, Object, Rendition, Segment, SigningKey};
use media::{ByteRange, Digest, GROUP_LEN, GroupDigests, PackageId, Part, RenditionKind, SegmentKey};
use prometheus::Registry;
use sourcing::{
    BoxFuture, Offer, Opened, Price, Reason, Source, SourceError, SourceId, SourceKind, Sources,
    SourcingConfig, Want,
};
use store::{ByteSize, Device, DiskConfig, MemoryDevice, PurgeKind, Scope, SegmentStore, StoreConfig};
use tokio::time::Instant;

use crate::*;

/// Lengths of the film's media segments: many groups, few, one, one byte more than a group, and very many.
pub(crate) const SEGMENTS: [u32; 5] = [1_000_000, 300_000, 9_000, 16_385, 8_000_000];
pub(crate) const VIDEO: &str = "bbb/00000000000000ff/v720.mp4";
const MAIN_PLAYLIST: &[u8] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv720/index.m3u8\n";
const PIECE: u64 = 8 * 1024;
/// Time between two pieces: a whole first segment takes 123 ms.
const PACE: Duration = Duration::from_millis(1);

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

/// The objects of the package by path, and the bytes of its one video object.
#[derive(Clone)]
pub(crate) struct Film {
    pub(crate) objects: HashMap<String, Bytes>,
    pub(crate) video: Bytes,
    lens: Vec<u32>,
}

fn segment(object: u16, offset: u64, bytes: &[u8]) -> Segment {
    Segment { object, offset, len: bytes.len() as u32, duration_ms: 6_000, root: Digest::of(bytes) }
}

fn rendition(id: &str, kind: RenditionKind) -> Rendition {
    let id = id.parse().expect("a name");
    Rendition { id, kind, bandwidth: 0, playlist: None, iframes: None, init: None, media: vec![] }
}

/// Bytes that differ everywhere, so that a splice or a shift shows.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

impl Film {
    pub(crate) fn new() -> Self {
        static FILM: LazyLock<Film> = LazyLock::new(|| Film::of(&SEGMENTS));
        FILM.clone()
    }

    /// A film of segments of these lengths.
    pub(crate) fn of(lens: &[u32]) -> Self {
        let video = Bytes::from(noise(lens.iter().sum::<u32>() as usize));
        let main = Rendition {
            playlist: Some(segment(0, 0, MAIN_PLAYLIST)),
            ..rendition("main", RenditionKind::Main)
        };
        let media = (0..lens.len()).map(|n| {
            let range = range(lens, n);
            segment(1, range.start as u64, &video[range])
        });
        let v720 = Rendition { media: media.collect(), ..rendition("v720", RenditionKind::Video) };
        let object = |path: &str, len: usize| Object { path: path.to_owned(), len: len as u64 };
        let index = Index::new(Contents {
            title: "bbb".parse().expect("a name"),
            package: PackageId(0xff),
            created: 1_700_000_000,
            tags: Vec::new(),
            objects: vec![object("hls/main.m3u8", MAIN_PLAYLIST.len()), object("v720.mp4", video.len())],
            renditions: vec![main, v720],
        });
        let index = index.expect("a good index");
        let mut lists = vec![GroupDigests::of(MAIN_PLAYLIST)];
        lists.extend((0..lens.len()).map(|n| GroupDigests::of(&video[range(lens, n)])));
        let groups = index.group_lists(&lists).expect("their own lists");
        let objects = [
            (INDEX_OBJECT, Bytes::from(index.sign(&signing_key()))),
            (GROUPS_OBJECT, Bytes::from(groups)),
            ("hls/main.m3u8", Bytes::from_static(MAIN_PLAYLIST)),
            ("v720.mp4", video.clone()),
        ];
        let objects = objects.map(|(path, bytes)| (index.object_path(path), bytes)).into();
        Self { objects, video, lens: lens.to_vec() }
    }

    /// The true bytes of a media segment.
    pub(crate) fn segment(&self, n: usize) -> Bytes {
        self.video.slice(range(&self.lens, n))
    }
}

fn range(lens: &[u32], n: usize) -> std::ops::Range<usize> {
    let start = lens[..n].iter().sum::<u32>() as usize;
    start..start + lens[n] as usize
}

pub(crate) fn key(n: u32) -> SegmentKey {
    let (key, _) = SegmentKey::parse("bbb/00000000000000ff/v720/0.m4s").expect("a key");
    SegmentKey { part: Part::Media(n), ..key }
}

/// What the index of the film says about a media segment.
pub(crate) async fn described(n: u32) -> Described {
    World::new(&[Act::Deliver], Setup::default()).await.engine.describe(&key(n)).await.expect("described")
}

/// What a scripted source does with a want for the video object; offsets count from the start of the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Deliver,
    CutAt(u64),
    StallAt(u64),
    FlipAt(u64),
    Fail(Reason),
    Hang,
    OtherLength,
    /// One piece in so long.
    Drip(Duration),
}

pub(crate) struct Scripted {
    id: SourceId,
    objects: Mutex<HashMap<String, Bytes>>,
    act: Mutex<Act>,
    away: AtomicBool,
    /// Path and first byte of every question.
    asked: Mutex<Vec<(String, u64)>>,
    /// Bytes of the video object that went out.
    pub(crate) sent: Arc<AtomicU64>,
    /// Bytes of digest lists that went out.
    pub(crate) listed: Arc<AtomicU64>,
}

impl Scripted {
    pub(crate) fn asked(&self, path: &str) -> Vec<u64> {
        let asked = self.asked.lock().expect("lock");
        asked.iter().filter(|(asked, _)| asked == path).map(|(_, from)| *from).collect()
    }

    pub(crate) fn act(&self, act: Act) {
        *self.act.lock().expect("lock") = act;
    }

    /// It answers nothing any more, whatever is asked.
    pub(crate) fn is_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn replace(&self, path: &str, bytes: Option<Bytes>) {
        let mut objects = self.objects.lock().expect("lock");
        match bytes {
            Some(bytes) => objects.insert(path.to_owned(), bytes),
            None => objects.remove(path),
        };
    }

    async fn answer(&self, want: &Want) -> Result<Opened, SourceError> {
        let from = want.range.map_or(0, ByteRange::start);
        self.asked.lock().expect("lock").push((want.object.clone(), from));
        if self.away.load(Ordering::Relaxed) {
            return Err(SourceError::new(Reason::Unavailable, "away"));
        }
        let object = self.objects.lock().expect("lock").get(&want.object).cloned();
        let missing = || SourceError::new(Reason::NotFound, "as scripted");
        let object = object.ok_or_else(missing)?;
        let mut bytes =
            object.slice(from as usize..want.range.map_or(object.len(), |range| range.end() as usize));
        let act = if want.object == VIDEO { *self.act.lock().expect("lock") } else { Act::Deliver };
        let (mut len, mut silent, mut pace) = (bytes.len() as u64, false, PACE);
        match act {
            Act::Deliver => {}
            Act::CutAt(at) => bytes.truncate(at as usize),
            Act::StallAt(at) => (bytes, silent) = (bytes.slice(..bytes.len().min(at as usize)), true),
            Act::FlipAt(at) => bytes = flipped(&bytes, at),
            Act::Fail(reason) => return Err(SourceError::new(reason, "as scripted")),
            Act::Hang => std::future::pending().await,
            Act::OtherLength => len += 1,
            Act::Drip(slow) => pace = slow,
        }
        let counted = match &want.object {
            object if object == VIDEO => Arc::clone(&self.sent),
            object if object.ends_with(GROUPS_OBJECT) => Arc::clone(&self.listed),
            _ => Arc::default(),
        };
        let pieces = (0..(bytes.len() as u64).div_ceil(PIECE)).map(move |n| {
            let start = n * PIECE;
            bytes.slice(start as usize..bytes.len().min((start + PIECE) as usize))
        });
        let body = stream::iter(pieces).then(move |piece| {
            let counted = Arc::clone(&counted);
            async move {
                tokio::time::sleep(pace).await;
                counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(piece)
            }
        });
        Ok(Opened { len, body: if silent { body.chain(stream::pending()).boxed() } else { body.boxed() } })
    }
}

fn flipped(bytes: &Bytes, at: u64) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at as usize) {
        *byte ^= 0x10;
    }
    bytes.into()
}

impl Source for Scripted {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Http
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(self.answer(want))
    }
}

/// An engine with everything around it.
pub(crate) struct World {
    pub(crate) film: Film,
    /// In the order of their price.
    pub(crate) sources: Vec<Arc<Scripted>>,
    pub(crate) store: Arc<SegmentStore>,
    pub(crate) engine: Engine,
    registry: Registry,
}

pub(crate) struct Setup {
    pub(crate) engine: EngineConfig,
    pub(crate) store: StoreConfig,
    pub(crate) device: Option<Arc<MemoryDevice>>,
    pub(crate) sourcing: SourcingConfig,
    pub(crate) film: Film,
}

impl Default for Setup {
    fn default() -> Self {
        let store = StoreConfig { memory_bytes: ByteSize::mib(64), ..StoreConfig::default() };
        Self {
            engine: EngineConfig::default(),
            store,
            device: None,
            sourcing: SourcingConfig::default(),
            film: Film::new(),
        }
    }
}

impl Setup {
    /// A disk tier in memory and no memory tier.
    pub(crate) fn disk_only() -> Self {
        let disk = vec![DiskConfig::default()];
        let store = StoreConfig { memory_bytes: ByteSize::from(0), disk, ..StoreConfig::default() };
        Self { store, device: Some(Arc::default()), ..Self::default() }
    }
}

impl World {
    pub(crate) async fn new(acts: &[Act], setup: Setup) -> Self {
        let (film, registry) = (setup.film.clone(), Registry::new());
        let sources = acts.iter().enumerate().map(|(nth, act)| {
            Arc::new(Scripted {
                id: format!("source-{nth}").parse().expect("a name"),
                objects: Mutex::new(film.objects.clone()),
                act: Mutex::new(*act),
                away: AtomicBool::new(false),
                asked: Mutex::default(),
                sent: Arc::default(),
                listed: Arc::default(),
            })
        });
        let sources: Vec<_> = sources.collect();
        let offers = sources.iter().zip(0..).map(|(source, nth)| Offer {
            source: Arc::clone(source) as Arc<dyn Source>,
            price: Price { picodollars_per_byte: 85 + nth * 100, picodollars_per_request: 0 },
        });
        let buying = Sources::new(setup.sourcing, offers.collect(), &registry).expect("good sources");
        let devices = setup.device.into_iter().map(|device| device as Arc<dyn Device>).collect();
        let store = SegmentStore::open(&setup.store, devices, &registry).await.expect("a good store");
        let trusted = vec![signing_key().public()];
        let engine =
            Engine::new(setup.engine, Arc::clone(&store), buying, trusted, Arc::default(), &registry);
        Self { film, sources, store, engine: engine.expect("a good engine"), registry }
    }

    pub(crate) async fn serve(&self, n: u32, range: std::ops::Range<u64>) -> Result<Serving, ServeError> {
        let described = self.engine.describe(&key(n)).await?;
        self.engine.serve(&described, ByteRange::new(range.start, range.end).expect("not empty"), None).await
    }

    pub(crate) async fn serve_all(&self, n: u32) -> Result<Serving, ServeError> {
        self.serve(n, 0..self.film.segment(n as usize).len() as u64).await
    }

    /// Plays a range and compares every byte; where its first byte came from.
    pub(crate) async fn play_range(&self, n: u32, range: std::ops::Range<u64>) -> Outcome {
        let serving = self.serve(n, range.clone()).await.expect("served");
        let outcome = serving.outcome;
        let truth = self.film.segment(n as usize).slice(range.start as usize..range.end as usize);
        assert!(read(serving.body).await.expect("whole") == truth, "segment {n} {range:?}");
        outcome
    }

    /// Plays a whole segment and compares every byte; where its first byte came from.
    pub(crate) async fn play(&self, n: u32) -> Outcome {
        let serving = self.serve_all(n).await.expect("served");
        let outcome = serving.outcome;
        assert!(read(serving.body).await.expect("whole") == self.film.segment(n as usize), "segment {n}");
        outcome
    }

    /// Takes a segment out of every tier.
    pub(super) async fn forget(&self, n: u32) {
        self.store.purge(&Scope::Segment(key(n)), PurgeKind::Hard).await;
    }

    /// Bytes of the video object that all sources sent together.
    pub(crate) fn bought(&self) -> u64 {
        self.sources.iter().map(|source| source.sent.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of digest lists that all sources sent together.
    pub(crate) fn listed(&self) -> u64 {
        self.sources.iter().map(|source| source.listed.load(Ordering::Relaxed)).sum()
    }

    /// The value of one metric line.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).expect("encodes");
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{line} is missing in\n{text}")).parse().expect("a whole number")
    }

    /// Waits for a state, in virtual time, but not forever.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < end, "{what} never came");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn until_no_fill_runs(&self) {
        self.until("the end of all fills", |world| world.metric("weir_engine_running_fills") == 0).await;
    }
}

/// Everything a body gives until its end or its error.
pub(crate) async fn read(mut body: Body) -> Result<Vec<u8>, ServeError> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece?;
        assert!((1..=GROUP_LEN as usize).contains(&piece.len()));
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
