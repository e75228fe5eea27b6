//! What happens around every request: an id, a time limit, a log line, metrics; and the operator key.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control_api::problem::ProblemCode;
use tokio::time::Instant;
use tracing::Instrument;

use super::{Fault, Platform};
use crate::seams::random_id;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Lets a request under `/v1` through only with the operator key, whether its path exists or not.
pub(super) async fn authorise(
    State(platform): State<Arc<Platform>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let guarded = path == "/v1" || path.starts_with("/v1/");
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if guarded && !shown.is_some_and(|shown| platform.operator.opens(shown)) {
        let detail = "send Authorization: Bearer <operator key>";
        return Fault::new(ProblemCode::Unauthorized, detail).into_response();
    }
    next.run(request).await
}

/// Gives the request its id and its time, and tells the log and the metrics how it went.
pub(super) async fn observe(State(platform): State<Arc<Platform>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&platform, &request);
    let route = route(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", id = %id);
    let answer = tokio::time::timeout(platform.request_timeout, next.run(request)).instrument(span).await;
    let mut response = answer.unwrap_or_else(|_| {
        Fault::new(ProblemCode::Unavailable, "the request took too long and was given up").into_response()
    });
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    tracing::info!(target: "access", id, %method, path, status, elapsed_us = elapsed.as_micros() as u64, "request");
    platform.metrics.requests.with_label_values(&[route, class(status)]).inc();
    platform.metrics.request_seconds.with_label_values(&[route]).observe(elapsed.as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The caller's id if it is one, so that logs of several programs can be joined; else a new one.
fn request_id(platform: &Platform, request: &Request) -> String {
    let sent = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match sent.filter(|id| (1..=64).contains(&id.len()) && id.chars().all(plain)) {
        Some(id) => id.to_owned(),
        None => random_id(platform.entropy.as_ref()).unwrap_or_else(|_| "none".to_owned()),
    }
}

/// The closed list of label values.
fn route(matched: Option<&str>) -> &'static str {
    const ROUTES: [&str; 16] = [
        "/v1/viewers/{viewer}/bookmarks",
        "/v1/sessions/{session}/beacons",
        "/v1/titles",
        "/v1/titles/{title}",
        "/v1/titles/{title}/prices/{kind}",
        "/v1/viewers/{viewer}/entitlements/{entitlement}/refund",
        "/v1/viewers/{viewer}/entitlements/{entitlement}/events",
        "/v1/viewers/{viewer}/audit",
        "/v1/purchases",
        "/v1/viewers/{viewer}/entitlements",
        "/v1/sessions",
        "/watch",
        "/watch/hls.js",
        "/healthz",
        "/readyz",
        "/metrics",
    ];
    ROUTES.into_iter().find(|route| Some(*route) == matched).unwrap_or("none")
}

fn class(status: u16) -> &'static str {
    match status {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
