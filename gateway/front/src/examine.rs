//! A request's way through the door as one function of its text, for the fuzzer: the same checks that
//! listeners use, without a socket. Not part of the room's interface.

use http::Request;
use media::ByteRange;
use media::validator::ETag;

use crate::cmcd;
use crate::plan::{Plan, plan};
use crate::request;
use crate::route::{Route, route};

/// What the door makes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// The HTTP types do not hold it; no listener would see it.
    NoRequest,
    /// Refused with this status.
    Refused(u16),
    /// Let in, for something that is no film.
    Other,
    /// Let in: the key, and the ranges of an object of the given length; `None` for all of it or none.
    Media(String, Option<Vec<ByteRange>>),
}

/// Reads a request line and field lines, each ending in a line feed, and asks the door, the router and the
/// planner, for an object of `len` bytes.
#[must_use]
pub fn examine(text: &str, etag: &ETag, len: u64) -> Seen {
    let Some(request) = parse(text) else { return Seen::NoRequest };
    let parts = request.into_parts().0;
    let verb = match request::check(&parts, false, 16 * 1024) {
        Ok(verb) => verb,
        Err(refusal) => return Seen::Refused(refusal.status().as_u16()),
    };
    // A report decides nothing; it must only never break anything.
    let _ = cmcd::said(&parts);
    let Some(Route::Media { key, .. }) = route(parts.uri.path()) else { return Seen::Other };
    match plan(verb, &parts.headers, etag, len) {
        Ok(Plan::NotModified | Plan::Whole) => Seen::Media(key.to_string(), None),
        Ok(Plan::Single(range)) => Seen::Media(key.to_string(), Some(vec![range])),
        Ok(Plan::Multiple(ranges)) => Seen::Media(key.to_string(), Some(ranges)),
        Err(refusal) => Seen::Refused(refusal.status().as_u16()),
    }
}

fn parse(text: &str) -> Option<Request<()>> {
    let mut lines = text.split('\n');
    let mut words = lines.next()?.splitn(2, ' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        request = request.header(name, value.trim());
    }
    request.body(()).ok()
}

#[cfg(test)]
mod tests {
    use media::Digest;

    use super::*;

    #[test]
    fn the_same_door() {
        let etag = ETag::of(&Digest::of(b"x"));
        let path = "/p/t/bbb/00000000000000ff/v720/1.m4s";
        let key = "bbb/00000000000000ff/v720/1".to_owned();
        let check = |text: String| examine(&text, &etag, 100);
        assert_eq!(check(format!("GET {path}\nhost: e")), Seen::Media(key.clone(), None));
        let range = ByteRange::new(1, 3).map(|range| vec![range]);
        assert_eq!(check(format!("GET {path}\nhost: e\nrange: bytes=1-2")), Seen::Media(key, range));
        assert_eq!(check(format!("GET {path}\nhost: e\nrange: bytes=100-")), Seen::Refused(416));
        assert_eq!(check(format!("GET {path}")), Seen::Refused(400));
        assert_eq!(check(format!("POST {path}\nhost: e")), Seen::Refused(405));
        assert_eq!(check("GET /healthz\nhost: e".to_owned()), Seen::Other);
        assert_eq!(check("\n".to_owned()), Seen::NoRequest);
    }
}
