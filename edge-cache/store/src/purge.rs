//! Purges: what must not be served any more, and since when.
//!
//! A purge has a number, its epoch. Whatever begins to be fetched remembers the newest epoch of that moment, so
//! that a body that was under way when a purge came can be told from one that began after it: the first is
//! never stored. What stood when the purge came is swept out of every tier before the purge is answered.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use media::{SegmentKey, Tag, TitleId};
use serde::{Deserialize, Serialize};

/// How many purges there have been; the number of the newest. Grows for ever, across restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

impl Epoch {
    /// All purges after so many have this number. None of them can tell what began before it from what began
    /// after it any more, so each counts for all: rather a hit lost than a purge.
    pub(crate) const LAST: Self = Self(u32::MAX);
}

/// What a purge is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One segment or playlist.
    Segment(SegmentKey),
    /// Everything of a title.
    Title(TitleId),
    /// Everything whose `title/package/rendition/` begins so: a package, a rendition, titles of one season.
    Prefix(String),
    /// Everything of the titles that carry a tag.
    Tag(Tag),
}

/// How thorough a purge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeKind {
    /// The bytes are gone.
    Hard,
    /// The bytes are stale: served only when no source delivers (RFC 5861, stale-if-error).
    Soft,
}

impl PurgeKind {
    pub(crate) const ALL: [Self; 2] = [Self::Hard, Self::Soft];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Its number.
    pub epoch: Epoch,
    /// Objects that were swept, all tiers together.
    pub objects: u64,
    /// Disks that are offline; they are swept when they return.
    pub disks_behind: u64,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(key) => write!(f, "segment {key}"),
            Self::Title(title) => write!(f, "title {title}"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
        }
    }
}

impl Scope {
    /// Whether an object is meant; the tags are those of its title.
    #[must_use]
    pub fn covers(&self, key: &SegmentKey, tags: &[Tag]) -> bool {
        match self {
            Self::Segment(segment) => segment == key,
            Self::Title(title) => *title == key.title,
            Self::Prefix(prefix) => place(key).starts_with(prefix),
            Self::Tag(tag) => tags.contains(tag),
        }
    }
}

fn place(key: &SegmentKey) -> String {
    format!("{}/{}/{}/", key.title, key.package, key.rendition)
}

/// Most purges remembered. They are needed as long as a fill that began before them may end, and as long as a
/// disk is away; the oldest are forgotten beyond it.
pub(crate) const MAX_REMEMBERED: usize = 65_536;

/// The purges that were: the newest of each scope and kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    newest: Epoch,
    purges: HashMap<(Scope, PurgeKind), Epoch>,
    /// The same by epoch: who asks what was purged since then looks at nothing older.
    order: BTreeMap<Epoch, Vec<(Scope, PurgeKind)>>,
}

impl Ledger {
    pub(crate) fn newest(&self) -> Epoch {
        self.newest
    }

    /// Notes a purge that begins now and gives it its number.
    pub(crate) fn begin(&mut self, scope: &Scope, kind: PurgeKind) -> Epoch {
        let epoch = Epoch(self.newest.0.saturating_add(1));
        self.note(scope.clone(), epoch, kind);
        epoch
    }

    /// Notes a purge that somebody remembers.
    pub(crate) fn note(&mut self, scope: Scope, epoch: Epoch, kind: PurgeKind) {
        self.newest = self.newest.max(epoch);
        let purge = (scope, kind);
        match self.purges.get(&purge).copied() {
            Some(known) if known >= epoch => return,
            Some(known) => self.take_out(known, &purge),
            None => {}
        }
        self.order.entry(epoch).or_default().push(purge.clone());
        self.purges.insert(purge, epoch);
        self.forget_beyond(MAX_REMEMBERED);
    }

    fn take_out(&mut self, epoch: Epoch, purge: &(Scope, PurgeKind)) {
        if let Some(together) = self.order.get_mut(&epoch) {
            together.retain(|other| other != purge);
            if together.is_empty() {
                self.order.remove(&epoch);
            }
        }
    }

    /// What became of something that began to be fetched at `born`: the most thorough purge since then.
    pub(crate) fn since(&self, born: Epoch, key: &SegmentKey, tags: &[Tag]) -> Option<PurgeKind> {
        let first = Epoch(born.0.saturating_add(1));
        let later = self.order.range(first..).flat_map(|(_, together)| together);
        let meant = later.filter(|(scope, _)| scope.covers(key, tags)).map(|(_, kind)| *kind);
        meant.min_by_key(|kind| *kind == PurgeKind::Soft)
    }

