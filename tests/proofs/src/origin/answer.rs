//! What an origin says, as text and bytes: the wire form of each fault.

use bytes::{Bytes, BytesMut};
use media::ByteRange;
use sourcing::Reason;
use testkit::{Fault, Version};

/// What goes over the wire for one request.
pub(super) struct Plan {
    pub(super) head: String,
    pub(super) body: Bytes,
    pub(super) drips_after: Option<usize>,
    pub(super) then: Then,
}

/// What follows its last byte.
pub(super) enum Then {
    Next,
    Cut,
    Reset,
    Silence,
}

impl Plan {
    pub(super) fn new(object: &Bytes, range: ByteRange, ranged: bool, fault: Option<Fault>) -> Self {
        let body = object.slice(range.start() as usize..range.end() as usize);
        let longer = fault == Some(Fault::Version(Version::Length));
        let total = object.len() as u64 + u64::from(longer);
        let len = range.len() + u64::from(longer && !ranged);
        let tag = if matches!(fault, Some(Fault::Version(_))) { "\"second\"" } else { "\"first\"" };
        let first = if ranged {
            format!(
                "206 Partial Content\r\nContent-Range: bytes {}-{}/{total}",
                range.start(),
                range.end() - 1
            )
        } else {
            "200 OK".to_owned()
        };
        let head = format!("HTTP/1.1 {first}\r\nContent-Length: {len}\r\nETag: {tag}\r\n\r\n");
        let until = |at: u64| body.slice(..body.len().min(at as usize));
        let (body, drips_after, then) = match fault {
            Some(Fault::Cut(at)) => (until(at), None, Then::Cut),
            Some(Fault::Reset(at)) => (until(at), None, Then::Reset),
            Some(Fault::Stall(at)) => (until(at), None, Then::Silence),
            Some(Fault::Drip(at)) => (body, Some(at as usize), Then::Next),
            Some(Fault::Flip(at)) => (flipped(&body, at), None, Then::Next),
            Some(Fault::Version(Version::Bytes)) => {
                (body.iter().map(|byte| !byte).collect(), None, Then::Next)
            }
            Some(Fault::Version(Version::Length)) if !ranged => {
                ([&body[..], b"x"].concat().into(), None, Then::Next)
            }
            _ => (body, None, Then::Next),
        };
        Self { head, body, drips_after, then }
    }
}

fn flipped(body: &Bytes, at: u64) -> Bytes {
    let mut body = BytesMut::from(&body[..]);
    if let Some(byte) = body.get_mut(at as usize) {
        *byte ^= 0x10;
    }
    body.freeze()
}

/// The status that a gateway reads as this reason.
pub(super) fn status(reason: Reason) -> u16 {
    match reason {
        Reason::NotFound => 404,
        Reason::Refused => 403,
        Reason::Throttled => 503,
        Reason::Timeout => 504,
        Reason::Changed => 416,
        Reason::Unavailable | Reason::Cut | Reason::Corrupt | Reason::Unsupported => 500,
    }
}

/// An error, with the words of S3 where it asks for patience.
pub(super) fn refusal(status: u16) -> String {
    let body = match status {
        503 => "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
        _ => "",
    };
    let len = body.len();
    format!("HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {len}\r\n\r\n{body}")
}

/// Path (without the slash before it and a query) and range (start and end) of a request.
pub(super) fn parse(head: &str) -> (&str, Option<(u64, u64)>) {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().trim_start_matches('/');
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let range = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("range"));
    let range = range.and_then(|(_, value)| {
        let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?))
    });
    (path, range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        for (head, expected) in [
            ("GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n", ("a/b", None)),
            ("GET /a HTTP/1.1\r\nrange: bytes=5-9\r\n\r\n", ("a", Some((5, 10)))),
            ("GET /a?x-id=GetObject HTTP/1.1\r\nRange: bytes=-9\r\n\r\n", ("a", None)),
        ] {
            assert_eq!(parse(head), expected);
        }
    }

    #[test]
    fn each_fault_changes_what_it_says() {
        let object = Bytes::from_static(b"0123456789");
        let range = ByteRange::new(2, 8).expect("a range");
        let plan = |fault| Plan::new(&object, range, true, fault);
        assert_eq!(&plan(None).body[..], b"234567");
        assert!(plan(None).head.contains("bytes 2-7/10\r\nContent-Length: 6\r\n"));
        assert_eq!(&plan(Some(Fault::Cut(2))).body[..], b"23");
        assert_eq!(&plan(Some(Fault::Flip(1))).body[..], b"2#4567");
        assert!(plan(Some(Fault::Version(Version::Length))).head.contains("bytes 2-7/11"));
        assert!(plan(Some(Fault::Version(Version::Tag))).head.contains("\"second\""));
        assert_ne!(&plan(Some(Fault::Version(Version::Bytes))).body[..], b"234567");
        let longer = Plan::new(&object, range, false, Some(Fault::Version(Version::Length)));
        assert_eq!(longer.body.len(), 7);
        assert!(longer.head.contains("Content-Length: 7"));
    }
}
