//! Lines: the only structure every playlist has (RFC 8216 section 4.1).

use super::{Fault, PlaylistError, shortened};

/// The longest playlist in bytes. Roku stops well below 1 MB; what a packager writes before the rewriting
/// may be larger.
pub const MAX_PLAYLIST_LEN: usize = 4 << 20;
/// The most lines: four for each of 65,535 segments, and a head.
pub const MAX_LINES: usize = 262_400;

/// One line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// Exactly as it stands, line end included.
    pub(super) raw: &'a str,
    pub(super) kind: LineKind<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum LineKind<'a> {
    /// Nothing, or a comment.
    Silent,
    Uri(&'a str),
    /// Without `#`; the value is what follows the first colon, empty without one.
    Tag {
        name: &'a str,
        value: &'a str,
    },
}

impl<'a> Line<'a> {
    fn read(number: usize, raw: &'a str) -> Result<Self, PlaylistError> {
        let text = raw.strip_suffix('\n').map_or(raw, |text| text.strip_suffix('\r').unwrap_or(text));
        let kind = match text.strip_prefix('#') {
            Some(tag) if tag.starts_with("EXT") => {
                let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                LineKind::Tag { name, value }
            }
            Some(_) => LineKind::Silent,
            None if text.trim_ascii().is_empty() => LineKind::Silent,
            None => LineKind::Uri(text),
        };
        let line = Self { number, raw, kind };
        match text.chars().find(|c| c.is_control()) {
            Some(found) => Err(line.error(Fault::Control(found))),
            None => Ok(line),
        }
    }

    /// This line with another text and the same line end.
    pub(super) fn with(&self, text: &str) -> String {
        let text_len = self.raw.trim_end_matches(['\r', '\n']).len();
        format!("{text}{}", &self.raw[text_len..])
    }

    pub(super) fn error(&self, fault: Fault) -> PlaylistError {
        let tag = match self.kind {
            LineKind::Silent => "playlist",
            LineKind::Uri(_) => "URI",
            LineKind::Tag { name, .. } => name,
        };
        PlaylistError { line: self.number, tag: shortened(tag), fault }
    }

    pub(super) fn missing(&self, what: &'static str) -> PlaylistError {
        self.error(Fault::Missing(what))
    }

    pub(super) fn value(&self, expected: &'static str, value: &str) -> PlaylistError {
        self.error(Fault::Value { expected, value: shortened(value) })
    }
}

/// The lines after `#EXTM3U`, that line included.
///
/// # Errors
/// When the text is too long, holds a control character or does not begin like a playlist.
pub(super) fn lines(text: &str) -> Result<Vec<Line<'_>>, PlaylistError> {
    let whole = |line, fault| PlaylistError { line, tag: "playlist".to_owned(), fault };
    if text.len() > MAX_PLAYLIST_LEN {
        return Err(whole(1, Fault::TooLong(text.len())));
    }
    if text.split_inclusive('\n').nth(MAX_LINES).is_some() {
        return Err(whole(MAX_LINES + 1, Fault::TooManyLines));
    }
    let numbered = (1..).zip(text.split_inclusive('\n'));
    let lines: Vec<Line<'_>> =
        numbered.map(|(number, raw)| Line::read(number, raw)).collect::<Result<_, _>>()?;
    match lines.first().map(|line| line.kind) {
        Some(LineKind::Tag { name: "EXTM3U", .. }) => Ok(lines),
        _ => Err(whole(1, Fault::NotAPlaylist)),
    }
}

/// What concerns the whole playlist is reported at its last line.
pub(super) fn at_end(lines: &[Line<'_>], fault: Fault) -> PlaylistError {
    PlaylistError { line: lines.len(), tag: "playlist".to_owned(), fault }
}

/// A decimal integer: digits and nothing else.
pub(super) fn integer<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// A decimal number in thousandths, rounded to the nearest: no float on the way, so `6.006` is 6006.
pub(super) fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: u32 = integer(whole)?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digit = |at| u32::from(fraction.as_bytes().get(at).map_or(0, |b| b - b'0'));
    let rounded = digit(0) * 100 + digit(1) * 10 + digit(2) + u32::from(digit(3) >= 5);
    whole.checked_mul(1000)?.checked_add(rounded)
}
