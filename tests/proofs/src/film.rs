//! The film of a proof, generated or published by a real control plane, under a signed index; and the token that
//! opens it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use control_api::keys::{TokenPrivateKey, format_index_public, parse_index_public};
use control_api::{Claims, SessionId};
use media::index::{INDEX_OBJECT, PublicKey};
use media::{Index, RenditionKind};
use testkit::{Chance, Package, RenditionShape, Shape};

use crate::clock::unix_seconds;
use crate::failure::{Context, Failure, Outcome};
use crate::wreck::files;

/// How long the token is good for: longer than any proof takes.
const TOKEN_SECONDS: u64 = 6 * 3_600;

/// A film that a gateway can serve.
#[derive(Debug)]
pub(crate) struct Film {
    pub(crate) package: Arc<Package>,
    /// Everything a viewer can ask for, playlists included.
    pub(crate) pieces: Vec<Piece>,
    key: TokenPrivateKey,
    /// Who signed the index.
    signer: PublicKey,
}

/// One thing a viewer can ask for.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The path with its token.
    pub(crate) path: String,
    /// The path below the token.
    pub(crate) key: String,
    pub(crate) bytes: Bytes,
    /// Where its bytes lie at an origin.
    pub(crate) object: String,
    pub(crate) start: u64,
    /// Whether it is a media segment.
    pub(crate) is_media: bool,
}

impl Piece {
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The same for whoever holds this token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { path: format!("/p/{token}/{}", self.key), ..self.clone() }
    }
}

impl Film {
    /// Makes the film; the same seed and shape give the same bytes.
    pub(crate) fn new(seed: u64, shape: &Shape) -> Outcome<Self> {
        let key = TokenPrivateKey::generate("proof".parse().doing("a key's name")?).doing("a key")?;
        Self::under(Package::generate(seed, shape), key, Package::trusted())
    }

    /// The one film that a control plane has published below its data folder.
    pub(crate) fn published(data: &Path) -> Outcome<Self> {
        let read = |name: &str| fs::read_to_string(data.join("keys").join(name)).doing(name);
        let key = TokenPrivateKey::parse(&read("token.key")?).doing("token.key")?;
        let signer = PublicKey(parse_index_public(&read("index.pub")?).doing("index.pub")?);
        let packages = data.join("packages");
        let mut objects: HashMap<String, Bytes> = HashMap::new();
        for path in files(&packages)? {
            let name = path.strip_prefix(&packages).doing(path.display())?.display().to_string();
            objects.insert(name, fs::read(&path).doing(path.display())?.into());
        }
        let mut indexes = objects.iter().filter(|(name, _)| name.ends_with(INDEX_OBJECT));
        let (Some((_, index)), None) = (indexes.next(), indexes.next()) else {
            return Err(Failure::new(format!("{}: not exactly one film", packages.display())));
        };
        let index = Index::open(index, &[signer]).doing("the index of the film")?;
        Self::under(Package::of(index, objects), key, signer)
    }

    fn under(package: Package, key: TokenPrivateKey, signer: PublicKey) -> Outcome<Self> {
        let mut film = Self { package: Arc::new(package), pieces: Vec::new(), key, signer };
        film.pieces = pieces(&film.package, &film.token("proof")?);
        Ok(film)
    }

    /// How long it plays.
    pub(crate) fn seconds(&self) -> f64 {
        let renditions = self.package.index().renditions.iter();
        let video = renditions.filter(|rendition| rendition.kind == RenditionKind::Video);
        let length = |rendition: &media::Rendition| {
            rendition.media.iter().map(|segment| u64::from(segment.duration_ms)).sum::<u64>()
        };
        video.map(length).max().unwrap_or_default() as f64 / 1_000.0
    }

    /// The path where a session begins to play.
    pub(crate) fn main(&self, session: &str) -> Outcome<String> {
        let main = self.pieces.iter().find(|piece| piece.key.ends_with("/main.m3u8"));
        Ok(main.doing("the film's main playlist")?.with_token(&self.token(session)?).path)
    }

    /// What opens the film for a session.
    pub(crate) fn token(&self, session: &str) -> Outcome<String> {
        let now = unix_seconds();
        let session: SessionId = session.parse().doing("a session's name")?;
        let claims = Claims {
            issuer: "proofs".into(),
            session,
            title: self.package.index().title.clone(),
            issued: now.saturating_sub(60),
            expires: now + TOKEN_SECONDS,
        };
        self.key.signer().doing("a signer")?.sign(&claims).doing("a token")
    }

    /// Segments of one video rendition.
    pub(crate) fn of_segments(seed: u64, lengths: Vec<u32>) -> Outcome<Self> {
        let video = RenditionShape { id: "v720", kind: RenditionKind::Video, segments: lengths };
        Self::new(seed, &Shape { renditions: vec![video] })
    }

    /// The media segments in order.
    pub(crate) fn segments(&self) -> Vec<Piece> {
        self.pieces.iter().filter(|piece| piece.is_media).cloned().collect()
    }

    /// The public keys that a gateway trusts.
    pub(crate) fn write_keys(&self, folder: &Path) -> Outcome {
        fs::create_dir_all(folder).doing(folder.display())?;
        let token = format!("{}\n", self.key.public().doing("a key")?);
        fs::write(folder.join("token.pub"), token).doing("writing token.pub")?;
        let index = format_index_public(&self.signer.0);
        fs::write(folder.join("index.pub"), index).doing("writing index.pub")
    }
}

fn pieces(package: &Package, token: &str) -> Vec<Piece> {
    let renditions = &package.index().renditions;
    let pieces = package.keys().into_iter().filter_map(|key| {
        let kind = renditions.iter().find(|rendition| rendition.id == key.rendition)?.kind;
        let (object, range) = package.location(&key);
        let path = key.path(kind);
        Some(Piece {
            path: format!("/p/{token}/{path}"),
            key: path,
            bytes: package.bytes(&key),
            is_media: matches!(key.part, media::Part::Media(_)),
            object,
            start: range.start(),
        })
    });
    pieces.collect()
}

/// So many lengths between two bounds, as the seed says.
pub(crate) fn lengths(seed: u64, count: u64, low: u32, high: u32) -> Vec<u32> {
    let chance = Chance::new(seed).for_("lengths");
    (0..count).map(|n| chance.nth(n).between(low.into(), high.into()) as u32).collect()
}
