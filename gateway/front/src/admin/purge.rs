//! `POST /purge`: what the operator says, and the answer.
//!
//! One JSON object, one scope: `{"title": "bbb"}`, `{"tag": "vendor-acme"}`, `{"prefix": "bbb/00000000000000ff/"}`
//! or `{"url": "/p/.../bbb/00000000000000ff/v720/1.m4s"}`, and `"soft": true` where stale bytes may still be
//! served when no source delivers.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use engine::{PurgeKind, Purged, Scope};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Incoming};
use media::{PackageId, RenditionId, SegmentKey, TitleId};
use prometheus::{IntCounterVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use crate::pulse::Pulse;
use crate::secret::Secret;

/// Carries purges out.
pub trait Purge: Send + Sync {
    /// Makes everything that a scope covers unfindable. Must go on if the caller walks away.
    ///
    /// # Errors
    /// Why not now, in a few words; nothing was purged then.
    fn purge(&self, scope: Scope, kind: PurgeKind) -> Purging<'_>;
}

/// A purge on its way.
pub type Purging<'a> = Pin<Box<dyn Future<Output = Result<Purged, String>> + Send + 'a>>;

/// The longest request: a scope and a word.
const MAX_BODY: usize = 4 * 1024;

/// How long it may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(5);

/// Reads, judges and carries out what is posted.
pub(crate) struct Purger {
    purge: Arc<dyn Purge>,
    key: Option<Secret>,
    results: IntCounterVec,
}

/// Why a request is not carried out.
enum Refused {
    Denied,
    Bad(String),
    TooLong,
    Later(String),
}

/// What a purge did, as the operator reads it.
#[derive(Serialize)]
struct Done {
    epoch: u32,
    objects: u64,
    disks_behind: u64,
    milliseconds: u64,
}

impl Purger {
    pub(crate) fn new(
        purge: Arc<dyn Purge>,
        key: Option<String>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let results = Opts::new("weir_front_purges_total", "Requests to purge, by what came of them");
        let results = IntCounterVec::new(results, &["result"])?;
        registry.register(Box::new(results.clone()))?;
        for result in ["hard", "soft", "denied", "bad", "later"] {
            results.with_label_values(&[result]);
        }
        Ok(Self { purge, key: key.map(|key| Secret::new(&key)), results })
    }

    /// Status and JSON text. Every request leaves one line in the log: who, what, and what came of it.
    pub(crate) async fn answer(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        pulse: &Pulse,
    ) -> (StatusCode, String) {
        let from = pulse.peer().map(|from| from.to_string()).unwrap_or_default();
        match self.carry_out(headers, body, pulse, &from).await {
            Ok(done) => (StatusCode::OK, serde_json::to_string(&done).unwrap_or_default()),
            Err(refused) => {
                let (status, result, reason) = refused.told();
                self.results.with_label_values(&[result]).inc();
                tracing::warn!(from, result, reason, "a purge was refused");
                (status, serde_json::json!({ "error": reason }).to_string())
            }
        }
    }

    async fn carry_out(
        &self,
        headers: &HeaderMap,
        body: Incoming,
        pulse: &Pulse,
        from: &str,
    ) -> Result<Done, Refused> {
        if !self.key.is_none_or(|key| knows(headers, &key)) {
            // Read and forgotten, so that the answer arrives.
            let _ = read(body).await;
            return Err(Refused::Denied);
        }
        let (scope, kind) = parse(&read(body).await?).map_err(Refused::Bad)?;
        let (what, began) = (scope.to_string(), Instant::now());
        let purged = {
            let _waiting = pulse.waiting();
            self.purge.purge(scope, kind).await.map_err(Refused::Later)?
        };
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Purged { epoch, objects, disks_behind } = purged;
        self.results.with_label_values(&[kind.as_str()]).inc();
        let (kind, epoch) = (kind.as_str(), epoch.0);
        tracing::info!(from, what, kind, epoch, objects, disks_behind, milliseconds, "purged");
        Ok(Done { epoch, objects, disks_behind, milliseconds })
    }
}

impl Refused {
    fn told(self) -> (StatusCode, &'static str, String) {
        match self {
            Self::Denied => {
                (StatusCode::UNAUTHORIZED, "denied", "the key of admin.key_file is needed".to_owned())
            }
            Self::Bad(reason) => (StatusCode::BAD_REQUEST, "bad", reason),
            Self::TooLong => {
                let reason = format!("at most {MAX_BODY} bytes, within {} s", BODY_WAIT.as_secs());
                (StatusCode::PAYLOAD_TOO_LARGE, "bad", reason)
            }
            Self::Later(reason) => (StatusCode::SERVICE_UNAVAILABLE, "later", reason),
        }
    }
}

/// Whether the request carries the key.
fn knows(headers: &HeaderMap, key: &Secret) -> bool {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else { return false };
    let Some(given) = given.as_bytes().strip_prefix(b"Bearer ") else { return false };
    key.is(given)
}

async fn read(body: Incoming) -> Result<Vec<u8>, Refused> {
    let whole = async {
        let (mut body, mut bytes) = (pin!(body), Vec::new());
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let Some(data) = frame.ok()?.into_data().ok() else { continue };
            if bytes.len() + data.len() > MAX_BODY {
                return None;
            }
            bytes.extend_from_slice(&data);
        }
        Some(bytes)
    };
    timeout(BODY_WAIT, whole).await.ok().flatten().ok_or(Refused::TooLong)
}

