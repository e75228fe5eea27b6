//! What an origin answered, held against what was asked: pure rules that S3 and HTTP share.

use std::fmt;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use media::ByteRange;
use sourcing::{ByteStream, Reason, SourceError, Want};

/// The facts of a successful answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    /// Whether it is a 206.
    pub(super) partial: bool,
    /// `Content-Length`.
    pub(super) length: Option<u64>,
    /// `Content-Range`.
    pub(super) content_range: Option<&'a str>,
}

/// How many bytes the body will carry, if the answer is exactly what was wanted.
///
/// A total or a range other than the index promises means the object changed under its name. An origin that
/// answers a range with the whole object is only good when the range is the whole object: reading gigabytes
/// to reach an offset is not a way to serve a segment.
pub(super) fn judge(answer: &Answer<'_>, want: &Want) -> Result<u64, SourceError> {
    match (want.range, answer.partial) {
        (Some(range), true) => partial(answer, want, range),
        (None, true) => Err(fault(Reason::Unsupported, "a part came though the whole was asked for")),
        (range, false) => whole(answer, want, range),
    }
}

fn partial(answer: &Answer<'_>, want: &Want, range: ByteRange) -> Result<u64, SourceError> {
    let text = answer.content_range.unwrap_or_default();
    let Some((found, total)) = content_range(text) else {
        return Err(fault(Reason::Unsupported, format_args!("Content-Range {text:?} cannot be read")));
    };
    check_total(total, want)?;
    if found != range {
        return Err(fault(Reason::Changed, format_args!("bytes {found} came, {range} were asked for")));
    }
    match answer.length {
        Some(length) if length != range.len() => {
            Err(fault(Reason::Changed, format_args!("Content-Length {length} is not that of {range}")))
        }
        _ => Ok(range.len()),
    }
}

fn whole(answer: &Answer<'_>, want: &Want, range: Option<ByteRange>) -> Result<u64, SourceError> {
    let unknown = || fault(Reason::Unsupported, "the origin does not say how long the object is");
    let length = answer.length.or(want.object_len).ok_or_else(unknown)?;
    check_total(Some(length), want)?;
    if range.is_some() && range != ByteRange::whole(length) {
        return Err(fault(Reason::Unsupported, "the origin ignores ranges"));
    }
    Ok(length)
}

/// The object must be as long as the index says, where both lengths are known.
pub(super) fn check_total(total: Option<u64>, want: &Want) -> Result<(), SourceError> {
    match (total, want.object_len) {
        (Some(total), Some(promised)) if total != promised => Err(fault(
            Reason::Changed,
            format_args!("{} has {total} bytes, the index says {promised}", want.object),
        )),
        _ => Ok(()),
    }
}

/// Reads `bytes a-b/total` (RFC 9110 section 14.4); the total may be `*`.
fn content_range(text: &str) -> Option<(ByteRange, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let range = ByteRange::new(number(first)?, number(last)?.checked_add(1)?)?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    total.is_none_or(|total| range.end() <= total).then_some((range, total))
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// What an HTTP status other than 200 and 206 means.
pub(super) fn refusal(status: u16) -> Reason {
    match status {
        404 | 410 => Reason::NotFound,
        // The index says these bytes exist.
        416 => Reason::Changed,
        429 | 503 => Reason::Throttled,
        408 | 504 => Reason::Timeout,
        500..=599 => Reason::Unavailable,
        _ => Reason::Refused,
    }
}

/// Passes a body on only as far as promised: too few bytes are a cut, too many a change.
pub(super) fn exact<S>(promised: u64, body: S) -> ByteStream
where
    S: Stream<Item = Result<Bytes, SourceError>> + Send + 'static,
{
    let state = (Box::pin(body), promised);
    Box::pin(stream::try_unfold(state, |(mut body, left)| async move {
        match body.next().await.transpose()? {
            None if left == 0 => Ok(None),
            None => Err(fault(Reason::Cut, format_args!("the body ended {left} bytes early"))),
            Some(chunk) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Ok(Some((chunk, (body, left)))),
                None => Err(fault(Reason::Changed, "the body is longer than its announced length")),
            },
        }
    }))
}

