//! The segment key: what a viewer asks for, what the store keeps, what peers exchange.
//!
//! A key has exactly one spelling as a URL path below the token, so that two requests for the same bytes
//! can never become two cache entries:
//!
//! ```text
//! <title>/<package>/main.m3u8                     the multivariant playlist
//! <title>/<package>/<rendition>/index.m3u8        a media playlist
//! <title>/<package>/<rendition>/iframes.m3u8      an I-frame playlist
//! <title>/<package>/<rendition>/init.mp4          the initialisation section
//! <title>/<package>/<rendition>/<n>.<ext>         segment n, counted from 0 without leading zeros
//! ```

use std::fmt;
use std::str::FromStr;

use crate::index::RenditionKind;
use crate::name::{NameError, PackageId, RenditionId, TitleId};

/// The rendition name under which the multivariant playlist is kept.
pub const MAIN: &str = "main";

/// Which piece of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The media playlist; of the rendition [`MAIN`], the multivariant playlist.
    Playlist,
    /// The I-frame playlist.
    IFrames,
    /// The CMAF initialisation section.
    Init,
    /// A media segment, counted from 0.
    Media(u32),
}

/// Names one immutable run of bytes of one package: the unit of caching, filling and exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentKey {
    /// The film.
    pub title: TitleId,
    /// Which ingest of it.
    pub package: PackageId,
    /// Which encoding.
    pub rendition: RenditionId,
    /// Which piece.
    pub part: Part,
}

/// Why a path is not a segment key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form `title/package/rendition/file`.
    #[error("the path is not title/package/[rendition/]file")]
    Shape,
    /// One of the names is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The last part is no file this package layout knows.
    #[error("{0:?} is not a playlist, an init section or a segment")]
    File(String),
}

impl SegmentKey {
    /// The multivariant playlist of a package.
    #[must_use]
    pub fn main(title: TitleId, package: PackageId) -> Self {
        let rendition = RenditionId::from_str(MAIN).expect("a literal that is a valid name");
        Self { title, package, rendition, part: Part::Playlist }
    }

    /// Parses the path below the token. `.` segments, `%` escapes and doubled slashes are refused because
    /// they are no names.
    ///
    /// # Errors
    /// [`KeyError`] says which part is wrong.
    pub fn parse(path: &str) -> Result<(Self, Extension), KeyError> {
        let parts: Vec<&str> = path.splitn(5, '/').collect();
        match parts[..] {
            [title, package, "main.m3u8"] => {
                Ok((Self::main(title.parse()?, package.parse()?), Extension::M3u8))
            }
            [title, package, rendition, file] => {
                let (part, extension) = parse_file(file)?;
                let rendition: RenditionId = rendition.parse()?;
                if rendition.as_str() == MAIN {
                    return Err(KeyError::Shape);
                }
                Ok((Self { title: title.parse()?, package: package.parse()?, rendition, part }, extension))
            }
            _ => Err(KeyError::Shape),
        }
    }

    /// The path below the token, for a rendition of this kind.
    #[must_use]
    pub fn path(&self, kind: RenditionKind) -> String {
        let Self { title, package, rendition, part } = self;
        match part {
            Part::Playlist if rendition.as_str() == MAIN => format!("{title}/{package}/main.m3u8"),
            Part::Playlist => format!("{title}/{package}/{rendition}/index.m3u8"),
            Part::IFrames => format!("{title}/{package}/{rendition}/iframes.m3u8"),
            Part::Init => format!("{title}/{package}/{rendition}/init.mp4"),
            Part::Media(n) => format!("{title}/{package}/{rendition}/{n}.{}", kind.extension().as_str()),
        }
    }
}

impl fmt::Display for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, package, rendition, part } = self;
        write!(f, "{title}/{package}/{rendition}/{part}")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Playlist => f.write_str("playlist"),
            Self::IFrames => f.write_str("iframes"),
            Self::Init => f.write_str("init"),
            Self::Media(n) => write!(f, "{n}"),
        }
    }
}

/// The file name extensions of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extension {
    /// An HLS playlist.
    M3u8,
    /// A CMAF initialisation section.
    Mp4,
    /// A CMAF media segment.
    M4s,
    /// WebVTT.
    Vtt,
    /// A JPEG thumbnail sheet.
    Jpg,
    /// Roku's trick-play archive.
    Bif,
    /// An MPEG-2 transport stream segment.
    Ts,
}