/// What is posted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    url: Option<String>,
    title: Option<String>,
    prefix: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    soft: bool,
}

/// What to purge and how; the error is for the operator.
fn parse(bytes: &[u8]) -> Result<(Scope, PurgeKind), String> {
    let asked: Asked = serde_json::from_slice(bytes).map_err(|error| format!("not a purge: {error}"))?;
    let Asked { url, title, prefix, tag, soft } = asked;
    let scope = match (url, title, prefix, tag) {
        (Some(url), None, None, None) => segment(&url),
        (None, Some(title), None, None) => {
            title.parse().map(Scope::Title).map_err(|error| format!("title: {error}"))
        }
        (None, None, Some(prefix), None) => checked_prefix(&prefix).map(|()| Scope::Prefix(prefix)),
        (None, None, None, Some(tag)) => tag.parse().map(Scope::Tag).map_err(|error| format!("tag: {error}")),
        _ => Err("exactly one of url, title, prefix and tag".to_owned()),
    };
    Ok((scope?, if soft { PurgeKind::Soft } else { PurgeKind::Hard }))
}

/// The path of a viewer's URL, with its token or without.
fn segment(url: &str) -> Result<Scope, String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = match path.strip_prefix("/p/").and_then(|rest| rest.split_once('/')) {
        Some((_token, key)) => key,
        None => path,
    };
    SegmentKey::parse(path).map(|(key, _)| Scope::Segment(key)).map_err(|error| format!("url: {error}"))
}

