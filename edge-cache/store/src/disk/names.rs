//! Renditions by number: a million segments share a few thousand names, so each segment holds a number.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use media::{PackageId, Part, RenditionId, SegmentKey, Tag, TitleId};

/// A rendition as a segment's entry names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) title: TitleId,
    pub(crate) package: PackageId,
    pub(crate) rendition: RenditionId,
    pub(crate) tags: Arc<[Tag]>,
}

impl Name {
    pub(crate) fn of(key: &SegmentKey, tags: &Arc<[Tag]>) -> Self {
        let SegmentKey { title, package, rendition, .. } = key.clone();
        Self { title, package, rendition, tags: tags.clone() }
    }

    pub(crate) fn key(&self, part: Part) -> SegmentKey {
        let Self { title, package, rendition, .. } = self.clone();
        SegmentKey { title, package, rendition, part }
    }

    fn is_of(&self, key: &SegmentKey) -> bool {
        self.package == key.package && self.rendition == key.rendition && self.title == key.title
    }
}

/// A log that speaks of higher numbers is not believed: there is a place for each number up to the highest.
const NUMBERS: u32 = 1 << 22;
/// So many renditions have objects on one disk at most.
const MOST: usize = NUMBERS as usize / 2;

/// Names by number. A number is free again when no object has it any more.
#[derive(Default)]
pub(crate) struct Names {
    numbers: HashTable<u32>,
    named: Vec<Option<Used>>,
    free: BTreeSet<u32>,
    hasher: Hash,
}

struct Used {
    name: Name,
    objects: u32,
}

/// Names come from strangers' files, so they are hashed with keys of this process.
#[derive(Default)]
struct Hash(RandomState);

impl Hash {
    fn of(&self, title: &TitleId, package: PackageId, rendition: &RenditionId) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(title.as_str().as_bytes());
        hasher.write_u64(package.0);
        hasher.write(rendition.as_str().as_bytes());
        hasher.finish()
    }
}

impl Names {
    /// The number of a key's rendition, if some object has it.
    pub(crate) fn find(&self, key: &SegmentKey) -> Option<u32> {
        let hash = self.hasher.of(&key.title, key.package, &key.rendition);
        self.numbers.find(hash, |number| self.get(*number).is_some_and(|name| name.is_of(key))).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Name> {
        self.named.get(number as usize)?.as_ref().map(|used| &used.name)
    }

    /// Whether no further name is to be held. Few more may be: whoever asked before has yet to hold his.
    pub(crate) fn are_too_many(&self) -> bool {
        self.numbers.len() >= MOST
    }

    /// One object more has this name. Gives its number, and whether the name is new.
    pub(crate) fn hold(&mut self, key: &SegmentKey, tags: &Arc<[Tag]>) -> (u32, bool) {
        if let Some(number) = self.find(key) {
            self.hold_number(number);
            return (number, false);
        }
        let number = self.free.first().copied().unwrap_or(self.named.len() as u32);
        self.define(number, Name::of(key, tags));
        self.hold_number(number);
        (number, true)
    }

    /// One object more has the name of this number.
    pub(crate) fn hold_number(&mut self, number: u32) {
        if let Some(Some(used)) = self.named.get_mut(number as usize) {
            used.objects += 1;
        }
    }

    /// One object less has the name of this number, but another one follows.
    pub(crate) fn unhold(&mut self, number: u32) {
        if let Some(Some(used)) = self.named.get_mut(number as usize) {
            used.objects = used.objects.saturating_sub(1);
        }
    }

    /// One object less has the name of this number.
    pub(crate) fn release(&mut self, number: u32) {
        let Some(Some(used)) = self.named.get_mut(number as usize) else { return };
        used.objects = used.objects.saturating_sub(1);
        if used.objects == 0 {
            self.undefine(number);
        }
    }

    /// Gives a number a name, as a log says it; `false` for a number that no disk gives. Objects that had the
    /// number under another name are not asked: a log says so only when they are about to go.
    pub(crate) fn define(&mut self, number: u32, name: Name) -> bool {
        if number >= NUMBERS {
            return false;
        }
        if self.get(number) == Some(&name) {
            return true;
        }
        let objects = self.undefine(number);
        if let Some(elsewhere) = self.find(&name.key(Part::Init)) {
            self.undefine(elsewhere);
        }
        let at = number as usize;
        if at >= self.named.len() {
            self.free.extend(self.named.len() as u32..number);
            self.named.resize_with(at + 1, || None);
        } else {
            self.free.remove(&number);
        }
        let hash = self.hasher.of(&name.title, name.package, &name.rendition);
        self.named[at] = Some(Used { name, objects });
        let Self { numbers, named, hasher, .. } = self;
        let rehash = |number: &u32| hash_of(hasher, named, *number);
        numbers.insert_unique(hash, number, rehash);
        true
    }

    /// Every name with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Name)> {
        (0..).zip(&self.named).filter_map(|(number, used)| Some((number, &used.as_ref()?.name)))
    }

