//! The one table from what went wrong to what the viewer is told.
//!
//! A refusal is a short plain text, `<code>: <sentence>`, with `Cache-Control: no-store` (a cached error
//! would outlive its cause) and a `Proxy-Status` field (RFC 9209) that carries the same code for machines.
//! The viewer's text never says more than the code does; what the operator needs to know stands in the log.

use control_api::TokenError;
use engine::Failure;
use http::StatusCode;

/// Why a request gets an error. Closed: the access log, the metric and the response use [`Refusal::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A header that a media request cannot have, or cannot have twice.
    Framing(Framing),
    /// A method other than `GET`, `HEAD` and `OPTIONS`.
    Method,
    /// A request target that is longer than any of ours.
    TargetTooLong,
    /// More header bytes or fields than allowed.
    HeadTooLarge,
    /// No such path here.
    NoSuchPath,
    /// There is no token where one belongs.
    NoToken,
    /// The token does not open this.
    Token(TokenError),
    /// `If-Match` names another version.
    Precondition,
    /// No requested range touches the object.
    Range,
    /// The engine could not serve.
    Engine(Failure),
    /// There is more to do than this node can do, and this request is among what is given up.
    Shed,
    /// The session has all the responses under way that it may have.
    Greedy,
}

/// What is wrong with a request's framing. The connection is closed after each of these: whoever sent it may
/// have meant the bytes behind it as something else (request smuggling).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A body, announced or sent.
    Body,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
    /// No host at all.
    NoHost,
    /// More than one `Host`, or two that differ.
    TwoHosts,
    /// A `Host` that is none.
    BadHost,
    /// A request target that is no plain path.
    BadTarget,
    /// A version we do not speak.
    Version,
}

impl Framing {
    const ALL: [Self; 8] = [
        Self::Body,
        Self::TransferEncoding,
        Self::Upgrade,
        Self::NoHost,
        Self::TwoHosts,
        Self::BadHost,
        Self::BadTarget,
        Self::Version,
    ];
}

/// How RFC 9209 section 2.3 names the kind of an error.
type ProxyError = &'static str;

const DENIED: ProxyError = "http_request_denied";
const MALFORMED: ProxyError = "http_request_error";
/// What this node knows by itself; no source was asked.
const OWN_ANSWER: ProxyError = "proxy_internal_response";

struct Row {
    status: StatusCode,
    code: &'static str,
    sentence: &'static str,
    proxy: ProxyError,
}

const fn row(status: StatusCode, code: &'static str, sentence: &'static str, proxy: ProxyError) -> Row {
    Row { status, code, sentence, proxy }
}

impl Refusal {
    /// Every refusal there is.
    pub(crate) fn all() -> Vec<Self> {
        let plain = [
            Self::Method,
            Self::TargetTooLong,
            Self::HeadTooLarge,
            Self::NoSuchPath,
            Self::Precondition,
            Self::Range,
            Self::NoToken,
            Self::Shed,
            Self::Greedy,
        ];
        let framing = Framing::ALL.into_iter().map(Self::Framing);
        let tokens = TokenError::ALL.into_iter().map(Self::Token);
        plain
            .into_iter()
            .chain(framing)
            .chain(tokens)
            .chain(Failure::ALL.into_iter().map(Self::Engine))
            .collect()
    }

    fn row(self) -> Row {
        match self {
            Self::Framing(framing) => framing_row(framing),
            Self::Token(error) => token_row(error),
            Self::Engine(failure) => engine_row(failure),
            Self::Shed => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                row(status, "shed", "this node has too much to do; come back a little later", DENIED)
            }
            Self::Greedy => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                row(status, "too-many-at-once", "this session has too many open requests", DENIED)
            }
            Self::Method => {
                row(StatusCode::METHOD_NOT_ALLOWED, "method", "only GET, HEAD and OPTIONS", MALFORMED)
            }
            Self::TargetTooLong => {
                row(StatusCode::URI_TOO_LONG, "target-too-long", "no path here is that long", MALFORMED)
            }
            Self::HeadTooLarge => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                row(status, "head-too-large", "too many bytes of header fields", MALFORMED)
            }
            Self::NoSuchPath => row(StatusCode::NOT_FOUND, "no-such-path", "nothing is here", OWN_ANSWER),
            Self::NoToken => row(
                StatusCode::FORBIDDEN,
                "missing-token",
                "the path has no token; ask for a session",
                DENIED,
            ),
            Self::Precondition => {
                row(StatusCode::PRECONDITION_FAILED, "precondition", "this is another version", OWN_ANSWER)
            }
            Self::Range => {
                row(StatusCode::RANGE_NOT_SATISFIABLE, "range", "the range is past the end", OWN_ANSWER)
            }
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        self.row().status
    }

    /// The word used in the response, the access log and the metric.
    pub(crate) fn code(self) -> &'static str {
        self.row().code
    }

    /// The whole text the viewer gets.
    pub(crate) fn text(self) -> String {
        let row = self.row();
        format!("{}: {}\n", row.code, row.sentence)
    }

    /// The `error` parameter of `Proxy-Status`.
    pub(crate) fn proxy_error(self) -> &'static str {
        self.row().proxy
    }

    /// Whether another try in some seconds makes sense.
    pub(crate) fn is_transient(self) -> bool {
        let passing =
            [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        passing.contains(&self.row().status)
    }

    /// Whether the connection must not be used again.
    pub(crate) const fn closes(self) -> bool {
        matches!(self, Self::Framing(_) | Self::TargetTooLong | Self::HeadTooLarge)
    }
}

