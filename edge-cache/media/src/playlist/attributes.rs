//! Attribute lists (RFC 8216 section 4.2): `NAME=value,NAME="text"`, read without loss so that a list written
//! again is the same text.

use std::str::FromStr;

use super::line::{Line, integer};
use super::{Fault, PlaylistError, shortened};

/// The attributes of one tag, in the order they stand.
pub(super) struct Attributes<'a> {
    line: Line<'a>,
    /// Name and raw value, quotes included.
    list: Vec<(&'a str, &'a str)>,
}

impl<'a> Attributes<'a> {
    pub(super) fn parse(line: Line<'a>, text: &'a str) -> Result<Self, PlaylistError> {
        let malformed = |at: &str| line.error(Fault::Attributes(shortened(at)));
        let mut list: Vec<(&str, &str)> = Vec::new();
        let mut left = text;
        loop {
            let (name, value, rest) = split(left).ok_or_else(|| malformed(left))?;
            if list.iter().any(|(other, _)| *other == name) {
                return Err(malformed(left));
            }
            list.push((name, value));
            match rest.strip_prefix(',') {
                Some(rest) => left = rest,
                None if rest.is_empty() => return Ok(Self { line, list }),
                None => return Err(malformed(rest)),
            }
        }
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.list.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// A word or a number: a value without quotes.
    pub(super) fn word(&self, name: &'static str) -> Result<Option<&'a str>, PlaylistError> {
        match self.raw(name) {
            Some(value) if value.starts_with('"') => Err(self.line.value("a value without quotes", value)),
            other => Ok(other),
        }
    }

    /// A text in quotes, without them.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, PlaylistError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        unquoted.map(Some).ok_or_else(|| self.line.value("a text in quotes", value))
    }

    pub(super) fn required_text(&self, name: &'static str) -> Result<&'a str, PlaylistError> {
        self.text(name)?.ok_or_else(|| self.line.missing(name))
    }

    pub(super) fn integer<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, PlaylistError> {
        self.parsed(name, "an integer in range", integer)
    }

    /// A value without quotes, read by `parse`.
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, PlaylistError> {
        let Some(value) = self.word(name)? else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| self.line.value(expected, value))
    }

    /// The list again, with another text in the quotes of one attribute.
    pub(super) fn with_text(&self, name: &str, text: &str) -> String {
        let written = |(other, value): &(&str, &str)| {
            if *other == name { format!("{name}=\"{text}\"") } else { format!("{other}={value}") }
        };
        self.list.iter().map(written).collect::<Vec<_>>().join(",")
    }

    /// Leaves an attribute out.
    pub(super) fn without(&self, name: &str) -> Self {
        let list = self.list.iter().copied().filter(|(other, _)| *other != name).collect();
        Self { line: self.line, list }
    }
}

/// Name, raw value and what follows them.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (name, value) = text.split_once('=')?;
    let named =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
    let len = match value.strip_prefix('"') {
        Some(quoted) => quoted.find('"')? + 2,
        None => value.find(',').unwrap_or(value.len()),
    };
    let (value, rest) = value.split_at(len);
    let bare = !value.starts_with('"') && value.contains(['"', ' ', '\t']);
    (named && !value.is_empty() && !bare).then_some((name, value, rest))
}
