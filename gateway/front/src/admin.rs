//! The operator's listener: `/metrics`, `/healthz`, `/readyz`, `/explain` and `POST /purge`. Plain HTTP, on its own
//! address, because what it says and does is not for viewers.
//!
//! `/healthz` says that the process answers; `/readyz` says whether viewers should be sent here, and if not,
//! why. A load balancer asks the second, a supervisor the first. `/explain?path=` says where the bytes of a path would
//! come from now. `/purge` takes things out of the cache.

mod purge;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use prometheus::{Registry, TextEncoder};
use tokio::time::Instant;

use self::purge::Purger;
pub use self::purge::{Purge, Purging};
use crate::body::ViewerBody;
use crate::config::AdminConfig;
use crate::explain::{Explain, Unexplained};
use crate::front::StartError;
use crate::metrics::ConnectionMetrics;
use crate::pulse::{Patience, Pulse};
use crate::query::parameter;
use crate::refusal::Refusal;
use crate::request::{self, Verb};
use crate::server::{Answer, Bounds, Handler, Inheritance, Listening, Place, Server};

/// Says whether viewers should be sent here; the error is the reason why not, in a few words.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

const MAX_HEAD_BYTES: usize = 8 * 1024;
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The exposition format's own media type.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the operator's listener needs from the program.
pub struct AdminParts {
    /// What it exports, and where its own counters go.
    pub registry: Registry,
    /// Whether viewers are welcome.
    pub ready: Readiness,
    /// What a purge does.
    pub purge: Arc<dyn Purge>,
    /// Who explains where bytes come from.
    pub explain: Arc<dyn Explain>,
    /// What whoever purges must know; `None` when reaching the listener is enough.
    pub key: Option<String>,
}

/// A running operator's listener. Dropping it closes it.
pub struct Admin {
    server: Server,
}

impl Admin {
    /// Binds, or takes from `inheritance`, and begins to serve. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: &AdminConfig,
        parts: AdminParts,
        inheritance: &mut Inheritance,
    ) -> Result<Self, StartError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        // Counted apart from viewers' connections, for nobody: scrapes are no load worth a series.
        let metrics = ConnectionMetrics::register(&Registry::new())?;
        let place = Place { address: config.listen, tls: None };
        let AdminParts { registry, ready, purge, explain, key } = parts;
        let purger = Purger::new(purge, key, &registry)?;
        let operator = Arc::new(Operator { registry, ready, explain, purger });
        let server = Server::start(vec![place], bounds(config), metrics, operator, inheritance)?;
        Ok(Self { server })
    }

    /// The address as bound.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.addresses().first().copied()
    }

    /// The listening socket once more, for the process that takes over.
    ///
    /// # Errors
    /// The system's, when there are no file descriptors left.
    pub fn listening(&self) -> io::Result<Vec<Listening>> {
        self.server.listening()
    }

    /// Stops accepting because another process does from now on; open connections may finish until `deadline`.
    pub async fn leave(&self, deadline: Instant) {
        self.server.leave(deadline, deadline).await;
    }
}

fn bounds(config: &AdminConfig) -> Bounds {
    let patience = Patience {
        header: Duration::from_secs(5),
        idle: Duration::from_secs(60),
        write: Duration::from_secs(10),
    };
    Bounds {
        backlog: 64,
        connections: config.max_connections,
        per_address: 0,
        handshake: Duration::from_secs(5),
        patience,
        header_fields: 64,
        head_bytes: MAX_HEAD_BYTES,
        http1_buffer: 64 * 1024,
        http2_streams: 16,
        http2_buffer: 64 * 1024,
    }
}

struct Operator {
    registry: Registry,
    ready: Readiness,
    explain: Arc<dyn Explain>,
    purger: Purger,
}

