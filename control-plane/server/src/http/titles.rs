//! Films: taking them in, looking at them.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use control::package::package_id;
use control_api::problem::ProblemCode;
use control_api::rest::{NewTitle, Stage, TitleList, TitleView};
use media::index::MAX_TAGS;
use media::{ByteRange, PackageId, Tag, TitleId};
use serde::Deserialize;

use super::{Fault, Json, Platform, json};
use crate::seams::{CatalogEntry, IngestRecord, ObjectError, StateError, check_object_name};

/// How many titles one list shows at most.
const LIST_LIMIT: usize = 1000;
/// How many characters a name and a credit may have.
const NAME_LEN: usize = 200;
const CREDIT_LEN: usize = 1000;
/// How many caption files a title may have.
const MAX_CAPTIONS: usize = 32;

/// `POST /v1/titles`. Safe to repeat: the same request again shows how far the first one is. A failed ingest may
/// be asked for again, also with other contents.
pub(super) async fn create(
    State(platform): State<Arc<Platform>>,
    Json(mut new): Json<NewTitle>,
) -> Result<Response, Fault> {
    // Whatever the order they were typed in, the same tags are the same request.
    new.tags.sort();
    check(&new)?;
    let standing = platform.catalog.get(&new.title).await?;
    if let Some(entry) = standing.as_ref().filter(|entry| entry.ingest.stage != Stage::Failed) {
        return repeated(&platform, entry, &new);
    }
    let package = package(&platform, &new).await?;
    let slot = platform.ingests.reserve().ok_or_else(|| {
        Fault::new(
            ProblemCode::Overloaded,
            "too many ingests wait for their turn; try again when some are done",
        )
    })?;
    let entry = entry(&new, package, platform.clock.now_unix(), standing);
    let stored = match platform.catalog.put(&entry).await {
        Ok(stored) => stored,
        // Somebody was faster by a moment: answer as if they had been faster by a minute.
        Err(StateError::Conflict(_)) => {
            let standing = platform.catalog.get(&new.title).await?;
            let standing = standing.ok_or_else(|| Fault::internal(&"a title that was there is gone"))?;
            return repeated(&platform, &standing, &new);
        }
        Err(error) => return Err(error.into()),
    };
    tracing::info!(title = %stored.title, package = %stored.ingest.package, "title received");
    platform.ingests.start(stored.clone(), slot);
    Ok(json(StatusCode::ACCEPTED, &view(&platform, &stored)))
}

fn repeated(platform: &Platform, entry: &CatalogEntry, new: &NewTitle) -> Result<Response, Fault> {
    let same = entry.name == new.name
        && entry.source == new.source
        && entry.captions == new.captions
        && entry.attribution == new.attribution
        && entry.tags == new.tags;
    if same {
        return Ok(json(StatusCode::ACCEPTED, &view(platform, entry)));
    }
    let stage = entry.ingest.stage.as_str();
    Err(Fault::new(
        ProblemCode::TitleExists,
        format!("title {} is {stage}, with other contents", entry.title),
    ))
}

fn check(new: &NewTitle) -> Result<(), Fault> {
    let text = |field: &str, text: &str, max: usize| {
        let fine = !text.trim().is_empty() && text.chars().count() <= max && !text.contains(char::is_control);
        if fine {
            Ok(())
        } else {
            Err(Fault::invalid(format!("{field} must have 1 to {max} printable characters")))
        }
    };
    text("name", &new.name, NAME_LEN)?;
    new.attribution.as_ref().map_or(Ok(()), |credit| text("attribution", credit, CREDIT_LEN))?;
    check_object_name(&new.source).map_err(|e| Fault::invalid(format!("source: {e}")))?;
    check_tags(&new.tags)?;
    if new.captions.len() > MAX_CAPTIONS {
        return Err(Fault::invalid(format!("captions: at most {MAX_CAPTIONS}")));
    }
    for (at, caption) in new.captions.iter().enumerate() {
        check_object_name(&caption.source)
            .map_err(|e| Fault::invalid(format!("captions[{at}].source: {e}")))?;
        if new.captions[..at].iter().any(|other| other.language == caption.language) {
            let language = &caption.language;
            return Err(Fault::invalid(format!("captions[{at}].language: {language} stands twice")));
        }
    }
    Ok(())
}

/// They are sorted, so a tag that stands twice stands beside itself.
fn check_tags(tags: &[Tag]) -> Result<(), Fault> {
    if tags.len() > MAX_TAGS {
        return Err(Fault::invalid(format!("tags: at most {MAX_TAGS}")));
    }
    match tags.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Fault::invalid(format!("tags: {} stands twice", pair[0]))),
        None => Ok(()),
    }
}