fn framing_row(framing: Framing) -> Row {
    let bad = StatusCode::BAD_REQUEST;
    match framing {
        Framing::Body => row(StatusCode::PAYLOAD_TOO_LARGE, "body", "a request here has no body", MALFORMED),
        Framing::TransferEncoding => {
            row(bad, "transfer-encoding", "a request here has no transfer coding", MALFORMED)
        }
        Framing::Upgrade => row(bad, "upgrade", "no other protocol is spoken here", MALFORMED),
        Framing::NoHost => row(bad, "no-host", "the request names no host", MALFORMED),
        Framing::TwoHosts => row(bad, "two-hosts", "the request names more than one host", MALFORMED),
        Framing::BadHost => row(bad, "bad-host", "the request's host is malformed", MALFORMED),
        Framing::BadTarget => row(bad, "bad-target", "the request's target is no plain path", MALFORMED),
        Framing::Version => {
            let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            row(status, "version", "HTTP/1.1 and HTTP/2 are spoken here", MALFORMED)
        }
    }
}

fn token_row(error: TokenError) -> Row {
    let sentence = match error {
        TokenError::Expired => "this session is over; ask for a new one",
        TokenError::NotYetValid => "this session has not begun",
        TokenError::WrongTitle => "this session is for another title",
        _ => "the token does not open this",
    };
    row(StatusCode::FORBIDDEN, error.as_str(), sentence, DENIED)
}

fn engine_row(failure: Failure) -> Row {
    let (gone, bad) = (StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY);
    let (code, later) = (failure.as_str(), StatusCode::SERVICE_UNAVAILABLE);
    match failure {
        Failure::NoSuchTitle => row(gone, code, "no such title", OWN_ANSWER),
        Failure::NoSuchSegment => row(gone, code, "no such part of this title", OWN_ANSWER),
        Failure::Untrusted => row(bad, code, "the title cannot be verified", "http_protocol_error"),
        Failure::SourcesExhausted => row(later, code, "no source has it now", "destination_unavailable"),
        Failure::Changed => row(bad, code, "the sources hold another version", "http_protocol_error"),
        Failure::Deadline => {
            row(StatusCode::GATEWAY_TIMEOUT, code, "no source answered in time", "http_response_timeout")
        }
        Failure::Overloaded => row(later, code, "this node is full", OWN_ANSWER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_code_and_one_short_line() {
        let mut codes: Vec<&str> = Refusal::all().into_iter().map(Refusal::code).collect();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count, "two refusals share a code");
        for refusal in Refusal::all() {
            let text = refusal.text();
            assert!(text.starts_with(refusal.code()) && text.ends_with('\n') && text.len() < 80, "{text:?}");
            assert!(refusal.status().is_client_error() || refusal.status().is_server_error(), "{text:?}");
        }
    }

    #[test]
    fn the_table() {
        let check = |refusal: Refusal, status: u16, closes: bool, transient: bool, proxy: &str| {
            let found = (refusal.status().as_u16(), refusal.closes(), refusal.is_transient());
            assert_eq!(found, (status, closes, transient), "{refusal:?}");
            assert_eq!(refusal.proxy_error(), proxy, "{refusal:?}");
        };
        check(Refusal::Framing(Framing::Body), 413, true, false, MALFORMED);
        check(Refusal::Framing(Framing::TransferEncoding), 400, true, false, MALFORMED);
        check(Refusal::Framing(Framing::NoHost), 400, true, false, MALFORMED);
        check(Refusal::Method, 405, false, false, MALFORMED);
        check(Refusal::HeadTooLarge, 431, true, false, MALFORMED);
        check(Refusal::Token(TokenError::Expired), 403, false, false, DENIED);
        check(Refusal::NoToken, 403, false, false, DENIED);
        check(Refusal::NoSuchPath, 404, false, false, OWN_ANSWER);
        check(Refusal::Precondition, 412, false, false, OWN_ANSWER);
        check(Refusal::Range, 416, false, false, OWN_ANSWER);
        check(Refusal::Engine(Failure::NoSuchSegment), 404, false, false, OWN_ANSWER);
        check(Refusal::Engine(Failure::SourcesExhausted), 503, false, true, "destination_unavailable");
        check(Refusal::Engine(Failure::Changed), 502, false, false, "http_protocol_error");
        check(Refusal::Engine(Failure::Deadline), 504, false, true, "http_response_timeout");
        check(Refusal::Engine(Failure::Overloaded), 503, false, true, OWN_ANSWER);
        check(Refusal::Shed, 503, false, true, DENIED);
        check(Refusal::Greedy, 429, false, true, DENIED);
    }

    /// The types of the "HTTP Proxy Error Types" registry that are ours, with the status that RFC 9209 recommends
    /// for them; 0 where it leaves that to the proxy.
    #[test]
    fn proxy_errors_are_those_of_the_registry() {
        let registry = [
            ("destination_unavailable", 503),
            ("http_request_error", 0),
            ("http_request_denied", 403),
            ("http_response_timeout", 504),
            ("http_protocol_error", 502),
            ("proxy_internal_response", 0),
        ];
        for refusal in Refusal::all() {
            let entry = registry.iter().find(|(name, _)| *name == refusal.proxy_error());
            let (_, status) = entry.expect("a registered type");
            let own = refusal.status().as_u16();
            let by_policy = matches!(refusal, Refusal::Shed | Refusal::Greedy);
            assert!(by_policy || *status == 0 || *status == own, "{refusal:?}: {own}");
        }
    }
}
