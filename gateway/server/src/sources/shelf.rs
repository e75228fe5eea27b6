//! Signed indexes, kept on this node's own disk across restarts.
//!
//! Segments survive a restart in the store, but they are found through their package's index, which the engine
//! keeps in memory. The shelf is a source of its own that has nothing but indexes, free of charge, and a thin
//! wrapper around every other source that puts a copy there as an index passes. Copies are not trusted: the
//! engine checks the signature wherever an index comes from, and asks the next source if it does not hold. An
//! index never changes under its name, so a copy never grows old.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use engine::Scope;
use futures_util::{StreamExt, stream};
use media::index::{INDEX_OBJECT, MAX_INDEX_LEN};
use sourcing::{BoxFuture, Opened, Reason, Source, SourceError, SourceId, SourceKind, Want};

use super::DirectorySource;
use super::answer::{checked_name, fault};

/// The directory with the copies.
pub(crate) struct Shelf {
    copies: DirectorySource,
    root: PathBuf,
    capacity: u64,
}

impl Shelf {
    /// Makes the directory if it is not there, and removes the oldest copies beyond `capacity` bytes.
    pub(crate) fn open(id: SourceId, root: PathBuf, capacity: u64) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(&root)?;
        let shelf = Self { copies: DirectorySource::new(id, root.clone(), MAX_INDEX_LEN), root, capacity };
        shelf.make_room(0)?;
        Ok(Arc::new(shelf))
    }

    /// The same source, with a copy of every index that passes put on the shelf.
    pub(crate) fn beside(self: &Arc<Self>, source: Arc<dyn Source>) -> Arc<dyn Source> {
        Arc::new(Beside { source, shelf: Arc::clone(self) })
    }

    /// Removes the copies that a purge is about; says how many. A purge of a rendition or a segment is about no
    /// index. Which titles carry a tag is written in the indexes themselves: a copy that has its text goes, even
    /// if it stands there for another reason; it will be bought again.
    pub(crate) fn forget(&self, scope: &Scope) -> io::Result<u64> {
        let mut forgotten = 0;
        for copy in copies(&self.root)? {
            let name = copy.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let meant = match scope {
                Scope::Segment(_) => false,
                Scope::Title(title) => name.split_once('.').is_some_and(|(of, _)| of == title.as_str()),
                Scope::Prefix(prefix) => format!("{}/", name.replacen('.', "/", 1)).starts_with(prefix),
                Scope::Tag(tag) => contains(&std::fs::read(&copy.path)?, tag.as_str().as_bytes()),
            };
            if meant {
                std::fs::remove_file(&copy.path)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// A copy is whole or not there: it gets its name last.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len() as u64)?;
        let unfinished = self.root.join(format!("{name}.part"));
        std::fs::write(&unfinished, bytes)?;
        std::fs::rename(unfinished, self.root.join(name))
    }

    fn make_room(&self, needed: u64) -> io::Result<()> {
        let mut copies = copies(&self.root)?;
        copies.sort_by_key(|copy| copy.modified);
        let mut used = needed + copies.iter().map(|copy| copy.len).sum::<u64>();
        for copy in copies {
            if used <= self.capacity {
                break;
            }
            std::fs::remove_file(&copy.path)?;
            used -= copy.len;
        }
        Ok(())
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len().max(1)).any(|window| window == word)
}

struct Copy {
    path: PathBuf,
    len: u64,
    modified: std::time::SystemTime,
}

fn copies(root: &Path) -> io::Result<Vec<Copy>> {
    let copy = |entry: io::Result<std::fs::DirEntry>| {
        let (entry, metadata) = entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata)))?;
        Ok(Copy { path: entry.path(), len: metadata.len(), modified: metadata.modified()? })
    };
    // An unfinished copy may get its name, and so lose the one it has, while we look.
    let there =
        |copy: &io::Result<Copy>| !matches!(copy, Err(error) if error.kind() == io::ErrorKind::NotFound);
    std::fs::read_dir(root)?.map(copy).filter(there).collect()
}

