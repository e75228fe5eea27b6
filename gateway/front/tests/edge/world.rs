//! A small world: one film, one scripted source, one front.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use control_api::{Claims, TokenSigner, TokenVerifier};
use engine::{Engine, EngineConfig};
use front::{Debugging, Front, FrontConfig, FrontParts, StartError};
use futures_util::stream;
use media::index::{Contents, Index, Object, Rendition, RenditionKind, Segment, SigningKey};
use media::{Digest, GroupDigests, PackageId};
use prometheus::Registry;
use sourcing::{
    BoxFuture, Offer, Opened, Price, Reason, Source, SourceError, SourceId, SourceKind, Sources,
    SourcingConfig, Want,
};
use store::{SegmentStore, StoreConfig};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Long enough for a busy machine, short enough for a person.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The time of day in the world, unless a test moves it.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The film's path below the token.
pub(crate) const FILM: &str = "bbb/00000000000000ff";

pub(crate) struct World {
    pub(crate) front: Option<Front>,
    pub(crate) source: Arc<Scripted>,
    pub(crate) engine: Engine,
    pub(crate) registry: Registry,
    pub(crate) lines: mpsc::Receiver<String>,
    pub(crate) clock: Arc<AtomicU64>,
    parts: HashMap<&'static str, Bytes>,
    signer: TokenSigner,
}

/// Values that tests choose.
pub(crate) struct Choice {
    pub(crate) config: FrontConfig,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Length of segment 1 of `v720`.
    pub(crate) big: usize,
    /// Places in the access log's channel.
    pub(crate) lines: usize,
    pub(crate) debug: Option<Debugging>,
}

impl Default for Choice {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = FrontConfig { plain: vec![any], ..FrontConfig::default() };
        Self { config, tls: None, big: 300_000, lines: 1000, debug: None }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Choice::default()).await
    }

    pub(crate) async fn with(choice: Choice) -> Self {
        Self::start(choice).await.expect("a front")
    }

    async fn start(choice: Choice) -> Result<Self, StartError> {
        let key = SigningKey::from_seed([7; 32]);
        let (parts, objects) = film(&key, choice.big);
        let source = Arc::new(Scripted::new(objects));
        let registry = Registry::new();
        let offer = Offer { source: Arc::clone(&source) as Arc<dyn Source>, price: Price::default() };
        let config = SourcingConfig { stall_timeout: Duration::from_secs(60), ..SourcingConfig::default() };
        let sources = Sources::new(config, vec![offer], &registry).expect("sources");
        let store =
            SegmentStore::open(&StoreConfig::default(), Vec::new(), &registry).await.expect("a store");
        let engine = Engine::new(
            EngineConfig::default(),
            store,
            sources,
            vec![key.public()],
            Arc::default(),
            &registry,
        )
        .expect("an engine");
        let (signer, clock) = (signer(), Arc::new(AtomicU64::new(NOW)));
        let (sink, lines) = mpsc::channel(choice.lines);
        let told = Arc::clone(&clock);
        let front = FrontParts {
            config: choice.config,
            engine: engine.clone(),
            verifier: TokenVerifier::new(vec![signer.public().expect("a key")]),
            clock: Arc::new(move || told.load(Relaxed)),
            node: "test-1".to_owned(),
            access: Arc::new(sink),
            tls: choice.tls,
            debug: choice.debug,
        };
        let front = Some(Front::start(front, &registry)?);
        Ok(Self { front, source, engine, registry, lines, clock, parts, signer })
    }

    pub(crate) fn front(&self) -> &Front {
        self.front.as_ref().expect("still there")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.front().plain_addresses()[0]
    }

    /// A token for `title` that lives for an hour.
    pub(crate) fn token_for(&self, title: &str) -> String {
        self.token_of("session-1", title)
    }

    /// The same for another session.
    pub(crate) fn token_of(&self, session: &str, title: &str) -> String {
        let claims = Claims {
            issuer: "weir".to_owned(),
            session: session.parse().expect("valid"),
            title: title.parse().expect("valid"),
            issued: NOW - 10,
            expires: NOW + 3600,
        };
        self.signer.sign(&claims).expect("signs")
    }

    /// The URL path of a part of the film in a session.
    pub(crate) fn path_of(&self, session: &str, part: &str) -> String {
        format!("/p/{}/{FILM}/{part}", self.token_of(session, "bbb"))
    }

    /// The URL path of a part of the film.
    pub(crate) fn path(&self, part: &str) -> String {
        format!("/p/{}/{FILM}/{part}", self.token_for("bbb"))
    }

    pub(crate) fn bytes(&self, part: &str) -> &Bytes {
        &self.parts[part]
    }

    /// The next access line.
    pub(crate) async fn line(&mut self) -> serde_json::Value {
        let line = timeout(SOON, self.lines.recv()).await.expect("a line in time").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The value of one series, as exported.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).expect("encodes");
        let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        assert!(line.is_some(), "no series {series} in\n{text}");
        line.and_then(|line| line.rsplit_once(' '))
            .and_then(|(_, value)| value.parse().ok())
            .expect("a number")
    }

    /// Waits until a series has this value.
    pub(crate) async fn until(&self, series: &str, value: f64) {
        let reached = async {
            while (self.metric(series) - value).abs() > 0.5 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = timeout(SOON, reached).await;
        assert!(reached.is_ok(), "{series} is {} and not {value}", self.metric(series));
    }
}

