//! The work of each effect. Every step makes first what it needs and does not find.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use control::ingest::{Done, Job, Order, State};
use control::ladder::{Ladder, SourceFacts, ladder};
use control_api::rest::{CaptionSource, RenditionView};
use futures_util::TryStreamExt;
use media::index::INDEX_OBJECT;
use media::{RenditionKind, index::object_path};
use tokio::io::AsyncWriteExt;

use super::assemble::{Credits, assemble};
use super::facts::package_facts;
use super::index::write_index;
use super::layout::Layout;
use super::work::{WorkDir, files_below};
use super::{Fault, Options, Watch, World, runner};
use crate::seams::{CatalogEntry, ObjectError, PackageJob, Payload, Published, ThumbnailJob, TranscodeJob};

/// What one ingest's effects share.
pub(super) struct Effects<'a> {
    world: &'a World,
    options: &'a Options,
    watch: &'a Watch,
    work: WorkDir,
    /// The ingest's record as it was when it began.
    pub(super) entry: CatalogEntry,
}

/// What the source decides of the package.
struct Plan {
    facts: SourceFacts,
    ladder: Ladder,
    layout: Layout,
}

impl<'a> Effects<'a> {
    pub(super) fn new(world: &'a World, options: &'a Options, watch: &'a Watch, entry: CatalogEntry) -> Self {
        let work = WorkDir::new(&options.work_dir, entry.ingest.package);
        Self { world, options, watch, work, entry }
    }

    pub(super) async fn carry_out(&self, state: &State, job: &Job) -> Result<Done, Fault> {
        match job {
            Job::Probe => self.probe().await.map(Done::Probed),
            Job::Transcode { .. } => self.transcoded(&self.plan(state)?).await.map(|_| Done::Transcoded),
            Job::Package { .. } => self.packaged(&self.plan(state)?).await.map(|_| Done::Packaged),
            Job::Verify => self.verify(&self.plan(state)?).await,
            Job::BuildIndex => self.index(&self.plan(state)?, ordered(state)?).await,
            Job::Publish => self.publish(state).await,
        }
    }

    fn plan(&self, state: &State) -> Result<Plan, Fault> {
        let unmeasured = || Fault::permanent("the source was never measured".to_owned());
        let facts = state.facts().ok_or_else(unmeasured)?.clone();
        let ladder = ladder(&facts).map_err(|e| Fault::permanent(e.to_string()))?;
        let layout = Layout::new(&ladder, &self.entry.captions)?;
        Ok(Plan { facts, ladder, layout })
    }

    /// Begins anew: what an earlier try made of the source is not trusted.
    async fn probe(&self) -> Result<SourceFacts, Fault> {
        let work = self.work.clone();
        blocking(move || Ok(work.remove()?)).await?;
        let source = self.source().await?;
        Ok(self.world.transcoder.probe(&source).await?)
    }

    /// The mezzanine as a file: where it lies, or fetched.
    async fn source(&self) -> Result<PathBuf, Fault> {
        let name = &self.entry.source;
        if let Some(path) = self.world.mezzanine.local(name) {
            return if path.is_file() { Ok(path) } else { Err(ObjectError::NotFound(name.clone()).into()) };
        }
        if let Some(path) = self.work.finished("source") {
            return Ok(path.join("film"));
        }
        let attempt = self.work.attempt("source", self.world.entropy.as_ref())?;
        self.fetch(name, &attempt.join("film"), u64::MAX).await?;
        Ok(self.finish(attempt, "source").await?.join("film"))
    }