/// Names the package by all that decides its contents: the same order is the same package; a changed film, a
/// changed caption file or other tags make another.
async fn package(platform: &Platform, new: &NewTitle) -> Result<PackageId, Fault> {
    let mut decides = vec![new.name.clone(), new.attribution.clone().unwrap_or_default()];
    decides.push(source_version(platform, &new.source).await?);
    for caption in &new.captions {
        decides.push(caption.language.to_string());
        decides.push(source_version(platform, &caption.source).await?);
    }
    // No language holds a space, so no tag is taken for a caption.
    decides.extend(new.tags.iter().map(|tag| format!("tag {tag}")));
    let decides = serde_json::to_string(&decides).map_err(|e| Fault::internal(&e))?;
    Ok(package_id(&new.title, &decides))
}

/// Also tells the operator of a misspelt path now rather than in a failed ingest. Reading one byte is the
/// cheapest question that every store answers.
async fn source_version(platform: &Platform, name: &str) -> Result<String, Fault> {
    match platform.mezzanine.read(name, ByteRange::new(0, 1)).await {
        Ok(read) => Ok(read.version),
        Err(ObjectError::NotFound(_)) => {
            Err(Fault::new(ProblemCode::SourceNotFound, format!("the mezzanine store has no {name}")))
        }
        Err(ObjectError::Range(_)) => {
            Err(Fault::new(ProblemCode::SourceNotFound, format!("{name} is empty")))
        }
        Err(error) => Err(error.into()),
    }
}

fn entry(new: &NewTitle, package: PackageId, now: u64, standing: Option<CatalogEntry>) -> CatalogEntry {
    // The same package again is the same ingest tried again: its journal goes on.
    let again = standing.as_ref().map(|entry| &entry.ingest).filter(|ingest| ingest.package == package);
    let ingest = IngestRecord {
        package,
        received_at: again.map_or(now, |ingest| ingest.received_at),
        retries: again.map_or(0, |ingest| ingest.retries + 1),
        stage: Stage::Received,
        reason: None,
        lint: Vec::new(),
    };
    let (version, published) = standing.map_or((0, None), |entry| (entry.version, entry.published));
    CatalogEntry {
        title: new.title.clone(),
        name: new.name.clone(),
        source: new.source.clone(),
        captions: new.captions.clone(),
        attribution: new.attribution.clone(),
        tags: new.tags.clone(),
        ingest,
        published,
        version,
    }
}

/// Where a list begins and how long it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<TitleId>,
    limit: Option<usize>,
}

/// `GET /v1/titles[?after=<title>&limit=<n>]`.
pub(super) async fn list(
    State(platform): State<Arc<Platform>>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Fault> {
    let Query(page) = page.map_err(|e| Fault::invalid(e.body_text()))?;
    let limit = page.limit.unwrap_or(LIST_LIMIT).clamp(1, LIST_LIMIT);
    let entries = platform.catalog.list(page.after.as_ref(), limit).await?;
    let titles = entries.iter().map(|entry| view(&platform, entry)).collect();
    Ok(json(StatusCode::OK, &TitleList { titles }))
}

/// `GET /v1/titles/{title}`.
pub(super) async fn show(
    State(platform): State<Arc<Platform>>,
    Path(title): Path<String>,
) -> Result<Response, Fault> {
    let entry = find(&platform, &title).await?;
    Ok(json(StatusCode::OK, &view(&platform, &entry)))
}

/// The entry of a title that a path names.
async fn find(platform: &Platform, title: &str) -> Result<CatalogEntry, Fault> {
    // What cannot be a name cannot be there.
    let missing = || Fault::new(ProblemCode::NoSuchTitle, format!("title {title:.80}"));
    let id: TitleId = title.parse().map_err(|_| missing())?;
    platform.catalog.get(&id).await?.ok_or_else(missing)
}

fn view(platform: &Platform, entry: &CatalogEntry) -> TitleView {
    let package = entry.ingest.package;
    // The end is shown by the record alone: with its reason, and when everything is cleaned up.
    let ended = |stage| matches!(stage, Stage::Published | Stage::Failed);
    let live =
        platform.ingests.progress(package).filter(|live| !ended(live.stage) && !entry.ingest.settled());
    let published = entry.published.as_ref().filter(|published| published.package == package);
    TitleView {
        title: entry.title.clone(),
        name: entry.name.clone(),
        stage: live.map_or(entry.ingest.stage, |live| live.stage),
        progress_percent: live.map_or(if published.is_some() { 100 } else { 0 }, |live| live.percent),
        package: Some(package),
        reason: entry.ingest.reason.clone(),
        attribution: entry.attribution.clone(),
        tags: entry.tags.clone(),
        renditions: published.map(|published| published.renditions.clone()).unwrap_or_default(),
        lint: entry.ingest.lint.clone(),
        duration_ms: published
            .map_or(live.map_or(0, |live| live.duration_ms), |published| published.duration_ms),
    }
}
