//! The seam to the world outside: one place where bytes can be bought.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::want::Want;

/// A boxed future, so that sources can stand behind `Arc<dyn Source>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A body in pieces of any size. It ends after the promised bytes or with an error.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, SourceError>> + Send>>;

/// One place where bytes can be bought.
pub trait Source: Send + Sync {
    /// The name the operator gave it.
    fn id(&self) -> &SourceId;

    /// What it is.
    fn kind(&self) -> SourceKind;

    /// Asks for bytes. Dropping the future or the body cancels the transfer; waits inside are not bounded
    /// here, the caller bounds them.
    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>>;
}

/// A body that has begun.
pub struct Opened {
    /// How many bytes the body will carry.
    pub len: u64,
    /// The bytes.
    pub body: ByteStream,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes)", self.len)
    }
}

/// The name of a source, from the configuration: `s3`, `cloudfront`, `peer-ams1`. It is a metric label, and
/// bounded as such by the number of sources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceId(Arc<str>);

/// A text is no source name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source name {0:?}: write 1 to 64 lower-case letters, digits, '-', '_' or '.'")]
pub struct SourceIdError(String);

impl SourceId {
    /// The most characters a name may have.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceId {
    type Err = SourceIdError;

    fn from_str(text: &str) -> Result<Self, SourceIdError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let good = (1..=Self::MAX_LEN).contains(&text.len()) && text.chars().all(allowed);
        if good { Ok(Self(text.into())) } else { Err(SourceIdError(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for SourceId {
    type Error = SourceIdError;

    fn try_from(text: String) -> Result<Self, SourceIdError> {
        text.parse()
    }
}

impl From<SourceId> for String {
    fn from(id: SourceId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A directory of this machine.
    Directory,
    /// An S3 or S3-compatible bucket.
    S3,
    /// Any HTTP origin; a CDN is one.
    Http,
    /// Another edge, over QUIC.
    Peer,
}

impl SourceKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Directory, Self::S3, Self::Http, Self::Peer];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::S3 => "s3",
            Self::Http => "http",
            Self::Peer => "peer",
        }
    }
}

/// A source did not deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct SourceError {
    /// What kind of failure; decides what it costs the source.
    pub reason: Reason,
    /// For the operator's eyes; never a credential.
    pub detail: String,
    /// How long the source asked to be left alone (`Retry-After`), where it said so.
    pub retry_after: Option<Duration>,
}

impl SourceError {
    /// A failure of which the source said no more.
    #[must_use]
    pub fn new(reason: Reason, detail: impl fmt::Display) -> Self {
        Self { reason, detail: detail.to_string(), retry_after: None }
    }

    /// The same with the pause that the source asked for.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }
}

/// Why a source did not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It answered that it does not hold the bytes. Says nothing about its health.
    NotFound,
    /// It answered that we may not have them: credentials, signature, region.
    Refused,
    /// It asked us to come back later.
    Throttled,
    /// It could not be reached, or said that it is broken.
    Unavailable,
    /// It did not answer, or stopped sending, for too long.
    Timeout,
    /// The body ended early.
    Cut,
    /// Its length or validator differs from what the index promises: another version.
    Changed,
    /// Its bytes are not those of the index.
    Corrupt,
    /// It cannot serve this kind of want at all: a peer and a plain object. Says nothing about its health.
    Unsupported,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::NotFound,
        Self::Refused,
        Self::Throttled,
        Self::Unavailable,
        Self::Timeout,
        Self::Cut,
        Self::Changed,
        Self::Corrupt,
        Self::Unsupported,
    ];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::Changed => "changed",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether the source lacks the bytes, as opposed to failing to deliver them.
    #[must_use]
    pub const fn is_absence(self) -> bool {
        matches!(self, Self::NotFound | Self::Unsupported)
    }
}
