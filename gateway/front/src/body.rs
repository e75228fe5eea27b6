//! The body of a response: counted, never short, never silently wrong.
//!
//! A body either hands over exactly as many bytes as its `Content-Length` says or ends in an error. On an
//! error the library drops the HTTP/1.1 connection or resets the HTTP/2 stream: a viewer can never take a
//! broken body for a whole one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::ServeError;
use futures_util::stream::{BoxStream, StreamExt};
use http_body::{Body, Frame, SizeHint};

use crate::record::{End, Record};

/// Where the bytes come from.
enum Inner {
    Nothing,
    Text(Bytes),
    Engine(BoxStream<'static, Result<Bytes, ServeError>>),
}

/// The body.
pub(crate) struct ViewerBody {
    inner: Inner,
    left: u64,
    /// Counted among those who wait for the engine.
    waiting: bool,
    record: Option<Record>,
}

/// A body that cannot go on. The text is for the library's log only; no viewer sees it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the engine broke off: {0}")]
    Engine(String),
    #[error("the engine's bytes and the announced length differ")]
    Length,
}

impl ViewerBody {
    /// No body; the record, if any, is complete.
    pub(crate) fn nothing(record: Option<Record>) -> Self {
        let mut body = Self { inner: Inner::Nothing, left: 0, waiting: false, record };
        body.complete();
        body
    }

    /// A short text.
    pub(crate) fn text(text: impl Into<Bytes>, record: Option<Record>) -> Self {
        let text = text.into();
        let left = text.len() as u64;
        if left == 0 {
            return Self::nothing(record);
        }
        Self { inner: Inner::Text(text), left, waiting: false, record }
    }

    /// Exactly `len` bytes from the engine.
    pub(crate) fn engine<S>(len: u64, bytes: S, record: Record) -> Self
    where
        S: futures_util::Stream<Item = Result<Bytes, ServeError>> + Send + 'static,
    {
        Self { inner: Inner::Engine(bytes.boxed()), left: len, waiting: false, record: Some(record) }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ServeError>>> {
        match &mut self.inner {
            Inner::Nothing => Poll::Ready(None),
            Inner::Text(text) => Poll::Ready(Some(Ok(std::mem::take(text)))),
            Inner::Engine(bytes) => {
                let polled = bytes.poll_next_unpin(cx);
                self.note_wait(polled.is_pending());
                polled
            }
        }
    }

    /// Keeps the pulse's count of those who wait for the engine.
    fn note_wait(&mut self, waiting: bool) {
        if waiting == self.waiting {
            return;
        }
        self.waiting = waiting;
        if let Some(record) = &self.record {
            if waiting { record.pulse().waits() } else { record.pulse().served() }
        }
    }

    fn hand_over(&mut self, bytes: Bytes) -> Result<Bytes, Broken> {
        let len = bytes.len() as u64;
        if len > self.left {
            return Err(self.broken(Broken::Length));
        }
        self.left -= len;
        if let Some(record) = &mut self.record {
            record.pulse().progressed();
            record.sent(len);
        }
        if self.left == 0 {
            self.complete();
        }
        Ok(bytes)
    }

    /// Nothing is left: the engine's cursor goes back at once, not when the viewer has read the rest.
    fn complete(&mut self) {
        self.inner = Inner::Nothing;
        if let Some(record) = &mut self.record {
            record.ended(End::Complete);
        }
    }

    fn broken(&mut self, broken: Broken) -> Broken {
        self.inner = Inner::Nothing;
        if let Some(record) = &mut self.record {
            record.ended(End::UpstreamError);
        }
        broken
    }

    fn failed(&mut self, error: &ServeError) -> Broken {
        tracing::warn!(reason = error.reason.as_str(), detail = %error.detail, "a response was broken off");
        self.broken(Broken::Engine(error.reason.as_str().to_owned()))
    }
}

impl Body for ViewerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        this.poll_bytes(cx).map(|polled| {
            Some(match polled {
                Some(Ok(bytes)) => this.hand_over(bytes).map(Frame::data),
                Some(Err(error)) => Err(this.failed(&error)),
                None => Err(this.broken(Broken::Length)),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for ViewerBody {
    fn drop(&mut self) {
        self.note_wait(false);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use engine::Failure;
    use futures_util::stream;
    use tokio::time::Instant;

    use super::*;
    use crate::pulse::Pulse;
    use crate::record::tests::some_record;

    type Piece = Result<&'static str, Failure>;

    /// What a viewer gets of `pieces` when `len` bytes are announced, and how the access line ends.
    async fn check(len: u64, pieces: &'static [Piece], got: &str, whole: bool, end: &str) {
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let (record, mut lines) = some_record(&pulse);
        let pieces = pieces.iter().map(|piece| {
            let failed = |reason| ServeError { reason, detail: "as scripted".to_owned() };
            piece.map(|text| Bytes::from_static(text.as_bytes())).map_err(failed)
        });
        let mut body = ViewerBody::engine(len, stream::iter(pieces), record);
        let (mut taken, mut broken) = (String::new(), false);
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match frame {
                Ok(frame) => {
                    taken.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("text"));
                }
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        assert_eq!((taken.as_str(), !broken, body.is_end_stream()), (got, whole, whole));
        drop(body);
        let line = lines.try_recv().expect("a line");
        assert!(line.ends_with(&format!("\"end\":\"{end}\"}}")), "{line}");
        assert_eq!(pulse.active(), 0);
    }

    #[tokio::test]
    async fn a_body_is_exactly_as_long_as_announced_or_broken() {
        check(6, &[Ok("abc"), Ok("def")], "abcdef", true, "complete").await;
        check(6, &[Ok(""), Ok("abcdef"), Err(Failure::Changed)], "abcdef", true, "complete").await;
        check(6, &[Ok("abc")], "abc", false, "upstream-error").await;
        check(6, &[], "", false, "upstream-error").await;
        check(6, &[Ok("abc"), Ok("defg")], "abc", false, "upstream-error").await;
        check(6, &[Ok("abc"), Err(Failure::SourcesExhausted)], "abc", false, "upstream-error").await;
    }

    #[tokio::test]
    async fn who_waits_for_the_engine_is_known_until_the_body_is_gone() {
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let (record, mut lines) = some_record(&pulse);
        let mut body = ViewerBody::engine(6, stream::pending(), record);
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
        assert!(first.is_pending());
        assert!(pulse.snapshot(None).waits_for_engine());
        drop(body);
        assert!(!pulse.snapshot(None).waits_for_engine());
        assert!(lines.try_recv().expect("a line").ends_with("\"end\":\"viewer-left\"}"));
    }
}
