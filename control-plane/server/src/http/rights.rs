//! Purchases, what a viewer holds, and playback sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use control::rights::{Allowed, Decision, Right, decide};
use control::session::{expires_at, playback_url};
use control_api::problem::ProblemCode;
use control_api::rest::{
    Entitlement, EntitlementKind, EntitlementList, IDEMPOTENCY_KEY, NewPurchase, NewSession, PlaybackSession,
};
use control_api::{Claims, EntitlementId, SessionId, ViewerId};

use super::{Fault, Json, Platform, json};
use crate::seams::{Published, StateError, random_id};

/// How many characters an idempotency key may have.
const KEY_LEN: usize = 128;

/// `POST /v1/purchases`: exactly once for each idempotency key.
pub(super) async fn purchase(
    State(platform): State<Arc<Platform>>,
    headers: HeaderMap,
    Json(new): Json<NewPurchase>,
) -> Result<Response, Fault> {
    let key = idempotency_key(&headers)?;
    let title = platform.catalog.get(&new.title).await?;
    if title.is_none() {
        return Err(Fault::new(ProblemCode::NoSuchTitle, format!("title {}", new.title)));
    }
    let now = platform.clock.now_unix();
    let rental = new.kind == EntitlementKind::Rental;
    let entitlement = Entitlement {
        id: new_id::<EntitlementId>(&platform)?,
        viewer: new.viewer,
        title: new.title,
        kind: new.kind,
        bought_at: now,
        start_by: rental.then(|| platform.rentals.start_by(now)),
        first_played_at: None,
        finish_by: None,
    };
    let purchased = match platform.entitlements.purchase(&key, &entitlement).await {
        Ok(purchased) => purchased,
        Err(StateError::Conflict(_)) => {
            let detail = "the key was used for another viewer, title or kind; a new purchase needs a new key";
            return Err(Fault::new(ProblemCode::IdempotencyKeyReused, detail));
        }
        Err(error) => return Err(error.into()),
    };
    if purchased.replayed {
        platform.metrics.purchase_replays.inc();
    } else {
        platform.metrics.purchases.with_label_values(&[new.kind.as_str()]).inc();
        let Entitlement { id, viewer, title, kind, .. } = &purchased.entitlement;
        tracing::info!(%id, %viewer, %title, kind = kind.as_str(), "entitlement recorded");
    }
    Ok(json(StatusCode::CREATED, &purchased.entitlement))
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Fault> {
    let missing =
        || Fault::new(ProblemCode::IdempotencyKeyMissing, "send a key that is new for each purchase");
    let value = headers.get(IDEMPOTENCY_KEY).ok_or_else(missing)?;
    let text = value.to_str().map(str::trim).unwrap_or_default();
    // The standard's draft writes it as a quoted string; everybody writes it bare.
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let fine = (1..=KEY_LEN).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    let wrong =
        || Fault::invalid(format!("{IDEMPOTENCY_KEY} must have 1 to {KEY_LEN} visible ASCII characters"));
    fine.then(|| text.to_owned()).ok_or_else(wrong)
}

/// `GET /v1/viewers/{viewer}/entitlements`.
pub(super) async fn entitlements(
    State(platform): State<Arc<Platform>>,
    Path(viewer): Path<String>,
) -> Result<Response, Fault> {
    let viewer: ViewerId = viewer.parse().map_err(Fault::invalid)?;
    let mut entitlements = platform.entitlements.of_viewer(viewer.as_str()).await?;
    entitlements.reverse();
    Ok(json(StatusCode::OK, &EntitlementList { entitlements }))
}

/// `POST /v1/sessions`: a right becomes a URL.
pub(super) async fn session(
    State(platform): State<Arc<Platform>>,
    Json(new): Json<NewSession>,
) -> Result<Response, Fault> {
    let entry = platform.catalog.get(&new.title).await?;
    let entry = entry.ok_or_else(|| Fault::new(ProblemCode::NoSuchTitle, format!("title {}", new.title)))?;
    let unpublished = || {
        let stage = entry.ingest.stage.as_str();
        Fault::new(ProblemCode::TitleNotPublished, format!("title {} is {stage}", entry.title))
    };
    let published = entry.published.as_ref().ok_or_else(unpublished)?;
    let now = platform.clock.now_unix();
    let allowed = allow(&platform, &new, now).await?;
    let session = open(&platform, &new, published, &allowed, now)?;
    tracing::info!(session = %session.session, viewer = %new.viewer, title = %new.title,
        entitlement = %allowed.entitlement, "session opened");
    Ok(json(StatusCode::CREATED, &session))
}

/// Decides, and records a first play before anybody watches.
async fn allow(platform: &Platform, new: &NewSession, now: u64) -> Result<Allowed, Fault> {
    let held = platform.entitlements.of_viewer(new.viewer.as_str()).await?;
    let mut rights: Vec<Right> = held.into_iter().map(Right::from).collect();
    let first = decided(platform, new, &rights, now)?;
    let Some(right) =
        rights.iter_mut().find(|right| first.first_play && right.entitlement.id == first.entitlement)
    else {
        return Ok(first);
    };
    // Another session may have been the first by a moment; its times stand, so decide again by what stands.
    right.entitlement = platform.entitlements.first_play(&right.entitlement, now, first.finish_by).await?;
    decided(platform, new, &rights, now)
}

fn decided(platform: &Platform, new: &NewSession, rights: &[Right], now: u64) -> Result<Allowed, Fault> {
    let sessions = &platform.metrics.sessions;
    match decide(now, &new.title, rights, &platform.rentals) {
        Decision::Allow(allowed) => {
            if !allowed.first_play {
                sessions.with_label_values(&["allowed"]).inc();
            }
            Ok(allowed)
        }
        Decision::Deny(reason) => {
            sessions.with_label_values(&[reason.as_str()]).inc();
            tracing::info!(viewer = %new.viewer, title = %new.title, reason = reason.as_str(), "session denied");
            Err(Fault::new(reason.code(), format!("viewer {}, title {}", new.viewer, new.title)))
        }
    }
}

fn open(
    platform: &Platform,
    new: &NewSession,
    published: &Published,
    allowed: &Allowed,
    now: u64,
) -> Result<PlaybackSession, Fault> {
    let runtime = Duration::from_millis(published.duration_ms);
    let claims = Claims {
        issuer: platform.issuer.clone(),
        session: new_id::<SessionId>(platform)?,
        title: new.title.clone(),
        issued: now,
        expires: expires_at(now, allowed.expires_at, runtime, &platform.sessions),
    };
    let token = platform.signer.sign(&claims).map_err(|e| Fault::internal(&e))?;
    Ok(PlaybackSession {
        url: playback_url(&platform.gateway, &token, new.title.clone(), published.package),
        session: claims.session,
        expires_at: claims.expires,
        title: claims.title,
        package: published.package,
    })
}

/// A new random id.
fn new_id<T: std::str::FromStr<Err: std::fmt::Display>>(platform: &Platform) -> Result<T, Fault> {
    let text = random_id(platform.entropy.as_ref()).map_err(|e| Fault::internal(&e))?;
    text.parse().map_err(|e: T::Err| Fault::internal(&e))
}