/// An object's name as part of a path or URL. Names come from a signed index, but a source trusts nobody:
/// what could climb out of a directory or change a URL's meaning is refused.
pub(super) fn checked_name(object: &str) -> Result<&str, SourceError> {
    let component = |part: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
    };
    let fine = object.len() <= 1_024 && object.split('/').all(component);
    if fine {
        Ok(object)
    } else {
        Err(fault(Reason::Unsupported, format_args!("{object:?} names no object")))
    }
}

/// Whether a text could name an object.
pub(crate) fn is_object_name(text: &str) -> bool {
    checked_name(text).is_ok()
}

pub(super) fn fault(reason: Reason, detail: impl fmt::Display) -> SourceError {
    SourceError::new(reason, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(range: Option<(u64, u64)>, object_len: Option<u64>) -> Want {
        let range = range.map(|(start, end)| ByteRange::new(start, end).expect("not empty"));
        Want { object: "t/p/v720.mp4".into(), object_len, range, segment: None }
    }

    fn partial(content_range: &str, length: Option<u64>) -> Answer<'_> {
        Answer { partial: true, length, content_range: Some(content_range) }
    }

    fn whole(length: Option<u64>) -> Answer<'static> {
        Answer { partial: false, length, content_range: None }
    }

    #[test]
    fn only_exactly_what_was_asked_is_taken() {
        let check = |answer: Answer<'_>, want: &Want, expected: Result<u64, Reason>| {
            assert_eq!(judge(&answer, want).map_err(|error| error.reason), expected, "{answer:?} {want:?}");
        };
        let ranged = want(Some((10, 20)), Some(100));
        check(partial("bytes 10-19/100", Some(10)), &ranged, Ok(10));
        check(partial("bytes 10-19/100", None), &ranged, Ok(10));
        check(partial("bytes 10-19/*", None), &ranged, Ok(10));
        check(partial("bytes 10-19/101", Some(10)), &ranged, Err(Reason::Changed));
        check(partial("bytes 10-18/100", Some(9)), &ranged, Err(Reason::Changed));
        check(partial("bytes 0-9/100", Some(10)), &ranged, Err(Reason::Changed));
        check(partial("bytes 10-19/100", Some(9)), &ranged, Err(Reason::Changed));
        for unreadable in [
            "",
            "bytes",
            "bytes */100",
            "bytes 19-10/100",
            "bytes 10-19/15",
            "bytes +10-19/100",
            "items 10-19/100",
        ] {
            check(partial(unreadable, Some(10)), &ranged, Err(Reason::Unsupported));
        }
        check(whole(Some(100)), &ranged, Err(Reason::Unsupported));
        check(whole(Some(99)), &ranged, Err(Reason::Changed));
        let all = want(Some((0, 100)), Some(100));
        check(whole(Some(100)), &all, Ok(100));
        check(whole(None), &all, Ok(100));
        check(whole(Some(7)), &want(None, None), Ok(7));
        check(whole(Some(0)), &want(None, None), Ok(0));
        check(whole(None), &want(None, None), Err(Reason::Unsupported));
        check(whole(Some(7)), &want(None, Some(8)), Err(Reason::Changed));
        check(partial("bytes 0-6/7", Some(7)), &want(None, None), Err(Reason::Unsupported));
    }

    #[test]
    fn names_that_could_climb_are_refused() {
        for good in ["a", "bbb/00000000000000ff/v720.mp4", "bbb/00000000000000ff/hls/a-en.m3u8"] {
            assert!(checked_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(1_025);
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "a/../b",
            "a/./b",
            "..",
            "a//b",
            "a/",
            "a\\b",
            "a\0b",
            "a?b",
            "a#b",
            "a%2e",
            "a b",
            "a/.ssh",
            "ä",
            &long,
        ] {
            assert!(checked_name(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn bodies_are_as_long_as_promised() {
        for (promised, pieces, expected) in [
            (5, vec!["ab", "cde"], Ok("abcde")),
            (0, vec![], Ok("")),
            (6, vec!["ab", "cde"], Err(Reason::Cut)),
            (4, vec!["ab", "cde"], Err(Reason::Changed)),
        ] {
            let pieces = stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))));
            let mut body = exact(promised, pieces);
            let mut got = Vec::new();
            let ended = loop {
                match body.next().await {
                    Some(Ok(chunk)) => got.extend_from_slice(&chunk),
                    Some(Err(error)) => break Err(error.reason),
                    None => break Ok(std::str::from_utf8(&got).expect("ascii")),
                }
            };
            assert_eq!(ended, expected);
        }
    }
}
