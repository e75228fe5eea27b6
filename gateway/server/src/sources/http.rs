//! Objects from an HTTP origin, CloudFront included.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HOST, RANGE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyDataStream, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sourcing::{BoxFuture, Opened, Reason, Source, SourceError, SourceId, SourceKind, Want};

use super::answer::{Answer, checked_name, exact, fault, judge, refusal};
use super::cloudfront_sign::{Policy, SignError, Signer};
use crate::entropy;

/// How the origin is reached.
#[derive(Debug, Clone)]
pub(crate) struct HttpOptions {
    /// Longest wait for a TCP connection.
    pub(crate) connect_timeout: Duration,
    /// Idle connections kept.
    pub(crate) max_idle_connections: usize,
    /// How long they are kept.
    pub(crate) idle_timeout: Duration,
    /// Headers sent with every request.
    pub(crate) headers: HeaderMap,
}

/// How URLs are signed.
pub(crate) enum Signing {
    /// Each URL alone.
    Canned {
        /// The key.
        signer: Signer,
        /// How long each URL is good for, in seconds.
        lifetime: u64,
    },
    /// Everything below the base URL with one signature, renewed at half its life.
    Wildcard {
        /// The key.
        signer: Signer,
        /// How long a signature is good for, in seconds.
        lifetime: u64,
        /// The client network it is good for.
        source_ip: Option<String>,
        /// The query in use and when to make the next.
        current: Mutex<Option<(String, u64)>>,
    },
}

/// An HTTP origin: `<base>/<title>/<package>/<object>`.
///
/// HTTP/1.1 on purpose: one connection for each transfer, because transfers that share one connection share
/// one congestion window and a single loss slows them all. How many run at once is bounded by the planner's
/// permits for this source. Redirects are not followed: an origin that moved is a configuration to correct.
pub(crate) struct HttpSource {
    id: SourceId,
    base: String,
    host: HeaderValue,
    headers: HeaderMap,
    signing: Option<Signing>,
    now: fn() -> u64,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl HttpSource {
    /// `base` without a trailing slash and without a query. `now` gives Unix seconds.
    pub(crate) fn new(
        id: SourceId,
        base: &Uri,
        options: &HttpOptions,
        tls: rustls::ClientConfig,
        signing: Option<Signing>,
        now: fn() -> u64,
    ) -> Result<Self, http::Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.max_idle_connections)
            .build(https.wrap_connector(tcp));
        let host = HeaderValue::try_from(base.authority().map_or("", http::uri::Authority::as_str))?;
        let base = base.to_string().trim_end_matches('/').to_owned();
        Ok(Self { id, base, host, headers: options.headers.clone(), signing, now, client })
    }

    async fn transfer(&self, want: &Want) -> Result<Opened, SourceError> {
        let response = self.client.request(self.request(want)?).await.map_err(|error| unreachable(&error))?;
        let len = judge_response(&response, want)?;
        let body = BodyDataStream::new(response.into_body());
        let body = body.map_err(|error| fault(Reason::Cut, chain(&error)));
        Ok(Opened { len, body: exact(len, body.boxed()) })
    }

    fn request(&self, want: &Want) -> Result<Request<Empty<Bytes>>, SourceError> {
        let broken = |error: &dyn std::fmt::Display| fault(Reason::Refused, error);
        let url = self.url(checked_name(&want.object)?).map_err(|error| broken(&error))?;
        let mut request = Request::get(url).body(Empty::new()).map_err(|error| broken(&error))?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        headers.insert(HOST, self.host.clone());
        // A compressed body would not have the bytes that the index counts.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(range) = want.range {
            headers.insert(RANGE, HeaderValue::try_from(range.header()).map_err(|error| broken(&error))?);
        }
        Ok(request)
    }

    fn url(&self, object: &str) -> Result<String, SignError> {
        let url = format!("{}/{object}", self.base);
        match &self.signing {
            None => Ok(url),
            Some(signing) => Ok(format!("{url}?{}", signing.query(&self.base, &url, (self.now)())?)),
        }
    }
}

impl Source for HttpSource {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Http
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(self.transfer(want))
    }
}

impl Signing {
    fn query(&self, base: &str, url: &str, now: u64) -> Result<String, SignError> {
        match self {
            Self::Canned { signer, lifetime } => signer.canned(&entropy::system(), url, now + lifetime),
            Self::Wildcard { signer, lifetime, source_ip, current } => {
                let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((query, _)) = current.as_ref().filter(|(_, renew_at)| now < *renew_at) {
                    return Ok(query.clone());
                }
                let (resource, expires) = (format!("{base}/*"), now + lifetime);
                let policy = Policy { resource, expires, starts: None, source_ip: source_ip.clone() };
                let query = signer.custom(&entropy::system(), &policy)?;
                *current = Some((query.clone(), now + lifetime / 2));
                Ok(query)
            }
        }
    }
}

fn judge_response(response: &Response<Incoming>, want: &Want) -> Result<u64, SourceError> {
    let (status, headers) = (response.status(), response.headers());
    if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Err(fault(refusal(status.as_u16()), format_args!("the origin answered {status}")));
    }
    if headers.get(http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(fault(Reason::Unsupported, "the origin compresses although identity was asked for"));
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let partial = status == StatusCode::PARTIAL_CONTENT;
    judge(&Answer { partial, length, content_range: text(CONTENT_RANGE) }, want)
}

/// Why no answer came. An error after the connection stood counts as a cut: the origin is there.
fn unreachable(error: &ClientError) -> SourceError {
    let timed_out = causes(error).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    });
    let reason = match error.is_connect() {
        true if timed_out => Reason::Timeout,
        true => Reason::Unavailable,
        false => Reason::Cut,
    };
    fault(reason, chain(error))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The certificates that an origin may be signed by: the machine's own, or those of one file.
pub(crate) fn tls(roots: Arc<rustls::RootCertStore>) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
