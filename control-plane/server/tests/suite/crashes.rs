//! An ingest that is killed at every point where it touches the world, and started again, publishes once: the
//! same objects with the same bytes as an undisturbed one, and nothing else.
//!
//! The world is wrapped so that its n-th touch never returns: before it took effect, halfway (a tool that wrote
//! some of its files), or after it took effect. The tools run once; afterwards what they made is copied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use control::ingest::Event;
use control::ladder::SourceFacts;
use control_api::rest::Stage;
use control_plane::adapters::tools::Tools;
use control_plane::ingest::World;
use control_plane::seams::{
    BoxFuture, Catalog, CatalogEntry, Journal, ObjectError, ObjectInfo, ObjectRead, ObjectStore, PackageJob,
    Payload, Progress, StateError, ThumbnailJob, ToolError, TranscodeJob, Transcoder,
};
use futures_util::{StreamExt, stream};
use media::{ByteRange, Digest, PackageId, TitleId};
use tokio::sync::Notify;

use crate::films::{Stores, clip, objects, order, settled};
use crate::support::{tools, until};

/// Dies at one touch of the world.
struct Fate {
    touches: AtomicU64,
    dies_at: u64,
    died: Notify,
}

impl Fate {
    fn at(dies_at: u64) -> Arc<Self> {
        Arc::new(Self { touches: AtomicU64::new(0), dies_at, died: Notify::new() })
    }

    /// Returns, unless this is the touch to die at.
    async fn touch(&self) {
        if self.touches.fetch_add(1, Ordering::SeqCst) == self.dies_at {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// Something of the world that can die before and after it does what it is asked.
struct Mortal<T: ?Sized> {
    inner: Arc<T>,
    fate: Arc<Fate>,
}

impl<T: ?Sized> Mortal<T> {
    fn wrap(inner: Arc<T>, fate: &Arc<Fate>) -> Arc<Self> {
        Arc::new(Self { inner, fate: Arc::clone(fate) })
    }

    async fn mortally<R>(&self, work: impl Future<Output = R>) -> R {
        self.fate.touch().await;
        let done = work.await;
        self.fate.touch().await;
        done
    }
}

impl Journal for Mortal<dyn Journal> {
    fn load(&self, package: PackageId) -> BoxFuture<'_, Result<Vec<Event>, StateError>> {
        self.inner.load(package)
    }

    fn append<'a>(
        &'a self,
        package: PackageId,
        at: u64,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(self.mortally(self.inner.append(package, at, event)))
    }
}

impl Catalog for Mortal<dyn Catalog> {
    fn get<'a>(&'a self, title: &'a TitleId) -> BoxFuture<'a, Result<Option<CatalogEntry>, StateError>> {
        self.inner.get(title)
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a TitleId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<CatalogEntry>, StateError>> {
        self.inner.list(after, limit)
    }

    fn put<'a>(&'a self, entry: &'a CatalogEntry) -> BoxFuture<'a, Result<CatalogEntry, StateError>> {
        Box::pin(self.mortally(self.inner.put(entry)))
    }
}

impl ObjectStore for Mortal<dyn ObjectStore> {
    fn put<'a>(&'a self, name: &'a str, payload: Payload) -> BoxFuture<'a, Result<u64, ObjectError>> {
        Box::pin(self.mortally(self.inner.put(name, payload)))
    }

    fn read<'a>(
        &'a self,
        name: &'a str,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Result<ObjectRead, ObjectError>> {
        self.inner.read(name, range)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>, ObjectError>> {
        self.inner.list(prefix)
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.inner.delete(name)
    }
}

/// Tools that work once and remember.
struct Remembered {
    tools: Tools,
    memory: PathBuf,
}

impl Remembered {
    /// Copies what was made before; or runs the tool and keeps what it makes.
    async fn make(
        &self,
        name: &str,
        into: &Path,
        run: impl Future<Output = Result<(), ToolError>>,
        fate: Option<&Fate>,
    ) -> Result<(), ToolError> {
        let kept = self.memory.join(name);
        if !kept.exists() {
            run.await?;
            copy(into, &kept, usize::MAX);
            return Ok(());
        }
        let Some(fate) = fate else {
            copy(&kept, into, usize::MAX);
            return Ok(());
        };
        fate.touch().await;
        copy(&kept, into, 1);
        fate.touch().await;
        copy(&kept, into, usize::MAX);
        fate.touch().await;
        Ok(())
    }
}

/// The first files of a directory.
fn copy(from: &Path, to: &Path, count: usize) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory").take(count) {
        let entry = entry.expect("a file");
        if entry.path().is_file() && !entry.file_name().to_string_lossy().starts_with("s-") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
    for caption in ["s-en.vtt", "s-en.m3u8"] {
        if count > 1 && from.join(caption).exists() {
            std::fs::copy(from.join(caption), to.join(caption)).expect("copied");
        }
    }
}

impl Transcoder for Mortal<Remembered> {
    fn probe<'a>(&'a self, source: &'a Path) -> BoxFuture<'a, Result<SourceFacts, ToolError>> {
        Box::pin(self.mortally(self.inner.tools.probe(source)))
    }

