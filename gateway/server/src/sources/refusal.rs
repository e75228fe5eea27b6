//! Why a source says no, as far as a person can do something about it: pure rules that S3 and HTTP share, and one
//! line in the log for each source and minute, however many transfers are refused.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use prometheus::{IntCounter, IntCounterVec, Opts};
use sourcing::{Reason, SourceError, SourceId};
use tokio::time::Instant;

/// Clocks that differ by more than this make signatures fail: S3 allows a quarter of an hour, a URL that was signed
/// for a minute allows less.
const MUCH_SKEW: u64 = 60;

/// A source that asks for more is asked again all the same: nobody waits a day for a slip of the pen.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// How often one source is complained of.
const ONE_LINE_IN: Duration = Duration::from_secs(60);

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// This machine's clock, or the other's.
    Clock,
    /// A signature or session that was good once.
    Expired,
    /// None are there, or not the right ones.
    Credentials,
    /// They are known and not enough.
    Forbidden,
    /// A redirect.
    Moved,
    /// Something else.
    Other,
}

impl Cause {
    const ALL: [Self; 6] =
        [Self::Clock, Self::Expired, Self::Credentials, Self::Forbidden, Self::Moved, Self::Other];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Expired => "expired",
            Self::Credentials => "credentials",
            Self::Forbidden => "forbidden",
            Self::Moved => "moved",
            Self::Other => "other",
        }
    }

    /// What to do about it.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::Clock => "the clocks differ, so signatures fail: check this machine's time (NTP)",
            Self::Expired => {
                "the signature or session has expired: renew the credentials, or sign for longer"
            }
            Self::Credentials => {
                "no credentials that it knows: check the key files and ids of this [[source]], or the environment, \
                 profile or role that they come from"
            }
            Self::Forbidden => {
                "the credentials are not enough: allow reading of the objects, or check signature, key id and header \
                 of this [[source]]"
            }
            Self::Moved => "redirects are not followed: set url, region or endpoint_url to where it moved",
            Self::Other => "see what it says",
        }
    }
}

/// What is known of a refusal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts<'a> {
    pub(super) status: u16,
    /// The code in the body, where there is one.
    pub(super) code: Option<&'a str>,
    /// Whether the body speaks of expiry.
    pub(super) says_expired: bool,
    /// How far the other clock is from ours, in seconds.
    pub(super) skew: Option<u64>,
}

