//! What to answer for an object whose length and validator are known: a pure function of the request.

use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, StatusCode};
use media::ByteRange;
use media::range::{Selection, select};
use media::validator::{Conditional, ETag, Precondition};

use crate::refusal::Refusal;
use crate::request::Verb;

/// The answer's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// 304.
    NotModified,
    /// 200.
    Whole,
    /// 206 with one range.
    Single(ByteRange),
    /// 206 as `multipart/byteranges`.
    Multiple(Vec<ByteRange>),
}

impl Plan {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotModified => StatusCode::NOT_MODIFIED,
            Self::Whole => StatusCode::OK,
            Self::Single(_) | Self::Multiple(_) => StatusCode::PARTIAL_CONTENT,
        }
    }
}

/// Conditions first, then the range (RFC 9110 section 13.2.2). A range means something for `GET` alone
/// (section 14.2), so a `HEAD` describes the whole object.
pub(crate) fn plan(verb: Verb, headers: &HeaderMap, etag: &ETag, len: u64) -> Result<Plan, Refusal> {
    let (if_match, if_none_match) = (list(headers, &IF_MATCH), list(headers, &IF_NONE_MATCH));
    let if_range = headers.get(IF_RANGE).map(|value| value.to_str().unwrap_or_default());
    let conditional =
        Conditional { if_match: if_match.as_deref(), if_none_match: if_none_match.as_deref(), if_range };
    match conditional.evaluate(etag) {
        Precondition::NotModified => return Ok(Plan::NotModified),
        Precondition::Failed => return Err(Refusal::Precondition),
        Precondition::Proceed => {}
    }
    if verb != Verb::Get || !conditional.if_range_matches(etag) {
        return Ok(Plan::Whole);
    }
    match select(single(headers, &RANGE), len) {
        Selection::Whole => Ok(Plan::Whole),
        Selection::Unsatisfiable => Err(Refusal::Range),
        Selection::Ranges(ranges) => Ok(match ranges[..] {
            [only] => Plan::Single(only),
            _ => Plan::Multiple(ranges),
        }),
    }
}

/// A list field, its lines joined (RFC 9110 section 5.3). A line that is no text is an entry that matches
/// nothing.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> =
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\"~\"")).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// A field that means nothing when it comes twice.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use media::Digest;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            map.append(name, value);
        }
        map
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).expect("not empty")
    }

    #[test]
    fn rfc_9110_section_13_2_2() {
        let etag = ETag::of(&Digest::of(b"x"));
        let ours = etag.to_string();
        let weak = format!("W/{ours}");
        let get = |fields: &[(&str, &str)], expected: Result<Plan, Refusal>| {
            assert_eq!(plan(Verb::Get, &headers(fields), &etag, 100), expected, "{fields:?}");
        };
        get(&[], Ok(Plan::Whole));
        get(&[("range", "bytes=0-9")], Ok(Plan::Single(range(0, 10))));
        get(&[("range", "bytes=90-")], Ok(Plan::Single(range(90, 100))));
        get(&[("range", "bytes=0-0,-1")], Ok(Plan::Multiple(vec![range(0, 1), range(99, 100)])));
        get(&[("range", "bytes=0-0,500-")], Ok(Plan::Single(range(0, 1))));
        get(&[("range", "bytes=100-")], Err(Refusal::Range));
        get(&[("range", "bytes=5-1")], Ok(Plan::Whole));
        get(&[("range", "bytes=0-9"), ("range", "bytes=5-9")], Ok(Plan::Whole));
        get(&[("range", "bytes=0-\u{e9}")], Ok(Plan::Whole));
        get(&[("if-none-match", &ours)], Ok(Plan::NotModified));
        get(&[("if-none-match", &weak)], Ok(Plan::NotModified));
        get(&[("if-none-match", "*"), ("range", "bytes=100-")], Ok(Plan::NotModified));
        get(&[("if-none-match", "\"a\""), ("if-none-match", &ours)], Ok(Plan::NotModified));
        get(&[("if-none-match", "\"\u{e9}\""), ("if-none-match", &ours)], Ok(Plan::NotModified));
        get(&[("if-none-match", "\"other\""), ("range", "bytes=0-0")], Ok(Plan::Single(range(0, 1))));
        get(&[("if-match", &ours)], Ok(Plan::Whole));
        get(&[("if-match", &weak)], Err(Refusal::Precondition));
        get(&[("if-match", "\"other\""), ("if-none-match", &ours)], Err(Refusal::Precondition));
        get(&[("if-range", &ours), ("range", "bytes=0-0")], Ok(Plan::Single(range(0, 1))));
        get(&[("if-range", &weak), ("range", "bytes=0-0")], Ok(Plan::Whole));
        get(&[("if-range", "Tue, 15 Nov 1994 08:12:31 GMT"), ("range", "bytes=0-0")], Ok(Plan::Whole));
        get(&[("if-range", "\"other\""), ("range", "bytes=500-")], Ok(Plan::Whole));
        get(&[("if-range", "\u{e9}"), ("range", "bytes=0-0")], Ok(Plan::Whole));
        get(&[("if-modified-since", "Tue, 15 Nov 2094 08:12:31 GMT")], Ok(Plan::Whole));

        let head = |fields: &[(&str, &str)]| plan(Verb::Head, &headers(fields), &etag, 100);
        assert_eq!(head(&[("range", "bytes=0-9")]), Ok(Plan::Whole));
        assert_eq!(head(&[("range", "bytes=500-")]), Ok(Plan::Whole));
        assert_eq!(head(&[("if-none-match", &ours)]), Ok(Plan::NotModified));
        assert_eq!(plan(Verb::Get, &headers(&[("range", "bytes=0-")]), &etag, 0), Err(Refusal::Range));
    }
}
