//! What a player says about its buffer (CMCD, CTA-5004), as far as it tells how soon it needs the bytes.
//!
//! Read are `bl` (milliseconds in the buffer), `dl` (milliseconds until the first sample is due) and `su` (it is
//! starting) of the header `CMCD-Request`, `bs` (it ran dry) and `rtp` (kbit/s that are enough) of `CMCD-Status`,
//! or all of them in the query parameter `CMCD`; numbers alone or in version 2's inner lists. It is a report, not
//! a request: what is not well formed counts as not said, and nobody is refused for it. It names no object, so
//! it has no part in what is looked up.

use std::time::Duration;

use http::HeaderName;
use http::request::Parts;

use crate::query::{Malformed, parameter};

const CMCD_REQUEST: HeaderName = HeaderName::from_static("cmcd-request");
const CMCD_STATUS: HeaderName = HeaderName::from_static("cmcd-status");
const CMCD: &str = "CMCD";

/// Bytes and keys of a report that are read; players send a tenth of it.
const MAX_BYTES: usize = 4096;
const MAX_KEYS: usize = 64;

/// A longer buffer or deadline is as good as this one.
const MAX_WAIT_MS: u64 = 3_600_000;

/// How soon a player needs what it asks for, by what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It has run dry: now.
    Starved,
    /// It is starting: now.
    Startup,
    /// By the deadline it gives.
    Deadline,
    /// When its buffer is empty.
    Buffer,
    /// It reports, but not that.
    Unsaid,
    /// It reports something that cannot be read.
    Malformed,
}

impl Urgency {
    pub(crate) const ALL: [Self; 6] =
        [Self::Starved, Self::Startup, Self::Deadline, Self::Buffer, Self::Unsaid, Self::Malformed];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starved => "starved",
            Self::Startup => "startup",
            Self::Deadline => "deadline",
            Self::Buffer => "buffer",
            Self::Unsaid => "unsaid",
            Self::Malformed => "malformed",
        }
    }
}

/// What follows from a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) urgency: Urgency,
    /// From the request on.
    pub(crate) within: Option<Duration>,
    /// The pace that is enough for the player, in kbit/s.
    pub(crate) pace_kbps: Option<u64>,
}

/// What the player of a request says; `None` when it reports nothing, as Roku's.
pub(crate) fn said(parts: &Parts) -> Option<Said> {
    let malformed = Said { urgency: Urgency::Malformed, within: None, pace_kbps: None };
    let report = report(parts).transpose()?;
    Some(report.map_or(malformed, |report| report.said()))
}

/// Headers where there are any; the query is for pages that may send none.
fn report(parts: &Parts) -> Result<Option<Report>, Malformed> {
    let (request, status) = (line(parts, &CMCD_REQUEST)?, line(parts, &CMCD_STATUS)?);
    let query = match (request, status, parts.uri.query()) {
        (None, None, Some(query)) => parameter(query, CMCD).transpose()?,
        _ => None,
    };
    let mut report = Report::default();
    let mut any = false;
    for text in request.into_iter().chain(status).chain(query.as_deref()) {
        report.read(text).ok_or(Malformed)?;
        any = true;
    }
    Ok(any.then_some(report))
}

fn line<'a>(parts: &'a Parts, name: &HeaderName) -> Result<Option<&'a str>, Malformed> {
    let mut values = parts.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Malformed),
        _ => Err(Malformed),
    }
}

#[derive(Debug, Default)]
struct Report {
    buffer_ms: Option<u64>,
    deadline_ms: Option<u64>,
    startup: bool,
    starved: bool,
    pace_kbps: Option<u64>,
}

impl Report {
    fn said(&self) -> Said {
        let ms = |ms: u64| Some(Duration::from_millis(ms.min(MAX_WAIT_MS)));
        let (urgency, within) = match *self {
            Self { starved: true, .. } => (Urgency::Starved, ms(0)),
            Self { startup: true, .. } => (Urgency::Startup, ms(0)),
            Self { deadline_ms: Some(left), .. } => (Urgency::Deadline, ms(left)),
            Self { buffer_ms: Some(left), .. } => (Urgency::Buffer, ms(left)),
            _ => (Urgency::Unsaid, None),
        };
        Said { urgency, within, pace_kbps: self.pace_kbps }
    }

