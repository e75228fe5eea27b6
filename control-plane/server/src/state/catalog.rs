//! Titles and the journals of their ingests.

use control::ingest::Event;
use media::{PackageId, TitleId};

use super::{Held, State, keys, write};
use crate::records::{Stretch, Write};
use crate::seams::{BoxFuture, Catalog, CatalogEntry, Journal, StateError};

/// How many events are read at once.
const PAGE: usize = 500;

impl Catalog for State {
    fn get<'a>(&'a self, title: &'a TitleId) -> BoxFuture<'a, Result<Option<CatalogEntry>, StateError>> {
        Box::pin(async move { Ok(self.read(&keys::title(title)).await?.map(entry)) })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a TitleId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<CatalogEntry>, StateError>> {
        let after = after.map(TitleId::as_str);
        let stretch = Stretch { after, ..Stretch::new(keys::TITLES, "", limit) };
        Box::pin(async move { Ok(self.read_stretch(stretch).await?.into_iter().map(entry).collect()) })
    }

    fn put<'a>(&'a self, entry: &'a CatalogEntry) -> BoxFuture<'a, Result<CatalogEntry, StateError>> {
        Box::pin(async move {
            let next = CatalogEntry { version: entry.version + 1, ..entry.clone() };
            match self.commit(&[write(keys::title(&entry.title), entry.version, &next)?]).await {
                Ok(()) => Ok(next),
                Err(StateError::Conflict(_)) => Err(StateError::Conflict(format!("title {}", entry.title))),
                Err(error) => Err(error),
            }
        })
    }
}

/// The record's version is the truth about the entry's.
fn entry(held: Held<CatalogEntry>) -> CatalogEntry {
    CatalogEntry { version: held.version, ..held.value }
}

impl Journal for State {
    fn load(&self, package: PackageId) -> BoxFuture<'_, Result<Vec<Event>, StateError>> {
        Box::pin(async move {
            let partition = keys::journal(package);
            let mut events = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let stretch = Stretch { after: after.as_deref(), ..Stretch::new(&partition, "", PAGE) };
                let page: Vec<Held<Event>> = self.read_stretch(stretch).await?;
                let full = page.len() == PAGE;
                after = page.last().map(|held| held.place.clone());
                events.extend(page.into_iter().map(|held| held.value));
                if !full {
                    return Ok(events);
                }
            }
        })
    }

    /// An event follows the one before it, so the journal has no gaps and no branches.
    fn append<'a>(
        &'a self,
        package: PackageId,
        at: u64,
        event: &'a Event,
    ) -> BoxFuture<'a, Result<(), StateError>> {
        Box::pin(async move {
            let mut writes = vec![write(keys::event(package, at), 0, event)?];
            if let Some(before) = at.checked_sub(1) {
                writes.push(Write::Require(keys::event(package, before), 1));
            }
            match self.commit(&writes).await {
                Err(StateError::Conflict(_)) => {
                    Err(StateError::Conflict(format!("the journal of package {package}")))
                }
                outcome => outcome,
            }
        })
    }
}
