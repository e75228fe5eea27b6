//! What viewers hold.

use control_api::rest::Entitlement;
use control_api::{EntitlementId, ViewerId};
use media::TitleId;

use super::{AuditEntry, Held, State, keys, write};
use crate::records::Stretch;
use crate::seams::StateError;

/// How many records are read at once.
const PAGE: usize = 500;
/// How many rights one viewer may be shown: far more than anybody buys.
const MAX_RIGHTS: usize = 10_000;
/// How often a first play is tried against others who record theirs.
const ATTEMPTS: u32 = 16;

impl State {
    /// One right of a viewer to a title.
    ///
    /// # Errors
    /// [`StateError`] of the store.
    pub async fn right(
        &self,
        viewer: &ViewerId,
        title: &TitleId,
        right: &EntitlementId,
    ) -> Result<Option<Held<Entitlement>>, StateError> {
        self.read(&keys::right(viewer, title, right)).await
    }

    /// What a viewer holds of one title.
    ///
    /// # Errors
    /// [`StateError`] of the store.
    pub async fn rights_to(
        &self,
        viewer: &ViewerId,
        title: &TitleId,
    ) -> Result<Vec<Entitlement>, StateError> {
        self.rights_below(viewer, &format!("{}{title}/", keys::RIGHTS)).await
    }

    /// Everything a viewer holds, newest first.
    ///
    /// # Errors
    /// [`StateError`] of the store.
    pub async fn rights_of(&self, viewer: &ViewerId) -> Result<Vec<Entitlement>, StateError> {
        let mut rights = self.rights_below(viewer, keys::RIGHTS).await?;
        rights.sort_by(|a, b| (b.bought_at, &b.id).cmp(&(a.bought_at, &a.id)));
        Ok(rights)
    }

    async fn rights_below(&self, viewer: &ViewerId, prefix: &str) -> Result<Vec<Entitlement>, StateError> {
        let partition = keys::viewer(viewer);
        let mut rights = Vec::new();
        let mut after: Option<String> = None;
        while rights.len() < MAX_RIGHTS {
            let stretch = Stretch { after: after.as_deref(), ..Stretch::new(&partition, prefix, PAGE) };
            let page: Vec<Held<Entitlement>> = self.read_stretch(stretch).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|held| held.place.clone());
            rights.extend(page.into_iter().map(|held| held.value));
            if !full {
                break;
            }
        }
        Ok(rights)
    }

    /// Records the first play. The first caller's times stand; everybody gets the right as it stands.
    ///
    /// # Errors
    /// [`StateError::Missing`] if there is no such right.
    pub async fn first_play(
        &self,
        right: &Entitlement,
        played_at: u64,
        finish_by: Option<u64>,
    ) -> Result<Entitlement, StateError> {
        let key = keys::right(&right.viewer, &right.title, &right.id);
        for _ in 0..ATTEMPTS {
            let held = self.read::<Entitlement>(&key).await?;
            let held = held.ok_or_else(|| StateError::Missing(format!("entitlement {}", right.id)))?;
            if held.value.first_played_at.is_some() {
                return Ok(held.value);
            }
            let played = Entitlement { first_played_at: Some(played_at), finish_by, ..held.value };
            match self.commit(&[write(key.clone(), held.version, &played)?]).await {
                Ok(()) => return Ok(played),
                Err(StateError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StateError::Unavailable(format!("entitlement {} is written by too many", right.id)))
    }

    /// A viewer's audit trail, oldest first, behind `after`.
    ///
    /// # Errors
    /// [`StateError`] of the store.
    pub async fn audit(
        &self,
        viewer: &ViewerId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Held<AuditEntry>>, StateError> {
        self.read_stretch(Stretch { after, ..Stretch::new(&keys::trail(viewer), "", limit) }).await
    }
}
