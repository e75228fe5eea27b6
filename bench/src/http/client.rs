//! Clients that cost little: keep-alive HTTP/1.1, bytes counted and dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::arrivals::Arrival;
use crate::{Doing, Fault};

/// Bytes read at once.
const READ_LEN: usize = 256 * 1024;

/// From connecting to the first arrival, so that no run begins late.
const LEAD: Duration = Duration::from_millis(20);

/// How one request went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// From the arrival to the first byte of the response, which is one of its head. If a connection was free at the arrival, from the
    /// moment the client's timer let it send: the timer's grain of a millisecond is no fault of the server.
    pub(super) first: Duration,
    /// The same to the last byte.
    pub(super) whole: Duration,
    /// How long the arrival waited for a free connection; part of the two above.
    pub(super) queued: Duration,
    /// How late the client's timer was; no part of them.
    pub(super) timer_late: Duration,
    /// Bytes of the body.
    pub(super) bytes: u64,
}

/// Sends every request at its time, or as soon as a connection is free.
pub(super) async fn replay(
    connections: Vec<Connection>,
    paths: Arc<[String]>,
    arrivals: Arc<[Arrival]>,
) -> Result<Vec<Timing>, Fault> {
    let (next, start) = (Arc::new(AtomicUsize::new(0)), Instant::now() + LEAD);
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let (paths, arrivals, next) = (Arc::clone(&paths), Arc::clone(&arrivals), Arc::clone(&next));
        clients.spawn(async move {
            let mut timings = Vec::new();
            while let Some(arrival) = arrivals.get(next.fetch_add(1, Relaxed)) {
                let path = paths.get(arrival.piece).ok_or_else(|| Fault::new("asking", "no such segment"))?;
                timings.push(connection.timed(path, start + arrival.at).await?);
            }
            Ok::<_, Fault>(timings)
        });
    }
    let mut all = Vec::with_capacity(arrivals.len());
    while let Some(timings) = clients.join_next().await {
        all.extend(timings.doing("a client")??);
    }
    Ok(all)
}

/// One connection to a server.
pub(super) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, Fault> {
        let socket = TcpStream::connect(address).await.doing("connecting")?;
        socket.set_nodelay(true).doing("connecting")?;
        Ok(Self { socket, buffer: vec![0; READ_LEN] })
    }

    async fn timed(&mut self, path: &str, due: Instant) -> Result<Timing, Fault> {
        let queued = Instant::now().saturating_duration_since(due);
        tokio::time::sleep_until(due).await;
        let timer_late = due.elapsed().saturating_sub(queued);
        let began = if queued.is_zero() { Instant::now() } else { due };
        let timer_late = if queued.is_zero() { timer_late } else { Duration::ZERO };
        let mut bytes = 0;
        let first = self.get(path, |chunk| bytes += chunk.len() as u64).await?;
        Ok(Timing { first: first - began, whole: began.elapsed(), queued, timer_late, bytes })
    }

    /// Asks for a path and gives every chunk of its body to `take`. Returns when the first byte came.
    pub(super) async fn get(&mut self, path: &str, mut take: impl FnMut(&[u8])) -> Result<Instant, Fault> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.socket.write_all(request.as_bytes()).await.doing("sending a request")?;
        let mut filled = self.read(0).await?;
        let first = Instant::now();
        let head = loop {
            match head(&self.buffer[..filled])? {
                Some(head) => break head,
                None => filled += self.read(filled).await?,
            }
        };
        let begun = (filled - head.body_at) as u64;
        let over = || Fault::new("reading a response", "more bytes than promised");
        let mut missing = head.content_length.checked_sub(begun).ok_or_else(over)?;
        take(&self.buffer[head.body_at..filled]);
        while missing > 0 {
            let read = self.read(0).await?;
            missing = missing.checked_sub(read as u64).ok_or_else(over)?;
            take(&self.buffer[..read]);
        }
        Ok(first)
    }

    async fn read(&mut self, at: usize) -> Result<usize, Fault> {
        match self.socket.read(&mut self.buffer[at..]).await.doing("reading a response")? {
            0 => {
                Err(Fault::new("reading a response", "the server closed the connection, or its head is huge"))
            }
            read => Ok(read),
        }
    }
}

/// What a client has to know of the head of a response.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    body_at: usize,
    content_length: u64,
}

/// The head, if all of it is there. Anything but a whole `200` is a fault.
fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(Fault::new("reading a response", status));
    }
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, value)| value.trim().parse().ok());
    let content_length = length.ok_or_else(|| Fault::new("reading a response", "it has no length"))?;
    Ok(Some(Head { body_at: end + 4, content_length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let good = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\nbody";
        assert_eq!(head(good).expect("good"), Some(Head { body_at: 50, content_length: 12 }));
        assert_eq!(head(&good[..49]).expect("not yet"), None);
        assert_eq!(head(b"").expect("not yet"), None);
        for bad in
            ["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "\r\n\r\n"]
        {
            assert!(head(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
