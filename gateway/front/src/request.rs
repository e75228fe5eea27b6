//! The strict door: what a request must look like before anybody looks at what it wants.
//!
//! The HTTP library parses; this decides. It lets through much that no player sends and that has been used to
//! make two servers disagree about one request: a body on `GET`, transfer codings, upgrades, two hosts. The
//! set of accepted requests is small enough to be a table, see the tests.
//!
//! What the library decides before us: the request line's grammar, spaces around field names, folded lines,
//! control characters, bad or differing `Content-Length`. What it hides from us: a fragment in the request
//! target, which it cuts off; the path before it is what gets served.

use http::header::{CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use crate::refusal::{Framing, Refusal};

/// Longest path we hand out: `/p/`, a token of 512 characters and a key of at most 160, with room to spare.
/// Query strings (players' reports) are only bounded by the head.
pub(crate) const MAX_PATH: usize = 1024;

/// What the request wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Head,
    Options,
}

/// Checks everything that does not depend on the path's meaning. `has_body` says whether the library saw the
/// beginning of a body; it covers HTTP/2, where a body needs no header.
pub(crate) fn check(parts: &Parts, has_body: bool, max_head_bytes: usize) -> Result<Verb, Refusal> {
    check_version(parts.version)?;
    check_framing(&parts.headers, has_body)?;
    check_host(parts)?;
    if head_bytes(parts) > max_head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    let verb = verb(&parts.method)?;
    check_target(&parts.uri, verb)?;
    Ok(verb)
}

/// The same for the one thing that takes a body, on the operator's listener: its length must be said, once and
/// in plain digits. A page in a browser cannot pass: its requests name their origin.
pub(crate) fn check_post(parts: &Parts, max_head_bytes: usize) -> Result<(), Refusal> {
    check_version(parts.version)?;
    check_no_switch(&parts.headers)?;
    check_host(parts)?;
    if head_bytes(parts) > max_head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    if parts.headers.contains_key(ORIGIN) {
        return Err(Refusal::Method);
    }
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let digits = |length: &[u8]| (1..=9).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
    if !lengths.next().is_some_and(digits) || lengths.next().is_some() {
        return Err(Refusal::Framing(Framing::Body));
    }
    check_target(&parts.uri, Verb::Get)
}

fn check_version(version: Version) -> Result<(), Refusal> {
    match version {
        Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2 => Ok(()),
        _ => Err(Refusal::Framing(Framing::Version)),
    }
}

fn check_framing(headers: &HeaderMap, has_body: bool) -> Result<(), Refusal> {
    check_no_switch(headers)?;
    let announced = headers.get_all(CONTENT_LENGTH).iter().any(|value| value.as_bytes() != b"0");
    if announced || has_body { Err(Refusal::Framing(Framing::Body)) } else { Ok(()) }
}

fn check_no_switch(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::Framing(Framing::TransferEncoding));
    }
    if headers.contains_key(UPGRADE) {
        return Err(Refusal::Framing(Framing::Upgrade));
    }
    Ok(())
}

/// RFC 9112 section 3.2: exactly one valid `Host` in HTTP/1.1. In HTTP/2 the `:authority` takes its place
/// (RFC 9113 section 8.3.1); if there are both, and where HTTP/1.1 has an absolute target, they must agree.
fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let refuse = |framing| Err(Refusal::Framing(framing));
    let mut fields = parts.headers.get_all(HOST).iter();
    let (first, second) = (fields.next(), fields.next());
    if second.is_some() {
        return refuse(Framing::TwoHosts);
    }
    let authority = parts.uri.authority();
    let Some(field) = first else {
        return match (parts.version, authority) {
            (Version::HTTP_10, None) => Ok(()),
            (Version::HTTP_2, Some(authority)) if is_host(authority.as_str()) => Ok(()),
            (_, Some(authority)) if !is_host(authority.as_str()) => refuse(Framing::BadHost),
            _ => refuse(Framing::NoHost),
        };
    };
    let Some(host) = field.to_str().ok().filter(|host| is_host(host)) else {
        return refuse(Framing::BadHost);
    };
    if authority.is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host)) {
        return refuse(Framing::TwoHosts);
    }
    Ok(())
}

/// A registered name, an IPv4 or bracketed IPv6 address, and perhaps a port. No user, no path, no escapes.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rfind(']') {
        Some(end) => {
            (&text[..=end], text[end + 1..].strip_prefix(':').or((text.len() == end + 1).then_some("0")))
        }
        None => text.split_once(':').map_or((text, Some("0")), |(host, port)| (host, Some(port))),
    };
    let Some(port) = port else { return false };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    digits
        && port.parse::<u16>().is_ok()
        && (is_name(host) || is_address(host))
        && Authority::try_from(text).is_ok()
}

fn is_name(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=255).contains(&host.len()) && host.bytes().all(allowed)
}

fn is_address(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

/// As it would be written in HTTP/1.1: a line, and `name: value` with a line end for each field.
fn head_bytes(parts: &Parts) -> usize {
    let target = parts.uri.path().len() + parts.uri.query().map_or(0, |query| query.len() + 1);
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    parts.method.as_str().len() + target + 12 + fields.sum::<usize>()
}

fn verb(method: &Method) -> Result<Verb, Refusal> {
    match *method {
        Method::GET => Ok(Verb::Get),
        Method::HEAD => Ok(Verb::Head),
        Method::OPTIONS => Ok(Verb::Options),
        _ => Err(Refusal::Method),
    }
}

/// None of our paths needs an escape, so one spelling is all there is: whatever arrives escaped is no path of
/// ours, and nothing behind this line ever decodes.
fn check_target(uri: &Uri, verb: Verb) -> Result<(), Refusal> {
    let path = uri.path();
    if path.len() > MAX_PATH {
        return Err(Refusal::TargetTooLong);
    }
    if path == "*" && verb == Verb::Options {
        return Ok(());
    }
    let scheme = uri.scheme_str().is_none_or(|scheme| scheme == "http" || scheme == "https");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b'~');
    let well_formed = path.starts_with('/') && path.bytes().all(plain);
    if scheme && well_formed { Ok(()) } else { Err(Refusal::Framing(Framing::BadTarget)) }
}

#[cfg(test)]
mod tests;
