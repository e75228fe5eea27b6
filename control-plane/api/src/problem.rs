//! What the API answers when it cannot do what was asked: RFC 9457 problem documents. The table from
//! reason to status stands here and nowhere else.

use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub const PROBLEM_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $title:literal;)*) => {
        /// The closed list of reasons. Programs act on the code; people read the title and the detail.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum ProblemCode { $($(#[$doc])* $name,)* }

        impl ProblemCode {
            /// Every code, for tables and metrics.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word used in JSON, logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// One short sentence that is the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The body, path or a header cannot be read; the detail names the field.
    InvalidRequest = "invalid-request", 400, "The request cannot be read";
    /// A request that must be safe to repeat came without an `Idempotency-Key`.
    IdempotencyKeyMissing = "idempotency-key-missing", 400, "An Idempotency-Key header is required";
    /// No key, a wrong one, or one whose time is over.
    Unauthorized = "unauthorized", 401, "The key is missing, wrong or expired";
    /// The key is good and for something else.
    Forbidden = "forbidden", 403, "The key may not do this";
    /// No key of this id.
    NoSuchKey = "no-such-key", 404, "There is no such key";
    /// The payment service will not charge; the detail says why.
    PaymentDeclined = "payment-declined", 402, "The payment was declined";
    /// The viewer never bought or rented the title.
    NoEntitlement = "no-entitlement", 403, "The viewer has no right to this title";
    /// The rental was not started within its window.
    StartWindowOver = "start-window-over", 403, "The rental was not started in time";
    /// The rental was started, and its viewing window is over.
    FinishWindowOver = "finish-window-over", 403, "The rental's viewing window is over";
    /// The purchase or rental was paid back.
    Refunded = "refunded", 403, "The purchase or rental was refunded";
    /// The viewer's bank took the money back.
    ChargedBack = "charged-back", 403, "The payment was charged back";
    /// The operator took the right away.
    Revoked = "revoked", 403, "The right was revoked";
    /// No such path.
    NotFound = "not-found", 404, "There is nothing at this path";
    /// The viewer has no entitlement of this name.
    NoSuchEntitlement = "no-such-entitlement", 404, "There is no such entitlement";
    /// No title of this name.
    NoSuchTitle = "no-such-title", 404, "There is no such title";
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", 405, "The method is not allowed here";
    /// A title of this name exists with other contents.
    TitleExists = "title-exists", 409, "A title of this name exists already";
    /// The title is known but not yet, or no longer, published.
    TitleNotPublished = "title-not-published", 409, "The title is not published";
    /// Another order of the viewer for the title is being paid.
    OrderInProgress = "order-in-progress", 409, "Another order for this title is being paid";
    /// What was asked cannot be done to an order that stands so.
    OrderOutOfStep = "order-out-of-step", 409, "The order does not stand so that this can be done";
    /// The title has no price of this kind.
    NotForSale = "not-for-sale", 409, "The title has no price of this kind";
    /// As many of the viewer's screens play as may; `take_over` ends the one that began first.
    TooManyStreams = "too-many-streams", 409, "As many screens play as may";
    /// The session ended or another screen took its place.
    StreamEnded = "stream-ended", 409, "The session has lost its place";
    /// The first request with this key is still running.
    IdempotencyKeyInUse = "idempotency-key-in-use", 409, "A request with this Idempotency-Key is still running";
    /// The body is larger than the API reads.
    BodyTooLarge = "body-too-large", 413, "The request body is too large";
    /// The body is not JSON.
    UnsupportedMediaType = "unsupported-media-type", 415, "The request body must be application/json";
    /// The key was used before, for another request.
    IdempotencyKeyReused = "idempotency-key-reused", 422, "The Idempotency-Key was used for another request";
    /// The mezzanine or a caption file is not there.
    SourceNotFound = "source-not-found", 422, "The source file does not exist";
    /// More work than the control plane takes at once.
    Overloaded = "overloaded", 429, "Too many requests at once";
    /// Our own fault; the log has the story under the request's id.
    Internal = "internal", 500, "The control plane failed";
    /// Something the control plane needs is away; asking again later may help.
    Unavailable = "unavailable", 503, "The control plane cannot answer now";
}

/// A problem document (RFC 9457 section 3), with the code as an extension member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail} ({code})", code = .code.as_str())]
pub struct Problem {
    /// A URI reference that names the kind of problem: `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// This occurrence in words: which field, which title, what to do.
    pub detail: String,
    /// The reason for programs.
    pub code: ProblemCode,
}

impl Problem {
    /// A problem of this kind; `detail` says what about this occurrence.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_json_is_the_word_in_logs() {
        for code in ProblemCode::ALL {
            let json = serde_json::to_string(code).expect("serialisable");
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert!((400..600).contains(&code.status()));
        }
    }

    #[test]
    fn a_problem_speaks_for_itself() {
        let problem = Problem::new(ProblemCode::NoSuchTitle, "title bbb");
        assert_eq!(problem.to_string(), "There is no such title: title bbb (no-such-title)");
    }
}
