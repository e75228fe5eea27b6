//! The HTTP API: routes, who may use them, and how failures are told.
//!
//! Everything under `/v1` needs a key, also what does not exist there; [`routes`] says which role may do what. Failures are RFC 9457 problem
//! documents. Every answer carries an `X-Request-Id`, the log line of the request has the same one.

mod beacons;
mod guard;
mod keyring;
pub mod listener;
mod ops;
mod orders;
mod prices;
mod rights;
pub mod routes;
mod titles;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use control::lease::LeaseRules;
use control::rights::RentalRules;
use control::session::{GatewayUrl, SessionRules};
use control_api::problem::{PROBLEM_TYPE, Problem, ProblemCode};
use control_api::{TokenSigner, keys::OperatorKey};
use prometheus::Registry;
use serde::de::DeserializeOwned;

use crate::ingest::Ingests;
use crate::purchases::{PurchaseError, Purchases};
use crate::seams::{Catalog, Entropy, ObjectError, ObjectStore, StateError, WallClock};
use crate::state::State;
use crate::telemetry::Metrics;

/// What the handlers work with.
pub struct Platform {
    /// The titles.
    pub catalog: Arc<dyn Catalog>,
    /// Everything else that is remembered.
    pub state: State,
    /// What sells films and pays back.
    pub purchases: Arc<Purchases>,
    /// Where mezzanine files are.
    pub mezzanine: Arc<dyn ObjectStore>,
    /// The running ingests.
    pub ingests: Ingests,
    /// The time.
    pub clock: Arc<dyn WallClock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Signs tokens.
    pub signer: TokenSigner,
    /// Opens `/v1`.
    pub operator: OperatorKey,
    /// What a rental is.
    pub rentals: RentalRules,
    /// How many screens may play.
    pub leases: LeaseRules,
    /// How long a session may take.
    pub sessions: SessionRules,
    /// Where viewers reach the gateway.
    pub gateway: GatewayUrl,
    /// The tokens' issuer.
    pub issuer: String,
    /// The longest body that is read.
    pub body_limit: usize,
    /// The longest a request may take.
    pub request_timeout: Duration,
    /// hls.js for the page, if configured.
    pub hls_js: Option<Bytes>,
    /// Where `/metrics` reads.
    pub registry: Registry,
    /// What the program counts.
    pub metrics: Arc<Metrics>,
    /// Whether new work is welcome: false before start-up ended and while draining.
    pub ready: AtomicBool,
}

/// hls.js as configured, read once.
///
/// # Errors
/// The system's error, when the file cannot be read.
pub fn read_player(path: Option<&Path>) -> std::io::Result<Option<Bytes>> {
    path.map(|path| std::fs::read(path).map(Bytes::from)).transpose()
}

/// The whole API. Its routes stand in [`routes`], and nowhere else.
pub fn router(platform: Arc<Platform>) -> Router {
    let limit = DefaultBodyLimit::max(platform.body_limit);
    let routes = routes::table()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path, route.handler));
    routes
        .fallback(|| async { Fault::new(ProblemCode::NotFound, "no such path") })
        .method_not_allowed_fallback(|| async {
            Fault::new(ProblemCode::MethodNotAllowed, "the path exists, this method does not")
        })
        .layer(limit)
        .layer(from_fn_with_state(Arc::clone(&platform), guard::authorise))
        .layer(from_fn_with_state(Arc::clone(&platform), guard::observe))
        .with_state(platform)
}

/// What a handler answers when it cannot do what was asked.
#[derive(Debug, Clone)]
pub struct Fault(pub Problem);

impl Fault {
    fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    fn invalid(detail: impl std::fmt::Display) -> Self {
        Self::new(ProblemCode::InvalidRequest, detail.to_string())
    }

    /// Our own failure: the log gets the story, the client a pointer to it.
    fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(ProblemCode::Internal, "the log has the details under this answer's X-Request-Id")
    }
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Unavailable(_) => {
                tracing::error!(%error, "the state store failed");
                Self::new(ProblemCode::Unavailable, "the records cannot be read or written now; try again")
            }
            StateError::Conflict(_)
            | StateError::Missing(_)
            | StateError::Corrupt(_)
            | StateError::Unfit(_) => Self::internal(&error),
        }
    }
}

impl From<PurchaseError> for Fault {
    fn from(error: PurchaseError) -> Self {
        let code = match error {
            PurchaseError::State(error) => return error.into(),
            PurchaseError::Unsettled(why) => {
                tracing::warn!(why, "an order waits for the payment service");
                let detail =
                    "the payment is not settled yet; repeat the request with the same Idempotency-Key";
                return Self::new(ProblemCode::Unavailable, detail);
            }
            PurchaseError::KeyReused => ProblemCode::IdempotencyKeyReused,
            PurchaseError::InProgress(_) => ProblemCode::OrderInProgress,
            PurchaseError::Declined(_) => ProblemCode::PaymentDeclined,
            PurchaseError::Withdrawn(_) | PurchaseError::OutOfStep(_) => ProblemCode::OrderOutOfStep,
            PurchaseError::Missing => ProblemCode::NoSuchEntitlement,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ObjectError> for Fault {
    fn from(error: ObjectError) -> Self {
        tracing::error!(%error, "an object store failed");
        Self::new(ProblemCode::Unavailable, "the object store cannot be reached now; try again")
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""));
        }
        if matches!(status.as_u16(), 429 | 503) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// A JSON body; what is wrong with it becomes a problem document that names the field.
struct Json<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Fault::new(ProblemCode::UnsupportedMediaType, "send Content-Type: application/json"));
        }
        let body =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    Fault::new(ProblemCode::BodyTooLarge, "the body is longer than the API reads")
                }
                _ => Fault::invalid(rejection),
            })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| Fault::invalid(format!("body: {error}")))
    }
}

/// A 2xx answer with a JSON body.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => Fault::internal(&error).into_response(),
    }
}