/// The file of an index: one flat name, because titles and packages have no dots and no slashes.
fn shelf_name(want: &Want) -> Option<String> {
    let package = checked_name(&want.object).ok()?.strip_suffix(INDEX_OBJECT)?.strip_suffix('/')?;
    let (title, package) = package.split_once('/')?;
    let flat = want.range.is_none() && !package.contains('/');
    flat.then(|| format!("{title}.{package}"))
}

impl Source for Shelf {
    fn id(&self) -> &SourceId {
        self.copies.id()
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Directory
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let name =
                shelf_name(want).ok_or_else(|| fault(Reason::Unsupported, "only indexes are kept here"))?;
            self.copies.open(&Want { object: name, ..want.clone() }).await
        })
    }
}

struct Beside {
    source: Arc<dyn Source>,
    shelf: Arc<Shelf>,
}

impl Source for Beside {
    fn id(&self) -> &SourceId {
        self.source.id()
    }

    fn kind(&self) -> SourceKind {
        self.source.kind()
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let opened = self.source.open(want).await?;
            let name = shelf_name(want).filter(|_| opened.len <= MAX_INDEX_LEN as u64);
            Ok(match name {
                None => opened,
                Some(name) => copied(opened, name, Arc::clone(&self.shelf)),
            })
        })
    }
}

/// Passes a body on and puts it on the shelf once it is whole. Whoever reads it never waits for the disk.
fn copied(opened: Opened, name: String, shelf: Arc<Shelf>) -> Opened {
    let promised = opened.len;
    let state = (opened.body, BytesMut::new(), Some((name, shelf)));
    let body = stream::unfold(state, move |(mut body, mut copy, mut shelf)| async move {
        let item = body.next().await?;
        if let Ok(chunk) = &item {
            copy.extend_from_slice(chunk);
        }
        if copy.len() as u64 == promised
            && let Some((name, shelf)) = shelf.take()
        {
            keep(shelf, name, copy.split().freeze());
        }
        Some((item, (body, copy, shelf)))
    });
    Opened { len: promised, body: Box::pin(body) }
}

