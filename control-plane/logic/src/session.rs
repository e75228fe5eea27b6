//! A playback session: when its token ends and where its URL points.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use media::{PackageId, RenditionKind, SegmentKey, TitleId};

/// How long a session may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRules {
    /// How much longer than twice its runtime a film may take, for pauses. Default 2 h.
    pub pause_allowance: Duration,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self { pause_allowance: Duration::from_hours(2) }
    }
}

/// When the token of a session that begins at `now` (Unix seconds) ends.
///
/// A player loads a film's playlist once and keeps its URLs, so the token must live until the film's end:
/// twice the runtime and the pause allowance. The right's end (`right_ends`, grace included, `None` for a
/// purchase) comes first, except that a film begun in time always gets its runtime: no grace is too short for
/// any film.
#[must_use]
pub fn expires_at(now: u64, right_ends: Option<u64>, runtime: Duration, rules: &SessionRules) -> u64 {
    let runtime_s = runtime.as_secs().saturating_add(u64::from(runtime.subsec_nanos() > 0));
    let usual = runtime_s.saturating_mul(2).saturating_add(rules.pause_allowance.as_secs());
    let wanted = now.saturating_add(usual);
    let least = now.saturating_add(runtime_s.max(1));
    right_ends.map_or(wanted, |ends| wanted.min(ends)).max(least)
}

/// Where viewers reach the gateway: `https://edge.example` or `http://127.0.0.1:8480`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayUrl(String);

/// Why a text is no [`GatewayUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no gateway URL: {reason}")]
pub struct GatewayUrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for GatewayUrl {
    type Err = GatewayUrlError;

    fn from_str(text: &str) -> Result<Self, GatewayUrlError> {
        let fail = |reason| Err(GatewayUrlError { text: text.chars().take(80).collect(), reason });
        let Some(authority) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
            return fail("it must begin with https:// or http://");
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if authority.is_empty() || authority.starts_with(':') || !authority.chars().all(allowed) {
            return fail("it must be a host, perhaps a port, and nothing else");
        }
        Ok(Self(text.strip_suffix('/').unwrap_or(text).to_owned()))
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URL a player opens: the multivariant playlist of the package, below the token.
#[must_use]
pub fn playback_url(gateway: &GatewayUrl, token: &str, title: TitleId, package: PackageId) -> String {
    let path = SegmentKey::main(title, package).path(RenditionKind::Main);
    format!("{gateway}/p/{token}/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    #[test]
    fn a_token_lives_as_long_as_the_film_may_take() {
        let now = 1_000_000;
        let check = |right_ends: Option<u64>, runtime: u64, expected: u64| {
            let runtime = Duration::from_secs(runtime);
            let ends =
                expires_at(now, right_ends.map(|after| now + after), runtime, &SessionRules::default());
            assert_eq!(ends - now, expected, "{right_ends:?} {runtime:?}");
        };
        check(None, 2 * HOUR, 6 * HOUR);
        check(None, 0, 2 * HOUR);
        check(Some(100 * HOUR), 2 * HOUR, 6 * HOUR);
        check(Some(5 * HOUR), 2 * HOUR, 5 * HOUR);
        check(Some(6 * HOUR), 2 * HOUR, 6 * HOUR);
        // Begun in time, it ends, whatever the grace.
        check(Some(1), 2 * HOUR, 2 * HOUR);
        check(Some(0), 0, 1);
    }

    #[test]
    fn nothing_overflows() {
        let rules = SessionRules { pause_allowance: Duration::MAX };
        assert_eq!(expires_at(u64::MAX, None, Duration::MAX, &rules), u64::MAX);
        let ends = expires_at(
            10,
            None,
            Duration::from_millis(1500),
            &SessionRules { pause_allowance: Duration::ZERO },
        );
        assert_eq!(ends, 14, "a part of a second counts as one");
    }

    #[test]
    fn the_url_is_the_token_and_the_key() {
        let gateway: GatewayUrl = "https://edge.example/".parse().expect("valid");
        let url = playback_url(&gateway, "TOKEN", "bbb".parse().expect("valid"), PackageId(255));
        assert_eq!(url, "https://edge.example/p/TOKEN/bbb/00000000000000ff/main.m3u8");
    }

    #[test]
    fn a_gateway_url_is_a_scheme_and_a_host() {
        for good in ["http://127.0.0.1:8480", "https://edge.example", "https://[::1]:8443", "http://a/"] {
            assert_eq!(good.parse::<GatewayUrl>().expect(good).to_string(), good.trim_end_matches('/'));
        }
        for bad in [
            "",
            "edge.example",
            "ftp://a",
            "https://",
            "https:///",
            "https://:80",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://a b",
            "https://a//",
        ] {
            assert!(bad.parse::<GatewayUrl>().is_err(), "{bad:?}");
        }
    }
}
