//! The signed index of a finished package: where every segment lies and what it hashes to.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use control::ingest::{IndexFacts, Order};
use control_api::rest::RenditionView;
use media::index::{Contents, GROUPS_OBJECT, INDEX_OBJECT, Object, SigningKey};
use media::playlist::{MediaPlaylist, StreamKind, parse_main, parse_media};
use media::{ByteRange, GroupDigests, Index, Rendition, RenditionKind, Segment};

use super::Fault;
use super::layout::{BIF, BIF_OBJECT, Layout, Track, name, read_text};

/// Reads the whole package, writes `index.weir` and `groups.weir` into it and says what it holds. The same
/// package always gives the same index.
///
/// # Errors
/// A [`Fault`] when a playlist does not fit the files, or a file cannot be read or written.
pub(super) fn write_index(
    package: &Path,
    layout: &Layout,
    order: &Order,
    created: u64,
    key: &SigningKey,
) -> Result<IndexFacts, Fault> {
    let bandwidths = bandwidths(package)?;
    let mut reader = Reader { package, objects: Vec::new(), digests: Vec::new() };
    let mut renditions = vec![reader.main()?];
    for track in &layout.tracks {
        renditions.push(reader.track(track, &bandwidths)?);
    }
    renditions.push(reader.archive()?);
    let Reader { objects, digests, .. } = reader;
    let Order { title, package: id, tags, .. } = order.clone();
    let contents = Contents { title, package: id, created, tags, objects, renditions };
    let index = Index::new(contents).map_err(|e| Fault::permanent(format!("the index: {e}")))?;
    let groups = index.group_lists(&digests).map_err(|e| Fault::permanent(format!("the index: {e}")))?;
    fs::write(package.join(GROUPS_OBJECT), groups)?;
    fs::write(package.join(INDEX_OBJECT), index.sign(key))?;
    Ok(IndexFacts {
        duration_ms: duration_ms(&index),
        renditions: index.renditions.iter().map(view).collect(),
    })
}

/// The peak that the packager measured of each variant, by its playlist's name.
fn bandwidths(package: &Path) -> Result<HashMap<String, u32>, Fault> {
    let main = parse_main(&read_text(package, "cdn/main.m3u8")?);
    let main = main.map_err(|e| Fault::permanent(format!("main.m3u8: {e}")))?;
    let streams = main.streams.into_iter().filter(|stream| stream.kind != StreamKind::IFrames);
    Ok(streams.map(|stream| (stream.uri, stream.bandwidth)).collect())
}

/// How long the first video rendition plays.
fn duration_ms(index: &Index) -> u64 {
    let video = index.renditions.iter().find(|rendition| rendition.kind == RenditionKind::Video);
    video.map_or(0, |video| video.media.iter().map(|segment| u64::from(segment.duration_ms)).sum())
}

fn view(rendition: &Rendition) -> RenditionView {
    RenditionView {
        id: rendition.id.clone(),
        kind: rendition.kind,
        bandwidth: rendition.bandwidth,
        segments: u32::try_from(rendition.media.len()).unwrap_or(u32::MAX),
        bytes: rendition.media.iter().map(|segment| u64::from(segment.len)).sum(),
    }
}

/// Walks the files in index order; the digests it gathers are in that order too.
struct Reader<'a> {
    package: &'a Path,
    objects: Vec<Object>,
    digests: Vec<GroupDigests>,
}

