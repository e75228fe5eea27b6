//! Which renditions a package has and where their files are.

use std::path::Path;

use control::ladder::Ladder;
use control_api::Language;
use control_api::rest::CaptionSource;
use media::{RenditionId, RenditionKind};

use super::Fault;

/// The rendition of the thumbnail sheets.
pub(super) const THUMBS: &str = "thumbs";
/// The rendition of the trick-play archive.
pub(super) const BIF: &str = "bif";
/// The file of the trick-play archive.
pub(super) const BIF_OBJECT: &str = "trick.bif";

/// One rendition with playlists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Track {
    /// Its name.
    pub id: RenditionId,
    /// What it carries.
    pub kind: RenditionKind,
    /// Its language, of audio and captions.
    pub language: Option<Language>,
}

impl Track {
    /// Its media playlist's file name.
    #[must_use]
    pub(super) fn playlist(&self) -> String {
        format!("{}.m3u8", self.id)
    }

    /// Its I-frame playlist's file name, of video.
    #[must_use]
    pub(super) fn iframes(&self) -> Option<String> {
        (self.kind == RenditionKind::Video).then(|| format!("{}-iframes.m3u8", self.id))
    }
}

/// The renditions of a package in the order of its index: video from the best down, audio, captions,
/// thumbnails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Everything that has a playlist.
    pub tracks: Vec<Track>,
}

impl Layout {
    /// What becomes of this ladder and these captions.
    ///
    /// # Errors
    /// A permanent [`Fault`] when a language makes no rendition name.
    pub(super) fn new(ladder: &Ladder, captions: &[CaptionSource]) -> Result<Self, Fault> {
        let video = ladder
            .video
            .iter()
            .map(|rung| Ok(Track { id: rung.id.clone(), kind: RenditionKind::Video, language: None }));
        let audio = ladder.audio.iter().map(|rung| {
            Ok(Track {
                id: rung.id.clone(),
                kind: RenditionKind::Audio,
                language: Some(rung.language.clone()),
            })
        });
        let captions = captions.iter().map(|caption| {
            let id = name(&format!("s-{}", caption.language))?;
            Ok(Track { id, kind: RenditionKind::Subtitles, language: Some(caption.language.clone()) })
        });
        let thumbs = Ok(Track { id: name(THUMBS)?, kind: RenditionKind::Images, language: None });
        let tracks = video.chain(audio).chain(captions).chain([thumbs]);
        Ok(Self { tracks: tracks.collect::<Result<_, Fault>>()? })
    }

    /// The tracks of one kind.
    pub(super) fn of(&self, kind: RenditionKind) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(move |track| track.kind == kind)
    }

    /// Names and languages of one kind, as the packager wants them.
    #[must_use]
    pub(super) fn named(&self, kind: RenditionKind) -> Vec<(String, String)> {
        let language = |track: &Track| track.language.as_ref().map(ToString::to_string).unwrap_or_default();
        self.of(kind).map(|track| (track.id.to_string(), language(track))).collect()
    }
}

/// A rendition name.
///
/// # Errors
/// A permanent [`Fault`].
pub(super) fn name(text: &str) -> Result<RenditionId, Fault> {
    text.parse().map_err(|e| Fault::permanent(format!("{text}: {e}")))
}

/// The text of one of the package's files.
///
/// # Errors
/// A [`Fault`] that names the file.
pub(super) fn read_text(directory: &Path, name: &str) -> Result<String, Fault> {
    std::fs::read_to_string(directory.join(name)).map_err(|e| Fault::transient(format!("{name}: {e}")))
}