    /// Forgets the names that no object has.
    pub(crate) fn forget_unused(&mut self) {
        let unused = |used: &Option<Used>| used.as_ref().is_some_and(|used| used.objects == 0);
        let numbers: Vec<u32> =
            (0..).zip(&self.named).filter(|(_, used)| unused(used)).map(|(number, _)| number).collect();
        for number in numbers {
            self.undefine(number);
        }
    }

    /// Tells how many objects had the number.
    fn undefine(&mut self, number: u32) -> u32 {
        let Some(used) = self.named.get_mut(number as usize).and_then(Option::take) else { return 0 };
        let hash = self.hasher.of(&used.name.title, used.name.package, &used.name.rendition);
        if let Ok(entry) = self.numbers.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
        self.free.insert(number);
        used.objects
    }
}

fn hash_of(hasher: &Hash, named: &[Option<Used>], number: u32) -> u64 {
    let name = named.get(number as usize).and_then(|used| used.as_ref()).map(|used| &used.name);
    name.map_or(0, |name| hasher.of(&name.title, name.package, &name.rendition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(title: &str, rendition: &str) -> SegmentKey {
        SegmentKey {
            title: title.parse().expect("a title"),
            package: PackageId(7),
            rendition: rendition.parse().expect("a rendition"),
            part: Part::Init,
        }
    }

    #[test]
    fn a_name_lasts_as_long_as_its_objects_and_its_number_is_used_again() {
        let (mut names, tags) = (Names::default(), Arc::default());
        assert_eq!(names.hold(&key("a", "v1"), &tags), (0, true));
        assert_eq!(names.hold(&key("a", "v1"), &tags), (0, false));
        assert_eq!(names.hold(&key("a", "v2"), &tags), (1, true));
        names.release(0);
        assert_eq!(names.find(&key("a", "v1")), Some(0));
        names.release(0);
        assert_eq!(names.find(&key("a", "v1")), None);
        assert_eq!(names.hold(&key("b", "v1"), &tags), (0, true));
        assert_eq!(names.get(0).map(|name| name.key(Part::Init)), Some(key("b", "v1")));
        assert_eq!(names.iter().count(), 2);
    }

    #[test]
    fn a_log_may_define_numbers_in_any_order() {
        let (mut names, tags) = (Names::default(), Arc::default());
        for (number, title) in [(5, "e"), (2, "b"), (5, "f"), (5, "f")] {
            assert!(names.define(number, Name::of(&key(title, "v1"), &tags)));
        }
        assert_eq!(names.find(&key("e", "v1")), None);
        assert_eq!(names.find(&key("f", "v1")), Some(5));
        let fresh: Vec<u32> = (0..5).map(|n| names.hold(&key(&format!("n{n}"), "v1"), &tags).0).collect();
        names.define(1, Name::of(&key("f", "v1"), &tags));
        assert_eq!(names.find(&key("f", "v1")), Some(1), "a name has one number");
        names.forget_unused();
        let found = ["f", "b"].map(|title| names.find(&key(title, "v1")));
        assert_eq!(found, [Some(1), None], "an object has the number 1, whatever it means");
        let mut sorted = fresh.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 3, 4, 6], "{fresh:?}");
        assert!(!names.define(NUMBERS, Name::of(&key("g", "v1"), &tags)), "nobody has so many");
    }

    #[test]
    fn many_names_are_all_found() {
        let (mut names, tags) = (Names::default(), Arc::default());
        for n in 0..3_000 {
            names.hold(&key(&format!("t{n}"), "v1"), &tags);
        }
        for n in 0..3_000 {
            assert_eq!(names.find(&key(&format!("t{n}"), "v1")), Some(n));
        }
    }
}
