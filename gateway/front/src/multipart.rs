//! `multipart/byteranges` (RFC 9110 section 14.6): several ranges of one object in one response.

use bytes::Bytes;
use media::{ByteRange, Digest};

/// The pieces of a multipart body, its length and its media type.
pub(crate) struct Multipart {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) len: u64,
    pub(crate) content_type: String,
}

/// One piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Delimiters and part headers.
    Text(Bytes),
    /// Bytes of the object.
    Range(ByteRange),
}

impl Multipart {
    /// Lays out `ranges` of an object. The boundary is taken from the object's hash: no bytes can be made
    /// that contain a chosen piece of their own hash, so it cannot occur inside a part, and the response is the same for every viewer.
    pub(crate) fn new(ranges: &[ByteRange], total: u64, content_type: &str, root: &Digest) -> Self {
        let boundary: String = root.to_string().chars().skip(32).collect();
        let mut pieces = Vec::with_capacity(ranges.len() * 2 + 1);
        for (at, range) in ranges.iter().enumerate() {
            let line = if at == 0 { "" } else { "\r\n" };
            let content_range = range.content_range(total);
            let head = format!(
                "{line}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range}\r\n\r\n"
            );
            pieces.extend([Piece::Text(head.into()), Piece::Range(*range)]);
        }
        pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n").into()));
        let len = pieces.iter().map(Piece::len).sum();
        Self { pieces, len, content_type: format!("multipart/byteranges; boundary={boundary}") }
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Range(range) => range.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout() {
        let ranges = [(0, 5), (90, 100)].map(|(a, b)| ByteRange::new(a, b).expect("not empty"));
        let root = Digest::of(b"object");
        let made = Multipart::new(&ranges, 100, "video/mp4", &root);
        let boundary = &root.to_string()[32..];
        assert_eq!(made.content_type, format!("multipart/byteranges; boundary={boundary}"));
        let text: String = made
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => String::from_utf8(text.to_vec()).expect("text"),
                Piece::Range(range) => "x".repeat(range.len() as usize),
            })
            .collect();
        let part = |range: &str| {
            format!("--{boundary}\r\nContent-Type: video/mp4\r\nContent-Range: {range}\r\n\r\n")
        };
        let expected = format!(
            "{}xxxxx\r\n{}xxxxxxxxxx\r\n--{boundary}--\r\n",
            part("bytes 0-4/100"),
            part("bytes 90-99/100")
        );
        assert_eq!(text, expected);
        assert_eq!(made.len, expected.len() as u64);
    }
}
