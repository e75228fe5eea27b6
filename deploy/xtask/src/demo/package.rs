//! What a published package should deliver: every URL of a film, and the bytes of the store behind it.
//!
//! It reads the byte-range playlists in `cdn/`, which a plain CDN would serve, beside the virtual ones in
//! `hls/`. That the two name the same bytes is exactly what the check finds out, so nothing here shares code
//! with the gateway.

use std::collections::BTreeMap;

use super::world::World;
use crate::failure::{Context, Failure, Outcome};

/// One film's package.
#[derive(Debug)]
pub(crate) struct Package {
    /// `<title>/<package>`
    pub(crate) path: String,
    pub(crate) renditions: Vec<Rendition>,
    /// Lengths of what the gateway reads for itself: the index and the digests.
    pub(crate) own_bytes: u64,
    pub(crate) main: Piece,
}

/// One track.
#[derive(Debug)]
pub(crate) struct Rendition {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) playlists: Vec<Piece>,
    pub(crate) media: Vec<Piece>,
}

/// One URL and the published bytes it stands for.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The path below the token.
    pub(crate) url: String,
    pub(crate) bytes: Vec<u8>,
}

impl Rendition {
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.playlists.iter().chain(&self.media)
    }

    /// What a player reads that plays it from beginning to end: the playlist, the init section, the segments.
    pub(crate) fn played_bytes(&self) -> u64 {
        self.playlists.iter().take(1).chain(&self.media).map(|piece| piece.bytes.len() as u64).sum()
    }
}

impl Package {
    /// Reads the package past the gateway. `view` is the title as the API shows it.
    pub(crate) fn read(world: &World, view: &serde_json::Value) -> Outcome<Self> {
        let title = field(view, "title")?;
        let path = format!("{title}/{}", field(view, "package")?);
        let mut store = Store { world, path: path.clone(), objects: BTreeMap::new() };
        let listed = view.get("renditions").and_then(|list| list.as_array());
        let listed = listed.ok_or_else(|| Failure::new("the title lists no renditions"))?;
        let renditions = listed
            .iter()
            .filter(|rendition| rendition["kind"] != "main")
            .map(|rendition| store.rendition(field(rendition, "id")?, field(rendition, "kind")?));
        let renditions = renditions.collect::<Outcome<Vec<_>>>()?;
        let own = [store.object("index.weir")?.len(), store.object("groups.weir")?.len()];
        let main = Piece { url: "main.m3u8".into(), bytes: store.object("hls/main.m3u8")?.to_vec() };
        Ok(Self { path, renditions, own_bytes: own.iter().map(|len| *len as u64).sum(), main })
    }
}

fn field<'a>(value: &'a serde_json::Value, name: &str) -> Outcome<&'a str> {
    let text = value.get(name).and_then(|text| text.as_str());
    text.ok_or_else(|| Failure::new(format!("no {name} in {value}")))
}

struct Store<'a> {
    world: &'a World,
    path: String,
    objects: BTreeMap<String, Vec<u8>>,
}