pub(super) fn cause(facts: &Facts<'_>) -> Cause {
    let skewed = facts.skew.is_some_and(|skew| skew > MUCH_SKEW);
    match (facts.code.unwrap_or_default(), facts.status) {
        ("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed", _) | (_, 300..=399) => {
            Cause::Moved
        }
        ("RequestTimeTooSkewed" | "RequestInTheFuture", _) => Cause::Clock,
        (_, 401 | 403) if skewed => Cause::Clock,
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired", _) => {
            Cause::Expired
        }
        (_, 401 | 403) if facts.says_expired => Cause::Expired,
        (
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "MissingSecurityHeader"
            | "MissingKey"
            | "InvalidKey"
            | "InvalidSignature"
            | "MalformedPolicy",
            _,
        )
        | (_, 401) => Cause::Credentials,
        (_, 403) => Cause::Forbidden,
        _ => Cause::Other,
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date that is compared with `now` in Unix seconds.
pub(super) fn retry_after(text: &str, now: u64) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let seconds =
        if digits { text.parse().unwrap_or(u64::MAX) } else { http_date(text)?.saturating_sub(now) };
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// How far a `Date` is from `now`.
pub(super) fn skew(date: &str, now: u64) -> Option<u64> {
    Some(http_date(date)?.abs_diff(now))
}

fn http_date(text: &str) -> Option<u64> {
    let date = DateTime::from_str(text, DateTimeFormat::HttpDate).ok()?;
    u64::try_from(date.secs()).ok()
}

/// The code of an error in XML, as S3 and CloudFront write it. Nothing else of the body is shown: it may repeat what
/// was signed.
pub(super) fn code(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plain = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then_some(code)
}

/// The counters of all sources of this program.
pub(crate) fn refusals() -> prometheus::Result<IntCounterVec> {
    let opts = Opts::new(
        "weir_gateway_source_refusals_total",
        "Transfers that a source refused for a cause that a person can mend, by cause",
    );
    IntCounterVec::new(opts, &["source", "cause"])
}

/// Complains of one source.
pub(crate) struct Complaints {
    source: SourceId,
    counters: Vec<(Cause, IntCounter)>,
    /// When there was a line last, and refusals since.
    last: Mutex<(Option<Instant>, u64)>,
}

impl Complaints {
    pub(crate) fn new(source: &SourceId, refusals: &IntCounterVec) -> Self {
        let counter = |cause: Cause| refusals.with_label_values(&[source.as_str(), cause.as_str()]);
        let counters = Cause::ALL.iter().map(|cause| (*cause, counter(*cause))).collect();
        Self { source: source.clone(), counters, last: Mutex::default() }
    }

    /// Makes the error of a refusal, counts it, and tells a person if none was told lately.
    pub(super) fn refuse(&self, cause: Cause, what: &str) -> SourceError {
        if let Some((_, counter)) = self.counters.iter().find(|(known, _)| *known == cause) {
            counter.inc();
        }
        if let Some(times) = self.due(Instant::now()) {
            let (source, cause, advice) = (&self.source, cause.as_str(), cause.advice());
            tracing::warn!(%source, cause, what, advice, times, "a source refuses us");
        }
        SourceError::new(Reason::Refused, format_args!("{what}: {}", cause.advice()))
    }

    /// How often it was refused since the last line, if it is time for another.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.1 += 1;
        if last.0.is_some_and(|told| now < told + ONE_LINE_IN) {
            return None;
        }
        last.0 = Some(now);
        Some(std::mem::take(&mut last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do() {
        let check = |status, code: &str, says_expired, skew, expected| {
            let code = Some(code).filter(|code| !code.is_empty());
            let facts = Facts { status, code, says_expired, skew };
            assert_eq!(cause(&facts), expected, "{facts:?}");
        };
        check(403, "AccessDenied", false, Some(2), Cause::Forbidden);
        check(403, "AccessDenied", true, Some(2), Cause::Expired);
        check(403, "AccessDenied", true, Some(600), Cause::Clock);
        check(403, "RequestTimeTooSkewed", false, None, Cause::Clock);
        check(400, "ExpiredToken", false, None, Cause::Expired);
        check(403, "InvalidAccessKeyId", false, None, Cause::Credentials);
        check(403, "SignatureDoesNotMatch", false, Some(60), Cause::Credentials);
        check(403, "MissingKey", false, None, Cause::Credentials);
        check(401, "", false, None, Cause::Credentials);
        check(403, "", false, None, Cause::Forbidden);
        check(302, "", false, Some(600), Cause::Moved);
        check(301, "PermanentRedirect", false, None, Cause::Moved);
        check(400, "", false, None, Cause::Other);
        assert!(Cause::ALL.iter().all(|cause| cause.advice().len() > 10));
    }

    #[test]
    fn pauses_are_seconds_or_dates_and_bounded() {
        // 784111777 in Unix seconds.
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let secs = |secs| Some(Duration::from_secs(secs));
        for (text, expected) in [
            ("0", secs(0)),
            ("7", secs(7)),
            ("86400", secs(3_600)),
            ("99999999999999999999999", secs(3_600)),
            (date, secs(77)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", secs(0)),
            ("", None),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, 784_111_700), expected, "{text:?}");
        }
        assert_eq!(skew(date, 784_112_777), Some(1_000));
        assert_eq!(skew("yesterday", 0), None);
    }

    #[test]
    fn only_a_code_is_taken_from_a_body() {
        assert_eq!(
            code("<?xml?><Error><Code>AccessDenied</Code><Message>x</Message></Error>"),
            Some("AccessDenied")
        );
        for none in ["", "<Code>", "<Code></Code>", "<Code>a b</Code>", "<Code>key=secret</Code>", "Code"] {
            assert_eq!(code(none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn one_line_a_minute() {
        let complaints = Complaints::new(&"s3".parse().expect("an id"), &refusals().expect("counters"));
        let now = Instant::now();
        assert_eq!(complaints.due(now), Some(1));
        assert_eq!((complaints.due(now), complaints.due(now + Duration::from_secs(59))), (None, None));
        assert_eq!(complaints.due(now + Duration::from_secs(60)), Some(3));
        let error = complaints.refuse(Cause::Clock, "it answered 403");
        assert_eq!(error.reason, Reason::Refused);
        assert!(error.detail.contains("NTP"), "{error}");
    }
}