impl Reader<'_> {
    fn main(&mut self) -> Result<Rendition, Fault> {
        Ok(Rendition {
            playlist: Some(self.whole("hls/main.m3u8", 0)?),
            ..empty(media::key::MAIN, RenditionKind::Main)?
        })
    }

    fn archive(&mut self) -> Result<Rendition, Fault> {
        Ok(Rendition { media: vec![self.whole(BIF_OBJECT, 0)?], ..empty(BIF, RenditionKind::TrickPlay)? })
    }

    fn track(&mut self, track: &Track, bandwidths: &HashMap<String, u32>) -> Result<Rendition, Fault> {
        let file = track.playlist();
        let parsed = parse_media(&read_text(self.package, &format!("cdn/{file}"))?);
        let parsed = parsed.map_err(|e| Fault::permanent(format!("{file}: {e}")))?;
        let mut rendition = empty(track.id.as_str(), track.kind)?;
        // In index order: playlist, I-frame playlist, init, media.
        rendition.playlist = Some(self.whole(&format!("hls/{file}"), 0)?);
        if let Some(iframes) = track.iframes() {
            rendition.iframes = Some(self.whole(&format!("hls/{iframes}"), 0)?);
        }
        if let Some(map) = &parsed.map {
            rendition.init = Some(self.piece(&map.uri, map.range, 0)?);
        }
        for entry in &parsed.entries {
            rendition.media.push(self.piece(&entry.uri, entry.range, entry.duration_ms)?);
        }
        rendition.bandwidth = bandwidths.get(&file).copied().unwrap_or_else(|| peak(&rendition, &parsed));
        Ok(rendition)
    }

    fn whole(&mut self, path: &str, duration_ms: u32) -> Result<Segment, Fault> {
        self.piece(&format!("../{path}"), None, duration_ms)
    }

    /// Hashes a piece of a file that a playlist in `cdn/` names.
    fn piece(&mut self, uri: &str, range: Option<ByteRange>, duration_ms: u32) -> Result<Segment, Fault> {
        let outside = || Fault::permanent(format!("{uri} is not in the package"));
        let path = uri.strip_prefix("../").ok_or_else(outside)?;
        let object = self.object(path)?;
        let total = self.objects[usize::from(object)].len;
        let range = range.or_else(|| ByteRange::whole(total)).filter(|range| range.end() <= total);
        let range = range.ok_or_else(|| Fault::permanent(format!("a byte range lies outside of {path}")))?;
        let digests = GroupDigests::of(&read_range(&self.package.join(path), range)?);
        let len = u32::try_from(range.len())
            .map_err(|_| Fault::permanent(format!("{path}: a segment above 4 GiB")))?;
        let root = digests.root();
        self.digests.push(digests);
        Ok(Segment { object, offset: range.start(), len, duration_ms, root })
    }

    fn object(&mut self, path: &str) -> Result<u16, Fault> {
        let at = self.objects.iter().position(|object| object.path == path);
        let at = match at {
            Some(at) => at,
            None => {
                let len = fs::metadata(self.package.join(path))
                    .map_err(|e| Fault::transient(format!("{path}: {e}")))?
                    .len();
                self.objects.push(Object { path: path.to_owned(), len });
                self.objects.len() - 1
            }
        };
        u16::try_from(at)
            .map_err(|_| Fault::permanent("the package has more objects than an index can name".to_owned()))
    }
}

fn empty(id: &str, kind: RenditionKind) -> Result<Rendition, Fault> {
    let id = name(id)?;
    Ok(Rendition { id, kind, bandwidth: 0, playlist: None, iframes: None, init: None, media: Vec::new() })
}

/// Peak bits per second over its segments; 0 for what is not played by time.
fn peak(rendition: &Rendition, playlist: &MediaPlaylist) -> u32 {
    if rendition.kind != RenditionKind::Audio {
        return 0;
    }
    let rate =
        |segment: &Segment| (u64::from(segment.len) * 8000).div_ceil(u64::from(segment.duration_ms.max(1)));
    // A last segment of a few frames says nothing about the rate.
    let whole = rendition.media.len().saturating_sub(usize::from(playlist.entries.len() > 1));
    let peak = rendition.media[..whole].iter().map(rate).max().unwrap_or(0);
    u32::try_from(peak).unwrap_or(u32::MAX)
}

pub(super) fn read_range(path: &Path, range: ByteRange) -> Result<Vec<u8>, Fault> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start()))?;
    let mut bytes = vec![0; usize::try_from(range.len()).map_err(|e| Fault::permanent(e.to_string()))?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
