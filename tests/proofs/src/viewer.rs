//! A viewer on a raw socket that knows every byte it should get.
//!
//! Every response ends as exactly one [`Ending`]. The one that must never be is [`Ending::Wrong`]: complete by its
//! own framing, and yet not the film.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::film::Piece;

/// A response that says nothing for so long has broken down.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_HEAD: usize = 64 * 1024;
/// The payload of a packet of 1,500 bytes.
const INTERNET_MSS: u32 = 1_448;

/// What a viewer wants.
#[derive(Debug, Clone)]
pub(crate) struct Wish<'a> {
    pub(crate) piece: &'a Piece,
    /// First byte and end; `None` is the whole.
    pub(crate) range: Option<(u64, u64)>,
    /// It goes away after so many bytes.
    pub(crate) leaves_after: Option<u64>,
    /// Bytes per second it takes; `None` is all there are.
    pub(crate) rate: Option<u64>,
}

impl<'a> Wish<'a> {
    pub(crate) fn whole(piece: &'a Piece) -> Self {
        Self { piece, range: None, leaves_after: None, rate: None }
    }

    pub(crate) fn part(piece: &'a Piece, start: u64, end: u64) -> Self {
        Self { range: Some((start, end)), ..Self::whole(piece) }
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Complete, and every byte as it should be.
    Right,
    /// Complete by its framing, and different: where and how.
    Wrong(String),
    /// A response had begun and did not end cleanly.
    Broken(String),
    /// An error status.
    Refused(u16),
    /// The viewer went away; what it had seen was right.
    Left,
    /// No response at all: nobody listened, or the connection ended before a head.
    Unanswered,
}

/// What a viewer saw of one request. Times count from the question.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) ending: Ending,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) took: Duration,
    /// When so many of the body's bytes were there; see [`Viewer::watch_for`].
    pub(crate) mark: Option<Duration>,
    pub(crate) bytes: u64,
    /// Whether `Cache-Status` says that no source was needed to begin.
    pub(crate) hit: bool,
    /// Whether a refusal says when to come back and, for machines, why.
    pub(crate) advised: bool,
}

impl Seen {
    /// Before anything has happened.
    pub(crate) fn nothing() -> Self {
        Self {
            ending: Ending::Unanswered,
            first_byte: None,
            took: Duration::ZERO,
            mark: None,
            bytes: 0,
            hit: false,
            advised: false,
        }
    }

    pub(crate) fn is_right(&self) -> bool {
        self.ending == Ending::Right
    }
}

/// One viewer and its connection, which lives from one request to the next.
#[derive(Debug)]
pub(crate) struct Viewer {
    address: String,
    socket: Option<TcpStream>,
    buffer: BytesMut,
    receive_buffer: Option<u32>,
    watch_for: Option<u64>,
}