/// A beginning of `title/package/rendition/`.
fn checked_prefix(prefix: &str) -> Result<(), String> {
    let told = |part: &str, problem: &dyn std::fmt::Display| Err(format!("prefix: {part}: {problem}"));
    let mut parts = prefix.split('/');
    let last = parts.next_back().unwrap_or_default();
    let whole: Vec<&str> = parts.collect();
    if prefix.is_empty() {
        return Err("prefix: an empty one would purge everything".to_owned());
    }
    if whole.len() > 3 || (whole.len() == 3 && !last.is_empty()) {
        return Err("prefix: it ends at or before the rendition; purge a segment by its url".to_owned());
    }
    for (at, part) in whole.iter().enumerate() {
        let problem = match at {
            0 => part.parse::<TitleId>().err().map(|error| error.to_string()),
            1 => part.parse::<PackageId>().err().map(|error| error.to_string()),
            _ => part.parse::<RenditionId>().err().map(|error| error.to_string()),
        };
        if let Some(problem) = problem {
            return told(part, &problem);
        }
    }
    let begins = last.is_empty()
        || match whole.len() {
            0 => last.parse::<TitleId>().is_ok(),
            1 => last.len() <= 16 && last.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            _ => last.parse::<RenditionId>().is_ok(),
        };
    if begins { Ok(()) } else { told(last, &"no name begins so") }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn reads(text: &str, shown: &str, kind: PurgeKind) {
        let read = parse(text.as_bytes()).map(|(scope, kind)| (scope.to_string(), kind));
        assert_eq!(read, Ok((shown.to_owned(), kind)), "{text}");
    }

    #[test]
    fn one_scope_in_four_ways() {
        use PurgeKind::{Hard, Soft};
        let key = "bbb/00000000000000ff/v720/1.m4s";
        let segment = "segment bbb/00000000000000ff/v720/1";
        reads(&format!(r#"{{"url": "{key}"}}"#), segment, Hard);
        reads(&format!(r#"{{"url": "/p/to-ken/{key}?CMCD=x", "soft": true}}"#), segment, Soft);
        reads(r#"{"title": "bbb", "soft": false}"#, "title bbb", Hard);
        reads(r#"{"tag": "vendor-acme"}"#, "tag vendor-acme", Hard);
        for prefix in ["b", "bbb/", "bbb/00", "bbb/00000000000000ff/", "bbb/00000000000000ff/v7"] {
            reads(&format!(r#"{{"prefix": "{prefix}"}}"#), &format!("prefix {prefix}"), Hard);
        }
        reads(r#"{"prefix": "bbb/00000000000000ff/v720/"}"#, "prefix bbb/00000000000000ff/v720/", Hard);
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "not a purge: "),
            ("[]", "not a purge: "),
            ("{", "not a purge: "),
            (r#"{"titel": "bbb"}"#, "unknown field `titel`"),
            (r#"{"title": "bbb", "title": "abc"}"#, "duplicate field"),
            (r#"{"title": "bbb"} {}"#, "trailing characters"),
            (r#"{"title": 5}"#, "invalid type"),
            (r#"{"title": "bbb", "soft": "yes"}"#, "invalid type"),
            ("{}", "exactly one of"),
            (r#"{"soft": true}"#, "exactly one of"),
            (r#"{"title": "bbb", "tag": "x"}"#, "exactly one of"),
            (r#"{"title": "B B"}"#, "title: "),
            (r#"{"title": ""}"#, "title: "),
            (r#"{"tag": "/"}"#, "tag: "),
            (r#"{"url": "bbb"}"#, "url: "),
            (r#"{"url": "/p/bbb/00000000000000ff/v720/1.m4s"}"#, "url: "),
            (r#"{"url": "https://edge/p/t/bbb/00000000000000ff/v720/1.m4s"}"#, "url: "),
            (r#"{"prefix": ""}"#, "everything"),
            (r#"{"prefix": "/"}"#, "prefix: "),
            (r#"{"prefix": "B"}"#, "no name begins so"),
            (r#"{"prefix": "bbb//"}"#, "prefix: "),
            (r#"{"prefix": "bbb/xyz"}"#, "no name begins so"),
            (r#"{"prefix": "bbb/00/v720/"}"#, "prefix: 00: "),
            (r#"{"prefix": "bbb/00000000000000ff/v720/1.m4s"}"#, "at or before the rendition"),
            (r#"{"prefix": "bbb/00000000000000ff/v720/1/"}"#, "at or before the rendition"),
        ] {
            let refused = parse(text.as_bytes()).expect_err(text);
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn the_key_is_one_header_and_exact() {
        let key = Secret::new("secret");
        let check = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            knows(&headers, &key)
        };
        assert!(check(&["Bearer secret"]));
        for wrong in
            [&[][..], &["Bearer secre"], &["Bearer secret "], &["secret"], &["Basic secret"], &["Bearer "]]
        {
            assert!(!check(wrong), "{wrong:?}");
        }
        assert!(!check(&["Bearer secret", "Bearer secret"]));
    }
}
