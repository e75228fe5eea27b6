//! Where the outside world begins: the traits this program needs from stores, tools, the clock and chance.
//!
//! Each has few methods, is held as `Arc<dyn ...>` and has one contract test suite that every implementation
//! passes. Futures are boxed: a call costs nanoseconds, what it does costs milliseconds.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use control::ingest::Event;
use control::ladder::{Ladder, SourceFacts};
use control::purchase::Order;
use control_api::rest::{CaptionSource, Stage};
use futures_util::Stream;
use media::{ByteRange, PackageId, Tag, TitleId};
use serde::{Deserialize, Serialize};

/// A future a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The seconds since 1970.
pub trait WallClock: Send + Sync {
    /// Now, in Unix seconds.
    fn now_unix(&self) -> u64;
}

/// The source of randomness gave none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the machine's random generator failed")]
pub struct EntropyError;

/// Unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills the slice.
    ///
    /// # Errors
    /// [`EntropyError`] when the machine has none to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// Sixteen random bytes as 32 hex digits: the ids of entitlements and sessions.
///
/// # Errors
/// [`EntropyError`] when the machine has none to give.
pub fn random_id(entropy: &dyn Entropy) -> Result<String, EntropyError> {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes)?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

/// Why a store of records did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Somebody else changed the record first, or an idempotency key was used for another request.
    /// Read again and decide again.
    #[error("{0} was changed by somebody else")]
    Conflict(String),
    /// The record is not there.
    #[error("{0} does not exist")]
    Missing(String),
    /// No store takes this: a key or a body is out of bounds.
    #[error("no state store takes this: {0}")]
    Unfit(String),
    /// The store cannot be read or written now.
    #[error("the state store failed: {0}")]
    Unavailable(String),
    /// A record cannot be understood: another version wrote it, or the file is damaged.
    #[error("the state store holds a record that cannot be read: {0}")]
    Corrupt(String),
}

/// What the catalogue knows of a title. The journal is the truth about a running ingest; the stage here is what
/// a list shows without replaying it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// The film.
    pub title: TitleId,
    /// What viewers call it.
    pub name: String,
    /// Its mezzanine, as a name within the mezzanine store.
    pub source: String,
    /// Its sidecar captions.
    pub captions: Vec<CaptionSource>,
    /// Whom to credit.
    pub attribution: Option<String>,
    /// Its tags, sorted, none twice. Records of before there were tags have none.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// The newest ingest.
    pub ingest: IngestRecord,
    /// What viewers get: the newest package that was published.
    pub published: Option<Published>,
    /// Counts the writes of this record; a write names the version it read, 0 for a new record.
    pub version: u64,
}

/// The newest ingest of a title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestRecord {
    /// The package it makes.
    pub package: PackageId,
    /// When it was asked for, in Unix seconds.
    pub received_at: u64,
    /// How often it was asked for again after it failed.
    pub retries: u32,
    /// How far it came.
    pub stage: Stage,
    /// Why it failed, if it did.
    pub reason: Option<String>,
    /// What the lint said, one line each.
    pub lint: Vec<String>,
}

impl IngestRecord {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn settled(&self) -> bool {
        matches!(self.stage, Stage::Published | Stage::Failed)
    }
}

/// A package that viewers may be sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The package.
    pub package: PackageId,
    /// When, in Unix seconds.
    pub at: u64,
    /// How long the film is, in milliseconds.
    pub duration_ms: u64,
    /// Its renditions.
    pub renditions: Vec<control_api::rest::RenditionView>,
}

/// The titles.
pub trait Catalog: Send + Sync {
    /// One title.
    fn get<'a>(&'a self, title: &'a TitleId) -> BoxFuture<'a, Result<Option<CatalogEntry>, StateError>>;

    /// At most `limit` titles in the order of their names, beginning behind `after`.
    fn list<'a>(
        &'a self,
        after: Option<&'a TitleId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<CatalogEntry>, StateError>>;

