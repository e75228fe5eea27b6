//! What a disk holds, in pages that are shared until they change: what a program sees, and what a loss of
//! power cannot take.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::chance::Chance;
use crate::device::{FileName, PAGE};

const PAGE_LEN: usize = PAGE as usize;

type Page = Arc<[u8; PAGE_LEN]>;

/// The bytes of one file. A page that is not there is all zeros, so a large empty slab costs nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pages: BTreeMap<u64, Page>,
    len: u64,
}

/// One file as a program sees it.
#[derive(Debug, Default)]
struct Live {
    image: Image,
    /// Pages that may differ from those that are safe.
    dirty: BTreeSet<u64>,
    /// Made since the last sync of its name: what is safe under this name is another file, or none.
    fresh: bool,
}

/// The files of a disk.
#[derive(Debug, Default)]
pub(super) struct Files {
    live: BTreeMap<FileName, Live>,
    safe: BTreeMap<FileName, Image>,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A copy, as from any device: what is read stays what it was when the file changes. Zeros past the end.
    pub(super) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (page, inside, outside) in pieces(at, len) {
            if let Some(page) = self.pages.get(&page) {
                bytes[outside].copy_from_slice(&page[inside]);
            }
        }
        bytes
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        for (page, inside, outside) in pieces(at, bytes.len()) {
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_LEN]));
            Arc::make_mut(page)[inside].copy_from_slice(&bytes[outside]);
        }
        self.len = self.len.max(at + bytes.len() as u64);
    }

    /// What is cut off is gone: it reads as zeros when the file grows again.
    fn set_len(&mut self, len: u64) {
        self.len = len;
        drop(self.pages.split_off(&len.div_ceil(PAGE)));
        if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
            Arc::make_mut(page)[(len % PAGE) as usize..].fill(0);
        }
    }

    fn copy_page(&mut self, page: u64, from: &Self) {
        match from.pages.get(&page) {
            Some(bytes) => drop(self.pages.insert(page, bytes.clone())),
            None => drop(self.pages.remove(&page)),
        }
    }
}

/// The pages that a range touches: number, range inside the page, range inside the caller's bytes.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let end = at + len as u64;
    (at / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let start = at.max(page * PAGE);
        let stop = end.min((page + 1) * PAGE);
        let inside = (start - page * PAGE) as usize..(stop - page * PAGE) as usize;
        (page, inside, (start - at) as usize..(stop - at) as usize)
    })
}

impl Files {
    pub(super) fn list(&self) -> Vec<(FileName, u64)> {
        self.live.iter().map(|(file, live)| (*file, live.image.len)).collect()
    }

    pub(super) fn get(&self, file: FileName) -> Option<&Image> {
        self.live.get(&file).map(|live| &live.image)
    }

    /// Whole pages that the files take.
    pub(super) fn room(&self) -> u64 {
        self.live.values().map(|live| live.image.len.next_multiple_of(PAGE)).sum()
    }

    pub(super) fn write(&mut self, file: FileName, at: u64, bytes: &[u8]) {
        let live = self.live_or_new(file);
        live.image.write(at, bytes);
        live.dirty.extend(pieces(at, bytes.len()).map(|(page, ..)| page));
    }

    pub(super) fn set_len(&mut self, file: FileName, len: u64) {
        if len == 0 {
            self.live.remove(&file);
            return;
        }
        let live = self.live_or_new(file);
        live.dirty.extend(live.image.pages.range(len / PAGE..).map(|(page, _)| *page));
        live.image.set_len(len);
    }

    /// Makes the file, its name and its length, or its absence, safe.
    pub(super) fn sync(&mut self, file: FileName) {
        let Some(live) = self.live.get_mut(&file) else {
            self.safe.remove(&file);
            return;
        };
        let safe = self.safe.entry(file).or_default();
        if std::mem::take(&mut live.fresh) {
            *safe = Image::default();
        }
        for page in std::mem::take(&mut live.dirty) {
            safe.copy_page(page, &live.image);
        }
        safe.len = live.image.len;
    }

    /// A sync failed: what it should have made safe is not, and no later one will, unless it is written again.
    pub(super) fn forget_unsynced(&mut self, file: FileName) {
        if let Some(live) = self.live.get_mut(&file) {
            live.dirty.clear();
        }
    }

    /// Changes bytes behind the back of everybody: what is safe changes too, and nothing becomes less safe.
    pub(super) fn rot(&mut self, file: FileName, at: u64, bytes: &[u8]) {
        let Some(live) = self.live.get_mut(&file) else { return };
        live.image.write(at, bytes);
        if let Some(safe) = self.safe.get_mut(&file).filter(|_| !live.fresh) {
            let clean = pieces(at, bytes.len()).filter(|(page, ..)| !live.dirty.contains(page));
            clean.for_each(|(page, ..)| safe.copy_page(page, &live.image));
        }
    }

    /// Cuts a file off behind the back of everybody.
    pub(super) fn cut(&mut self, file: FileName, len: u64) {
        let Some(live) = self.live.get_mut(&file).filter(|live| len < live.image.len) else { return };
        live.image.set_len(len);
        if let Some(safe) = self.safe.get_mut(&file).filter(|safe| !live.fresh && len < safe.len) {
            safe.set_len(len);
        }
    }

    /// What is there after the power came back. What was synced is; for everything else the draws decide, each
    /// page for itself.
    pub(super) fn lose_power(&mut self, seed: u64) {
        let live = std::mem::take(&mut self.live);
        let mut safe = std::mem::take(&mut self.safe);
        for (file, live) in live {
            let chance = Chance::new(seed).for_(&file.to_string());
            let before = safe.remove(&file);
            if let Some(image) = live.after_power_loss(before, chance) {
                self.safe.insert(file, image);
            }
        }
        // What is left was removed, and the removal may be lost.
        let lost = |file: &FileName| Chance::new(seed).for_(&file.to_string()).for_("removal").below(2) == 0;
        self.safe.extend(safe.into_iter().filter(|(file, _)| lost(file)));
        let whole =
            |(file, image): (&FileName, &Image)| (*file, Live { image: image.clone(), ..Live::default() });
        self.live = self.safe.iter().map(whole).collect();
    }

    fn live_or_new(&mut self, file: FileName) -> &mut Live {
        self.live.entry(file).or_insert_with(|| Live { fresh: true, ..Live::default() })
    }
}

impl Live {
    /// `before` is what is safe under the same name.
    fn after_power_loss(&self, before: Option<Image>, chance: Chance) -> Option<Image> {
        if !self.fresh {
            return Some(self.mixed(before.unwrap_or_default(), chance));
        }
        match chance.for_("name").below(3) {
            // The file before it, if there was one: neither its removal nor this one's name got there.
            0 => before,
            1 if before.is_some() => None,
            _ => Some(self.mixed(Image::default(), chance)),
        }
    }

    /// Some pages as they are and some as they were, and a length that was true once or on the way.
    fn mixed(&self, before: Image, chance: Chance) -> Image {
        let was = before.len;
        let mut image = before;
        for page in self.dirty.iter().filter(|page| chance.for_("page").nth(**page).below(2) == 0) {
            image.copy_page(*page, &self.image);
        }
        let (low, high) = (was.min(self.image.len), was.max(self.image.len));
        let len = match chance.for_("length").below(3) {
            0 => was,
            1 => self.image.len,
            _ => low + chance.for_("between").below(high - low + 1),
        };
        image.set_len(len);
        image
    }
}
