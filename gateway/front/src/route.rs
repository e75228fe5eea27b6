//! From a path to what it names.

use media::SegmentKey;
use media::key::Extension;

/// What a path names. The query is no part of it: players add reports and junk that must not become another
/// cache entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/p/<token>/<title>/<package>/...`
    Media { token: &'a str, key: SegmentKey, extension: Extension },
    /// The place of the token is empty or left out: refused as such, so that nobody takes it for a lost film.
    Tokenless,
    /// `/healthz`
    Health,
}

/// `None` for everything that is not ours.
pub(crate) fn route(path: &str) -> Option<Route<'_>> {
    if path == "/healthz" {
        return Some(Route::Health);
    }
    let rest = path.strip_prefix("/p/")?;
    if SegmentKey::parse(rest.strip_prefix('/').unwrap_or(rest)).is_ok() {
        return Some(Route::Tokenless);
    }
    let (token, key) = rest.split_once('/')?;
    let (key, extension) = SegmentKey::parse(key).ok()?;
    Some(Route::Media { token, key, extension })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_paths() {
        assert_eq!(route("/healthz"), Some(Route::Health));
        for (path, shown) in [
            ("/p/tok/bbb/00000000000000ff/main.m3u8", "bbb/00000000000000ff/main/playlist"),
            ("/p/tok/bbb/00000000000000ff/v720/index.m3u8", "bbb/00000000000000ff/v720/playlist"),
            ("/p/a-_Z/bbb/00000000000000ff/v720/7.m4s", "bbb/00000000000000ff/v720/7"),
        ] {
            let Some(Route::Media { key, .. }) = route(path) else { panic!("{path}") };
            assert_eq!(key.to_string(), shown);
        }
    }

    #[test]
    fn a_missing_token_is_told_from_a_missing_film() {
        for path in [
            "/p//bbb/00000000000000ff/main.m3u8",
            "/p/bbb/00000000000000ff/main.m3u8",
            "/p/bbb/00000000000000ff/v720/7.m4s",
        ] {
            assert_eq!(route(path), Some(Route::Tokenless), "{path}");
        }
    }

    #[test]
    fn everything_else_is_nothing() {
        for path in [
            "",
            "/",
            "*",
            "/healthz/",
            "/metrics",
            "/readyz",
            "/p",
            "/p/",
            "/p/tok",
            "/p/tok/",
            "/p//",
            "/p//bbb/00000000000000ff/",
            "p/tok/bbb/00000000000000ff/main.m3u8",
            "/p/tok/bbb/ff/main.m3u8",
            "/p/tok/bbb/00000000000000ff/../main.m3u8",
            "/p/tok/bbb/00000000000000ff/v720/07.m4s",
            "/p/tok/bbb/00000000000000ff/v720/7.m4s/",
            "/P/tok/bbb/00000000000000ff/main.m3u8",
            "/p/tok//bbb/00000000000000ff/main.m3u8",
            "/p/tok/bbb/00000000000000ff/index.weir",
            "/p/tok/bbb/00000000000000ff/v720.mp4",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
    }
}