impl Viewer {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            socket: None,
            buffer: BytesMut::new(),
            receive_buffer: None,
            watch_for: None,
        }
    }

    /// A viewer whose kernel takes little on its own, so that what it has not read is mostly still at the gateway:
    /// a small window, and packets as on the internet, because the loopback's fill large buffers on both sides.
    pub(crate) fn with_small_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Notes the moment when so many bytes of the body are there.
    pub(crate) fn watch_for(mut self, bytes: u64) -> Self {
        self.watch_for = Some(bytes);
        self
    }

    /// Opens the connection ahead of the first request.
    pub(crate) async fn connect(&mut self) -> std::io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
            SockRef::from(&socket).set_tcp_mss(INTERNET_MSS)?;
        }
        let address = self.address.parse().map_err(std::io::Error::other)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        self.buffer.clear();
        self.socket = Some(stream);
        Ok(())
    }

    /// Asks, reads to the end or until it leaves, and compares every byte.
    pub(crate) async fn ask(&mut self, wish: &Wish<'_>) -> Seen {
        let begun = Instant::now();
        let mut seen = Seen::nothing();
        let used_before = self.socket.is_some();
        seen.ending = self.exchange(wish, begun, &mut seen).await;
        if used_before && seen.ending == Ending::Unanswered {
            // The connection had ended between two requests, as any may: a new one is tried, as players do.
            self.hang_up();
            seen.ending = self.exchange(wish, begun, &mut seen).await;
        }
        seen.took = begun.elapsed();
        if !matches!(seen.ending, Ending::Right | Ending::Refused(_)) {
            self.hang_up();
        }
        seen
    }

    /// Ends the connection at once, as a player that was closed does.
    fn hang_up(&mut self) {
        if let Some(socket) = self.socket.take() {
            // It is closed next in any case.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
        self.buffer.clear();
    }

    async fn exchange(&mut self, wish: &Wish<'_>, begun: Instant, seen: &mut Seen) -> Ending {
        if !self.buffer.is_empty() {
            return Ending::Wrong(format!("{} bytes after the end of a response", self.buffer.len()));
        }
        if self.socket.is_none() && self.connect().await.is_err() {
            return Ending::Unanswered;
        }
        let Some(socket) = self.socket.as_mut() else { return Ending::Unanswered };
        if socket.write_all(request(wish).as_bytes()).await.is_err() {
            return Ending::Unanswered;
        }
        let Some(head) = read_head(socket, &mut self.buffer).await else { return Ending::Unanswered };
        let Some(head) = Head::parse(&head) else { return Ending::Broken(format!("no head: {head:?}")) };
        (seen.hit, seen.advised) = (head.hit, head.advised);
        let ending = match expected(&head, wish) {
            Ok(truth) => self.read(truth, wish, begun, seen).await,
            Err(ending) => self.skip(head.length.unwrap_or(0), ending).await,
        };
        if head.closes {
            self.hang_up();
        }
        ending
    }

    /// Reads the body of an answer that is no film.
    async fn skip(&mut self, length: u64, ending: Ending) -> Ending {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() && self.more().await.is_err() {
                return Ending::Broken(format!("{left} bytes are missing after {ending:?}"));
            }
            let piece = (self.buffer.len() as u64).min(left);
            self.buffer.advance(piece as usize);
            left -= piece;
        }
        ending
    }

    async fn read(&mut self, truth: &[u8], wish: &Wish<'_>, begun: Instant, seen: &mut Seen) -> Ending {
        let mut at = 0;
        while at < truth.len() {
            if wish.leaves_after.is_some_and(|limit| at as u64 >= limit) {
                return Ending::Left;
            }
            if self.buffer.is_empty()
                && let Err(reason) = self.more().await
            {
                return Ending::Broken(format!("{reason} at {at} of {}", truth.len()));
            }
            seen.first_byte.get_or_insert_with(|| begun.elapsed());
            let piece = self.buffer.len().min(truth.len() - at);
            if self.buffer[..piece] != truth[at..at + piece] {
                return self.wrong(truth, at).await;
            }
            self.buffer.advance(piece);
            at += piece;
            seen.bytes = at as u64;
            if self.watch_for.is_some_and(|mark| seen.bytes >= mark) {
                seen.mark.get_or_insert_with(|| begun.elapsed());
            }
            if let Some(rate) = wish.rate {
                sleep_until(begun + Duration::from_micros(seen.bytes.saturating_mul(1_000_000) / rate)).await;
            }
        }
        Ending::Right
    }

    /// A byte is wrong; it only counts as wrong if the response goes on to end as if nothing were.
    async fn wrong(&mut self, truth: &[u8], at: usize) -> Ending {
        let first = self.buffer.iter().zip(&truth[at..]).position(|(got, expected)| got != expected);
        let text = format!("byte {} of {}", at + first.unwrap_or_default(), truth.len());
        match self.skip((truth.len() - at) as u64, Ending::Wrong(text.clone())).await {
            Ending::Broken(_) => Ending::Broken(format!("after wrong {text}")),
            ending => ending,
        }
    }

    async fn more(&mut self) -> Result<(), String> {
        let Some(socket) = self.socket.as_mut() else { return Err("no connection".into()) };
        self.buffer.reserve(64 * 1024);
        match timeout(PATIENCE, socket.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => Err("ended".into()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("silence".into()),
        }
    }
}

