//! For those who run it: liveness, readiness, metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::TextEncoder;

use super::{Fault, Platform};

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// New work is welcome, and the records can be read.
pub(super) async fn readyz(State(platform): State<Arc<Platform>>) -> Response {
    if !platform.ready.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting or draining\n").into_response();
    }
    match platform.catalog.list(None, 1).await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the records cannot be read\n").into_response()
        }
    }
}

/// The metrics as text.
pub(super) async fn metrics(State(platform): State<Arc<Platform>>) -> Response {
    match TextEncoder::new().encode_to_string(&platform.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => Fault::internal(&error).into_response(),
    }
}
