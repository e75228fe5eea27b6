//! One connection, from its first byte of HTTP to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Cause, Phase, Pulse, Shared};
use crate::body::ViewerBody;
use crate::guard::Guard;
use crate::pulse::{Verdict, verdict};

/// Serves requests until the viewer goes, the pulse's rules end it, or the drain deadline comes. Dropping the
/// library's connection drops its responses, and they write their access lines.
pub(super) async fn serve<S>(socket: S, from: SocketAddr, shared: &Shared, mut phase: watch::Receiver<Phase>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let open = shared.metrics.opened();
    let pulse = Arc::new(Pulse::new(Instant::now()).from(from));
    let _guest = shared.house.enter(&pulse);
    let service = service_fn(|request: Request<Incoming>| {
        let http1 = request.version() < Version::HTTP_2;
        let answer = Arc::clone(&shared.handler).handle(request, Arc::clone(&pulse));
        let pulse = Arc::clone(&pulse);
        async move { Ok::<_, Infallible>(farewell(answer.await, http1 && pulse.leaving())) }
    });
    let io = TokioIo::new(Guard::new(socket, Arc::clone(&pulse)));
    let mut connection = pin!(shared.builder.serve_connection(io, service));
    let patience = &shared.bounds.patience;
    let mut look_at = Instant::now();
    let mut closing_since = None;
    // A connection may have come in while the phase turned.
    phase.mark_changed();
    let cause = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break cause_of(&ended.err(), &pulse),
            turned = turned(&mut phase) => {
                match turned {
                    Phase::Serving => continue,
                    Phase::Leaving if !pulse.leave() => continue,
                    Phase::Leaving | Phase::Draining => {}
                    Phase::Cut => break Cause::Drained,
                }
                closing_since.get_or_insert(pulse.now_ms());
                connection.as_mut().graceful_shutdown();
            }
            () = pulse.dismissed() => {
                closing_since.get_or_insert(pulse.now_ms());
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(look_at) => {
                let wait = match verdict(&pulse.snapshot(closing_since), pulse.now_ms(), patience) {
                    Verdict::Drop(cause) => break cause,
                    Verdict::Wait(wait) => wait,
                    Verdict::Close(wait) => {
                        closing_since = Some(pulse.now_ms());
                        connection.as_mut().graceful_shutdown();
                        wait
                    }
                };
                look_at = Instant::now() + Duration::from_millis(wait);
            }
        }
    };
    if cause == Cause::Drained {
        shared.cut[0].fetch_add(1, Relaxed);
        shared.cut[1].fetch_add(u64::from(pulse.active()), Relaxed);
    }
    pulse.doom(cause);
    open.close(cause);
}

/// Says in HTTP/1.1 that this response is the last; the library then closes.
fn farewell(mut response: Response<ViewerBody>, last: bool) -> Response<ViewerBody> {
    if last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Waits for the next phase.
async fn turned(phase: &mut watch::Receiver<Phase>) -> Phase {
    match phase.changed().await {
        Ok(()) => *phase.borrow_and_update(),
        Err(_) => Phase::Cut,
    }
}

/// The library's errors end in one of two ways for us: the viewer went, or did not speak HTTP.
fn cause_of(error: &Option<Box<dyn std::error::Error + Send + Sync>>, pulse: &Pulse) -> Cause {
    if pulse.is_evicted() {
        return Cause::Crowded;
    }
    let parse = error.as_ref().and_then(|error| error.downcast_ref::<hyper::Error>());
    if parse.is_some_and(hyper::Error::is_parse) { Cause::Protocol } else { Cause::Viewer }
}