    fn transcode<'a>(
        &'a self,
        job: &'a TranscodeJob,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<(), ToolError>> {
        let run = self.inner.tools.transcode(job, progress);
        Box::pin(self.inner.make("transcoded", &job.into, run, Some(&self.fate)))
    }

    fn package<'a>(&'a self, job: &'a PackageJob) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(self.inner.make("package", &job.into, self.inner.tools.package(job), Some(&self.fate)))
    }

    fn thumbnails<'a>(&'a self, job: &'a ThumbnailJob) -> BoxFuture<'a, Result<(), ToolError>> {
        Box::pin(self.inner.make("thumbs", &job.into, self.inner.tools.thumbnails(job), Some(&self.fate)))
    }
}

fn world(stores: &Stores, tools: &Arc<Remembered>, fate: &Arc<Fate>) -> World {
    let transcoder = Mortal::wrap(Arc::clone(tools), fate);
    let catalog: Arc<dyn Catalog> = stores.state.clone();
    let journal: Arc<dyn Journal> = stores.state.clone();
    World {
        catalog: Mortal::wrap(catalog, fate),
        journal: Mortal::wrap(journal, fate),
        packages: Mortal::wrap(Arc::clone(&stores.packages), fate),
        ..stores.world(transcoder)
    }
}

/// How one ingest went.
struct Story {
    died: bool,
    /// Touches of the first run.
    touches: u64,
    /// What stood in the package store when the first run ended, and whether viewers were sent there.
    left: BTreeMap<String, Digest>,
    left_published: bool,
    /// What stands in the end.
    stands: BTreeMap<String, Digest>,
}

/// Runs the clip's ingest with a world that dies at one touch, then again with one that does not.
async fn story(data: &Path, mezzanine: &Path, tools: &Arc<Remembered>, dies_at: u64) -> Story {
    let fate = Fate::at(dies_at);
    let stores = Stores::open(data, mezzanine).await;
    let ingests = stores.ingests(world(&stores, tools, &fate));
    let entry = stores.state.put(&order()).await.expect("recorded");
    ingests.start(entry, ingests.reserve().expect("room"));
    let died = tokio::select! {
        () = fate.died.notified() => true,
        () = until("the end", async || ingests.idle().then_some(())) => false,
    };
    ingests.stop().await;
    let mut left = objects(&data.join("packages"));
    left.retain(|path, _| !path.starts_with(".staging"));
    drop((ingests, stores));

    let stores = Stores::open(data, mezzanine).await;
    let before = stores.state.get(&order().title).await.expect("the records").expect("the order");
    let ingests = stores.ingests(world(&stores, tools, &Fate::at(u64::MAX)));
    assert_eq!(ingests.resume().await, Ok(usize::from(!before.ingest.settled())));
    let done = settled(stores.state.as_ref()).await;
    assert_eq!((done.ingest.stage, &done.ingest.reason), (Stage::Published, &None), "touch {dies_at}");
    assert_eq!(done.published.map(|published| published.package), Some(PackageId(7)));
    ingests.stop().await;
    let events = stores.state.load(PackageId(7)).await.expect("the journal");
    let ends = events.iter().filter(|event| matches!(event, Event::Done { .. })).count();
    assert_eq!((events.len(), ends), (7, 6), "each effect ended once: {events:?}");
    assert!(!stores.work.join("0000000000000007").exists(), "touch {dies_at}: no work files are left");
    let stands = objects(&data.join("packages"));
    let touches = fate.touches.load(Ordering::SeqCst);
    Story { died, touches, left, left_published: before.published.is_some(), stands }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_it_dies_it_publishes_once() {
    const INDEX: &str = "clip/0000000000000007/index.weir";
    let Some(tools) = tools() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let mezzanine = directory.path().join("mezzanine");
    clip(&tools, &mezzanine, "384x216", "24", 7).await;
    let tools = Arc::new(Remembered { tools, memory: directory.path().join("memory") });
    let run = async |n: u64| story(&directory.path().join(format!("run-{n}")), &mezzanine, &tools, n).await;
    // The first run fills the tools' memory, the second counts the touches.
    let undisturbed = run(u64::MAX).await.stands;
    assert!(undisturbed.len() > 10 && undisturbed.contains_key(INDEX));
    let again = run(u64::MAX - 1).await;
    assert!(!again.died && again.stands == undisturbed && again.left == undisturbed);
    let touches = again.touches;
    assert!(touches > 60, "{touches} touches");
    // They wait for the disk most of the time, so several at once are quicker.
    let stories =
        stream::iter(0..touches).map(async |dies_at| (dies_at, run(dies_at).await)).buffer_unordered(8);
    let check = async |(dies_at, story): (u64, Story)| {
        let Story { died, left, left_published, stands, .. } = story;
        assert!(died, "touch {dies_at} of {touches}");
        assert!(stands == undisturbed, "killed at touch {dies_at} of {touches}: {stands:#?}");
        let whole = left == undisturbed;
        assert!(whole || !left.contains_key(INDEX), "touch {dies_at}: half a package can be seen: {left:#?}");
        assert!(whole || !left_published, "touch {dies_at}: viewers are sent to half a package: {left:#?}");
    };
    stories.for_each(check).await;
}