    /// Writes a record if it still has the version that `entry` carries (0: if it does not exist), and returns
    /// it as stored. [`StateError::Conflict`] otherwise.
    fn put<'a>(&'a self, entry: &'a CatalogEntry) -> BoxFuture<'a, Result<CatalogEntry, StateError>>;
}

/// The event log of every ingest.
pub trait Journal: Send + Sync {
    /// All events of one ingest in order.
    fn load(&self, package: PackageId) -> BoxFuture<'_, Result<Vec<Event>, StateError>>;

    /// Writes event number `at` (counted from 0), durably, if exactly `at` events stand.
    /// [`StateError::Conflict`] otherwise: another runner is at work.
    fn append<'a>(
        &'a self,
        package: PackageId,
        at: u64,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), StateError>>;
}

/// What a payment service says when it is asked for a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charge {
    /// It stands.
    Made {
        /// How the service names it. It pays for one order only.
        reference: String,
    },
    /// It does not and will not.
    Declined {
        /// Why, in words for the viewer.
        reason: String,
    },
}

/// What a payment service says when it is asked for a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refund {
    /// The money went back.
    Made {
        /// How the service names it.
        refund: String,
    },
    /// It will not go back.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The payment service gave no answer that settles it; it may have done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PaymentError(pub String);

/// Whoever takes the viewers' money. Asked again for the same order, it gives the same answer and takes nothing
/// more.
pub trait Payments: Send + Sync {
    /// Charges the order, or confirms that the viewer's device has paid for it.
    fn charge<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Charge, PaymentError>>;

    /// Pays the whole charge of this reference back.
    fn refund<'a>(
        &'a self,
        order: &'a Order,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>>;
}

/// Why an object store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// No object of this name.
    #[error("there is no object {0}")]
    NotFound(String),
    /// A name that could leave the store, or that it cannot hold.
    #[error("{0:?} is no object name")]
    BadName(String),
    /// The range does not lie inside the object.
    #[error("the range lies outside of {0}")]
    Range(String),
    /// The store refuses us: credentials or permissions.
    #[error("the object store refuses: {0}")]
    Refused(String),
    /// The store cannot be reached or failed; trying again may help.
    #[error("the object store failed: {0}")]
    Unavailable(String),
}

/// What to store.
#[derive(Debug, Clone)]
pub enum Payload {
    /// These bytes.
    Bytes(Bytes),
    /// The contents of this file.
    File(PathBuf),
}

/// Bytes of an object as they arrive.
pub type ObjectBody = Pin<Box<dyn Stream<Item = Result<Bytes, ObjectError>> + Send>>;

/// An object being read.
pub struct ObjectRead {
    /// How many bytes the body carries.
    pub len: u64,
    /// Changes whenever the object does: an entity tag, or length and time of change.
    pub version: String,
    /// The bytes. Dropping it ends the transfer.
    pub body: ObjectBody,
}

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its full name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
}

/// Objects by name: packages and mezzanine files. Names are `/`-separated, without empty, `.` or `..` parts.
pub trait ObjectStore: Send + Sync {
    /// Stores an object whole or not at all, replacing one of the same name. Returns its length. If the caller
    /// walks away, nothing or everything is stored.
    fn put<'a>(&'a self, name: &'a str, payload: Payload) -> BoxFuture<'a, Result<u64, ObjectError>>;

    /// Opens an object, or the given range of it.
    fn read<'a>(
        &'a self,
        name: &'a str,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Result<ObjectRead, ObjectError>>;

    /// All objects whose name begins with `prefix`, in the order of their names.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>, ObjectError>>;

    /// Removes an object; one that is not there is removed already.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>>;

    /// Where the object lies as a plain file, for stores that have such: a tool can then read it in place.
    fn local(&self, _name: &str) -> Option<PathBuf> {
        None
    }
}

