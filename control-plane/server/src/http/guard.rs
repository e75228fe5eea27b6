//! What happens around every request: an id, a time limit, a log line, metrics; and who may do what.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control_api::problem::ProblemCode;
use control_api::rest::Role;
use tokio::time::Instant;
use tracing::Instrument;

use super::{Fault, Platform, keyring, routes};
use crate::seams::random_id;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// What the trail calls them.
    pub(super) name: String,
    role: Role,
}

/// What the trail calls whoever holds the operator's key file.
const OPERATOR: &str = "operator";

/// Lets a request under `/v1` through only with a key, whether its path exists or not, and only what the key's role
/// may do. What changes the business is written down before it is done.
pub(super) async fn authorise(
    State(platform): State<Arc<Platform>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if path != "/v1" && !path.starts_with("/v1/") {
        return next.run(request).await;
    }
    let asked = Asked::of(&request);
    match admit(&platform, &asked).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    }
}

/// What the guard looks at.
struct Asked {
    shown: Option<String>,
    method: Method,
    path: String,
    matched: Option<MatchedPath>,
    request_id: Option<RequestId>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Self {
            shown: shown.map(str::to_owned),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            matched: request.extensions().get().cloned(),
            request_id: request.extensions().get().cloned(),
        }
    }
}

async fn admit(platform: &Platform, asked: &Asked) -> Result<Caller, Fault> {
    let caller = identify(platform, asked.shown.as_deref()).await?;
    let matched = asked.matched.as_ref().map(MatchedPath::as_str);
    // What does not exist is told to whoever has a key.
    let Some((roles, noted)) = matched.and_then(|path| routes::find(&asked.method, path)) else {
        return Ok(caller);
    };
    if caller.role != Role::Admin && !roles.contains(&caller.role) {
        let role = caller.role.as_str();
        tracing::warn!(caller = caller.name, role, path = matched, "refused by role");
        return Err(Fault::new(ProblemCode::Forbidden, format!("the role {role} may not do this")));
    }
    if noted {
        let request_id = asked.request_id.as_ref().map_or("none", |id| id.0.as_str());
        keyring::note(platform, &caller.name, &asked.method, &asked.path, request_id).await?;
    }
    Ok(caller)
}

async fn identify(platform: &Platform, shown: Option<&str>) -> Result<Caller, Fault> {
    let unknown = || Fault::new(ProblemCode::Unauthorized, "send Authorization: Bearer <key>");
    let shown = shown.ok_or_else(unknown)?;
    if platform.operator.opens(shown) {
        return Ok(Caller { name: OPERATOR.to_owned(), role: Role::Admin });
    }
    let key = keyring::find(platform, shown).await?.ok_or_else(unknown)?;
    Ok(Caller { name: format!("key:{}", key.name), role: key.role })
}

/// The request's id, for whoever works on it.
#[derive(Debug, Clone)]
struct RequestId(String);

/// Gives the request its id and its time, and tells the log and the metrics how it went.
pub(super) async fn observe(
    State(platform): State<Arc<Platform>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = request_id(&platform, &request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = routes::label(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
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

fn class(status: u16) -> &'static str {
    match status {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