    /// Copies an object into a file.
    async fn fetch(&self, name: &str, path: &Path, limit: u64) -> Result<(), Fault> {
        let mut read = self.world.mezzanine.read(name, None).await?;
        if read.len > limit {
            return Err(Fault::permanent(format!("{name} has {} bytes, allowed are {limit}", read.len)));
        }
        let mut file = tokio::fs::File::create(path).await?;
        let mut left = read.len;
        while let Some(chunk) = read.body.try_next().await? {
            left = left.saturating_sub(chunk.len() as u64);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        if left > 0 {
            return Err(Fault::transient(format!("{name} ended {left} bytes early")));
        }
        Ok(())
    }

    async fn transcoded(&self, plan: &Plan) -> Result<PathBuf, Fault> {
        if let Some(path) = self.work.finished("transcoded") {
            return Ok(path);
        }
        let source = self.source().await?;
        let into = self.work.attempt("transcoded", self.world.entropy.as_ref())?;
        // First what fails quickly.
        for caption in &self.entry.captions {
            self.caption(caption, &into).await?;
        }
        let job = TranscodeJob {
            source,
            facts: plan.facts.clone(),
            ladder: plan.ladder.clone(),
            into: into.clone(),
        };
        let progress = |permille| self.watch.permille.store(permille, Ordering::Relaxed);
        self.world.transcoder.transcode(&job, &progress).await?;
        self.finish(into, "transcoded").await
    }

    async fn caption(&self, caption: &CaptionSource, into: &Path) -> Result<(), Fault> {
        let path = into.join(format!("s-{}.vtt", caption.language));
        self.fetch(&caption.source, &path, self.options.caption_limit).await?;
        let text = tokio::fs::read(&path).await?;
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
        if std::str::from_utf8(text).is_ok_and(|text| text.starts_with("WEBVTT")) {
            return Ok(());
        }
        Err(Fault::permanent(format!(
            "{} is not WebVTT: it must be UTF-8 and begin with WEBVTT",
            caption.source
        )))
    }

    async fn packaged(&self, plan: &Plan) -> Result<PathBuf, Fault> {
        if let Some(path) = self.work.finished("package") {
            return Ok(path);
        }
        let from = self.transcoded(plan).await?;
        let into = self.work.attempt("package", self.world.entropy.as_ref())?;
        let fragment_us = {
            let (rate, frames) = (plan.facts.frame_rate, u64::from(plan.ladder.gop_frames));
            frames * 1_000_000 * u64::from(rate.den) / u64::from(rate.num.max(1))
        };
        let job = PackageJob {
            from: from.clone(),
            video: plan.layout.of(RenditionKind::Video).map(|track| track.id.to_string()).collect(),
            audio: plan.layout.named(RenditionKind::Audio),
            captions: plan.layout.named(RenditionKind::Subtitles),
            segment_us: plan.ladder.segment_us,
            fragment_us,
            into: into.clone(),
        };
        self.world.transcoder.package(&job).await?;
        self.watch.permille.store(400, Ordering::Relaxed);
        let thumbs = self.thumbnails(plan, &from).await?;
        self.watch.permille.store(800, Ordering::Relaxed);
        let credits = Credits { name: self.entry.name.clone(), attribution: self.entry.attribution.clone() };
        let (layout, package) = (plan.layout.clone(), into.clone());
        let times = (self.options.thumbnail_every_s, plan.facts.duration_ms);
        blocking(move || assemble(&package, &thumbs, &layout, times, &credits)).await?;
        self.finish(into, "package").await
    }

    /// Of the smallest rung that is larger than a thumbnail: the picture is as good and decodes sooner.
    async fn thumbnails(&self, plan: &Plan, from: &Path) -> Result<PathBuf, Fault> {
        let enough = plan.ladder.video.iter().rev().find(|rung| rung.height >= 288);
        let rung = enough.or(plan.ladder.video.first());
        let rung = rung.ok_or_else(|| Fault::permanent("the ladder has no video rung".to_owned()))?;
        let into = self.work.attempt("thumbs", self.world.entropy.as_ref())?;
        let source = from.join(format!("{}.mp4", rung.id));
        let job = ThumbnailJob { source, every_s: self.options.thumbnail_every_s, into: into.clone() };
        self.world.transcoder.thumbnails(&job).await?;
        Ok(into)
    }

    async fn verify(&self, plan: &Plan) -> Result<Done, Fault> {
        let package = self.packaged(plan).await?;
        let (layout, source_ms) = (plan.layout.clone(), plan.facts.duration_ms);
        let facts = blocking(move || package_facts(&package, &layout, source_ms)).await?;
        Ok(Done::Verified(control::lint::lint(&facts)))
    }

    /// Signs the index and stores every object, the index last: a package is visible only when it is whole.
    async fn index(&self, plan: &Plan, order: Order) -> Result<Done, Fault> {
        let package = self.packaged(plan).await?;
        let (id, at) = (order.package, self.entry.ingest.received_at);
        let (layout, key, directory) =
            (plan.layout.clone(), Arc::clone(&self.world.index_key), package.clone());
        let facts = blocking(move || write_index(&directory, &layout, &order, at, &key)).await?;
        let mut files = files_below(&package)?;
        files.retain(|file| file != INDEX_OBJECT);
        files.push(INDEX_OBJECT.to_owned());
        let total = files.len();
        for (done, file) in files.into_iter().enumerate() {
            let name = object_path(&self.entry.title, id, &file);
            let stored = self.world.packages.put(&name, Payload::File(package.join(&file))).await?;
            self.world.metrics.published_bytes.inc_by(stored);
            self.watch.permille.store((done * 1000 / total) as u16, Ordering::Relaxed);
        }
        Ok(Done::Indexed(facts))
    }

    /// From here on viewers are sent to the package. The first publication's time stands.
    async fn publish(&self, state: &State) -> Result<Done, Fault> {
        let unindexed = || Fault::permanent("the package has no index".to_owned());
        let indexed = state.indexed().ok_or_else(unindexed)?;
        let (package, now) = (self.entry.ingest.package, self.world.clock.now_unix());
        let renditions: &Vec<RenditionView> = &indexed.renditions;
        runner::amend(self.world, &self.entry, |standing| {
            if standing.published.as_ref().is_none_or(|published| published.package != package) {
                let (duration_ms, renditions) = (indexed.duration_ms, renditions.clone());
                standing.published = Some(Published { package, at: now, duration_ms, renditions });
            }
        })
        .await?;
        let standing = self.world.catalog.get(&self.entry.title).await?;
        let published =
            standing.and_then(|entry| entry.published).filter(|published| published.package == package);
        published
            .map(|published| Done::Published { at: published.at })
            .ok_or_else(|| Fault::permanent("a newer ingest of the title took its place".to_owned()))
    }

    /// Removes the work files; of a failed ingest also whatever it stored.
    pub(super) async fn clean_up(&self, failed: bool) -> Result<(), Fault> {
        let standing = self.world.catalog.get(&self.entry.title).await?;
        let published = standing.and_then(|entry| entry.published).map(|published| published.package);
        // A package that viewers are sent to stays, whatever went wrong afterwards.
        if failed && published != Some(self.entry.ingest.package) {
            let prefix = object_path(&self.entry.title, self.entry.ingest.package, "");
            for object in self.world.packages.list(&prefix).await? {
                self.world.packages.delete(&object.name).await?;
            }
        }
        if self.options.keep_work {
            return Ok(());
        }
        let work = self.work.clone();
        blocking(move || Ok(work.remove()?)).await
    }

    async fn finish(&self, attempt: PathBuf, name: &'static str) -> Result<PathBuf, Fault> {
        let work = self.work.clone();
        blocking(move || Ok(work.finish(&attempt, name)?)).await
    }
}

/// What the journal says was asked for.
fn ordered(state: &State) -> Result<Order, Fault> {
    state.order().cloned().ok_or_else(|| Fault::permanent("nothing was ordered".to_owned()))
}

/// Work on files that takes its time, off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(Fault::transient(e.to_string())))
}
