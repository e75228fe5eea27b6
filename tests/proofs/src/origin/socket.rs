//! What an origin does with a connection, as far as TCP lets it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How long the other side may take to read what it was sent, before a reset would take it back.
const BEFORE_RESET: Duration = Duration::from_secs(1);

/// Says nothing until the other side has had enough.
pub(super) async fn hang(socket: &mut TcpStream) -> std::io::Result<()> {
    while socket.read(&mut [0; 256]).await? > 0 {}
    Ok(())
}

/// Waits so long, or until the other side has gone: whether it is still there.
pub(super) async fn think(socket: &TcpStream, time: Duration) -> bool {
    let gone = async {
        // Peeking leaves to the next question what was sent ahead of its turn.
        if matches!(socket.peek(&mut [0]).await, Ok(1..)) {
            std::future::pending::<()>().await;
        }
    };
    timeout(time, gone).await.is_err()
}

/// Waits until the other side has read everything, as far as the kernel knows: only then is it known how much of
/// a body had arrived when its connection was reset.
pub(super) async fn all_is_read(socket: &TcpStream) {
    let (Ok(local), Ok(remote)) = (socket.local_addr(), socket.peer_addr()) else { return };
    let end = Instant::now() + BEFORE_RESET;
    while Instant::now() < end {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        if on_the_way(&table, local, remote) == 0 {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes that one end has not had acknowledged, and those that the other end has not read.
fn on_the_way(table: &str, local: SocketAddr, remote: SocketAddr) -> u64 {
    let queues = |from: SocketAddr, to: SocketAddr| {
        let line = table.lines().find(|line| {
            let ends: Vec<&str> = line.split_whitespace().skip(1).take(2).collect();
            let port = |end: &str, of: SocketAddr| end.ends_with(&format!(":{:04X}", of.port()));
            matches!(ends[..], [one, other] if port(one, from) && port(other, to))
        })?;
        let (sent, read) = line.split_whitespace().nth(4)?.split_once(':')?;
        Some((u64::from_str_radix(sent, 16).ok()?, u64::from_str_radix(read, 16).ok()?))
    };
    queues(local, remote).map_or(0, |(sent, _)| sent) + queues(remote, local).map_or(0, |(_, unread)| unread)
}

pub(super) fn reset(socket: &TcpStream) {
    // Whether or not it worked, the socket is closed next.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// A request's head, or `None` at the end of the connection.
pub(super) async fn read_head(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
) -> std::io::Result<Option<String>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = buffer.split_to(end + 4);
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if buffer.len() > MAX_HEAD || socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_on_the_way_are_counted_at_both_ends() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
                       0: 0100007F:1F90 0100007F:C350 01 00000010:00000000 00:00000000\n\
                       1: 0100007F:C350 0100007F:1F90 01 00000003:00000020 00:00000000\n";
        let [one, other, third] = [8080, 50_000, 9].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!((on_the_way(table, one, other), on_the_way(table, one, third)), (0x30, 0));
    }
}
