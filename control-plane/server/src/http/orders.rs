//! What becomes of a purchase afterwards: refunds, what the bank does, and the trail of it all.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use control::purchase::Event;
use control_api::rest::NewRefund;
use control_api::{EntitlementId, ViewerId};
use serde::{Deserialize, Serialize};

use super::guard::Caller;
use super::{Fault, Json, Platform, json};
use crate::state::AuditEntry;

/// How many lines of a trail are shown at most.
const TRAIL_LIMIT: usize = 500;
/// How many characters a reason may have.
const REASON_LEN: usize = 200;

/// What a path names.
#[derive(Deserialize)]
pub(super) struct Named {
    viewer: ViewerId,
    entitlement: EntitlementId,
}

type NamedPath = Result<Path<Named>, PathRejection>;

/// `POST /v1/viewers/{viewer}/entitlements/{entitlement}/refund`: the right ends now, the money goes back. Asked
/// for twice, it is done once.
pub(super) async fn refund(
    State(platform): State<Arc<Platform>>,
    Extension(caller): Extension<Caller>,
    named: NamedPath,
    Json(wish): Json<NewRefund>,
) -> Result<Response, Fault> {
    let Path(Named { viewer, entitlement }) = named.map_err(|e| Fault::invalid(e.body_text()))?;
    check_reason(&wish.reason)?;
    let order = platform.purchases.refund(&viewer, &entitlement, &wish.reason, &caller.name).await?;
    Ok(json(StatusCode::OK, &order.value))
}

/// What the operator may tell of an order.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Told {
    ChargedBack,
    ChargebackReversed,
    Revoked { reason: String },
    Reinstated { reason: String },
}

/// `POST /v1/viewers/{viewer}/entitlements/{entitlement}/events`: what happened outside.
pub(super) async fn tell(
    State(platform): State<Arc<Platform>>,
    Extension(caller): Extension<Caller>,
    named: NamedPath,
    Json(told): Json<Told>,
) -> Result<Response, Fault> {
    let Path(Named { viewer, entitlement }) = named.map_err(|e| Fault::invalid(e.body_text()))?;
    let event = match told {
        Told::ChargedBack => Event::ChargedBack,
        Told::ChargebackReversed => Event::ChargebackReversed,
        Told::Revoked { reason } => Event::Revoked { reason: checked(reason)? },
        Told::Reinstated { reason } => Event::Reinstated { reason: checked(reason)? },
    };
    let order = platform.purchases.tell(&viewer, &entitlement, &event, &caller.name).await?;
    Ok(json(StatusCode::OK, &order.value))
}

fn checked(reason: String) -> Result<String, Fault> {
    check_reason(&reason).map(|()| reason)
}

fn check_reason(reason: &str) -> Result<(), Fault> {
    let fine = !reason.trim().is_empty()
        && reason.chars().count() <= REASON_LEN
        && !reason.contains(char::is_control);
    let wrong = || Fault::invalid(format!("reason must have 1 to {REASON_LEN} printable characters"));
    fine.then_some(()).ok_or_else(wrong)
}

/// Where a trail begins and how long it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

/// A line of the trail and where it stands in it.
#[derive(Serialize)]
struct Line<'a> {
    at_place: &'a str,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

/// `GET /v1/viewers/{viewer}/audit[?after=<place>&limit=<n>]`, oldest first.
pub(super) async fn audit(
    State(platform): State<Arc<Platform>>,
    Path(viewer): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Fault> {
    let viewer: ViewerId = viewer.parse().map_err(Fault::invalid)?;
    let Query(page) = page.map_err(|e| Fault::invalid(e.body_text()))?;
    let limit = page.limit.unwrap_or(TRAIL_LIMIT).clamp(1, TRAIL_LIMIT);
    let trail = platform.state.audit(&viewer, page.after.as_deref(), limit).await?;
    let lines: Vec<_> = trail.iter().map(|held| Line { at_place: &held.place, entry: &held.value }).collect();
    Ok(json(StatusCode::OK, &serde_json::json!({ "entries": lines })))
}
