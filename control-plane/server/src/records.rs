//! Records: the one seam between what the control plane remembers and where it is kept.
//!
//! A record has a key (a partition and a place in its order), a version and a body, JSON as a rule. Records are
//! changed by [`Records::commit`] alone: a few writes that all happen or none, each naming the version it
//! follows. Everything the business needs of a store is built from that in [`crate::state`], once, and stands on
//! redb and on DynamoDB alike. `DESIGN.md` beside this crate lists the records and what they cost.
//!
//! What is deliberately missing: updates without a version, so no write is lost; secondary indexes, so no read is
//! late; expiry, so no clock but the caller's decides. `keep_until` only lets a store forget later.

use crate::seams::{BoxFuture, StateError};

/// How many writes one commit may have: what DynamoDB takes.
pub const MAX_WRITES: usize = 100;
/// How long a body may be: what DynamoDB takes, less room for the key.
pub const MAX_BODY_LEN: usize = 390 * 1024;
/// How long a partition's name may be.
pub const MAX_PARTITION_LEN: usize = 512;
/// How long a place may be.
pub const MAX_PLACE_LEN: usize = 512;

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What is kept together and can be listed.
    pub partition: String,
    /// Its place in the partition's order, which is that of its bytes.
    pub place: String,
}

impl Key {
    /// This place of this partition.
    #[must_use]
    pub fn new(partition: impl Into<String>, place: impl Into<String>) -> Self {
        Self { partition: partition.into(), place: place.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.place)
    }
}

/// A record as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub key: Key,
    /// 1 when it was created; each replacement counts one up.
    pub version: u64,
    /// What it says.
    pub body: Vec<u8>,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// From when on the store may forget the record, in Unix seconds. It may as well keep it for days more:
    /// whoever reads it judges by what it says.
    pub keep_until: Option<u64>,
}

/// One change, and what must stand for it to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A new record where there is none; its version is 1.
    Create(Key, Body),
    /// Another body for a record of this version.
    Replace(Key, u64, Body),
    /// No record of this version any more.
    Remove(Key, u64),
    /// Nothing, if the record has this version.
    Require(Key, u64),
}

impl Write {
    /// The record it is about.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Create(key, _) | Self::Replace(key, ..) | Self::Remove(key, _) | Self::Require(key, _) => {
                key
            }
        }
    }

    /// What it writes, if it writes something.
    #[must_use]
    pub const fn body(&self) -> Option<&Body> {
        match self {
            Self::Create(_, body) | Self::Replace(_, _, body) => Some(body),
            Self::Remove(..) | Self::Require(..) => None,
        }
    }
}

/// A part of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// Which partition.
    pub partition: &'a str,
    /// What all places begin with.
    pub prefix: &'a str,
    /// The place behind which it begins, in the direction of reading.
    pub after: Option<&'a str>,
    /// Whether the greatest place comes first.
    pub backwards: bool,
    /// How many records it has at most.
    pub limit: usize,
}

impl<'a> Stretch<'a> {
    /// Everything in the partition whose place begins with `prefix`, up to `limit` records.
    #[must_use]
    pub const fn new(partition: &'a str, prefix: &'a str, limit: usize) -> Self {
        Self { partition, prefix, after: None, backwards: false, limit }
    }

    /// The least and the greatest place in it, both included, and still with `after` itself. Places are visible
    /// ASCII, so that one character above them ends a prefix.
    #[must_use]
    pub fn bounds(&self) -> (String, String) {
        // DynamoDB compares with no empty text; a blank is below everything visible.
        let low = if self.prefix.is_empty() { " " } else { self.prefix };
        let (low, high) = (low.to_owned(), format!("{}\u{7f}", self.prefix));
        match self.after {
            Some(after) if self.backwards => (low, high.min(after.to_owned())),
            Some(after) => (low.max(after.to_owned()), high),
            None => (low, high),
        }
    }
}

