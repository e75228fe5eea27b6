//! What two processes of a node say to each other while one takes over from the other. No I/O here.
//!
//! A message is two bytes of length (big-endian, of what follows), one byte of kind, and the rest:
//!
//! ```text
//! 1 Hello      version                      the new process introduces itself
//! 2 Welcome                                 the old one understands it
//! 3 Refused    text                         or does not, and says why
//! 4 Release                                 let go of what only one can hold
//! 5 Sockets    count, then for each two     the listening sockets travel beside this message, in its order
//!              addresses: length, text
//! 6 Ready                                   the new process serves; the old one may stop
//! 7 Yours                                   it does; from here there is no way back
//! 8 GaveUp     text                         the new process cannot go on
//! ```
//!
//! Addresses and reasons are text because a person may have to read a trace of it, and because versions of
//! this program that differ in everything else must agree on it. New kinds need a new version.

use std::net::SocketAddr;

/// What this program speaks.
pub(super) const VERSION: u8 = 1;

/// Most sockets in one message: what one control message of the kernel carries, with room to spare.
pub(super) const MAX_SOCKETS: usize = 128;

const MAX_LEN: usize = 16 * 1024;
/// Characters of a reason that are told.
const MAX_REASON: usize = 1_024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Hello { version: u8 },
    Welcome,
    Refused { reason: String },
    Release,
    Sockets(Vec<Addresses>),
    Ready,
    Yours,
    GaveUp { reason: String },
}

/// A listening socket by its addresses: the configured one, and the one it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) asked: SocketAddr,
    pub(super) bound: SocketAddr,
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the language of a takeover: {0}")]
pub(super) struct WireError(&'static str);

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Welcome => 2,
            Self::Refused { .. } => 3,
            Self::Release => 4,
            Self::Sockets(_) => 5,
            Self::Ready => 6,
            Self::Yours => 7,
            Self::GaveUp { .. } => 8,
        }
    }

    /// The message as it travels.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0, 0, self.kind()];
        match self {
            Self::Hello { version } => bytes.push(*version),
            Self::Welcome | Self::Release | Self::Ready | Self::Yours => {}
            Self::Refused { reason } | Self::GaveUp { reason } => {
                bytes.extend(reason.chars().take(MAX_REASON).collect::<String>().bytes());
            }
            Self::Sockets(sockets) => {
                bytes.push(u8::try_from(sockets.len()).unwrap_or(u8::MAX));
                let addresses = sockets.iter().flat_map(|socket| [socket.asked, socket.bound]);
                for address in addresses.map(|address| address.to_string()) {
                    bytes.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
                    bytes.extend(address.bytes());
                }
            }
        }
        let len = u16::try_from(bytes.len() - 2).unwrap_or(u16::MAX);
        bytes[..2].copy_from_slice(&len.to_be_bytes());
        bytes
    }

    /// The first message of `bytes` and its length there; `None` when more must arrive.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, WireError> {
        let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*len));
        if !(1..=MAX_LEN).contains(&len) {
            return Err(WireError("an impossible length"));
        }
        let Some((kind, body)) = rest.get(..len).and_then(<[u8]>::split_first) else { return Ok(None) };
        Ok(Some((Self::of(*kind, body)?, len + 2)))
    }

    fn of(kind: u8, body: &[u8]) -> Result<Self, WireError> {
        let message = match (kind, body) {
            (1, [version]) => Self::Hello { version: *version },
            (2, []) => Self::Welcome,
            (3, _) => Self::Refused { reason: reason(body)? },
            (4, []) => Self::Release,
            (5, _) => Self::Sockets(sockets(body)?),
            (6, []) => Self::Ready,
            (7, []) => Self::Yours,
            (8, _) => Self::GaveUp { reason: reason(body)? },
            _ => return Err(WireError("an unknown kind or a wrong length")),
        };
        Ok(message)
    }
}