impl Handler for Operator {
    fn handle(self: Arc<Self>, request: Request<Incoming>, pulse: Arc<Pulse>) -> Answer {
        Box::pin(async move {
            let _active = pulse.answering(request.version() == Version::HTTP_2);
            let (parts, body) = request.into_parts();
            let answered = if parts.method == Method::POST {
                self.post(&parts, body, &pulse).await
            } else {
                self.get(&parts, !body.is_end_stream(), &pulse).await
            };
            answered.unwrap_or_else(|refusal| refuse(refusal, &parts, &pulse))
        })
    }
}

impl Operator {
    async fn get(
        &self,
        parts: &Parts,
        has_body: bool,
        pulse: &Pulse,
    ) -> Result<Response<ViewerBody>, Refusal> {
        match (request::check(parts, has_body, MAX_HEAD_BYTES)?, parts.uri.path()) {
            (Verb::Options, _) => Err(Refusal::Method),
            (Verb::Get, "/explain") => Ok(self.explanation(parts, pulse).await),
            (Verb::Head, "/explain") => Err(Refusal::Method),
            (verb, path) => self.page(path, verb),
        }
    }

    async fn explanation(&self, parts: &Parts, pulse: &Pulse) -> Response<ViewerBody> {
        let path = parameter(parts.uri.query().unwrap_or_default(), "path").and_then(Result::ok);
        let path = path.ok_or_else(|| Unexplained::Path("write /explain?path=TITLE/PACKAGE/...".to_owned()));
        let explained = match path {
            Ok(path) => {
                let _waiting = pulse.waiting();
                self.explain.explain(&path).await
            }
            Err(unexplained) => Err(unexplained),
        };
        let (status, reason) = match explained {
            Ok(json) => return page(StatusCode::OK, JSON, json),
            Err(Unexplained::Path(reason)) => (StatusCode::BAD_REQUEST, reason),
            Err(Unexplained::Missing(reason)) => (StatusCode::NOT_FOUND, reason),
            Err(Unexplained::Later(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        };
        page(status, JSON, serde_json::json!({ "error": reason }).to_string())
    }

    async fn post(
        &self,
        parts: &Parts,
        body: Incoming,
        pulse: &Pulse,
    ) -> Result<Response<ViewerBody>, Refusal> {
        request::check_post(parts, MAX_HEAD_BYTES)?;
        match parts.uri.path() {
            "/purge" => {
                let (status, text) = self.purger.answer(&parts.headers, body, pulse).await;
                let mut response = page(status, JSON, text);
                if status == StatusCode::UNAUTHORIZED {
                    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                Ok(response)
            }
            "/metrics" | "/healthz" | "/readyz" | "/explain" => Err(Refusal::Method),
            _ => Err(Refusal::NoSuchPath),
        }
    }

    fn page(&self, path: &str, verb: Verb) -> Result<Response<ViewerBody>, Refusal> {
        let (status, media_type, text) = match path {
            "/metrics" => self.metrics(),
            "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => match (self.ready)() {
                Ok(()) => (StatusCode::OK, TEXT, "ready\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {reason}\n")),
            },
            "/purge" => return Err(Refusal::Method),
            _ => return Err(Refusal::NoSuchPath),
        };
        let len = text.len();
        let mut response = page(status, media_type, if verb == Verb::Head { String::new() } else { text });
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
        Ok(response)
    }

    fn metrics(&self) -> (StatusCode, &'static str, String) {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(text) => (StatusCode::OK, METRICS, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot encode: {error}\n")),
        }
    }
}

fn page(status: StatusCode, media_type: &'static str, text: String) -> Response<ViewerBody> {
    let mut response = Response::new(ViewerBody::text(text, None));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(refusal: Refusal, parts: &Parts, pulse: &Pulse) -> Response<ViewerBody> {
    let mut response = page(refusal.status(), TEXT, refusal.text());
    if refusal == Refusal::Method {
        let allowed = match parts.uri.path() {
            "/purge" => "POST",
            "/explain" => "GET",
            _ => "GET, HEAD",
        };
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if refusal.closes() {
        pulse.refused();
        if parts.version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}
