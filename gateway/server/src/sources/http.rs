//! Objects from an HTTP origin, CloudFront included.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, HOST, LOCATION, RANGE, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyDataStream, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sourcing::{BoxFuture, Opened, Reason, Source, SourceError, SourceId, SourceKind, Want};

use super::answer::{Answer, checked_name, exact, fault, judge, refusal};
use super::cloudfront_sign::{KeyRing, Policy, SignError};
use super::refusal::{Cause, Complaints, Facts, cause, code, retry_after, skew};
use crate::entropy;

/// How long a connection is silent before the kernel asks whether anybody is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How much of an error's body is looked at, and how long it may take to come.
const MAX_ERROR_BODY: usize = 4 * 1024;
const ERROR_BODY_WAIT: Duration = Duration::from_millis(500);

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
        /// The keys.
        keys: KeyRing,
        /// How long each URL is good for, in seconds.
        lifetime: u64,
    },
    /// Everything below the base URL with one signature, renewed at half its life and when another key takes over.
    Wildcard {
        /// The keys.
        keys: KeyRing,
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
    complaints: Complaints,
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
        complaints: Complaints,
    ) -> Result<Self, http::Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(options.connect_timeout));
        // What died without a word while it was kept is noticed before it is used again.
        tcp.set_keepalive(Some(KEEPALIVE));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.max_idle_connections)
            .build(https.wrap_connector(tcp));
        let host = HeaderValue::try_from(base.authority().map_or("", http::uri::Authority::as_str))?;
        let base = base.to_string().trim_end_matches('/').to_owned();
        Ok(Self { id, base, host, headers: options.headers.clone(), signing, now, complaints, client })
    }

    async fn transfer(&self, want: &Want) -> Result<Opened, SourceError> {
        let response = self.ask(want).await?;
        if !matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Err(self.refused(response).await);
        }
        let len = judge_response(&response, want)?;
        let body = BodyDataStream::new(response.into_body());
        let body = body.map_err(|error| fault(Reason::Cut, chain(&error)));
        Ok(Opened { len, body: exact(len, body.boxed()) })
    }

    /// A kept connection may be closed by the other side while a question is on its way. No byte of an answer came
    /// then, so the question is asked once more; a source that does it twice is to blame.
    async fn ask(&self, want: &Want) -> Result<Response<Incoming>, SourceError> {
        let answered = match self.client.request(self.request(want)?).await {
            Err(error) if died_unanswered(&error) => self.client.request(self.request(want)?).await,
            answered => answered,
        };
        answered.map_err(|error| unreachable(&error))
    }

    /// What a status other than 200 and 206 comes to.
    async fn refused(&self, response: Response<Incoming>) -> SourceError {
        let (status, now) = (response.status(), (self.now)());
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let pause = text(RETRY_AFTER).and_then(|text| retry_after(text, now));
        let skew = text(DATE).and_then(|date| skew(date, now));
        let reason = refusal(status.as_u16());
        if reason != Reason::Refused {
            let error = fault(reason, format_args!("the origin answered {status}"));
            return pause.into_iter().fold(error, SourceError::after);
        }
        let to = text(LOCATION).filter(|_| status.is_redirection()).and_then(|to| to.parse::<Uri>().ok());
        let to = to.as_ref().and_then(Uri::host).map(|host| format!(" to {host}")).unwrap_or_default();
        let body =
            if status.is_redirection() { String::new() } else { beginning(response.into_body()).await };
        let code = code(&body);
        let facts = Facts { status: status.as_u16(), code, says_expired: says_expired(&body), skew };
        let named = code.map(|code| format!(" ({code})")).unwrap_or_default();
        let apart = skew.filter(|_| cause(&facts) == Cause::Clock).map(|skew| format!(", {skew} s apart"));
        let apart = apart.unwrap_or_default();
        self.complaints.refuse(cause(&facts), &format!("the origin answered {status}{named}{to}{apart}"))
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
            Self::Canned { keys, lifetime } => keys.at(now).canned(&entropy::system(), url, now + lifetime),
            Self::Wildcard { keys, lifetime, source_ip, current } => {
                let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((query, _)) = current.as_ref().filter(|(_, renew_at)| now < *renew_at) {
                    return Ok(query.clone());
                }
                let (resource, expires) = (format!("{base}/*"), now + lifetime);
                let policy = Policy { resource, expires, starts: None, source_ip: source_ip.clone() };
                let query = keys.at(now).custom(&entropy::system(), &policy)?;
                let half = now + lifetime / 2;
                let renew_at = keys.next_change(now).map_or(half, |change| change.min(half));
                *current = Some((query.clone(), renew_at));
                Ok(query)
            }
        }
    }
}

fn judge_response(response: &Response<Incoming>, want: &Want) -> Result<u64, SourceError> {
    let (status, headers) = (response.status(), response.headers());
    if headers.get(http::header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(fault(Reason::Unsupported, "the origin compresses although identity was asked for"));
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let partial = status == StatusCode::PARTIAL_CONTENT;
    judge(&Answer { partial, length, content_range: text(CONTENT_RANGE) }, want)
}

/// The first kilobytes of an error's body, if they come soon.
async fn beginning(body: Incoming) -> String {
    let read = async {
        let (mut body, mut bytes) = (BodyDataStream::new(body), Vec::new());
        while bytes.len() < MAX_ERROR_BODY
            && let Some(Ok(chunk)) = body.next().await
        {
            bytes.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BODY - bytes.len())]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    tokio::time::timeout(ERROR_BODY_WAIT, read).await.unwrap_or_default()
}

fn says_expired(body: &str) -> bool {
    body.contains("has expired")
}

/// Whether a connection ended before any answer, as one does that the other side had closed already.
fn died_unanswered(error: &ClientError) -> bool {
    let gone = |error: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted)
    };
    !error.is_connect()
        && causes(error).any(|cause| {
            let cut = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
            cut || cause.downcast_ref::<io::Error>().is_some_and(gone)
        })
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