fn request(wish: &Wish<'_>) -> String {
    let range = wish.range.map(|(start, end)| format!("Range: bytes={start}-{}\r\n", end - 1));
    format!("GET {} HTTP/1.1\r\nHost: edge\r\n{}\r\n", wish.piece.path, range.unwrap_or_default())
}

/// The bytes that an answer with this head must have.
pub(crate) fn expected<'a>(head: &Head, wish: &Wish<'a>) -> Result<&'a [u8], Ending> {
    let truth = &wish.piece.bytes[..];
    let (start, end) = match (head.status, wish.range) {
        (200, None) => (0, wish.piece.len()),
        (206, Some((start, end))) => {
            let stated = format!("bytes {start}-{}/{}", end - 1, truth.len());
            if head.content_range.as_deref() != Some(stated.as_str()) {
                return Err(Ending::Wrong(format!("{:?} instead of {stated:?}", head.content_range)));
            }
            (start, end)
        }
        (200 | 206, _) => return Err(Ending::Wrong(format!("a {} for {:?}", head.status, wish.range))),
        (status, _) => return Err(Ending::Refused(status)),
    };
    if head.length != Some(end - start) {
        return Err(Ending::Wrong(format!("a length of {:?} for {} bytes", head.length, end - start)));
    }
    Ok(&truth[start as usize..end as usize])
}

/// The next head, as text; `None` at the end of the connection.
pub(crate) async fn read_head(socket: &mut TcpStream, buffer: &mut BytesMut) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            return String::from_utf8(buffer.split_to(end + 4).to_vec()).ok();
        }
        if buffer.len() > MAX_HEAD || !matches!(timeout(PATIENCE, socket.read_buf(buffer)).await, Ok(Ok(1..)))
        {
            return None;
        }
    }
}

/// What a viewer looks at in a head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: Option<u64>,
    content_range: Option<String>,
    hit: bool,
    advised: bool,
    pub(crate) closes: bool,
}

impl Head {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let field = |name: &str| {
            let fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
            fields
                .into_iter()
                .find_map(|(field, value)| field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
        };
        // Our own responses know their length; another framing would need another reader.
        let length = match field("transfer-encoding") {
            Some(_) => None,
            None => field("content-length").and_then(|length| length.parse().ok()),
        };
        let cache = field("cache-status").unwrap_or_default();
        let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let hit = cache.split(';').any(|part| part.trim() == "hit");
        let advised = field("retry-after").is_some() && field("proxy-status").is_some();
        Some(Self { status, length, content_range: field("content-range"), hit, advised, closes })
    }

    /// First byte and end of the part that it states.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let (part, _) = self.content_range.as_deref()?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = part.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?))
    }
}