fn reason(body: &[u8]) -> Result<String, WireError> {
    String::from_utf8(body.to_vec()).map_err(|_| WireError("a reason that is no text"))
}

fn sockets(body: &[u8]) -> Result<Vec<Addresses>, WireError> {
    let (count, mut rest) = body.split_first().ok_or(WireError("no count of sockets"))?;
    if usize::from(*count) > MAX_SOCKETS {
        return Err(WireError("too many sockets"));
    }
    let mut sockets = Vec::with_capacity(usize::from(*count));
    for _ in 0..*count {
        let (asked, bound) = (address(&mut rest)?, address(&mut rest)?);
        sockets.push(Addresses { asked, bound });
    }
    if rest.is_empty() { Ok(sockets) } else { Err(WireError("something after the last socket")) }
}

fn address(rest: &mut &[u8]) -> Result<SocketAddr, WireError> {
    let cut = rest.split_first().and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)));
    let (text, after) = cut.ok_or(WireError("an address is cut off"))?;
    *rest = after;
    let text = std::str::from_utf8(text).map_err(|_| WireError("an address that is no text"))?;
    text.parse().map_err(|_| WireError("an address that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(asked: &str, bound: &str) -> Addresses {
        Addresses { asked: asked.parse().expect("an address"), bound: bound.parse().expect("an address") }
    }

    #[test]
    fn every_message_comes_back_and_needs_all_its_bytes() {
        let sockets = vec![
            socket("127.0.0.1:0", "127.0.0.1:40001"),
            socket("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[::1]:1"),
        ];
        for (message, golden) in [
            (Message::Hello { version: 1 }, &b"\0\x02\x01\x01"[..]),
            (Message::Welcome, b"\0\x01\x02"),
            (Message::Refused { reason: "too old".to_owned() }, b"\0\x08\x03too old"),
            (Message::Release, b"\0\x01\x04"),
            (Message::Sockets(Vec::new()), b"\0\x02\x05\0"),
            (Message::Sockets(sockets[..1].to_vec()), b"\0\x1e\x05\x01\x0b127.0.0.1:0\x0f127.0.0.1:40001"),
            (Message::Ready, b"\0\x01\x06"),
            (Message::Yours, b"\0\x01\x07"),
            (Message::GaveUp { reason: "no disk".to_owned() }, b"\0\x08\x08no disk"),
        ] {
            let bytes = message.encode();
            assert_eq!(bytes, golden, "{message:?}");
            for cut in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..cut]), Ok(None), "{message:?} cut at {cut}");
            }
            let more = [&bytes[..], b"more"].concat();
            assert_eq!(Message::decode(&more), Ok(Some((message, bytes.len()))));
        }
        let all = Message::Sockets(sockets.into_iter().cycle().take(MAX_SOCKETS).collect());
        let bytes = all.encode();
        assert_eq!(Message::decode(&bytes), Ok(Some((all, bytes.len()))));
    }

    #[test]
    fn long_reasons_are_cut() {
        let message = Message::GaveUp { reason: "\u{e4}".repeat(100_000) };
        let bytes = message.encode();
        let Ok(Some((Message::GaveUp { reason }, _))) = Message::decode(&bytes) else { panic!("a message") };
        assert_eq!(reason.chars().count(), MAX_REASON);
    }

    #[test]
    fn everything_else_is_an_error() {
        for bytes in [
            &b"\0\0"[..],
            b"\xff\xff\x01",
            b"GET / HTTP/1.1\r\n",
            b"\0\x01\0",
            b"\0\x01\x09",
            b"\0\x01\x01",
            b"\0\x03\x01\x01\x01",
            b"\0\x02\x02\0",
            b"\0\x02\x03\xff",
            b"\0\x01\x05",
            b"\0\x02\x05\xff",
            b"\0\x02\x05\x01",
            b"\0\x04\x05\x01\x05a",
            b"\0\x03\x05\0x",
            b"\0\x16\x05\x01\x0alocalhost:\x09127.0.0.1",
        ] {
            assert!(Message::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