/// Whether a name may be used in an [`ObjectStore`]: relative, no empty or dotted-only parts, no control
/// characters, at most 512 bytes.
///
/// # Errors
/// [`ObjectError::BadName`].
pub fn check_object_name(name: &str) -> Result<(), ObjectError> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.');
    let bad_char = |c: char| c.is_control() || c == '\\';
    if name.len() > 512 || name.split('/').any(bad_part) || name.contains(bad_char) {
        return Err(ObjectError::BadName(name.chars().take(80).collect()));
    }
    Ok(())
}

/// A tool failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tool}: {detail}")]
pub struct ToolError {
    /// Which tool.
    pub tool: &'static str,
    /// What it said last, or why it could not run.
    pub detail: String,
    /// Whether the same input would fail again: retrying is pointless.
    pub permanent: bool,
}

/// A transcoding to do: one file per rendition, `<name>.mp4`, in `into`.
#[derive(Debug, Clone)]
pub struct TranscodeJob {
    /// The mezzanine file.
    pub source: PathBuf,
    /// What is in it.
    pub facts: SourceFacts,
    /// What to make of it.
    pub ladder: Ladder,
    /// An existing empty directory.
    pub into: PathBuf,
}

/// A packaging to do: `from` holds one `<name>.mp4` for each video and audio rendition.
#[derive(Debug, Clone)]
pub struct PackageJob {
    /// Where the transcoded files are.
    pub from: PathBuf,
    /// Video rendition names.
    pub video: Vec<String>,
    /// Audio rendition names with their languages; the first is the default.
    pub audio: Vec<(String, String)>,
    /// Caption rendition names with their languages; `from` holds `<name>.vtt` for each.
    pub captions: Vec<(String, String)>,
    /// How long segments and fragments are to be, in microseconds.
    pub segment_us: u64,
    /// See there.
    pub fragment_us: u64,
    /// An existing empty directory beside `from`. Afterwards it holds `<name>.mp4` or `<name>.vtt`,
    /// `<name>.m3u8`, `<name>-iframes.m3u8` for video, and `main.m3u8`, with plain relative URIs.
    pub into: PathBuf,
}

/// Thumbnails to make: `sheet-<n>.jpg` (5 by 4 tiles) and `still-<n>.jpg`, counted from 0, in `into`.
#[derive(Debug, Clone)]
pub struct ThumbnailJob {
    /// A transcoded video rendition with a key frame at least every [`ThumbnailJob::every_s`] seconds.
    pub source: PathBuf,
    /// Seconds between thumbnails.
    pub every_s: u32,
    /// An existing empty directory.
    pub into: PathBuf,
}

/// Told how far a job is: a share of 0 to 1000.
pub type Progress<'a> = &'a (dyn Fn(u16) + Send + Sync);

/// The tools that look into films and make packages of them. Dropping a future ends the tool.
pub trait Transcoder: Send + Sync {
    /// Looks into a file.
    fn probe<'a>(&'a self, source: &'a Path) -> BoxFuture<'a, Result<SourceFacts, ToolError>>;

    /// Encodes all renditions in one pass over the source.
    fn transcode<'a>(
        &'a self,
        job: &'a TranscodeJob,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<(), ToolError>>;

    /// Makes CMAF files and byte-range playlists.
    fn package<'a>(&'a self, job: &'a PackageJob) -> BoxFuture<'a, Result<(), ToolError>>;

    /// Makes thumbnails.
    fn thumbnails<'a>(&'a self, job: &'a ThumbnailJob) -> BoxFuture<'a, Result<(), ToolError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_cannot_climb_out() {
        for good in ["a", "bbb/00000000000000ff/v720.mp4", "film one/final (2).mkv"] {
            assert_eq!(check_object_name(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", ".tmp/a", "a\\b", "a\0b", &"x".repeat(513)]
        {
            assert!(check_object_name(bad).is_err(), "{bad:?}");
        }
    }
}
