//! Sessions and the records: what a right allows now, a screen's place, and where a viewer stopped. The decisions
//! are [`control::rights`] and [`control::lease`]; here they meet the store.

use control::lease::{Lease, LeaseRules, Renewed, Taken, release, renew};
use control::rights::{Decision, RentalRules, decide};
use control_api::rest::Bookmark;
use control_api::{SessionId, ViewerId};
use media::TitleId;

use crate::records::Stretch;
use crate::seams::StateError;
use crate::state::{Held, State, keys, write};

/// How often a change is decided anew because somebody else was faster.
const ATTEMPTS: u32 = 24;

/// Decides, and records a first play before anybody watches.
///
/// # Errors
/// [`StateError`] of the store.
pub async fn allowed(
    state: &State,
    rules: &RentalRules,
    viewer: &ViewerId,
    title: &TitleId,
    now: u64,
) -> Result<Decision, StateError> {
    let mut rights = state.rights_to(viewer, title).await?;
    let first = decide(now, title, &rights, rules);
    let Decision::Allow(allowed) = &first else { return Ok(first) };
    let Some(right) = rights.iter_mut().find(|right| allowed.first_play && right.id == allowed.entitlement)
    else {
        return Ok(first);
    };
    // Another session may have been the first by a moment, or the right may have been withdrawn: decide again by
    // what stands.
    *right = state.first_play(right, now, allowed.finish_by).await?;
    Ok(decide(now, title, &rights, rules))
}

/// Takes a place for a screen.
///
/// # Errors
/// [`StateError`] of the store.
pub async fn take(
    state: &State,
    rules: &LeaseRules,
    viewer: &ViewerId,
    wish: Lease,
    take_over: bool,
    now: u64,
) -> Result<Taken, StateError> {
    for attempt in 0..ATTEMPTS {
        let (leases, version) = leases(state, viewer).await?;
        let taken = control::lease::take(now, &leases, wish.clone(), take_over, rules);
        let Taken::Granted(next, _) = &taken else { return Ok(taken) };
        if store(state, viewer, version, next, attempt).await? {
            return Ok(taken);
        }
    }
    Err(busy(viewer))
}

/// What a beacon has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// How far the film is, in milliseconds.
    pub position_ms: u64,
    /// Whether the session ends.
    pub ended: bool,
    /// When it was heard, in Unix seconds.
    pub at: u64,
}

/// Hears a beacon: notes where the viewer is, then renews the screen's place or gives it up. `None` if the session
/// has lost its place; else until when it keeps it.
///
/// # Errors
/// [`StateError`] of the store.
pub async fn hear(
    state: &State,
    rules: &LeaseRules,
    viewer: &ViewerId,
    session: &SessionId,
    heard: Heard,
) -> Result<Option<u64>, StateError> {
    for attempt in 0..ATTEMPTS {
        let (leases, version) = leases(state, viewer).await?;
        let Some(own) = leases.iter().find(|lease| lease.session == *session) else { return Ok(None) };
        let renewed = renew(heard.at, &leases, session, rules);
        let (next, until) = match renewed {
            _ if heard.ended => (release(&leases, session), heard.at),
            Renewed::Granted(next) => {
                let until = next.last().map_or(heard.at, |lease| lease.until);
                (next, until)
            }
            Renewed::Lost => return Ok(None),
        };
        note(state, viewer, &own.title, heard).await?;
        if store(state, viewer, version, &next, attempt).await? {
            return Ok(Some(until));
        }
    }
    Err(busy(viewer))
}

async fn leases(state: &State, viewer: &ViewerId) -> Result<(Vec<Lease>, u64), StateError> {
    let held = state.read::<Vec<Lease>>(&keys::leases(viewer)).await?;
    Ok(held.map_or_else(Default::default, |held| (held.value, held.version)))
}

/// Whether the leases were written; not if somebody else was faster.
async fn store(
    state: &State,
    viewer: &ViewerId,
    version: u64,
    leases: &[Lease],
    attempt: u32,
) -> Result<bool, StateError> {
    match state.commit(&[write(keys::leases(viewer), version, &leases)?]).await {
        Ok(()) => Ok(true),
        Err(StateError::Conflict(_)) => {
            // One viewer's screens: those who collide are few.
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(attempt))).await;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn busy(viewer: &ViewerId) -> StateError {
    StateError::Unavailable(format!("the leases of {viewer} are written by too many"))
}

/// Notes where the viewer is. Of two screens that play the same film the one heard last counts; one that loses a
/// race is heard again soon.
async fn note(state: &State, viewer: &ViewerId, title: &TitleId, heard: Heard) -> Result<(), StateError> {
    let key = keys::bookmark(viewer, title);
    let held = state.read::<Bookmark>(&key).await?;
    if held.as_ref().is_some_and(|held| held.value.at > heard.at) {
        return Ok(());
    }
    let bookmark = Bookmark { title: title.clone(), position_ms: heard.position_ms, at: heard.at };
    match state.commit(&[write(key, held.map_or(0, |held| held.version), &bookmark)?]).await {
        Err(StateError::Conflict(_)) => Ok(()),
        outcome => outcome,
    }
}

/// Where the viewer stopped the last time, in milliseconds.
///
/// # Errors
/// [`StateError`] of the store.
pub async fn resume_at(state: &State, viewer: &ViewerId, title: &TitleId) -> Result<u64, StateError> {
    let held = state.read::<Bookmark>(&keys::bookmark(viewer, title)).await?;
    Ok(held.map_or(0, |held| held.value.position_ms))
}

/// A viewer's bookmarks by title, behind `after`.
///
/// # Errors
/// [`StateError`] of the store.
pub async fn bookmarks(
    state: &State,
    viewer: &ViewerId,
    after: Option<&TitleId>,
    limit: usize,
) -> Result<Vec<Bookmark>, StateError> {
    let partition = keys::viewer(viewer);
    let after = after.map(|title| keys::bookmark(viewer, title).place);
    let stretch = Stretch { after: after.as_deref(), ..Stretch::new(&partition, keys::BOOKMARKS, limit) };
    let found: Vec<Held<Bookmark>> = state.read_stretch(stretch).await?;
    Ok(found.into_iter().map(|held| held.value).collect())
}
