//! The identifiers of the API. Each is parsed once, at the door, and has one spelling from then on.
//!
//! All alphabets are safe in a URL path, a log line and a file name; none of these names ever becomes a
//! metric label.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty or longer than its kind allows.
    #[error("{kind} has {len} bytes, allowed are 1 to {max}")]
    Length {
        /// Which kind of identifier.
        kind: &'static str,
        /// How many bytes it had.
        len: usize,
        /// The most it may have.
        max: usize,
    },
    /// A character outside the kind's alphabet.
    #[error("{kind} holds a character that is not allowed there: {found:?}")]
    Character {
        /// Which kind of identifier.
        kind: &'static str,
        /// The first offending character.
        found: char,
    },
    /// Not a lower-case language tag.
    #[error("{0:?} is no language tag such as `en` or `pt-br` (lower case)")]
    Language(String),
}

fn check(kind: &'static str, text: &str, max: usize, allowed: fn(char) -> bool) -> Result<(), IdError> {
    if text.is_empty() || text.len() > max {
        return Err(IdError::Length { kind, len: text.len(), max });
    }
    let stranger = |&(at, c): &(usize, char)| !(allowed(c) && (at > 0 || c.is_ascii_alphanumeric()));
    match text.char_indices().find(stranger) {
        Some((_, found)) => Err(IdError::Character { kind, found }),
        None => Ok(()),
    }
}

/// What most identifiers are made of; the first character is a letter or a digit, so that no identifier
/// reads as `..` or as a command line option.
fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Viewers are named by other people's systems: a dot is usual there.
fn dotted(c: char) -> bool {
    plain(c) || c == '.'
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $max:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most bytes it may have.
            pub const MAX_LEN: usize = $max;

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> Result<(), IdError> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
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

identifier!(
    /// A viewer, as the operator's account system names it.
    ViewerId, 64, |text| check("viewer", text, ViewerId::MAX_LEN, dotted)
);
identifier!(
    /// One playback session: the token's `cti`. Whoever makes one makes it unique and hard to guess.
    SessionId, 48, |text| check("session", text, SessionId::MAX_LEN, plain)
);
identifier!(
    /// One of a viewer's screens, as its player names itself.
    DeviceId, 64, |text| check("device", text, DeviceId::MAX_LEN, dotted)
);
identifier!(
    /// What a key of the API is called: `backend-eu`, `jane.doe`.
    KeyName, 48, |text| check("key name", text, KeyName::MAX_LEN, dotted)
);
identifier!(
    /// One right to watch: a purchase or a rental.
    EntitlementId, 48, |text| check("entitlement", text, EntitlementId::MAX_LEN, plain)
);
identifier!(
    /// Names a signing key (the COSE `kid`), so that keys can be changed while old tokens still live.
    KeyId, 32, |text| check("key id", text, KeyId::MAX_LEN, plain)
);
identifier!(
    /// A node, as the region view, certificates and metrics name it.
    NodeId, 48, |text| check("node", text, NodeId::MAX_LEN, dotted)
);
identifier!(
    /// Who runs nodes for us: an ISP, a colocation partner.
    PartnerId, 32, |text| check("partner", text, PartnerId::MAX_LEN, plain)
);
identifier!(
    /// A set of nodes that fetch from each other.
    RegionId, 32, |text| check("region", text, RegionId::MAX_LEN, plain)
);
identifier!(
    /// A language tag as BCP 47 has it, in lower case because it becomes part of a rendition name: `en`,
    /// `pt-br`, `zh-hant`.
    Language, 16, check_language
);
identifier!(
    /// A currency by its three letters, in lower case as payment services write it: `usd`.
    Currency, 3, check_currency
);

fn check_currency(text: &str) -> Result<(), IdError> {
    if text.len() != Currency::MAX_LEN {
        return Err(IdError::Length { kind: "currency", len: text.len(), max: Currency::MAX_LEN });
    }
    match text.chars().find(|c| !c.is_ascii_lowercase()) {
        Some(found) => Err(IdError::Character { kind: "currency", found }),
        None => Ok(()),
    }
}

fn check_language(text: &str) -> Result<(), IdError> {
    let max = Language::MAX_LEN;
    if text.is_empty() || text.len() > max {
        return Err(IdError::Length { kind: "language", len: text.len(), max });
    }
    let mut tags = text.split('-');
    let primary = tags
        .next()
        .is_some_and(|tag| (2..=3).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_lowercase()));
    let sub = |tag: &str| {
        (2..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if primary && tags.all(sub) { Ok(()) } else { Err(IdError::Language(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_bounded_and_safe() {
        for good in ["a", "9f3c", "roku.12_3-4", "A", &"x".repeat(64)] {
            assert_eq!(good.parse::<ViewerId>().expect(good).to_string(), good);
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "a%2f", "a\n", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<ViewerId>().is_err(), "{bad:?}");
        }
        assert!("a.b".parse::<SessionId>().is_err());
        assert!("a.b".parse::<EntitlementId>().is_err());
        assert!("x".repeat(33).parse::<KeyId>().is_err());
    }

    #[test]
    fn languages_are_lower_case_tags() {
        for good in ["en", "deu", "pt-br", "zh-hant", "es-419", "zh-hant-tw"] {
            assert_eq!(good.parse::<Language>().expect(good).as_str(), good);
        }
        for bad in [
            "",
            "e",
            "EN",
            "en-US",
            "en_us",
            "english",
            "en-",
            "-en",
            "e1",
            "en-x",
            "en--us",
            "ü2",
            "en-abcdefgh-abcdefgh",
        ] {
            assert!(bad.parse::<Language>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn currencies_are_three_letters() {
        assert_eq!("usd".parse::<Currency>().expect("valid").as_str(), "usd");
        for bad in ["", "us", "USD", "us1", "usdt", "u d"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_field() {
        let error = "a b".parse::<ViewerId>().expect_err("a space");
        assert_eq!(error.to_string(), "viewer holds a character that is not allowed there: ' '");
    }
}