    /// Reads a structured field dictionary (RFC 9651 section 3.2); what we do not know is skipped, not ignored:
    /// it must be well formed, too.
    fn read(&mut self, text: &str) -> Option<()> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let mut rest = text.trim_matches(' ');
        for _ in 0..MAX_KEYS {
            if rest.is_empty() {
                return Some(());
            }
            let (key, after) = key(rest)?;
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => value(after)?,
                None => (Value::Flag(true), after),
            };
            self.note(key, value)?;
            let after = parameters(after)?.trim_start_matches(' ');
            if after.is_empty() {
                return Some(());
            }
            rest = after.strip_prefix(',')?.trim_start_matches(' ');
            if rest.is_empty() {
                return None;
            }
        }
        None
    }

    fn note(&mut self, key: &str, value: Value) -> Option<()> {
        match (key, value) {
            ("bl", Value::Number(ms)) => self.buffer_ms = Some(ms),
            ("dl", Value::Number(ms)) => self.deadline_ms = Some(ms),
            ("rtp", Value::Number(kbps)) => self.pace_kbps = Some(kbps),
            ("su", Value::Flag(flag)) => self.startup = flag,
            ("bs", Value::Flag(flag)) => self.starved = flag,
            ("bl" | "dl" | "rtp" | "su" | "bs", _) => return None,
            _ => {}
        }
        Some(())
    }
}

/// A value, as far as anybody here looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// A whole number; of a list the smallest one, because the emptiest buffer counts.
    Number(u64),
    Flag(bool),
    Other,
}

fn key(text: &str) -> Option<(&str, &str)> {
    let inner =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*');
    let first = *text.as_bytes().first()?;
    let good = first.is_ascii_lowercase() || first == b'*';
    let end = text.bytes().position(|b| !inner(b)).unwrap_or(text.len());
    good.then(|| text.split_at(end))
}

fn value(text: &str) -> Option<(Value, &str)> {
    match text.strip_prefix('(') {
        Some(rest) => list(rest),
        None => item(text),
    }
}

fn list(text: &str) -> Option<(Value, &str)> {
    let (mut rest, mut least, mut all) = (text.trim_start_matches(' '), None::<u64>, true);
    loop {
        if let Some(after) = rest.strip_prefix(')') {
            let value = least.filter(|_| all).map_or(Value::Other, Value::Number);
            return Some((value, after));
        }
        let (value, after) = item(rest)?;
        match value {
            Value::Number(number) => least = Some(least.map_or(number, |least| least.min(number))),
            _ => all = false,
        }
        let after = parameters(after)?;
        rest = after.trim_start_matches(' ');
        if rest.len() == after.len() && !rest.starts_with(')') {
            return None;
        }
    }
}

fn item(text: &str) -> Option<(Value, &str)> {
    match *text.as_bytes().first()? {
        b'"' => string(&text[1..]),
        b'?' => match text.as_bytes().get(1)? {
            b'0' => Some((Value::Flag(false), &text[2..])),
            b'1' => Some((Value::Flag(true), &text[2..])),
            _ => None,
        },
        b'-' | b'0'..=b'9' => number(text),
        b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
            let word = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
            let end = text.bytes().position(|b| !word(b)).unwrap_or(text.len());
            Some((Value::Other, &text[end..]))
        }
        _ => None,
    }
}

fn string(text: &str) -> Option<(Value, &str)> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((Value::Other, &text[at + 1..])),
            b'\\' => {
                bytes.next().filter(|(_, escaped)| matches!(escaped, b'"' | b'\\'))?;
            }
            b' '..=b'~' => {}
            _ => return None,
        }
    }
    None
}

/// At most 15 digits, perhaps three of them after a point.
fn number(text: &str) -> Option<(Value, &str)> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let end = digits.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(digits.len());
    let (shape, rest) = digits.split_at(end);
    let (whole, fraction) = shape.split_once('.').map_or((shape, None), |(whole, rest)| (whole, Some(rest)));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let good =
        plain(whole) && whole.len() <= 15 && fraction.is_none_or(|part| plain(part) && part.len() <= 3);
    if !good {
        return None;
    }
    let negative = digits.len() < text.len();
    let value = whole.parse().ok().filter(|_| fraction.is_none() && !negative);
    Some((value.map_or(Value::Other, Value::Number), rest))
}

fn parameters(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(after) = rest.strip_prefix(';') {
        let (_, after) = key(after.trim_start_matches(' '))?;
        rest = match after.strip_prefix('=') {
            Some(after) => item(after)?.1,
            None => after,
        };
    }
    Some(rest)
}

#[cfg(test)]
mod tests;
