//! Real films through real tools, and what has to hold of every package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use control::ingest::RetryPolicy;
use control_api::rest::{CaptionSource, Stage};
use control_plane::adapters::directory::DirectoryStore;
use control_plane::adapters::redb::RedbRecords;
use control_plane::adapters::s3::S3Store;
use control_plane::adapters::tools::Tools;
use control_plane::ingest::{Ingests, Options, World};
use control_plane::seams::{Catalog, CatalogEntry, ObjectStore, Payload, Transcoder};
use control_plane::state::State;
use control_plane::telemetry::Metrics;
use futures_util::TryStreamExt;
use media::index::{GROUPS_OBJECT, INDEX_OBJECT, SigningKey};
use media::playlist::{StreamKind, parse_main, parse_media};
use media::{Digest, GroupDigests, Index, Part, RenditionKind};
use prometheus::Registry;

use crate::support::{Counting, StandingClock, tools, until};
use crate::{records, stores};

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const SEED: [u8; 32] = [42; 32];

/// Makes a clip: a test picture, a tone, and captions beside it.
pub(crate) async fn clip(tools: &Tools, directory: &Path, size: &str, rate: &str, seconds: u32) {
    std::fs::create_dir_all(directory).expect("a directory");
    let captions =
        "WEBVTT\n\n00:00.500 --> 00:02.000\nGood evening.\n\n00:03.000 --> 00:04.000\nGood night.\n";
    std::fs::write(directory.join("clip.en.vtt"), captions).expect("written");
    let mut command = tokio::process::Command::new(&tools.ffmpeg);
    let picture = format!("testsrc2=size={size}:rate={rate}:duration={seconds}");
    let tone = format!("sine=frequency=440:sample_rate=44100:duration={seconds}");
    command
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &tone]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]);
    command.args(["-metadata:s:a:0", "language=eng", "clip.mp4"]).current_dir(directory).stdin(Stdio::null());
    assert!(command.status().await.expect("ffmpeg runs").success());
}

/// The order of the clip.
pub(crate) fn order() -> CatalogEntry {
    let captions =
        vec![CaptionSource { language: "en".parse().expect("a tag"), source: "clip.en.vtt".to_owned() }];
    CatalogEntry {
        name: "A \"clip\"".to_owned(),
        source: "clip.mp4".to_owned(),
        captions,
        attribution: Some("Nobody".to_owned()),
        tags: vec!["licence-2026".parse().expect("a tag"), "vendor-acme".parse().expect("a tag")],
        ..records::entry("clip")
    }
}

/// The stores of one data directory, as a process opens them.
pub(crate) struct Stores {
    pub(crate) state: Arc<State>,
    pub(crate) mezzanine: Arc<dyn ObjectStore>,
    pub(crate) packages: Arc<dyn ObjectStore>,
    pub(crate) work: PathBuf,
}

impl Stores {
    pub(crate) async fn open(data: &Path, mezzanine: &Path) -> Self {
        std::fs::create_dir_all(data).expect("a directory");
        // A transaction that a dropped task began still runs to its end and holds the file until then.
        let state = until("the state file", async || RedbRecords::open(&data.join("state.redb")).ok()).await;
        Self {
            state: Arc::new(State::new(Arc::new(state))),
            mezzanine: Arc::new(DirectoryStore::open(mezzanine).await.expect("opened")),
            packages: Arc::new(DirectoryStore::open(&data.join("packages")).await.expect("opened")),
            work: data.join("work"),
        }
    }

    pub(crate) fn world(&self, transcoder: Arc<dyn Transcoder>) -> World {
        World {
            catalog: self.state.clone(),
            journal: self.state.clone(),
            mezzanine: Arc::clone(&self.mezzanine),
            packages: Arc::clone(&self.packages),
            transcoder,
            clock: StandingClock::at(NOW),
            entropy: Arc::new(Counting::default()),
            index_key: Arc::new(SigningKey::from_seed(SEED)),
            metrics: Arc::new(Metrics::new(&Registry::new()).expect("metrics")),
        }
    }

    pub(crate) fn ingests(&self, world: World) -> Ingests {
        let options = Options {
            work_dir: self.work.clone(),
            parallel: 1,
            max_waiting: 4,
            retry: RetryPolicy { max_attempts: 3, first_delay_ms: 1, max_delay_ms: 1 },
            caption_limit: 1 << 20,
            thumbnail_every_s: 2,
            state_attempts: 1,
            state_delay: Duration::from_millis(1),
            keep_work: false,
        };
        Ingests::new(world, options)
    }
}

/// Waits until nothing more happens to the clip.
pub(crate) async fn settled(catalog: &dyn Catalog) -> CatalogEntry {
    let title = order().title;
    until("the ingest", async || {
        catalog.get(&title).await.expect("the records").filter(|entry| entry.ingest.settled())
    })
    .await
}

