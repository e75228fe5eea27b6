//! Purchases, what a viewer holds, and playback sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use control::lease::{Lease, Taken};
use control::rights::{Allowed, Decision, decide};
use control::session::{expires_at, playback_url};
use control_api::problem::ProblemCode;
use control_api::rest::{EntitlementList, IDEMPOTENCY_KEY, NewPurchase, NewSession, PlaybackSession};
use control_api::{Claims, EntitlementId, SessionId, ViewerId};
use serde::Deserialize;

use super::guard::Caller;
use super::{Fault, Json, Platform, json, prices};
use crate::purchases::Wish;
use crate::seams::{Published, random_id};
use crate::sessions::{allowed, resume_at, take};

/// How many rights one list shows at most.
const LIST_LIMIT: usize = 1000;
/// How many characters an idempotency key may have.
const KEY_LEN: usize = 128;

/// `POST /v1/purchases`: exactly once for each idempotency key, and never twice for what the viewer has. 201 if
/// this request made the right, 200 if it stood already.
pub(super) async fn purchase(
    State(platform): State<Arc<Platform>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Json(new): Json<NewPurchase>,
) -> Result<Response, Fault> {
    let key = idempotency_key(&headers)?;
    if platform.catalog.get(&new.title).await?.is_none() {
        return Err(Fault::new(ProblemCode::NoSuchTitle, format!("title {}", new.title)));
    }
    if let Some(transaction) = &new.transaction {
        check_transaction(transaction)?;
    }
    let wish = Wish {
        key,
        actor: caller.name,
        price: prices::of(&platform, &new.title, new.kind).await?,
        viewer: new.viewer,
        title: new.title,
        kind: new.kind,
        transaction: new.transaction,
    };
    let bought = platform.purchases.buy(&wish).await?;
    if bought.new {
        platform.metrics.purchases.with_label_values(&[wish.kind.as_str()]).inc();
    } else {
        platform.metrics.purchase_replays.inc();
    }
    let status = if bought.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &bought.right))
}

/// Transactions come from devices; what they look like is the payment service's business, how long they are ours.
fn check_transaction(transaction: &str) -> Result<(), Fault> {
    let fine = (1..=1024).contains(&transaction.len()) && transaction.bytes().all(|b| b.is_ascii_graphic());
    fine.then_some(())
        .ok_or_else(|| Fault::invalid("transaction must have 1 to 1024 visible ASCII characters"))
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

/// Where a list of rights begins and how long it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<EntitlementId>,
    limit: Option<usize>,
}

/// `GET /v1/viewers/{viewer}/entitlements[?after=<entitlement>&limit=<n>]`, newest first.
pub(super) async fn entitlements(
    State(platform): State<Arc<Platform>>,
    Path(viewer): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Fault> {
    let viewer: ViewerId = viewer.parse().map_err(Fault::invalid)?;
    let Query(page) = page.map_err(|e| Fault::invalid(e.body_text()))?;
    let limit = page.limit.unwrap_or(LIST_LIMIT).clamp(1, LIST_LIMIT);
    let rights = platform.state.rights_of(&viewer).await?;
    let from = match &page.after {
        Some(after) => {
            rights.iter().position(|right| right.id == *after).map(|at| at + 1).ok_or_else(|| {
                Fault::new(ProblemCode::NoSuchEntitlement, format!("after: {after} is none of {viewer}'s"))
            })?
        }
        None => 0,
    };
    let entitlements = rights.into_iter().skip(from).take(limit).collect();
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
    let name = new_id::<SessionId>(&platform)?;
    // Without a right there is no place, and without a place no first play: a rental's time does not begin for a
    // screen that was refused.
    let rights = platform.state.rights_to(&new.viewer, &new.title).await?;
    granted(&platform, &new, decide(now, &new.title, &rights, &platform.rentals))?;
    take_place(&platform, &new, &name, now).await?;
    let allowed = allow(&platform, &new, now).await?;
    let resume_at_ms = resume_at(&platform.state, &new.viewer, &new.title).await?;
    let session = PlaybackSession { resume_at_ms, ..open(&platform, &new, name, published, &allowed, now)? };
    tracing::info!(session = %session.session, viewer = %new.viewer, title = %new.title,
        entitlement = %allowed.entitlement, "session opened");
    Ok(json(StatusCode::CREATED, &session))
}

/// Decides by the viewer's rights, and records a first play.
async fn allow(platform: &Platform, new: &NewSession, now: u64) -> Result<Allowed, Fault> {
    let decision = allowed(&platform.state, &platform.rentals, &new.viewer, &new.title, now).await?;
    let allowed = granted(platform, new, decision)?;
    platform.metrics.sessions.with_label_values(&["allowed"]).inc();
    Ok(allowed)
}

/// What was decided; a refusal is counted and told.
fn granted(platform: &Platform, new: &NewSession, decision: Decision) -> Result<Allowed, Fault> {
    match decision {
        Decision::Allow(allowed) => Ok(allowed),
        Decision::Deny(reason) => {
            platform.metrics.sessions.with_label_values(&[reason.as_str()]).inc();
            tracing::info!(viewer = %new.viewer, title = %new.title, reason = reason.as_str(), "session denied");
            Err(Fault::new(reason.code(), format!("viewer {}, title {}", new.viewer, new.title)))
        }
    }
}

/// Takes a place for the screen.
async fn take_place(
    platform: &Platform,
    new: &NewSession,
    session: &SessionId,
    now: u64,
) -> Result<(), Fault> {
    let device = new.device.as_ref().map_or(session.as_str(), |device| device.as_str());
    let wish = Lease {
        session: session.clone(),
        device: device.to_owned(),
        title: new.title.clone(),
        since: now,
        until: now,
    };
    let taken = take(&platform.state, &platform.leases, &new.viewer, wish, new.take_over, now).await?;
    match taken {
        Taken::Granted(_, ended) => {
            for ended in ended {
                tracing::info!(viewer = %new.viewer, %session, %ended, "a screen lost its place");
            }
            Ok(())
        }
        Taken::Full(leases) => {
            platform.metrics.sessions.with_label_values(&[ProblemCode::TooManyStreams.as_str()]).inc();
            let titles: Vec<_> = leases.iter().map(|lease| lease.title.as_str()).collect();
            Err(Fault::new(ProblemCode::TooManyStreams, format!("now playing: {}", titles.join(", "))))
        }
    }
}

fn open(
    platform: &Platform,
    new: &NewSession,
    session: SessionId,
    published: &Published,
    allowed: &Allowed,
    now: u64,
) -> Result<PlaybackSession, Fault> {
    let runtime = Duration::from_millis(published.duration_ms);
    let claims = Claims {
        issuer: platform.issuer.clone(),
        session,
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
        resume_at_ms: 0,
        beacon_every_s: platform.leases.lasts.as_secs() / 3,
    })
}

/// A new random id.
fn new_id<T: std::str::FromStr<Err: std::fmt::Display>>(platform: &Platform) -> Result<T, Fault> {
    let text = random_id(platform.entropy.as_ref()).map_err(|e| Fault::internal(&e))?;
    text.parse().map_err(|e: T::Err| Fault::internal(&e))
}
