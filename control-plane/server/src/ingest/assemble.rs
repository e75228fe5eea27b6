//! From what the tools made to what is published: playlists in two forms, thumbnails, the trick-play archive.
//!
//! The packager leaves media files and byte-range playlists in one directory. Afterwards the media files stand
//! where they were, `cdn/` holds the packager's playlists for a plain CDN, `hls/` the same rewritten to virtual
//! segments for the gateways.

use std::fs;
use std::path::Path;

use media::playlist::{
    MediaPlaylist, map_uris, parse_media, virtualize_iframes, virtualize_main, virtualize_media,
};
use media::{Part, RenditionId, RenditionKind};

use super::Fault;
use super::bif::bif;
use super::layout::{BIF_OBJECT, Layout, THUMBS, Track, read_text};
use super::timeless::forget_times;
use crate::adapters::tools::{SHEET_TILES, THUMBNAIL};

/// What viewers are told about the film, as session data in the multivariant playlist.
#[derive(Debug, Clone, Default)]
pub(super) struct Credits {
    /// The film's name.
    pub name: String,
    /// Whom to credit.
    pub attribution: Option<String>,
}

/// Turns the packager's directory into the package, in place. `thumbs` holds `sheet-<n>.jpg` and
/// `still-<n>.jpg`, `every_s` seconds apart, of a film of `film_ms` milliseconds.
///
/// # Errors
/// A [`Fault`]: a tool left something else than it promised, or a file cannot be written.
pub(super) fn assemble(
    package: &Path,
    thumbs: &Path,
    layout: &Layout,
    (every_s, film_ms): (u32, u64),
    credits: &Credits,
) -> Result<(), Fault> {
    let pictures = Pictures::collect(thumbs, every_s, film_ms)?;
    pictures.place(package)?;
    fs::create_dir(package.join("cdn"))?;
    fs::create_dir(package.join("hls"))?;
    let mut playlists = Vec::new();
    for track in &layout.tracks {
        let text = match track.kind {
            RenditionKind::Images => pictures.playlist(),
            _ => take_text(package, &track.playlist())?,
        };
        let parsed = parse_media(&text).map_err(|e| wrong(track, &e))?;
        playlists.push((track, text, parsed));
    }
    let av = |kind| matches!(kind, RenditionKind::Video | RenditionKind::Audio);
    let longest =
        playlists.iter().filter(|(track, ..)| av(track.kind)).map(|(.., parsed)| parsed.longest_s()).max();
    for (track, text, parsed) in &playlists {
        // The packager writes the longest segment of all its outputs into each playlist; a caption file that is
        // one segment makes that the length of the film.
        let target = if av(track.kind) { longest.unwrap_or(1) } else { parsed.longest_s() };
        write_media(package, track, text, parsed, target)?;
    }
    let main = take_text(package, "main.m3u8")? + &pictures.stream_line() + &credits.lines();
    fs::write(package.join("cdn/main.m3u8"), &main)?;
    let virtual_main = virtualize_main(&main, |uri| part_of(layout, uri));
    fs::write(
        package.join("hls/main.m3u8"),
        virtual_main.map_err(|e| Fault::permanent(format!("main.m3u8: {e}")))?,
    )?;
    Ok(())
}

fn write_media(
    package: &Path,
    track: &Track,
    text: &str,
    parsed: &MediaPlaylist,
    target: u32,
) -> Result<(), Fault> {
    if let Some((map, range)) = parsed.map.as_ref().and_then(|map| Some((map, map.range?))) {
        forget_times(&package.join(&map.uri), range)?;
    }
    let text = with_target(text, target);
    let name = track.playlist();
    let cdn = map_uris(&text, |uri| Some(format!("../{uri}"))).map_err(|e| wrong(track, &e))?;
    fs::write(package.join("cdn").join(&name), cdn)?;
    let hls = virtualize_media(&text, track.kind, Some(target)).map_err(|e| wrong(track, &e))?;
    fs::write(package.join("hls").join(&name), hls)?;
    let Some(name) = track.iframes() else { return Ok(()) };
    let text = with_target(&take_text(package, &name)?, target);
    let cdn = map_uris(&text, |uri| Some(format!("../{uri}"))).map_err(|e| wrong(track, &e))?;
    fs::write(package.join("cdn").join(&name), cdn)?;
    let hls = virtualize_iframes(&text, parsed, track.kind, Some(target)).map_err(|e| wrong(track, &e))?;
    fs::write(package.join("hls").join(&name), hls)?;
    Ok(())
}

/// Reads a playlist that the packager left and removes it: its rewritten forms take its place.
fn take_text(package: &Path, name: &str) -> Result<String, Fault> {
    let text = read_text(package, name)?;
    fs::remove_file(package.join(name))?;
    Ok(text)
}

