//! Explanations: where bytes would come from now, and why. This room asks for them and passes them on; it does
//! not know which sources exist.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use engine::Outcome;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::metrics::{Debugged, Metrics};
use crate::secret::Secret;

/// Says where bytes would come from.
pub trait Explain: Send + Sync {
    /// A JSON object about a path: that of a viewer's URL, with its token or without, or that of an object.
    /// Buys no segment; an index that is not at hand is fetched.
    ///
    /// # Errors
    /// [`Unexplained`].
    fn explain<'a>(&'a self, path: &'a str) -> Explaining<'a>;

    /// The sources in the order in which they would be asked for so many bytes now, as a structured field list.
    fn sources(&self, bytes: u64) -> String;
}

/// An explanation on its way.
pub type Explaining<'a> = Pin<Box<dyn Future<Output = Result<String, Unexplained>> + Send + 'a>>;

/// Why there is no explanation; each with a few words for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unexplained {
    /// The path names nothing.
    Path(String),
    /// There is no such segment.
    Missing(String),
    /// Not now.
    Later(String),
}

/// What `front.debug_key_file` turns on: who sends its key as `Weir-Debug` sees the sources with each answer.
pub struct Debugging {
    /// The key.
    pub key: String,
    /// Who explains.
    pub explain: Arc<dyn Explain>,
}

const WEIR_DEBUG: HeaderName = HeaderName::from_static("weir-debug");
const WEIR_SOURCES: HeaderName = HeaderName::from_static("weir-sources");
const WEIR_TIER: HeaderName = HeaderName::from_static("weir-tier");

/// What an answer without a body is explained for: the prices of a megabyte.
const NOMINAL_BYTES: u64 = 1_000_000;

/// Adds to an answer what its asker may see of the inside.
pub(crate) struct Debugger {
    key: Option<Secret>,
    explain: Option<Arc<dyn Explain>>,
}

impl Debugger {
    pub(crate) fn new(debugging: Option<Debugging>) -> Self {
        let (key, explain) = debugging.map(|on| (Secret::new(&on.key), on.explain)).unzip();
        Self { key, explain }
    }

    /// The further fields of an answer of `len` bytes; none for those who do not know the key.
    pub(crate) fn fields(
        &self,
        parts: &Parts,
        outcome: Option<Outcome>,
        len: Option<u64>,
        metrics: &Metrics,
    ) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let Some(given) = parts.headers.get(&WEIR_DEBUG) else { return fields };
        let (Some(explain), true) = (&self.explain, self.key.is_some_and(|key| key.is(given.as_bytes())))
        else {
            metrics.debugged.count(Debugged::Denied);
            return fields;
        };
        metrics.debugged.count(Debugged::Shown);
        let sources = explain.sources(len.filter(|len| *len > 0).unwrap_or(NOMINAL_BYTES));
        fields.extend(HeaderValue::try_from(sources).ok().map(|sources| (WEIR_SOURCES, sources)));
        fields.extend(outcome.map(|outcome| (WEIR_TIER, HeaderValue::from_static(outcome.as_str()))));
        fields
    }
}
