//! What players say while they play, and where viewers stopped.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use control_api::problem::ProblemCode;
use control_api::rest::{Beacon, BeaconAnswer, BookmarkList};
use control_api::{SessionId, ViewerId};
use media::TitleId;
use serde::Deserialize;

use super::{Fault, Json, Platform, json};
use crate::sessions::{self, Heard};

/// How many bookmarks one list shows at most.
const LIST_LIMIT: usize = 500;

/// `POST /v1/sessions/{session}/beacons`.
pub(super) async fn beacon(
    State(platform): State<Arc<Platform>>,
    Path(session): Path<String>,
    Json(beacon): Json<Beacon>,
) -> Result<Response, Fault> {
    let session: SessionId = session.parse().map_err(Fault::invalid)?;
    let heard = Heard { position_ms: beacon.position_ms, ended: beacon.ended, at: platform.clock.now_unix() };
    let until = sessions::hear(&platform.state, &platform.leases, &beacon.viewer, &session, heard).await?;
    let lost = || Fault::new(ProblemCode::StreamEnded, format!("session {session} of {}", beacon.viewer));
    let lease_until = until.ok_or_else(lost)?;
    Ok(json(StatusCode::OK, &BeaconAnswer { lease_until }))
}

/// Where a list begins and how long it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<TitleId>,
    limit: Option<usize>,
}

/// `GET /v1/viewers/{viewer}/bookmarks[?after=<title>&limit=<n>]`.
pub(super) async fn bookmarks(
    State(platform): State<Arc<Platform>>,
    Path(viewer): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Fault> {
    let viewer: ViewerId = viewer.parse().map_err(Fault::invalid)?;
    let Query(page) = page.map_err(|e| Fault::invalid(e.body_text()))?;
    let limit = page.limit.unwrap_or(LIST_LIMIT).clamp(1, LIST_LIMIT);
    let bookmarks = sessions::bookmarks(&platform.state, &viewer, page.after.as_ref(), limit).await?;
    Ok(json(StatusCode::OK, &BookmarkList { bookmarks }))
}
