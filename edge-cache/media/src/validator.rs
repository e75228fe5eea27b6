//! Validators and conditional requests: RFC 9110 sections 8.8.3 and 13.
//!
//! What a key names never changes, so its validator is its content: the first half of the BLAKE3 root as a
//! strong entity tag. Every node computes the same one without asking anybody.
//!
//! Dates play no part. Our representations have no `Last-Modified`, so `If-Modified-Since` and
//! `If-Unmodified-Since` have nothing to compare with and are ignored (sections 13.1.3 and 13.1.4), and an
//! `If-Range` that holds a date never matches (section 13.1.5).

use std::fmt;

use crate::digest::Digest;

/// A strong entity tag, 128 bits of the content's hash: `"af1349b9f5f9a1a6a0404dea36dcc949"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ETag([u8; 16]);

impl ETag {
    /// The tag of the bytes with this root.
    #[must_use]
    pub const fn of(root: &Digest) -> Self {
        let (half, _) = root.0.as_slice().as_chunks::<16>();
        Self(half[0])
    }

    fn is(self, opaque: &str) -> bool {
        let mut quoted = [0; 32];
        for (pair, byte) in quoted.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair =
                [b"0123456789abcdef"[usize::from(byte >> 4)], b"0123456789abcdef"[usize::from(byte & 15)]];
        }
        opaque.as_bytes() == quoted
    }
}

/// The header value, quotes included.
impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:032x}\"", u128::from_be_bytes(self.0))
    }
}

/// What the conditional headers of a `GET` or `HEAD` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were no condition.
    Proceed,
    /// 304: the client has these bytes already.
    NotModified,
    /// 412: the client wants other bytes than these.
    Failed,
}

/// The conditional headers of a request. A header that came on several lines is joined with commas first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conditional<'a> {
    /// `If-Match`.
    pub if_match: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
    /// `If-Range`.
    pub if_range: Option<&'a str>,
}

impl Conditional<'_> {
    /// Evaluates `If-Match`, then `If-None-Match`, in the order of section 13.2.2.
    #[must_use]
    pub fn evaluate(&self, current: &ETag) -> Precondition {
        if self.if_match.is_some_and(|list| !lists(list, current, Comparison::Strong)) {
            return Precondition::Failed;
        }
        if self.if_none_match.is_some_and(|list| lists(list, current, Comparison::Weak)) {
            return Precondition::NotModified;
        }
        Precondition::Proceed
    }

    /// Whether a `Range` header is to be honoured: there is no `If-Range`, or it names these bytes.
    /// Otherwise the whole representation is sent.
    #[must_use]
    pub fn if_range_matches(&self, current: &ETag) -> bool {
        let Some(value) = self.if_range else { return true };
        match Tag::split(trim(value)) {
            Some((tag, rest)) => rest.is_empty() && tag.matches(current, Comparison::Strong),
            None => false,
        }
    }
}