fn with_target(text: &str, target: u32) -> String {
    let line = |line: &str| match line.starts_with("#EXT-X-TARGETDURATION:") {
        true => format!("#EXT-X-TARGETDURATION:{target}\n"),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// What a URI of the multivariant playlist means.
fn part_of(layout: &Layout, uri: &str) -> Option<(RenditionId, Part)> {
    layout.tracks.iter().find_map(|track| {
        let part = if track.playlist() == uri {
            Part::Playlist
        } else if track.iframes().as_deref() == Some(uri) {
            Part::IFrames
        } else {
            return None;
        };
        Some((track.id.clone(), part))
    })
}

fn wrong(track: &Track, error: &dyn std::fmt::Display) -> Fault {
    Fault::permanent(format!("the playlist of {}: {error}", track.id))
}

impl Credits {
    /// Session data, the standard's way to say such things. A quoted string can hold neither quotes nor line
    /// ends; names were refused with control characters.
    fn lines(&self) -> String {
        let line = |id: &str, value: &str| {
            format!("#EXT-X-SESSION-DATA:DATA-ID=\"weir.{id}\",VALUE=\"{}\"\n", value.replace('"', "'"))
        };
        let credit = self.attribution.as_ref().map(|credit| line("attribution", credit));
        line("name", &self.name) + &credit.unwrap_or_default()
    }
}

/// The thumbnails.
struct Pictures {
    sheets: Vec<Vec<u8>>,
    stills: Vec<Vec<u8>>,
    every_s: u32,
    film_ms: u64,
}

impl Pictures {
    fn collect(thumbs: &Path, every_s: u32, film_ms: u64) -> Result<Self, Fault> {
        let sheets = numbered(thumbs, "sheet")?;
        if sheets.is_empty() {
            return Err(Fault::transient("no thumbnail was made".to_owned()));
        }
        Ok(Self { sheets, stills: numbered(thumbs, "still")?, every_s, film_ms })
    }

    fn place(&self, package: &Path) -> Result<(), Fault> {
        for (n, sheet) in self.sheets.iter().enumerate() {
            fs::write(package.join(format!("thumbs-{n}.jpg")), sheet)?;
        }
        let archive = bif(&self.stills, self.every_s * 1000).map_err(|e| Fault::permanent(e.to_string()))?;
        fs::write(package.join(BIF_OBJECT), archive)?;
        Ok(())
    }

    /// Milliseconds of film that a sheet shows; the last one ends with the film.
    fn shown_ms(&self, sheet: usize) -> u64 {
        let tiles = (SHEET_TILES.0 * SHEET_TILES.1) as usize;
        let (first, every_ms) = (sheet * tiles, u64::from(self.every_s) * 1000);
        let full = self.stills.len().saturating_sub(first).clamp(1, tiles) as u64 * every_ms;
        full.min(self.film_ms.saturating_sub(first as u64 * every_ms)).max(1)
    }

    /// The image playlist: every sheet is a segment of tiles.
    fn playlist(&self) -> String {
        let ((width, height), (across, down)) = (THUMBNAIL, SHEET_TILES);
        let (every_s, target) = (self.every_s, self.shown_ms(0).div_ceil(1000));
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-IMAGES-ONLY\n"
        );
        for n in 0..self.sheets.len() {
            let shown = self.shown_ms(n);
            let (s, ms) = (shown / 1000, shown % 1000);
            text += &format!(
                "#EXTINF:{s}.{ms:03},\n\
                 #EXT-X-TILES:RESOLUTION={width}x{height},LAYOUT={across}x{down},DURATION={every_s}.000\n\
                 thumbs-{n}.jpg\n"
            );
        }
        text + "#EXT-X-ENDLIST\n"
    }

    fn stream_line(&self) -> String {
        let rate = |(n, sheet): (usize, &Vec<u8>)| (sheet.len() as u64 * 8_000).div_ceil(self.shown_ms(n));
        let bandwidth = self.sheets.iter().enumerate().map(rate).max().unwrap_or(1);
        let (width, height) = THUMBNAIL;
        format!(
            "#EXT-X-IMAGE-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={width}x{height},CODECS=\"jpeg\",\
             URI=\"{THUMBS}.m3u8\"\n"
        )
    }
}

/// The files `<stem>-0.jpg`, `<stem>-1.jpg` and so on, as far as they go.
fn numbered(directory: &Path, stem: &str) -> Result<Vec<Vec<u8>>, Fault> {
    let mut found = Vec::new();
    loop {
        match fs::read(directory.join(format!("{stem}-{}.jpg", found.len()))) {
            Ok(picture) => found.push(picture),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A film of 60 s has its seventh still at its very end: the sheet used to claim ten seconds more.
    #[test]
    fn the_last_sheet_ends_with_the_film() {
        let sheet = |stills: usize, film_ms, n| {
            let stills = vec![Vec::new(); stills];
            Pictures { sheets: vec![vec![0; 1000]; 2], stills, every_s: 10, film_ms }.shown_ms(n)
        };
        for (stills, film_ms, n, shown) in [
            (7, 60_042, 0, 60_042),
            (6, 60_000, 0, 60_000),
            (21, 205_500, 0, 200_000),
            (21, 205_500, 1, 5_500),
            (21, 200_000, 1, 1),
            (1, 3_000, 0, 3_000),
        ] {
            assert_eq!(sheet(stills, film_ms, n), shown, "{stills} stills of {film_ms} ms, sheet {n}");
        }
    }

    #[test]
    fn the_image_playlist_can_be_read() {
        let pictures =
            Pictures { sheets: vec![vec![0; 1000]], stills: vec![vec![]; 7], every_s: 10, film_ms: 60_042 };
        let text = pictures.playlist();
        assert!(text.contains("#EXT-X-TARGETDURATION:61\n#"), "{text}");
        assert!(text.contains("#EXTINF:60.042,\n"), "{text}");
        assert_eq!(parse_media(&text).expect("a playlist").entries.len(), 1);
    }
}