/// One request without a film, for the admin listener: status and body.
pub(crate) async fn talk(address: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{length}\r\n{body}");
    socket.write_all(head.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.ok()?.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// How many requests ended in which way.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    pub(crate) broken: u64,
    pub(crate) refused: u64,
    pub(crate) left: u64,
    pub(crate) unanswered: u64,
    pub(crate) hits: u64,
    /// The first wrong or else broken one, for the person who looks for the reason.
    pub(crate) first_wrong: Option<String>,
    pub(crate) first_broken: Option<String>,
}

impl Tally {
    pub(crate) fn count(&mut self, wish: &Wish<'_>, seen: &Seen) {
        let told = |text: &str| format!("{} {:?}: {text}", wish.piece.key, wish.range);
        match &seen.ending {
            Ending::Right => self.right += 1,
            Ending::Wrong(text) => {
                self.wrong += 1;
                self.first_wrong.get_or_insert_with(|| told(text));
            }
            Ending::Broken(text) => {
                self.broken += 1;
                self.first_broken.get_or_insert_with(|| told(text));
            }
            Ending::Refused(_) => self.refused += 1,
            Ending::Left => self.left += 1,
            Ending::Unanswered => self.unanswered += 1,
        }
        self.hits += u64::from(seen.hit);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.broken += other.broken;
        self.refused += other.refused;
        self.left += other.left;
        self.unanswered += other.unanswered;
        self.hits += other.hits;
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.first_broken = self.first_broken.take().or(other.first_broken);
    }

    /// Requests that got a response, whatever became of it.
    pub(crate) fn responses(&self) -> u64 {
        self.right + self.wrong + self.broken + self.refused + self.left
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { right, wrong, broken, refused, left, unanswered, .. } = self;
        write!(f, "{right} right, {wrong} wrong, {broken} broken, {refused} refused, {left} left early")?;
        write!(f, ", {unanswered} unanswered")
    }
}

/// Every piece once, by so many viewers at a time, each on one connection.
pub(crate) async fn fetch_all(address: &str, pieces: &[Piece], viewers: usize) -> Tally {
    let share = pieces.len().div_ceil(viewers.max(1)).max(1);
    let tasks: Vec<_> = pieces
        .chunks(share)
        .map(|pieces| {
            let (address, pieces) = (address.to_owned(), pieces.to_vec());
            tokio::spawn(async move {
                let (mut viewer, mut tally) = (Viewer::new(&address), Tally::default());
                for piece in &pieces {
                    let wish = Wish::whole(piece);
                    let seen = viewer.ask(&wish).await;
                    tally.count(&wish, &seen);
                }
                tally
            })
        })
        .collect();
    let mut sum = Tally::default();
    for task in tasks {
        sum.add(task.await.unwrap_or_default());
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let text = "HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\nContent-Range: bytes 0-4/9\r\n\
                    cache-status: weir; hit; detail=disk\r\nconnection: close\r\n\r\n";
        let content_range = Some("bytes 0-4/9".to_owned());
        let head =
            Head { status: 206, length: Some(5), content_range, hit: true, advised: false, closes: true };
        assert_eq!(head.range(), Some((0, 5)));
        assert_eq!(Head::parse(text), Some(head));
        assert_eq!(Head::parse("nonsense"), None);
        let advised = |text: &str| Head::parse(text).map(|head| head.advised);
        let refused = "HTTP/1.1 503 No\r\nRetry-After: 1\r\n";
        assert_eq!(advised(&format!("{refused}\r\n")), Some(false));
        assert_eq!(advised(&format!("{refused}Proxy-Status: n; error=x\r\n\r\n")), Some(true));
        let chunked = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(Head::parse(chunked).and_then(|head| head.length), None);
    }

    #[test]
    fn an_answer_must_be_what_was_asked() {
        let piece = Piece {
            path: "/p".into(),
            key: String::new(),
            bytes: bytes::Bytes::from_static(b"0123456789"),
            object: "o".into(),
            start: 0,
            is_media: true,
        };
        let head = |status, length, range: Option<&str>| Head {
            status,
            length,
            content_range: range.map(str::to_owned),
            hit: false,
            advised: false,
            closes: false,
        };
        let (whole, part) = (Wish::whole(&piece), Wish::part(&piece, 2, 5));
        assert_eq!(expected(&head(200, Some(10), None), &whole), Ok(&b"0123456789"[..]));
        assert_eq!(expected(&head(206, Some(3), Some("bytes 2-4/10")), &part), Ok(&b"234"[..]));
        assert_eq!(expected(&head(503, Some(0), None), &part), Err(Ending::Refused(503)));
        for (head, wish) in [
            (head(200, Some(9), None), &whole),
            (head(200, None, None), &whole),
            (head(206, Some(10), Some("bytes 0-9/10")), &whole),
            (head(200, Some(10), None), &part),
            (head(206, Some(3), Some("bytes 2-4/11")), &part),
            (head(206, Some(3), Some("bytes 3-5/10")), &part),
            (head(206, Some(2), Some("bytes 2-4/10")), &part),
        ] {
            assert!(matches!(expected(&head, wish), Err(Ending::Wrong(_))), "{head:?}");
        }
    }
}