/// Section 8.8.3.2: the strong comparison fails for every weak tag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of tags, or `*`, names the current one. What follows a malformed tag is not read: such a
/// list names what stood before.
fn lists(list: &str, current: &ETag, comparison: Comparison) -> bool {
    if trim(list) == "*" {
        return true;
    }
    let mut left = list;
    loop {
        left = left.trim_start_matches([' ', '\t', ',']);
        let Some((tag, rest)) = Tag::split(left) else { return false };
        if !(trim(rest).is_empty() || trim(rest).starts_with(',')) {
            return false;
        }
        if tag.matches(current, comparison) {
            return true;
        }
        left = rest;
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

struct Tag<'a> {
    weak: bool,
    opaque: &'a str,
}

impl<'a> Tag<'a> {
    /// The tag at the start of a text, and what follows it. Commas inside the quotes belong to the tag.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let (weak, quoted) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        let (opaque, rest) = quoted.strip_prefix('"')?.split_once('"')?;
        let allowed = |c: char| c == '!' || ('#'..='~').contains(&c) || !c.is_ascii();
        opaque.chars().all(allowed).then_some((Self { weak, opaque }, rest))
    }

    fn matches(&self, current: &ETag, comparison: Comparison) -> bool {
        (comparison == Comparison::Weak || !self.weak) && current.is(self.opaque)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// BLAKE3 of the empty input begins with these 32 digits.
    const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc949";

    fn current() -> ETag {
        ETag::of(&Digest::of(b""))
    }

    /// `E` stands for our tag, quotes included.
    fn spelled(header: &str) -> String {
        header.replace('E', &current().to_string())
    }

    #[test]
    fn the_tag_is_half_the_root_in_quotes() {
        assert_eq!(current().to_string(), format!("\"{EMPTY}\""));
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for (header, expected) in [
            ("E", Precondition::NotModified),
            ("W/E", Precondition::NotModified),
            (" E ", Precondition::NotModified),
            ("*", Precondition::NotModified),
            (" * ", Precondition::NotModified),
            ("\"a\", E", Precondition::NotModified),
            ("\"a\",,\t,W/E , \"b\"", Precondition::NotModified),
            ("\"a,b\",E", Precondition::NotModified),
            ("E, rubbish", Precondition::NotModified),
            ("\"\", E", Precondition::NotModified),
            ("", Precondition::Proceed),
            (",", Precondition::Proceed),
            ("\"a\"", Precondition::Proceed),
            ("\"*\"", Precondition::Proceed),
            ("*, E", Precondition::Proceed),
            ("rubbish, E", Precondition::Proceed),
            ("w/E", Precondition::Proceed),
            ("\"a\"E", Precondition::Proceed),
            (EMPTY, Precondition::Proceed),
            ("\"unclosed", Precondition::Proceed),
            ("\"a b\", E", Precondition::Proceed),
        ] {
            let header = spelled(header);
            let conditional = Conditional { if_none_match: Some(&header), ..Conditional::default() };
            assert_eq!(conditional.evaluate(&current()), expected, "{header:?}");
        }
    }

    #[test]
    fn if_match_compares_strongly_and_goes_first() {
        for (header, expected) in [
            ("E", Precondition::Proceed),
            ("\"a\", E", Precondition::Proceed),
            ("*", Precondition::Proceed),
            ("W/E", Precondition::Failed),
            ("\"a\"", Precondition::Failed),
            ("", Precondition::Failed),
            ("rubbish", Precondition::Failed),
        ] {
            let header = spelled(header);
            let conditional = Conditional { if_match: Some(&header), ..Conditional::default() };
            assert_eq!(conditional.evaluate(&current()), expected, "{header:?}");
        }
        let ours = current().to_string();
        let both =
            |if_match| Conditional { if_match: Some(if_match), if_none_match: Some(&ours), if_range: None };
        assert_eq!(both("\"a\"").evaluate(&current()), Precondition::Failed);
        assert_eq!(both(&ours).evaluate(&current()), Precondition::NotModified);
        assert_eq!(Conditional::default().evaluate(&current()), Precondition::Proceed);
    }

    #[test]
    fn if_range_is_one_strong_tag() {
        for (header, expected) in [
            ("E", true),
            (" E", true),
            ("W/E", false),
            ("E, E", false),
            ("*", false),
            ("\"a\"", false),
            ("", false),
            ("Wed, 21 Oct 2015 07:28:00 GMT", false),
        ] {
            let header = spelled(header);
            let conditional = Conditional { if_range: Some(&header), ..Conditional::default() };
            assert_eq!(conditional.if_range_matches(&current()), expected, "{header:?}");
        }
        assert!(Conditional::default().if_range_matches(&current()));
    }

    proptest! {
        #[test]
        fn no_header_makes_us_panic(header in ".{0,60}") {
            let header = Some(header.as_str());
            let conditional = Conditional { if_match: header, if_none_match: header, if_range: header };
            let _ = conditional.evaluate(&current());
            let _ = conditional.if_range_matches(&current());
        }

        #[test]
        fn a_tag_matches_only_its_bytes(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
            let header = ETag::of(&Digest(a)).to_string();
            let conditional = Conditional { if_none_match: Some(&header), ..Conditional::default() };
            prop_assert_eq!(conditional.evaluate(&ETag::of(&Digest(a))), Precondition::NotModified);
            let expected = if a[..16] == b[..16] { Precondition::NotModified } else { Precondition::Proceed };
            prop_assert_eq!(conditional.evaluate(&ETag::of(&Digest(b))), expected);
        }
    }
}
