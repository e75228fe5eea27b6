//! An HTTP origin in this process: ranges as RFC 9110 has them, and faults on demand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, LOCATION, RANGE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use media::range::{Selection, select};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

type Body = BoxBody<Bytes, std::io::Error>;

#[derive(Default)]
pub(super) struct Shared {
    objects: Mutex<HashMap<String, Arc<Object>>>,
    last: Mutex<(String, Option<String>)>,
    stop: Notify,
    stopped: AtomicBool,
}

struct Object {
    bytes: Bytes,
    held: bool,
    broken: Notify,
    transfers: Arc<AtomicUsize>,
}

pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) shared: Arc<Shared>,
}

impl Origin {
    pub(super) async fn start(tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        tokio::spawn(run(
            listener,
            tls.map(|config| TlsAcceptor::from(Arc::new(config))),
            Arc::clone(&shared),
        ));
        Self { address, shared }
    }
}

impl Shared {
    pub(super) fn put(&self, path: &str, bytes: Bytes, held: bool) {
        let object = Object { bytes, held, broken: Notify::new(), transfers: Arc::default() };
        self.objects.lock().expect("not poisoned").insert(path.to_owned(), Arc::new(object));
    }

    fn get(&self, path: &str) -> Option<Arc<Object>> {
        self.objects.lock().expect("not poisoned").get(path).cloned()
    }

    pub(super) fn break_off(&self, path: &str) {
        self.get(path).expect("an object").broken.notify_one();
    }

    pub(super) fn transfers(&self, path: &str) -> usize {
        self.get(path).map_or(0, |object| object.transfers.load(SeqCst))
    }

    pub(super) fn last(&self) -> (String, Option<String>) {
        self.last.lock().expect("not poisoned").clone()
    }

    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }
}

async fn run(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let (socket, _) = tokio::select! {
            () = shared.stop.notified() => break,
            accepted = listener.accept() => accepted.expect("accepted"),
        };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&shared)));
            let builder = Builder::new(TokioExecutor::new());
            // Errors are the point of some tests: the client sees them, the origin need not.
            let _ = match tls {
                None => builder.serve_connection(TokioIo::new(socket), service).await,
                Some(tls) => match tls.accept(socket).await {
                    Ok(socket) => builder.serve_connection(TokioIo::new(socket), service).await,
                    Err(_) => return,
                },
            };
        });
    }
    drop(listener);
    shared.stopped.store(true, SeqCst);
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Infallible> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let query = request.uri().query().unwrap_or_default().to_owned();
    *shared.last.lock().expect("not poisoned") = (query, header("x-origin-secret"));
    // Below a prefix, be it a bucket's name or a base path.
    let path = request.uri().path().trim_start_matches('/');
    let path = path.split_once('/').map_or(path, |(_, path)| path);
    if let Some(status) = path.strip_prefix("status/") {
        return Ok(refusal(status));
    }
    let Some(object) = shared.get(path) else { return Ok(empty(StatusCode::NOT_FOUND)) };
    let total = object.bytes.len() as u64;
    let range = header(RANGE.as_str()).filter(|_| !path.starts_with("deaf/"));
    let (status, start, end, content_range) = match select(range.as_deref(), total) {
        Selection::Whole => (StatusCode::OK, 0, total, None),
        Selection::Unsatisfiable => return Ok(empty(StatusCode::RANGE_NOT_SATISFIABLE)),
        Selection::Ranges(ranges) => {
            let range = ranges[0];
            (StatusCode::PARTIAL_CONTENT, range.start(), range.end(), Some(range.content_range(total)))
        }
    };
    let slice = object.bytes.slice(start as usize..end as usize);
    let mut response =
        Response::new(BodyExt::boxed(StreamBody::new(body(slice, object).map_ok(Frame::data))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    if let Some(text) = content_range {
        headers.insert(CONTENT_RANGE, text.parse().expect("a header"));
    }
    if path.starts_with("gzip/") {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// `status/503/7`: with so much `Retry-After`. `status/403/Code`: with an error in XML that repeats a secret.
fn refusal(path: &str) -> Response<Body> {
    let (status, more) = path.split_once('/').unwrap_or((path, ""));
    let mut response = empty(status.parse().expect("a status"));
    if more.bytes().all(|b| b.is_ascii_digit()) && !more.is_empty() {
        response.headers_mut().insert(RETRY_AFTER, more.parse().expect("a header"));
    } else if !more.is_empty() {
        let text = format!(
            "<Error><Code>{more}</Code><Message>Request has expired</Message><Signed>{}</Signed></Error>",
            super::worlds::SECRET
        );
        let body = http_body_util::Full::new(Bytes::from(text)).map_err(|never| match never {});
        *response.body_mut() = BodyExt::boxed(body);
    }
    // The world's clock says 1000 unless a test moves it.
    let date =
        if more == "Skewed" { "Sun, 06 Nov 1994 08:49:37 GMT" } else { "Thu, 01 Jan 1970 00:16:40 GMT" };
    response.headers_mut().insert(DATE, HeaderValue::from_static(date));
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static("https://elsewhere.example/?Signature=s3cret"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let nothing = stream::empty::<Result<Frame<Bytes>, std::io::Error>>();
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(nothing)));
    *response.status_mut() = status;
    response
}

/// Counts a transfer for as long as somebody takes its body.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn body(
    bytes: Bytes,
    object: Arc<Object>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Sync {
    object.transfers.fetch_add(1, SeqCst);
    let running = Running(Arc::clone(&object.transfers));
    let half = bytes.len() / 2;
    stream::unfold((bytes, object, running), move |(mut rest, object, running)| async move {
        if rest.is_empty() {
            return None;
        }
        if object.held && rest.len() <= half {
            object.broken.notified().await;
            return Some((Err(std::io::Error::other("broken off")), (Bytes::new(), object, running)));
        }
        let piece = rest.split_to(rest.len().min(16 * 1024));
        Some((Ok(piece), (rest, object, running)))
    })
}