/// Why a front with these choices does not start.
pub(crate) async fn start_error(choice: Choice) -> String {
    World::start(choice).await.err().expect("it must not start").to_string()
}

#[expect(clippy::disallowed_methods, reason = "a test key; nothing depends on its value")]
fn signer() -> TokenSigner {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    TokenSigner::from_pkcs8("k1".parse().expect("valid"), key.expect("made").as_ref()).expect("valid")
}

/// Bytes that differ at every place and between parts.
fn noise(seed: u32, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The parts of the film by path, and the objects that hold them.
fn film(key: &SigningKey, big: usize) -> (HashMap<&'static str, Bytes>, HashMap<String, Bytes>) {
    let playlist = |name: &str| Bytes::from(format!("#EXTM3U\n# {name}\n"));
    let parts = [
        ("main.m3u8", playlist("main"), "hls/main.m3u8"),
        ("v720/index.m3u8", playlist("v720"), "hls/v720.m3u8"),
        ("v720/iframes.m3u8", playlist("iframes"), "hls/v720-iframes.m3u8"),
        ("v720/init.mp4", noise(1, 800), "v720.mp4"),
        ("v720/0.m4s", noise(2, 100_000), "v720.mp4"),
        ("v720/1.m4s", noise(3, big), "v720.mp4"),
        ("s-en/0.vtt", Bytes::from_static(b"WEBVTT\n"), "s-en.vtt"),
    ];
    let mut objects: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut entries = HashMap::new();
    for (name, bytes, path) in &parts {
        let at = objects.iter().position(|(known, _)| known == path).unwrap_or(objects.len());
        if at == objects.len() {
            objects.push((path, Vec::new()));
        }
        let object = &mut objects[at].1;
        let (offset, len) = (object.len() as u64, bytes.len() as u32);
        let root = Digest::of(bytes);
        entries.insert(*name, Segment { object: at as u16, offset, len, duration_ms: 6000, root });
        object.extend_from_slice(bytes);
    }
    let entry = |name: &str| Some(entries[name]);
    let rendition = |id: &str, kind| Rendition {
        id: id.parse().expect("valid"),
        kind,
        bandwidth: 1_000_000,
        playlist: None,
        iframes: None,
        init: None,
        media: vec![],
    };
    let video = Rendition {
        playlist: entry("v720/index.m3u8"),
        iframes: entry("v720/iframes.m3u8"),
        init: entry("v720/init.mp4"),
        media: vec![entries["v720/0.m4s"], entries["v720/1.m4s"]],
        ..rendition("v720", RenditionKind::Video)
    };
    let main = Rendition { playlist: entry("main.m3u8"), ..rendition("main", RenditionKind::Main) };
    let captions =
        Rendition { media: vec![entries["s-en/0.vtt"]], ..rendition("s-en", RenditionKind::Subtitles) };
    let index = Index::new(Contents {
        title: "bbb".parse().expect("valid"),
        package: PackageId(255),
        created: NOW,
        tags: Vec::new(),
        objects: objects
            .iter()
            .map(|(path, bytes)| Object { path: (*path).to_owned(), len: bytes.len() as u64 })
            .collect(),
        renditions: vec![main, video, captions],
    });
    let index = index.expect("an index");
    let digests: Vec<_> = parts.iter().map(|(_, bytes, _)| GroupDigests::of(bytes)).collect();
    let groups = index.group_lists(&digests).expect("lists");
    let mut all: HashMap<String, Bytes> =
        objects.into_iter().map(|(path, bytes)| (index.object_path(path), Bytes::from(bytes))).collect();
    all.insert(index.object_path("index.weir"), index.sign(key).into());
    all.insert(index.object_path("groups.weir"), groups.into());
    (parts.into_iter().map(|(name, bytes, _)| (name, bytes)).collect(), all)
}

/// A source that does what a test says.
pub(crate) struct Scripted {
    id: SourceId,
    objects: HashMap<String, Bytes>,
    script: Mutex<Script>,
    gate: watch::Sender<bool>,
    /// Times a video object was opened.
    pub(crate) opened: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Script {
    /// Fails at this offset of a video object.
    cut_at: Option<u64>,
    /// Waits at this offset of a video object until [`Scripted::release`].
    hold_at: Option<u64>,
}

impl Scripted {
    fn new(objects: HashMap<String, Bytes>) -> Self {
        let id = "packages".parse().expect("valid");
        let (gate, _) = watch::channel(false);
        Self { id, objects, script: Mutex::default(), gate, opened: AtomicU64::new(0) }
    }

    pub(crate) fn cut_at(&self, offset: u64) {
        self.script.lock().expect("whole").cut_at = Some(offset);
    }

    pub(crate) fn hold_at(&self, offset: u64) {
        self.script.lock().expect("whole").hold_at = Some(offset);
    }

    pub(crate) fn release(&self) {
        self.gate.send_replace(true);
    }

    fn body(&self, object: Bytes, from: u64, to: u64, script: Script) -> sourcing::ByteStream {
        let gate = self.gate.subscribe();
        Box::pin(stream::unfold((object, from, gate), move |(object, at, mut gate)| async move {
            if at >= to {
                return None;
            }
            if script.cut_at.is_some_and(|cut| at >= cut) {
                let error = SourceError::new(Reason::Cut, "as scripted");
                return Some((Err(error), (object, to, gate)));
            }
            if script.hold_at.is_some_and(|hold| at >= hold) {
                gate.wait_for(|open| *open).await.ok()?;
            }
            let stops = [script.cut_at, script.hold_at].into_iter().flatten().filter(|stop| *stop > at);
            let end = stops.fold(to.min(at + 40_000), u64::min);
            let piece = object.slice(at as usize..end as usize);
            Some((Ok(piece), (object, end, gate)))
        }))
    }
}

impl Source for Scripted {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let missing = || SourceError::new(Reason::NotFound, &want.object);
            let object = self.objects.get(&want.object).ok_or_else(missing)?.clone();
            let video = want.object.ends_with(".mp4");
            self.opened.fetch_add(u64::from(video), Relaxed);
            let script = if video { *self.script.lock().expect("whole") } else { Script::default() };
            let (from, to) =
                want.range.map_or((0, object.len() as u64), |range| (range.start(), range.end()));
            Ok(Opened { len: to - from, body: self.body(object, from, to, script) })
        })
    }
}