fn keep(shelf: Arc<Shelf>, name: String, bytes: Bytes) {
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = shelf.put(&name, &bytes) {
            tracing::warn!(name, %error, "an index could not be kept for the next start");
        }
    }));
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn read(source: &dyn Source, object: &str) -> Result<Vec<u8>, Reason> {
        let want = Want::object(object.to_owned());
        let opened = source.open(&want).await.map_err(|error| error.reason)?;
        let chunks: Vec<Bytes> = opened.body.try_collect().await.map_err(|error| error.reason)?;
        Ok(chunks.concat())
    }

    fn world(capacity: u64) -> (tempfile::TempDir, Arc<Shelf>, Arc<dyn Source>) {
        let dir = tempfile::tempdir().expect("a directory");
        let shelf =
            Shelf::open("shelf".parse().expect("an id"), dir.path().join("shelf"), capacity).expect("open");
        let packages =
            DirectorySource::new("packages".parse().expect("an id"), dir.path().join("packages"), 10);
        let packages = shelf.beside(Arc::new(packages));
        (dir, shelf, packages)
    }

    fn write(dir: &tempfile::TempDir, object: &str, bytes: &[u8]) {
        let path = dir.path().join("packages").join(object);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }

    async fn until_kept(shelf: &Shelf, object: &str) -> Vec<u8> {
        for _ in 0..500 {
            if let Ok(bytes) = read(shelf, object).await {
                return bytes;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{object} is not kept");
    }

    #[tokio::test]
    async fn indexes_that_pass_are_kept_and_nothing_else() {
        let (dir, shelf, packages) = world(1_000);
        let (index, film) = ("bbb/00000000000000ff/index.weir", "bbb/00000000000000ff/v720.mp4");
        write(&dir, index, b"twenty-one bytes long");
        write(&dir, film, b"film");
        assert_eq!(read(&*shelf, index).await, Err(Reason::NotFound));
        assert_eq!(read(&*packages, index).await.as_deref(), Ok(&b"twenty-one bytes long"[..]));
        assert_eq!(until_kept(&shelf, index).await, b"twenty-one bytes long");
        assert_eq!(read(&*packages, film).await.as_deref(), Ok(&b"film"[..]));
        assert_eq!(read(&*shelf, film).await, Err(Reason::Unsupported));
        assert_eq!(std::fs::read_dir(dir.path().join("shelf")).expect("listed").count(), 1);
    }

    #[tokio::test]
    async fn a_purge_takes_the_copies_it_is_about() {
        let (dir, shelf, packages) = world(10_000);
        let all =
            ["bbb/00000000000000ff", "bbb/0000000000000100", "bbb2/00000000000000ff", "abc/00000000000000aa"];
        let left = || {
            let copies = copies(&dir.path().join("shelf")).expect("listed");
            let names = copies.iter().map(|copy| copy.path.file_name().expect("a name").to_owned());
            let mut names: Vec<_> = names.map(|name| name.into_string().expect("text")).collect();
            names.sort();
            names
        };
        // Only what is not there: a copy that is written again gets its name at a time that nobody knows.
        let fill = || async {
            let here = left();
            for package in all.iter().filter(|package| !here.contains(&package.replace('/', "."))) {
                let index = format!("{package}/index.weir");
                let tags = if package.starts_with("abc") { "..vendor-acme.." } else { ".." };
                write(&dir, &index, tags.as_bytes());
                assert!(read(&*packages, &index).await.is_ok());
                until_kept(&shelf, &index).await;
            }
        };
        let [ff, hundred, bbb2, abc] =
            ["bbb.00000000000000ff", "bbb.0000000000000100", "bbb2.00000000000000ff", "abc.00000000000000aa"];
        let prefix = |prefix: &str| Scope::Prefix(prefix.to_owned());
        let (key, _) = media::SegmentKey::parse("bbb/00000000000000ff/v720/1.m4s").expect("a key");
        for (scope, stay) in [
            (Scope::Title("bbb".parse().expect("a title")), vec![abc, bbb2]),
            (prefix("bbb"), vec![abc]),
            (prefix("bbb/"), vec![abc, bbb2]),
            (prefix("bbb/00000000000000ff/"), vec![abc, hundred, bbb2]),
            (prefix("bbb/00000000000000ff/v720/"), vec![abc, ff, hundred, bbb2]),
            (Scope::Segment(key), vec![abc, ff, hundred, bbb2]),
            (Scope::Tag("vendor-acme".parse().expect("a tag")), vec![ff, hundred, bbb2]),
        ] {
            fill().await;
            let forgotten = shelf.forget(&scope).expect("forgotten");
            assert_eq!(
                (left(), forgotten),
                (stay.iter().map(|&name| name.to_owned()).collect(), 4 - stay.len() as u64),
                "{scope}"
            );
        }
    }

    #[tokio::test]
    async fn the_oldest_copies_make_room() {
        let (dir, shelf, packages) = world(50);
        for n in 0..4 {
            let index = format!("t{n}/00000000000000ff/index.weir");
            write(&dir, &index, &[0; 20]);
            assert!(read(&*packages, &index).await.is_ok());
            until_kept(&shelf, &index).await;
        }
        let left = copies(&dir.path().join("shelf")).expect("listed");
        assert_eq!(left.iter().map(|copy| copy.len).sum::<u64>(), 40);
        assert!(read(&*shelf, "t3/00000000000000ff/index.weir").await.is_ok());
        assert!(read(&*shelf, "t0/00000000000000ff/index.weir").await.is_err());
    }
}
