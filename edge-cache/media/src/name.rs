//! The names of things. Each is parsed once, at the door, and is canonical from then on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty or longer than its kind allows.
    #[error("{kind} has {len} characters, allowed are 1 to {max}")]
    Length {
        /// Which kind of name.
        kind: &'static str,
        /// How many characters it had.
        len: usize,
        /// The most it may have.
        max: usize,
    },
    /// A character outside the kind's alphabet.
    #[error("{kind} holds a character that is not allowed: {found:?}")]
    Character {
        /// Which kind of name.
        kind: &'static str,
        /// The first offending character.
        found: char,
    },
}

fn check(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() || text.len() > max {
        return Err(NameError::Length { kind, len: text.len(), max });
    }
    match text.chars().enumerate().find(|(at, c)| !allowed(*at, *c)) {
        Some((_, found)) => Err(NameError::Character { kind, found }),
        None => Ok(()),
    }
}

/// Lower-case letters and digits anywhere, `-` and `_` except at the start: no dots, so that no name can
/// climb out of a directory or be mistaken for a file.
fn allowed(at: usize, c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && (c == '-' || c == '_'))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most characters such a name may have.
            pub const MAX_LEN: usize = $max;

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check($kind, text, $max)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A film, as the operator names it: `big-buck-bunny`.
    TitleId, "title", 64
);
name!(
    /// One encoding of one track of a title: `v720`, `a-en`, `s-en`, `thumbs`.
    RenditionId, "rendition", 32
);
name!(
    /// What the operator calls a set of titles: `vendor-acme`. Purges name it.
    Tag, "tag", 32
);

/// One ingest result of a title. A new ingest of the same title is a new package, so objects never change
/// under their name. Written as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageId(pub u64);

impl FromStr for PackageId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() != 16 {
            return Err(NameError::Length { kind: "package", len: text.len(), max: 16 });
        }
        let stranger = |c: &char| !matches!(c, '0'..='9' | 'a'..='f');
        if let Some(found) = text.chars().find(stranger) {
            return Err(NameError::Character { kind: "package", found });
        }
        let parsed = u64::from_str_radix(text, 16);
        parsed.map(Self).map_err(|_| NameError::Length { kind: "package", len: text.len(), max: 16 })
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TryFrom<String> for PackageId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PackageId> for String {
    fn from(id: PackageId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_could_climb_or_confuse() {
        for good in ["a", "big-buck-bunny", "v720", "a_en", "0"] {
            assert_eq!(good.parse::<TitleId>().expect(good).as_str(), good);
        }
        for bad in ["", "-a", "_a", "A", "a.b", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<TitleId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn package_ids_have_one_spelling() {
        assert_eq!("00000000000000ff".parse::<PackageId>(), Ok(PackageId(255)));
        assert_eq!(PackageId(255).to_string(), "00000000000000ff");
        for bad in ["ff", "00000000000000FF", "+0000000000000ff", "00000000000000ff0", "é000000000000000"] {
            assert!(bad.parse::<PackageId>().is_err(), "{bad:?}");
        }
    }
}
