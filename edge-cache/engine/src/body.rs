//! The bytes of one response.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use crate::cursor::Cursor;
use crate::error::ServeError;

/// The bytes of one response, in pieces of at most 16 KiB. It ends after the last byte of the range or with
/// an error. Dropping it is leaving.
pub struct Body(Pin<Box<dyn Stream<Item = Result<Bytes, ServeError>> + Send>>);

impl Body {
    pub(crate) fn new(first: Bytes, cursor: Cursor) -> Self {
        let rest = stream::unfold(Some(cursor), |cursor| async {
            let mut cursor = cursor?;
            match cursor.next().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(cursor))),
                Err(error) => {
                    cursor.engine().metrics().failed(error.reason);
                    Some((Err(error), None))
                }
            }
        });
        Self(Box::pin(stream::once(async { Ok(first) }).chain(rest)))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, ServeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}
