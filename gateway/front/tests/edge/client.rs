//! A client that sees every byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::world::SOON;

/// One HTTP/1.1 connection.
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) socket: S,
    seen: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &str {
        let found = self.fields.get(name);
        assert!(found.is_some(), "no {name} in {:?}", self.fields);
        found.map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connects"))
    }

    /// With a receive buffer that is soon full.
    pub(crate) async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        Self::over(socket.connect(address).await.expect("connects"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(socket: S) -> Self {
        Self { socket, seen: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.expect("sent");
    }

    /// `GET` with further field lines, each ending in CRLF.
    pub(crate) async fn get(&mut self, path: &str, fields: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: edge.example\r\n{fields}\r\n")).await;
        self.reply(true).await
    }

    /// The next response; `body` says whether one can follow its head.
    pub(crate) async fn reply(&mut self, body: bool) -> Reply {
        let reply = self.head().await.expect("a response");
        let len = reply.fields.get("content-length").map_or(0, |len| len.parse().expect("a length"));
        self.take(reply, if body { len } else { 0 }).await
    }

    async fn take(&mut self, mut reply: Reply, len: usize) -> Reply {
        while self.seen.len() < len {
            assert!(self.more().await > 0, "the body ended at {} of {len} bytes", self.seen.len());
        }
        reply.body = self.seen.drain(..len).collect();
        reply
    }

    /// The next response head, or `None` when the connection ends instead.
    pub(crate) async fn head(&mut self) -> Option<Reply> {
        loop {
            if let Some(end) = self.seen.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.seen.drain(..end + 4).collect();
                return Some(parse(std::str::from_utf8(&head).expect("text")));
            }
            if self.more().await == 0 {
                assert!(self.seen.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.seen));
                return None;
            }
        }
    }

    /// What comes until the connection ends, whichever way.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await > 0 {}
        std::mem::take(&mut self.seen)
    }

    /// `len` bytes, with a pause before each read.
    pub(crate) async fn rest_slowly(&mut self, len: usize) -> Vec<u8> {
        while self.seen.len() < len && self.more().await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        std::mem::take(&mut self.seen)
    }

    /// Reads once; 0 at the end. A reset is an end, too.
    pub(crate) async fn more(&mut self) -> usize {
        let read = timeout(SOON, self.socket.read_buf(&mut self.seen)).await.expect("something in time");
        read.unwrap_or(0)
    }
}

fn parse(head: &str) -> Reply {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let field = |line: &str| {
        let (name, value) = line.split_once(':').expect("a field");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Reply { status: status.parse().expect("a number"), fields: lines.map(field).collect(), body: Vec::new() }
}
