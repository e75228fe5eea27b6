//! The page that plays a film. It needs no key: the playback URL in its fragment is the right to watch, and a
//! fragment is never sent to a server.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use control_api::problem::ProblemCode;

use super::{Fault, Platform};

const PAGE: &str = include_str!("watch.html");

/// `GET /watch`.
pub(super) async fn page() -> Response {
    // The gateway is another origin, whichever one the fragment names; scripts come from here alone.
    const POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; \
        connect-src *; media-src * blob:; img-src * data: blob:; worker-src blob:; base-uri 'none'; \
        form-action 'none'; frame-ancestors 'none'";
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, PAGE).into_response()
}

/// `GET /watch/hls.js`.
pub(super) async fn player(State(platform): State<Arc<Platform>>) -> Response {
    match &platform.hls_js {
        Some(script) => {
            let headers = [
                (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::CACHE_CONTROL, "max-age=3600"),
            ];
            (headers, script.clone()).into_response()
        }
        None => Fault::new(ProblemCode::NotFound, "no player.hls_js is configured").into_response(),
    }
}
