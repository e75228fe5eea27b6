//! A socket that tells its connection's [`Pulse`] what passes through it, and that closes so that the last
//! response arrives.
//!
//! When a system closes a socket with unread bytes, it sends a reset, and the reset makes the other side throw
//! away what it has not read yet: the very response that says why. So after a refusal the socket says its
//! goodbye, and then reads and forgets for a moment (RFC 9112 section 9.6).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::pulse::Pulse;

/// The wrapper; above TLS, so that what it counts are bytes of HTTP.
pub(crate) struct Guard<S> {
    socket: S,
    pulse: Arc<Pulse>,
    lingering: Option<Linger>,
}

/// How long to listen after the goodbye.
struct Linger {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

impl<S> Guard<S> {
    pub(crate) fn new(socket: S, pulse: Arc<Pulse>) -> Self {
        Self { socket, pulse, lingering: None }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => self.pulse.wrote(bytes),
            Poll::Pending => self.pulse.blocked(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        let heard = buf.filled().len() - before;
        if heard > 0 {
            self.pulse.heard(heard);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        match flushed {
            Poll::Ready(_) => self.pulse.flushed(),
            Poll::Pending => self.pulse.blocked(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            if !self.pulse.leaves_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(cx)
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads and forgets until the other side has closed, too, or a bound is reached.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begin = || Linger { until: Box::pin(sleep(LINGER)), bytes_left: LINGER_BYTES };
        let linger = self.lingering.get_or_insert_with(begin);
        let mut scratch = [0; 2048];
        while linger.bytes_left > 0 && linger.until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
            linger.bytes_left = linger.bytes_left.saturating_sub(buf.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}