/// A store of records. Reads see every commit that was answered before them.
pub trait Records: Send + Sync {
    /// One record.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, StateError>>;

    /// Some records of a partition in the order of their places.
    fn list<'a>(&'a self, stretch: Stretch<'a>) -> BoxFuture<'a, Result<Vec<Record>, StateError>>;

    /// Makes all changes, durably, or none.
    ///
    /// [`StateError::Conflict`] if a record does not stand as its write says, or somebody else writes it at this
    /// moment: read again, decide again. [`StateError::Unavailable`] leaves open whether the changes were made:
    /// reading again tells.
    fn commit<'a>(&'a self, writes: &'a [Write]) -> BoxFuture<'a, Result<(), StateError>>;
}

/// Whether every store can take these writes. Both adapters ask before they write, so that what works on one
/// works on the other.
///
/// # Errors
/// [`StateError::Unfit`] says what no store takes.
pub fn check(writes: &[Write]) -> Result<(), StateError> {
    let unfit = |why: String| Err(StateError::Unfit(why));
    if writes.is_empty() || writes.len() > MAX_WRITES {
        return unfit(format!("{} writes in one commit; 1 to {MAX_WRITES} are allowed", writes.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for write in writes {
        let key = write.key();
        check_key(key)?;
        if let Write::Replace(_, 0, _) | Write::Remove(_, 0) | Write::Require(_, 0) = write {
            return unfit(format!("{key}: no record has version 0"));
        }
        if !seen.insert(key) {
            return unfit(format!("{key} is written twice in one commit"));
        }
        if let Some(len) = write.body().map(|body| body.bytes.len()).filter(|len| *len > MAX_BODY_LEN) {
            return unfit(format!("{key} has a body of {len} bytes; {MAX_BODY_LEN} are allowed"));
        }
    }
    Ok(())
}

fn check_key(key: &Key) -> Result<(), StateError> {
    let fine = |text: &str, max: usize| {
        (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if fine(&key.partition, MAX_PARTITION_LEN) && fine(&key.place, MAX_PLACE_LEN) {
        return Ok(());
    }
    let shown: String = key.to_string().chars().take(80).collect();
    Err(StateError::Unfit(format!("{shown:?} is no key: visible ASCII, neither empty nor too long")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(place: &str) -> Write {
        Write::Create(Key::new("p", place), Body { bytes: Vec::new(), keep_until: None })
    }

    #[test]
    fn what_no_store_takes() {
        assert_eq!(check(&[create("a"), Write::Require(Key::new("p", "b"), 1)]), Ok(()));
        let long = Body { bytes: vec![0; MAX_BODY_LEN + 1], keep_until: None };
        for writes in [
            vec![],
            (0..=MAX_WRITES).map(|n| create(&n.to_string())).collect(),
            vec![create("a"), Write::Remove(Key::new("p", "a"), 1)],
            vec![create("")],
            vec![Write::Require(Key::new("p", "a"), 0)],
            vec![create("a b")],
            vec![create("\u{e4}")],
            vec![create(&"x".repeat(MAX_PLACE_LEN + 1))],
            vec![Write::Replace(Key::new("p", "a"), 1, long)],
        ] {
            assert!(matches!(check(&writes), Err(StateError::Unfit(_))), "{} writes", writes.len());
        }
    }

    #[test]
    fn a_stretch_is_a_range_of_places() {
        let stretch = Stretch::new("p", "right/", 10);
        let cases = [
            (None, false, "right/", "right/\u{7f}"),
            (Some("right/b"), false, "right/b", "right/\u{7f}"),
            (Some("right/b"), true, "right/", "right/b"),
            (Some("a"), false, "right/", "right/\u{7f}"),
            (Some("z"), true, "right/", "right/\u{7f}"),
        ];
        for (after, backwards, low, high) in cases {
            let bounds = Stretch { after, backwards, ..stretch }.bounds();
            assert_eq!(bounds, (low.to_owned(), high.to_owned()), "{after:?} {backwards}");
        }
    }
}
