//! A small signed package on disk, and the keys and tokens that go with it.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use control_api::keys::{TokenPrivateKey, format_index_public};
use control_api::{Claims, SessionId};
use media::index::{Contents, GROUPS_OBJECT, INDEX_OBJECT, Object, SigningKey};
use media::{Digest, GroupDigests, Index, PackageId, Rendition, RenditionKind, Segment, SegmentKey};
use tempfile::TempDir;

const MAIN: &str = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nv720/index.m3u8\n";
const MEDIA: &str =
    "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF:6,\n0.m4s\n#EXTINF:6,\n1.m4s\n#EXT-X-ENDLIST\n";
/// Lengths of the parts of `v720.mp4`: init, then segments. One shorter than a group, one of several groups
/// and a bit, one that no pair of socket buffers swallows whole.
const PARTS: [usize; 4] = [1_000, 500_001, 20, 16_000_000];

/// A film that a node can serve: `bbb`.
pub(crate) struct Package {
    token_key: TokenPrivateKey,
    index_key: SigningKey,
    index: Index,
    objects: Vec<(&'static str, Vec<u8>)>,
}

fn film() -> Vec<u8> {
    (0..PARTS.iter().sum::<usize>()).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

impl Package {
    pub(crate) fn new() -> Self {
        let film = film();
        let objects = vec![
            ("hls/main.m3u8", MAIN.as_bytes().to_vec()),
            ("hls/v720.m3u8", MEDIA.as_bytes().to_vec()),
            ("v720.mp4", film),
        ];
        let segment = |object: u16, offset: usize, len: usize| Segment {
            object,
            offset: offset as u64,
            len: len as u32,
            duration_ms: 0,
            root: Digest::of(&objects[usize::from(object)].1[offset..offset + len]),
        };
        let rendition = |id: &str, kind, playlist| Rendition {
            id: id.parse().expect("a name"),
            kind,
            bandwidth: 0,
            playlist,
            iframes: None,
            init: None,
            media: Vec::new(),
        };
        let offsets = PARTS.iter().scan(0, |end, len| Some(std::mem::replace(end, *end + len)));
        let mut media: Vec<_> = offsets.zip(PARTS).map(|(offset, len)| segment(2, offset, len)).collect();
        let mut v720 = rendition("v720", RenditionKind::Video, Some(segment(1, 0, MEDIA.len())));
        v720.init = Some(media.remove(0));
        v720.media = media.into_iter().map(|segment| Segment { duration_ms: 6_000, ..segment }).collect();
        let main = rendition("main", RenditionKind::Main, Some(segment(0, 0, MAIN.len())));
        let object =
            |(path, bytes): &(&str, Vec<u8>)| Object { path: (*path).into(), len: bytes.len() as u64 };
        let contents = Contents {
            title: "bbb".parse().expect("a title"),
            package: PackageId(255),
            created: 1_700_000_000,
            tags: Vec::new(),
            objects: objects.iter().map(object).collect(),
            renditions: vec![main, v720],
        };
        let token_key = TokenPrivateKey::generate("k1".parse().expect("a key id")).expect("a key");
        let index_key = SigningKey::from_seed([7; 32]);
        Self { token_key, index_key, index: Index::new(contents).expect("a good index"), objects }
    }

    /// A directory of its own with this configuration, and the package in its data directory.
    pub(crate) fn world(&self, config: &str) -> TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        self.write(&dir.path().join("data"));
        fs::write(dir.path().join("gateway.toml"), config).expect("written");
        dir
    }

    /// Writes keys and objects below a data directory.
    pub(crate) fn write(&self, data: &Path) {
        let keys = data.join("keys");
        fs::create_dir_all(&keys).expect("made");
        let public = self.token_key.public().expect("a key");
        fs::write(keys.join("token.pub"), format!("{public}\n")).expect("written");
        fs::write(keys.join("index.pub"), format_index_public(&self.index_key.public().0)).expect("written");
        let package = data.join("packages/bbb/00000000000000ff");
        fs::create_dir_all(package.join("hls")).expect("made");
        for (path, bytes) in &self.objects {
            fs::write(package.join(path), bytes).expect("written");
        }
        let digests: Vec<_> = self.bodies().map(|(_, body)| GroupDigests::of(&body)).collect();
        let groups = self.index.group_lists(&digests).expect("all lists");
        fs::write(package.join(GROUPS_OBJECT), groups).expect("written");
        fs::write(package.join(INDEX_OBJECT), self.index.sign(&self.index_key)).expect("written");
    }

    fn bodies(&self) -> impl Iterator<Item = (SegmentKey, Vec<u8>)> {
        self.index.segments().map(|(key, segment)| {
            let bytes = &self.objects[usize::from(segment.object)].1;
            let start = segment.offset as usize;
            (key, bytes[start..start + segment.len as usize].to_vec())
        })
    }

    /// Every path below the token, with its bytes, playlists first.
    pub(crate) fn everything(&self) -> Vec<(String, Vec<u8>)> {
        let kind = |key: &SegmentKey| match key.rendition.as_str() {
            "main" => RenditionKind::Main,
            _ => RenditionKind::Video,
        };
        self.bodies().map(|(key, body)| (key.path(kind(&key)), body)).collect()
    }

    /// What a node buys beside the film: the index and every digest list, once each.
    pub(crate) fn overhead(&self) -> u64 {
        self.index.groups_len() + self.index.sign(&self.index_key).len() as u64
    }

    /// A token for a title that ends in `seconds` from now.
    pub(crate) fn token(&self, title: &str, seconds: i64) -> String {
        #[expect(clippy::disallowed_methods, reason = "the node under test reads the wall clock")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let expires = now.saturating_add_signed(seconds);
        let session: SessionId = "test-session".parse().expect("a session");
        let title = title.parse().expect("a title");
        let claims = Claims { issuer: "test".into(), session, title, issued: expires - 3_600, expires };
        self.token_key.signer().expect("a signer").sign(&claims).expect("signed")
    }
}