impl Extension {
    /// The extension without its dot.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M3u8 => "m3u8",
            Self::Mp4 => "mp4",
            Self::M4s => "m4s",
            Self::Vtt => "vtt",
            Self::Jpg => "jpg",
            Self::Bif => "bif",
            Self::Ts => "ts",
        }
    }

    /// The media type to serve it under.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::M3u8 => "application/vnd.apple.mpegurl",
            Self::Mp4 | Self::M4s => "video/mp4",
            Self::Vtt => "text/vtt; charset=utf-8",
            Self::Jpg => "image/jpeg",
            Self::Bif => "application/octet-stream",
            Self::Ts => "video/mp2t",
        }
    }
}

fn parse_file(file: &str) -> Result<(Part, Extension), KeyError> {
    let unknown = || KeyError::File(file.chars().take(40).collect());
    match file {
        "index.m3u8" => return Ok((Part::Playlist, Extension::M3u8)),
        "iframes.m3u8" => return Ok((Part::IFrames, Extension::M3u8)),
        "init.mp4" => return Ok((Part::Init, Extension::Mp4)),
        _ => {}
    }
    let (number, extension) = file.split_once('.').ok_or_else(unknown)?;
    let extension = match extension {
        "m4s" => Extension::M4s,
        "vtt" => Extension::Vtt,
        "jpg" => Extension::Jpg,
        "bif" => Extension::Bif,
        "ts" => Extension::Ts,
        _ => return Err(unknown()),
    };
    Ok((Part::Media(canonical_number(number).ok_or_else(unknown)?), extension))
}

/// Digits only and no leading zero: one number, one spelling.
fn canonical_number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<String, KeyError> {
        SegmentKey::parse(path).map(|(key, _)| key.to_string())
    }

    #[test]
    fn good_paths() {
        for (path, shown) in [
            ("bbb/00000000000000ff/main.m3u8", "bbb/00000000000000ff/main/playlist"),
            ("bbb/00000000000000ff/v720/index.m3u8", "bbb/00000000000000ff/v720/playlist"),
            ("bbb/00000000000000ff/v720/iframes.m3u8", "bbb/00000000000000ff/v720/iframes"),
            ("bbb/00000000000000ff/v720/init.mp4", "bbb/00000000000000ff/v720/init"),
            ("bbb/00000000000000ff/v720/0.m4s", "bbb/00000000000000ff/v720/0"),
            ("bbb/00000000000000ff/v720/4294967295.m4s", "bbb/00000000000000ff/v720/4294967295"),
            ("bbb/00000000000000ff/thumbs/3.jpg", "bbb/00000000000000ff/thumbs/3"),
        ] {
            assert_eq!(parse(path).as_deref(), Ok(shown));
        }
    }

    #[test]
    fn each_key_has_one_spelling() {
        for path in [
            "",
            "/",
            "bbb",
            "bbb/00000000000000ff",
            "bbb/00000000000000ff/",
            "bbb/ff/main.m3u8",
            "bbb/00000000000000FF/main.m3u8",
            "bbb/00000000000000ff/main/index.m3u8",
            "bbb/00000000000000ff/v720/00.m4s",
            "bbb/00000000000000ff/v720/01.m4s",
            "bbb/00000000000000ff/v720/+1.m4s",
            "bbb/00000000000000ff/v720/4294967296.m4s",
            "bbb/00000000000000ff/v720/1.exe",
            "bbb/00000000000000ff/v720/1",
            "bbb/00000000000000ff/v720/1.m4s/",
            "bbb//00000000000000ff/v720/1.m4s",
            "bbb/00000000000000ff/../1.m4s",
            "bbb/00000000000000ff/v%37/1.m4s",
        ] {
            assert!(parse(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_path_survives_the_round_trip() {
        let path = "bbb/00000000000000ff/v720/12.m4s";
        let (key, extension) = SegmentKey::parse(path).expect("valid");
        assert_eq!(extension, Extension::M4s);
        assert_eq!(key.path(RenditionKind::Video), path);
    }
}
