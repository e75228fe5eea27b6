//! Measures a finished package for the lint: what the files are, beside what the playlists say.

use std::path::Path;

use control::lint::{AudioTrack, PackageFacts, PlaylistFacts, SegmentFacts, TextTrack, Track, VideoTrack};
use media::cmaf::{Handler, Init};
use media::playlist::{MainPlaylist, MediaPlaylist, Stream, StreamKind, parse_main, parse_media};
use media::{ByteRange, RenditionId, RenditionKind};

use super::Fault;
use super::index::read_range;
use super::layout::{self, BIF_OBJECT, Layout, read_text};

/// Reads every playlist and every segment of the package.
///
/// # Errors
/// A [`Fault`] when something cannot be read as what it should be.
pub(super) fn package_facts(package: &Path, layout: &Layout, source_ms: u64) -> Result<PackageFacts, Fault> {
    let text = read_text(package, "cdn/main.m3u8")?;
    let main = parse_main(&text).map_err(|e| Fault::permanent(format!("main.m3u8: {e}")))?;
    let gather = Gather { package, main: &main };
    let of = |kind| layout.of(kind);
    Ok(PackageFacts {
        duration_ms: source_ms,
        main_bytes: read_text(package, "hls/main.m3u8")?.len() as u64,
        video: of(RenditionKind::Video).map(|track| gather.video(track)).collect::<Result<_, Fault>>()?,
        audio: of(RenditionKind::Audio).map(|track| gather.audio(track)).collect::<Result<_, Fault>>()?,
        text: of(RenditionKind::Subtitles).map(|track| gather.text(track)).collect::<Result<_, Fault>>()?,
        thumbnails: of(RenditionKind::Images)
            .map(|track| Ok::<_, Fault>(gather.playlist(&track.playlist())?.1))
            .next()
            .transpose()?,
        bif: package.join(BIF_OBJECT).is_file(),
    })
}

struct Gather<'a> {
    package: &'a Path,
    main: &'a MainPlaylist,
}

impl Gather<'_> {
    /// A playlist's segments as the packager cut them, and the facts of the playlist that viewers get.
    fn playlist(&self, file: &str) -> Result<(MediaPlaylist, PlaylistFacts), Fault> {
        let parse = |folder: &str| {
            let text = read_text(self.package, &format!("{folder}/{file}"))?;
            let parsed = parse_media(&text).map_err(|e| Fault::permanent(format!("{folder}/{file}: {e}")))?;
            Ok::<_, Fault>((text.len() as u64, parsed))
        };
        let ((_, cut), (bytes, served)) = (parse("cdn")?, parse("hls")?);
        let facts = PlaylistFacts {
            bytes,
            entries: served.entries.len(),
            target_s: served.target_duration_s,
            ended: served.ended,
        };
        Ok((cut, facts))
    }

    fn video(&self, track: &layout::Track) -> Result<VideoTrack, Fault> {
        let (init, measured) = self.track(track)?;
        let file = track.playlist();
        let lines = self.main.of(StreamKind::Variant).filter(|stream| stream.uri == file);
        let missing = || Fault::permanent(format!("main.m3u8 has no variant {}", track.id));
        let line: &Stream = lines.min_by_key(|stream| stream.bandwidth).ok_or_else(missing)?;
        let iframes = match track.iframes() {
            Some(file) => Some(self.playlist(&file)?.1),
            None => None,
        };
        Ok(VideoTrack {
            track: measured,
            bandwidth: u64::from(line.bandwidth),
            average_bandwidth: line.average_bandwidth.map(u64::from),
            codecs: line.codecs.clone(),
            resolution: line.resolution.map(|size| (size.width, size.height)),
            frame_rate_milli: line.frame_rate_milli,
            // A file of several tracks was refused when its init section was read.
            has_audio: init.handler != Handler::Video,
            iframes,
        })
    }

    fn audio(&self, track: &layout::Track) -> Result<AudioTrack, Fault> {
        let (_, measured) = self.track(track)?;
        let codecs = self.main.streams.iter().filter_map(|stream| stream.codecs.as_deref());
        let codec = codecs.flat_map(|list| list.split(',')).find(|codec| codec.starts_with("mp4a"));
        let file = track.playlist();
        let line = self.main.media.iter().find(|line| line.uri.as_ref() == Some(&file));
        let channels = line.and_then(|line| line.channels.as_deref()?.split('/').next()?.parse().ok());
        Ok(AudioTrack {
            track: measured,
            codec: codec.unwrap_or_default().to_owned(),
            channels: channels.unwrap_or(0),
        })
    }

    fn text(&self, track: &layout::Track) -> Result<TextTrack, Fault> {
        Ok(TextTrack { id: track.id.clone(), playlist: self.playlist(&track.playlist())?.1 })
    }

    /// The segments of a CMAF rendition, from their own boxes.
    fn track(&self, track: &layout::Track) -> Result<(Init, Track), Fault> {
        let (cut, playlist) = self.playlist(&track.playlist())?;
        let map =
            cut.map.as_ref().ok_or_else(|| Fault::permanent(format!("{} has no init section", track.id)))?;
        let init = Init::parse(&self.bytes(&map.uri, map.range)?).map_err(|e| wrong(&track.id, "init", e))?;
        let mut segments = Vec::new();
        for (n, entry) in cut.entries.iter().enumerate() {
            let bytes = self.bytes(&entry.uri, entry.range)?;
            let facts =
                init.segment_facts(&bytes).map_err(|e| wrong(&track.id, &format!("segment {n}"), e))?;
            segments.push(SegmentFacts {
                start_us: microseconds(facts.base_time, init.timescale),
                duration_us: microseconds(facts.duration, init.timescale),
                bytes: bytes.len() as u64,
                sync: facts.starts_with_sync,
            });
        }
        Ok((init, Track { id: track.id.clone(), playlist, segments }))
    }

    fn bytes(&self, uri: &str, range: Option<ByteRange>) -> Result<Vec<u8>, Fault> {
        let outside = || Fault::permanent(format!("{uri} is not in the package"));
        let path = self.package.join(uri.strip_prefix("../").ok_or_else(outside)?);
        match range {
            Some(range) => read_range(&path, range),
            None => Ok(std::fs::read(path)?),
        }
    }
}

fn wrong(id: &RenditionId, part: &str, error: media::cmaf::CmafError) -> Fault {
    Fault::permanent(format!("{part} of {id}: {error}"))
}

fn microseconds(ticks: u64, timescale: u32) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(timescale.max(1))).unwrap_or(u64::MAX)
}
