//! The operator's listener: `/metrics`, `/healthz`, `/readyz`. Plain HTTP, on its own address, because what
//! it says is not for viewers.
//!
//! `/healthz` says that the process answers; `/readyz` says whether viewers should be sent here, and if not,
//! why. A load balancer asks the second, a supervisor the first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use prometheus::{Registry, TextEncoder};

use crate::body::ViewerBody;
use crate::config::AdminConfig;
use crate::front::StartError;
use crate::metrics::ConnectionMetrics;
use crate::pulse::{Patience, Pulse};
use crate::refusal::Refusal;
use crate::request::{self, Verb};
use crate::server::{Answer, Bounds, Handler, Place, Server};

/// Says whether viewers should be sent here; the error is the reason why not, in a few words.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

const MAX_HEAD_BYTES: usize = 8 * 1024;
const TEXT: &str = "text/plain; charset=utf-8";
/// The exposition format's own media type.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A running operator's listener. Dropping it closes it.
pub struct Admin {
    server: Server,
}

impl Admin {
    /// Binds and begins to serve. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: &AdminConfig, registry: Registry, ready: Readiness) -> Result<Self, StartError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        // Counted apart from viewers' connections, for nobody: scrapes are no load worth a series.
        let metrics = ConnectionMetrics::register(&Registry::new())?;
        let place = Place { address: config.listen, tls: None };
        let operator = Arc::new(Operator { registry, ready });
        let server = Server::start(vec![place], bounds(config), metrics, operator)?;
        Ok(Self { server })
    }

    /// The address as bound.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.addresses().first().copied()
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
}

impl Handler for Operator {
    fn handle(self: Arc<Self>, request: Request<Incoming>, pulse: Arc<Pulse>) -> Answer {
        Box::pin(async move {
            pulse.began(request.version() == http::Version::HTTP_2);
            let response = self.answer(request);
            pulse.ended();
            response
        })
    }
}

impl Operator {
    fn answer(&self, request: Request<Incoming>) -> Response<ViewerBody> {
        let (parts, body) = request.into_parts();
        match request::check(&parts, !body.is_end_stream(), MAX_HEAD_BYTES) {
            Ok(Verb::Options) => refuse(Refusal::Method),
            Ok(verb) => self.page(parts.uri.path(), verb),
            Err(refusal) => refuse(refusal),
        }
    }

    fn page(&self, path: &str, verb: Verb) -> Response<ViewerBody> {
        let (status, media_type, text) = match path {
            "/metrics" => self.metrics(),
            "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => match (self.ready)() {
                Ok(()) => (StatusCode::OK, TEXT, "ready\n".to_owned()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {reason}\n")),
            },
            _ => return refuse(Refusal::NoSuchPath),
        };
        page(status, media_type, if verb == Verb::Head { String::new() } else { text })
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

fn refuse(refusal: Refusal) -> Response<ViewerBody> {
    let mut response = page(refusal.status(), TEXT, refusal.text());
    if refusal == Refusal::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