impl Store<'_> {
    fn object(&mut self, name: &str) -> Outcome<&[u8]> {
        if !self.objects.contains_key(name) {
            let bytes = self.world.published(&format!("{}/{name}", self.path))?;
            self.objects.insert(name.to_owned(), bytes);
        }
        Ok(&self.objects[name])
    }

    fn text(&mut self, name: &str) -> Outcome<String> {
        String::from_utf8(self.object(name)?.to_vec()).doing(name)
    }

    fn rendition(&mut self, id: &str, kind: &str) -> Outcome<Rendition> {
        let mut rendition =
            Rendition { id: id.to_owned(), kind: kind.to_owned(), playlists: Vec::new(), media: Vec::new() };
        if kind == "trick-play" {
            let bytes = self.object("trick.bif")?.to_vec();
            rendition.media.push(Piece { url: format!("{id}/0.bif"), bytes });
            return Ok(rendition);
        }
        let mut playlists = vec![("index", format!("hls/{id}.m3u8"))];
        if kind == "video" {
            playlists.push(("iframes", format!("hls/{id}-iframes.m3u8")));
        }
        for (name, object) in playlists {
            let bytes = self.object(&object)?.to_vec();
            rendition.playlists.push(Piece { url: format!("{id}/{name}.m3u8"), bytes });
        }
        let served = entries(&self.text(&format!("hls/{id}.m3u8"))?)?;
        let stored = entries(&self.text(&format!("cdn/{id}.m3u8"))?)?;
        if served.len() != stored.len() {
            let (served, stored) = (served.len(), stored.len());
            return Err(Failure::new(format!("{id}: {served} virtual pieces for {stored} stored ones")));
        }
        for (virtual_entry, entry) in served.into_iter().zip(stored) {
            let name = entry.uri.strip_prefix("../").unwrap_or(&entry.uri).to_owned();
            let object = self.object(&name)?;
            let bytes = match entry.range {
                None => object.to_vec(),
                Some((start, len)) => {
                    let piece = object.get(start..start + len);
                    piece.ok_or_else(|| Failure::new(format!("{name} ends before {start}+{len}")))?.to_vec()
                }
            };
            rendition.media.push(Piece { url: format!("{id}/{}", virtual_entry.uri), bytes });
        }
        Ok(rendition)
    }
}

/// One line of a media playlist that stands for bytes.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    /// Start and length.
    range: Option<(usize, usize)>,
}

/// The init section and the segments, in order.
fn entries(playlist: &str) -> Outcome<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    let mut pending = None;
    for line in playlist.lines() {
        if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
            let uri = quoted(attributes, "URI").ok_or_else(|| Failure::new(format!("no URI in {line}")))?;
            let range = quoted(attributes, "BYTERANGE").map(|range| byte_range(&range, None)).transpose()?;
            found.push(Entry { uri, range });
        } else if let Some(range) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            pending = Some(byte_range(range, found.last())?);
        } else if !line.is_empty() && !line.starts_with('#') {
            found.push(Entry { uri: line.to_owned(), range: pending.take() });
        }
    }
    Ok(found)
}

fn quoted(attributes: &str, name: &str) -> Option<String> {
    let start = format!("{name}=\"");
    let (_, rest) = attributes.split_once(&start)?;
    rest.split('"').next().map(str::to_owned)
}

/// `length[@start]`; without a start it goes on where the one before ended (RFC 8216 section 4.3.2.2).
fn byte_range(text: &str, before: Option<&Entry>) -> Outcome<(usize, usize)> {
    let (len, start) = text.split_once('@').map_or((text, None), |(len, start)| (len, Some(start)));
    let len = len.parse().doing(text)?;
    let start = match start {
        Some(start) => start.parse().doing(text)?,
        None => before.and_then(|entry| entry.range).map_or(0, |(start, len)| start + len),
    };
    Ok((start, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playlists_as_the_packager_writes_them() {
        let playlist = "#EXTM3U\n#EXT-X-MAP:URI=\"../v720.mp4\",BYTERANGE=\"800@0\"\n#EXTINF:6.0,\n\
            #EXT-X-BYTERANGE:1000@900\n../v720.mp4\n#EXTINF:6.0,\n#EXT-X-BYTERANGE:500\n../v720.mp4\n\
            #EXTINF:6.0,\nwhole.vtt\n#EXT-X-ENDLIST\n";
        let found = entries(playlist).expect("well formed");
        let ranges: Vec<_> = found.iter().map(|entry| entry.range).collect();
        assert_eq!(ranges, [Some((0, 800)), Some((900, 1000)), Some((1900, 500)), None]);
        assert_eq!(found[3].uri, "whole.vtt");
        assert!(entries("#EXT-X-BYTERANGE:x\n").is_err());
    }
}
