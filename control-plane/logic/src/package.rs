//! The name of an ingest's result.

use media::{Digest, PackageId, TitleId};

use crate::ladder;

/// Names the package that an ingest of this source for this title makes.
///
/// The name is a hash of all that decides the contents: the title, the source (its digest, or its store's
/// ETag) and [`ladder::PROFILE`]. The same order given twice is the same ingest; a new source or a new way to
/// encode is a new package, so objects never change under their names.
#[must_use]
pub fn package_id(title: &TitleId, source_version: &str) -> PackageId {
    id_of(title, source_version, ladder::PROFILE)
}

fn id_of(title: &TitleId, source_version: &str, profile: u32) -> PackageId {
    let mut text = b"weir package 1\0".to_vec();
    for part in [title.as_str(), source_version] {
        // The length in front: no two pairs of parts run together into the same bytes.
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    text.extend_from_slice(&profile.to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = Digest::of(&text).0;
    PackageId(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(title: &str, source: &str, profile: u32) -> PackageId {
        id_of(&title.parse().expect("valid"), source, profile)
    }

    #[test]
    fn the_name_never_changes() {
        // Objects of published packages carry it.
        assert_eq!(id("bbb", "etag", 1).to_string(), "117aafbdd0b6b705");
    }

    #[test]
    fn whatever_decides_the_contents_decides_the_name() {
        let base = id("bbb", "etag", 1);
        for other in [id("bbc", "etag", 1), id("bbb", "etah", 1), id("bbb", "etag", 2), id("bbbe", "tag", 1)]
        {
            assert_ne!(other, base);
        }
        assert_eq!(package_id(&"bbb".parse().expect("valid"), "etag"), id("bbb", "etag", ladder::PROFILE));
    }
}