/// The digest of every object below `packages`, by its path.
pub(crate) fn objects(packages: &Path) -> BTreeMap<String, Digest> {
    let files = control_plane::ingest::work::files_below(packages).expect("listed");
    let digest = |file: &String| Digest::of(&std::fs::read(packages.join(file)).expect("read"));
    files.iter().map(|file| (file.clone(), digest(file))).collect()
}

/// Everything a gateway and a player rely on.
fn check_package(root: &Path, rungs: &[&str]) {
    let read = |path: &str| std::fs::read(root.join(path)).expect(path);
    let text = |path: &str| String::from_utf8(read(path)).expect(path);
    let key = SigningKey::from_seed(SEED).public();
    let index = Index::open(&read(INDEX_OBJECT), &[key]).expect("an index signed by us");
    assert_eq!(index.created, 1000, "the time of the order, whenever it was built");
    assert_eq!(index.tags, order().tags);
    let names: Vec<_> = index.renditions.iter().map(|rendition| rendition.id.as_str()).collect();
    let expected = [&["main"], rungs, &["a-en", "s-en", "thumbs", "bif"]].concat();
    assert_eq!(names, expected);

    let groups = read(GROUPS_OBJECT);
    for (key, segment) in index.segments() {
        let entry = index.resolve(&key).expect("resolves");
        let path = entry.object.strip_prefix("clip/0000000000000007/").expect("below the package");
        let object = read(path);
        assert_eq!(object.len() as u64, entry.object_len);
        let range = segment.range().expect("not empty");
        let bytes = &object[range.start() as usize..range.end() as usize];
        assert_eq!(Digest::of(bytes), segment.root, "{key}");
        let list =
            entry.groups_want().map_or(&[][..], |want| &groups[want.start() as usize..want.end() as usize]);
        let list = list.chunks_exact(32).map(|digest| digest.try_into().expect("32 bytes")).collect();
        assert!(GroupDigests::checked(u64::from(segment.len), segment.root, list).is_ok(), "{key}");
    }

    let main = parse_main(&text("hls/main.m3u8")).expect("a multivariant playlist");
    let plain = parse_main(&text("cdn/main.m3u8")).expect("a multivariant playlist");
    assert_eq!(main.of(StreamKind::Variant).count(), rungs.len());
    assert_eq!(main.of(StreamKind::IFrames).count(), rungs.len());
    assert_eq!(main.of(StreamKind::Images).count(), 1);
    assert!(text("hls/main.m3u8").contains("DATA-ID=\"weir.attribution\",VALUE=\"Nobody\""));
    for (stream, rung) in main.of(StreamKind::Variant).zip(rungs) {
        assert_eq!(stream.uri, format!("{rung}/index.m3u8"));
        let rendition = index.renditions.iter().find(|rendition| rendition.id.as_str() == *rung).expect(rung);
        assert_eq!(rendition.bandwidth, stream.bandwidth, "the packager's measured peak");
        assert_eq!(stream.subtitles.as_deref(), Some("captions"));
    }
    for stream in &plain.streams {
        let media = parse_media(&text(&format!("cdn/{}", stream.uri))).expect("a media playlist");
        for entry in &media.entries {
            assert!(root.join("cdn").join(&entry.uri).is_file(), "{} names {}", stream.uri, entry.uri);
        }
    }
    for rendition in
        index.renditions.iter().filter(|rendition| rendition.kind != RenditionKind::TrickPlay).skip(1)
    {
        let served = parse_media(&text(&format!("hls/{}.m3u8", rendition.id))).expect("a media playlist");
        let uris: Vec<_> = served.entries.iter().map(|entry| entry.uri.clone()).collect();
        let extension = rendition.kind.extension().as_str();
        let all: Vec<_> = (0..rendition.media.len()).map(|n| format!("{n}.{extension}")).collect();
        assert_eq!(uris, all, "{}", rendition.id);
        assert_eq!(rendition.part(Part::IFrames).is_some(), rendition.kind == RenditionKind::Video);
    }
    let archive = read("trick.bif");
    assert!(archive.starts_with(b"\x89BIF\r\n\x1a\n"));
    assert_eq!(archive[16..20], 2000_u32.to_le_bytes(), "the distance of the pictures in milliseconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_becomes_a_package() {
    let Some(tools) = tools() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let mezzanine = directory.path().join("mezzanine");
    // Thirteen seconds at a frame rate whose groups of pictures are not whole seconds.
    clip(&tools, &mezzanine, "720x404", "24000/1001", 13).await;
    let stores = Stores::open(&directory.path().join("data"), &mezzanine).await;
    let ingests = stores.ingests(stores.world(Arc::new(tools.clone())));
    let entry = stores.state.put(&order()).await.expect("recorded");
    ingests.start(entry, ingests.reserve().expect("room"));
    let mut seen = Vec::new();
    let done = until("the ingest", async || {
        seen.extend(ingests.progress(order().ingest.package).map(|live| live.percent));
        stores.state.get(&order().title).await.expect("the records").filter(|entry| entry.ingest.settled())
    })
    .await;
    assert_eq!((done.ingest.stage, &done.ingest.reason), (Stage::Published, &None), "{done:?}");
    let errors: Vec<_> = done.ingest.lint.iter().filter(|line| line.starts_with("error")).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(seen.is_sorted() && seen.iter().any(|percent| (5..80).contains(percent)), "{seen:?}");
    let published = done.published.expect("published");
    assert!((12_900..13_200).contains(&published.duration_ms), "{}", published.duration_ms);
    check_package(&directory.path().join("data/packages/clip/0000000000000007"), &["v404", "v288", "v216"]);
    until("its task to end", async || ingests.idle().then_some(())).await;
    assert!(!stores.work.join("0000000000000007").exists(), "no work files are left");
    ingests.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_film_fails_with_its_reason() {
    let Some(tools) = tools() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let mezzanine = directory.path().join("mezzanine");
    clip(&tools, &mezzanine, "320x180", "24", 1).await;
    let stores = Stores::open(&directory.path().join("data"), &mezzanine).await;
    let ingests = stores.ingests(stores.world(Arc::new(tools.clone())));
    let silent = tokio::process::Command::new(&tools.ffmpeg)
        .args(["-nostdin", "-v", "error", "-i", "clip.mp4", "-an", "-c", "copy", "silent.mp4"])
        .current_dir(&mezzanine)
        .status();
    assert!(silent.await.expect("ffmpeg runs").success());
    std::fs::write(mezzanine.join("text.mp4"), "no film at all").expect("written");
    std::fs::write(mezzanine.join("bad.vtt"), "1\n00:00:01,000 --> 00:00:02,000\nSubRip").expect("written");
    for (source, caption, why) in [
        ("text.mp4", "clip.en.vtt", "probe: ffprobe: "),
        ("gone.mp4", "clip.en.vtt", "probe: there is no object gone.mp4"),
        ("silent.mp4", "clip.en.vtt", "no audio track"),
        ("clip.mp4", "bad.vtt", "transcode: bad.vtt is not WebVTT"),
    ] {
        let version =
            stores.state.get(&order().title).await.expect("the records").map_or(0, |entry| entry.version);
        let mut entry = CatalogEntry { source: source.to_owned(), version, ..order() };
        entry.captions[0].source = caption.to_owned();
        entry.ingest.package.0 = 100 + version;
        let entry = stores.state.put(&entry).await.expect("recorded");
        ingests.start(entry, ingests.reserve().expect("room"));
        let failed = settled(stores.state.as_ref()).await;
        let reason = failed.ingest.reason.unwrap_or_default();
        assert!(failed.ingest.stage == Stage::Failed && reason.contains(why), "{source} {caption}: {reason}");
        until("its task to end", async || ingests.idle().then_some(())).await;
    }
    assert!(objects(&directory.path().join("data/packages")).is_empty());
    ingests.stop().await;
}

/// From one bucket into another, with the bytes that a directory would hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_bucket_into_a_bucket() {
    let (Some(tools), Some(server)) = (tools(), stores::server().await) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let mezzanine = directory.path().join("mezzanine");
    clip(&tools, &mezzanine, "384x216", "25", 7).await;
    let local = Stores::open(&directory.path().join("local"), &mezzanine).await;
    let mut remote = Stores::open(&directory.path().join("remote"), &mezzanine).await;
    server.bucket("vendors").await;
    server.bucket("packages").await;
    remote.mezzanine = Arc::new(S3Store::new(stores::options(&server, "vendors")).await);
    remote.packages = Arc::new(S3Store::new(stores::options(&server, "packages")).await);
    for file in ["clip.mp4", "clip.en.vtt"] {
        remote.mezzanine.put(file, Payload::File(mezzanine.join(file))).await.expect("uploaded");
    }
    for stores in [&local, &remote] {
        let ingests = stores.ingests(stores.world(Arc::new(tools.clone())));
        let entry = stores.state.put(&order()).await.expect("recorded");
        ingests.start(entry, ingests.reserve().expect("room"));
        let done = settled(stores.state.as_ref()).await;
        assert_eq!((done.ingest.stage, done.ingest.reason), (Stage::Published, None));
        ingests.stop().await;
    }
    let stand = remote.packages.list("clip/").await.expect("a list");
    let expected = objects(&directory.path().join("local/packages"));
    assert_eq!(stand.len(), expected.len());
    for object in stand {
        let read = remote.packages.read(&object.name, None).await.expect("there");
        let bytes: Vec<bytes::Bytes> = read.body.try_collect().await.expect("whole");
        assert_eq!(Some(&Digest::of(&bytes.concat())), expected.get(&object.name), "{}", object.name);
    }
}