    /// Whether this purge, or a later one of the same scope and kind, is remembered.
    pub(crate) fn knows(&self, scope: &Scope, epoch: Epoch, kind: PurgeKind) -> bool {
        self.purges.get(&(scope.clone(), kind)).is_some_and(|known| *known >= epoch)
    }

    /// All remembered purges, in no particular order.
    pub(crate) fn purges(&self) -> impl Iterator<Item = (&Scope, Epoch, PurgeKind)> {
        self.purges.iter().map(|((scope, kind), epoch)| (scope, *epoch, *kind))
    }

    /// Forgets the oldest.
    fn forget_beyond(&mut self, limit: usize) {
        while self.purges.len() > limit
            && let Some((_, together)) = self.order.pop_first()
        {
            for purge in &together {
                self.purges.remove(purge);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use media::Part;

    use super::*;

    fn key(path: &str) -> SegmentKey {
        SegmentKey::parse(path).expect("a key").0
    }

    fn tag(text: &str) -> Tag {
        text.parse().expect("a tag")
    }

    #[test]
    fn scopes_cover_what_they_say() {
        let one = key("bbb/00000000000000ff/v720/1.m4s");
        let tags = [tag("vendor-acme")];
        for (scope, covers) in [
            (Scope::Segment(one.clone()), true),
            (Scope::Segment(SegmentKey { part: Part::Media(10), ..one.clone() }), false),
            (Scope::Title("bbb".parse().expect("a title")), true),
            (Scope::Title("bb".parse().expect("a title")), false),
            (Scope::Prefix("bb".to_owned()), true),
            (Scope::Prefix("bbb/".to_owned()), true),
            (Scope::Prefix("bbb/00000000000000ff/".to_owned()), true),
            (Scope::Prefix("bbb/00000000000000ff/v720/".to_owned()), true),
            (Scope::Prefix("bbb/00000000000000ff/v7/".to_owned()), false),
            (Scope::Tag(tag("vendor-acme")), true),
            (Scope::Tag(tag("vendor")), false),
        ] {
            assert_eq!(scope.covers(&one, &tags), covers, "{scope}");
        }
    }

    #[test]
    fn only_purges_after_the_birth_count_and_hard_ones_more() {
        let (one, mut ledger) = (key("bbb/00000000000000ff/v720/1.m4s"), Ledger::default());
        let title = Scope::Title("bbb".parse().expect("a title"));
        let before = ledger.newest();
        let hard = ledger.begin(&title, PurgeKind::Hard);
        let soft = ledger.begin(&Scope::Segment(one.clone()), PurgeKind::Soft);
        assert!(before < hard && hard < soft);
        assert_eq!(ledger.since(before, &one, &[]), Some(PurgeKind::Hard));
        assert_eq!(ledger.since(hard, &one, &[]), Some(PurgeKind::Soft));
        assert_eq!(ledger.since(soft, &one, &[]), None);
        assert_eq!(ledger.since(before, &key("abc/00000000000000ff/v720/1.m4s"), &[]), None);
        ledger.note(title, before, PurgeKind::Soft);
        assert_eq!(ledger.since(before, &one, &[]), Some(PurgeKind::Hard), "an older note changes nothing");
    }

    #[test]
    fn the_ledger_is_bounded() {
        let mut ledger = Ledger::default();
        for n in 0..MAX_REMEMBERED + 5 {
            ledger.begin(&Scope::Prefix(format!("t{n}/")), PurgeKind::Hard);
        }
        assert_eq!(ledger.purges.len(), MAX_REMEMBERED);
        assert_eq!(ledger.order.values().map(Vec::len).sum::<usize>(), MAX_REMEMBERED);
        let newest = Scope::Prefix(format!("t{}/", MAX_REMEMBERED + 4));
        assert!(ledger.purges().any(|(scope, _, _)| *scope == newest), "the newest are kept");
        for again in 0..3 {
            ledger.begin(&newest, PurgeKind::Hard);
            assert_eq!(ledger.order.values().map(Vec::len).sum::<usize>(), MAX_REMEMBERED, "{again}");
        }
    }
}
