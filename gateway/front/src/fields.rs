//! The header fields of our responses.
//!
//! **`Cache-Control: private, max-age=315360000, immutable`.** What a key names never changes, playlists
//! included, so a player's own cache may keep it for good. `private`, because the token is in the URL: a
//! shared cache in front of us could not share between viewers anyway, and it would go on serving a session
//! that has expired.
//!
//! **`Age`** (RFC 9111 section 5.1) is 0 for bytes that come from a source now. For stored bytes it is the
//! age of their package: an upper bound, known without keeping a time for each object and right after a
//! restart. Ten years of `max-age` leave room for it.
//!
//! **CORS.** Browser players live on the operator's pages, on any origin; nothing here depends on cookies, and
//! a path token is given on purpose. Errors carry the fields too, or a page could not tell 403 from no network.

use engine::Outcome;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AGE, ALLOW, CACHE_CONTROL, CONNECTION,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, LOCATION, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use media::validator::ETag;

use crate::refusal::Refusal;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
const FOREVER: HeaderValue = HeaderValue::from_static("private, max-age=315360000, immutable");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Accept-Ranges, Age, Cache-Status, Content-Length, Content-Range, Date, ETag, Proxy-Status, Retry-After",
);
/// What players add to a request; `*` alone is not understood by older engines.
const REQUEST_FIELDS: HeaderValue = HeaderValue::from_static(
    "Range, If-Match, If-None-Match, If-Range, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status",
);
/// How long a browser may remember a preflight, in seconds: a day.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("86400");

/// A header value from text of our own making. What cannot stand in a header becomes nothing.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// On every response.
fn common(fields: &mut HeaderMap) {
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    fields.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Of a 200, 206 or 304.
pub(crate) fn object(etag: &ETag) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(16);
    common(&mut fields);
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(CACHE_CONTROL, FOREVER);
    fields.insert(ETAG, value(&etag.to_string()));
    fields
}

/// What the body is; `content_range` for a single range.
pub(crate) fn content(fields: &mut HeaderMap, media_type: &str, len: u64, content_range: Option<&str>) {
    fields.insert(CONTENT_TYPE, value(media_type));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(len));
    if let Some(range) = content_range {
        fields.insert(CONTENT_RANGE, value(range));
    }
}

/// Where the body came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) source: Option<&'a str>,
    /// Purged softly, and served because no source delivers.
    pub(crate) stale: bool,
}

/// Says where the body came from; `package_age` in seconds.
pub(crate) fn served(fields: &mut HeaderMap, node: &str, origin: Origin<'_>, package_age: u64) {
    fields.insert(CACHE_STATUS, value(&cache_status(node, origin)));
    fields.insert(AGE, HeaderValue::from(age(origin.outcome, package_age)));
}

const fn age(outcome: Outcome, package_age: u64) -> u64 {
    match outcome {
        Outcome::Memory | Outcome::Disk => package_age,
        Outcome::Joined | Outcome::Filled => 0,
    }
}

/// The answer to `OPTIONS`, CORS preflight or not.
pub(crate) fn preflight() -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(8);
    common(&mut fields);
    fields.insert(ALLOW, METHODS);
    fields.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_FIELDS);
    fields.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
    fields
}

/// A short text that nobody keeps.
pub(crate) fn text(len: usize) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(12);
    common(&mut fields);
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(len));
    fields
}

/// What an error response states beside its reason, where it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Particulars {
    /// The object's length.
    pub(crate) total: Option<u64>,
    /// Seconds after which to come back.
    pub(crate) retry_after: Option<u32>,
}

/// Of a redirect of this request only.
pub(crate) fn elsewhere(location: &str) -> HeaderMap {
    let mut fields = text(0);
    fields.insert(LOCATION, value(location));
    fields
}

/// Of an error whose text has `len` bytes.
pub(crate) fn refusal(
    node: &str,
    refusal: Refusal,
    len: usize,
    about: Particulars,
    http1: bool,
) -> HeaderMap {
    let mut fields = text(len);
    let (error, code) = (refusal.proxy_error(), refusal.code());
    fields.insert(PROXY_STATUS, value(&format!("{}; error={error}; details=\"{code}\"", item(node))));
    if refusal == Refusal::Method {
        fields.insert(ALLOW, METHODS);
    }
    if let (Refusal::Range, Some(total)) = (refusal, about.total) {
        fields.insert(CONTENT_RANGE, value(&format!("bytes */{total}")));
    }
    if refusal.is_transient() {
        let seconds = about.retry_after.unwrap_or(1);
        fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if http1 && refusal.closes() {
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    fields
}

/// RFC 9211. `detail` is the tier of a hit, or the source that was asked. What is stale was asked for in vain: that
/// is no hit.
fn cache_status(node: &str, Origin { outcome, source, stale }: Origin<'_>) -> String {
    let node = item(node);
    let detail = source.map(|source| format!("; detail={}", item(source))).unwrap_or_default();
    match outcome {
        Outcome::Memory | Outcome::Disk if stale => format!("{node}; fwd=stale; detail={}", outcome.as_str()),
        Outcome::Memory | Outcome::Disk => format!("{node}; hit; detail={}", outcome.as_str()),
        Outcome::Joined => format!("{node}; fwd=uri-miss; collapsed{detail}"),
        Outcome::Filled => format!("{node}; fwd=uri-miss; stored{detail}"),
    }
}

/// A name as a structured field item (RFC 9651): a token where it can be one, else a string.
fn item(name: &str) -> String {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
    let token = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'*');
    if token && name.bytes().all(tchar) {
        return name.to_owned();
    }
    let printable = name.chars().filter(|c| matches!(c, ' '..='~'));
    let escaped = printable.flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]));
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use media::Digest;

    use super::*;

    #[test]
    fn cache_status_says_where_bytes_came_from() {
        let check = |outcome: Outcome, source: Option<&str>, expected: &str| {
            assert_eq!(cache_status("ams-1", Origin { outcome, source, stale: false }), expected);
        };
        let stale = Origin { outcome: Outcome::Memory, source: None, stale: true };
        assert_eq!(cache_status("ams-1", stale), "ams-1; fwd=stale; detail=memory");
        check(Outcome::Memory, None, "ams-1; hit; detail=memory");
        check(Outcome::Disk, None, "ams-1; hit; detail=disk");
        check(Outcome::Joined, None, "ams-1; fwd=uri-miss; collapsed");
        check(Outcome::Joined, Some("s3"), "ams-1; fwd=uri-miss; collapsed; detail=s3");
        assert_eq!([Outcome::Memory, Outcome::Joined].map(|outcome| age(outcome, 7)), [7, 0]);
        check(Outcome::Filled, Some("s3"), "ams-1; fwd=uri-miss; stored; detail=s3");
    }

    #[test]
    fn names_become_items() {
        for (name, expected) in [
            ("ams-1", "ams-1"),
            ("edge.example:443", "edge.example:443"),
            ("1st", "\"1st\""),
            ("a b", "\"a b\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("\r\nx: y\u{e9}", "\"x: y\""),
            ("", "\"\""),
        ] {
            assert_eq!(item(name), expected, "{name:?}");
        }
    }

    #[test]
    fn an_object_is_kept_and_an_error_is_not() {
        let fields = object(&ETag::of(&Digest::of(b"x")));
        assert_eq!(fields[CACHE_CONTROL], "private, max-age=315360000, immutable");
        assert_eq!(fields[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let fields =
            refusal("n", Refusal::Range, 5, Particulars { total: Some(77), retry_after: Some(9) }, true);
        assert_eq!(fields[CACHE_CONTROL], "no-store");
        assert!(!fields.contains_key(RETRY_AFTER), "a later try would end the same way");
        assert_eq!(fields[CONTENT_RANGE], "bytes */77");
        assert!(!fields.contains_key(CONNECTION));
        let fields = refusal("n", Refusal::HeadTooLarge, 5, Particulars::default(), true);
        assert_eq!(fields[CONNECTION], "close");
        assert_eq!(fields[PROXY_STATUS], "n; error=http_request_error; details=\"head-too-large\"");
        assert!(
            !refusal("n", Refusal::HeadTooLarge, 5, Particulars::default(), false).contains_key(CONNECTION)
        );
        assert_eq!(
            refusal("n", Refusal::Method, 5, Particulars::default(), true)[ALLOW],
            "GET, HEAD, OPTIONS"
        );
    }
}
