//! The files of one directory: which are open, which are safe, and the calls that block.
//!
//! Everything here runs on a thread that may block, except what only looks into the table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::buffer::AlignedBuffer;
use super::{FileName, PAGE};

/// The name of the file whose lock says who owns the directory.
const LOCK: &str = "lock";

/// What an operation is going to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// An open file. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) name: FileName,
    pub(super) direct: bool,
    writable: bool,
    file: Arc<File>,
}

impl Handle {
    /// Over any descriptor, a pipe say.
    #[cfg(test)]
    pub(super) fn of(name: FileName, file: File) -> Self {
        Self { name, direct: false, writable: true, file: Arc::new(file) }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The files of one directory.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    limit: usize,
    /// Whether slabs are to bypass the page cache, and whether this file system lets them.
    wants_direct: bool,
    direct: AtomicBool,
    /// Whether files may be changed.
    open: AtomicBool,
    /// Held from the first [`Files::take`] to [`Files::let_go`], and by operations that are under way: each of
    /// them holds the files.
    lock: Mutex<Option<File>>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// With the time of the last use, counted in uses.
    handles: HashMap<FileName, (Handle, u64)>,
    uses: u64,
    /// Files whose length and name were synced, and have not changed since.
    settled: HashSet<FileName>,
    /// Files whose last sync failed.
    unsound: HashSet<FileName>,
    /// Counts what made open handles or settled names stale, so that work begun before is not believed after.
    changes: u64,
}

/// How a file has to be synced, as of some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncPlan {
    /// Whether the name and the exact length are safe already, so that the bytes alone are enough.
    pub(super) settled: bool,
    changes: u64,
}

impl Files {
    pub(super) fn new(root: PathBuf, limit: usize, direct: bool) -> Self {
        Self {
            root,
            limit: limit.max(1),
            wants_direct: direct,
            direct: AtomicBool::new(direct),
            open: AtomicBool::new(false),
            lock: Mutex::default(),
            table: Mutex::default(),
        }
    }

    /// Takes the directory for this process, making it when it is not there, and looks at it anew. A lock that
    /// is held already is kept if it is still the directory's: after another file system was mounted there it
    /// is not. A failure lets go of nothing.
    pub(super) fn take(&self) -> io::Result<Vec<(FileName, u64)>> {
        self.close();
        make_dir(&self.root)?;
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = lock_dir(&self.root, held.as_ref())? {
            *held = Some(lock);
        }
        drop(held);
        self.forget_all();
        self.list()
    }

    /// Lets what changes files in.
    pub(super) fn open_for_changes(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Lets nothing in that changes files.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Lets another process take the directory.
    pub(super) fn let_go(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The file, if it is open and good for the purpose.
    pub(super) fn cached(&self, name: FileName, purpose: Purpose) -> Option<Handle> {
        let mut table = self.table();
        table.uses += 1;
        let now = table.uses;
        let (handle, used) = table.handles.get_mut(&name)?;
        *used = now;
        (handle.writable || purpose == Purpose::Read).then(|| handle.clone())
    }

    /// Opens the file and keeps it open. A slab is never made by this: [`Files::resize`] does.
    pub(super) fn open(&self, name: FileName, purpose: Purpose) -> io::Result<Handle> {
        let mut changes = self.table().changes;
        let handle = match self.open_as(name, true) {
            // A file system that was made read-only after an error still has good bytes.
            Err(error) if purpose == Purpose::Read && is_read_only(&error) => self.open_as(name, false),
            Err(error) if purpose == Purpose::Write && is_missing(&error) && !is_slab(name) => {
                // Its own change is no reason to think it stale.
                changes += 1;
                self.create(name)
            }
            opened => opened,
        }?;
        self.keep(&handle, changes);
        Ok(handle)
    }

    fn open_as(&self, name: FileName, writable: bool) -> io::Result<Handle> {
        let path = self.path(name);
        let mut options = ours();
        options.read(true).write(writable);
        let handle = |file, direct| Handle { name, direct, writable, file: Arc::new(file) };
        if is_slab(name) && self.direct.load(Ordering::Relaxed) {
            match open_direct(options.clone(), &path) {
                Err(error) if is(&error, Errno::INVAL) => self.refuse_direct(),
                opened => return opened.map(|file| handle(file, true)),
            }
        }
        options.open(path).map(|file| handle(file, false))
    }

    /// Makes an empty file, whose name is not safe yet: one change.
    fn create(&self, name: FileName) -> io::Result<Handle> {
        let file = self.create_file(name);
        self.changed(name);
        Ok(Handle { name, direct: false, writable: true, file: Arc::new(file?) })
    }

    fn create_file(&self, name: FileName) -> io::Result<File> {
        // What viewers paid for is nobody else's to read.
        ours().read(true).write(true).create(true).truncate(false).mode(0o600).open(self.path(name))
    }

    fn refuse_direct(&self) {
        if self.direct.swap(false, Ordering::Relaxed) {
            let root = self.root.display();
            tracing::info!(%root, "the file system refuses direct I/O; slabs go through the page cache");
        }
    }

    /// Keeps a handle unless something changed since before it was opened: it may be of a file that was
    /// removed or replaced in between.
    fn keep(&self, handle: &Handle, changes: u64) {
        let mut table = self.table();
        if table.changes != changes {
            return;
        }
        table.uses += 1;
        let now = table.uses;
        table.handles.insert(handle.name, (handle.clone(), now));
        if table.handles.len() > self.limit {
            let oldest = table.handles.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| *name);
            oldest.and_then(|name| table.handles.remove(&name));
        }
    }

    /// After an operation on the file failed: the next one opens it anew. The end of a file is no fault.
    pub(super) fn failed(&self, handle: &Handle, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) {
            return;
        }
        let mut table = self.table();
        let same = |(kept, _): &(Handle, u64)| Arc::ptr_eq(&kept.file, &handle.file);
        if table.handles.get(&handle.name).is_some_and(same) {
            table.handles.remove(&handle.name);
        }
    }

    /// Forgets everything that was known of the files, for they may be other ones now.
    fn forget_all(&self) {
        self.direct.store(self.wants_direct, Ordering::Relaxed);
        let mut table = self.table();
        let changes = table.changes + 1;
        *table = Table { changes, ..Table::default() };
    }

    /// Every file of ours with its length, in order.
    fn list(&self) -> io::Result<Vec<(FileName, u64)>> {
        let mut files = BTreeMap::new();
        let mut strangers = 0_usize;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            match name.to_str().and_then(|name| name.parse().ok()) {
                Some(file) if entry.file_type()?.is_file() => {
                    files.insert(file, entry.metadata()?.len());
                }
                _ if name == LOCK => {}
                _ => strangers += 1,
            }
        }
        if strangers > 0 {
            let root = self.root.display();
            tracing::info!(%root, strangers, "found what is not ours in the directory; it is left alone");
        }
        Ok(files.into_iter().collect())
    }

    /// Makes the file exactly so long and sets its room aside.
    pub(super) fn resize(&self, name: FileName, len: u64) -> io::Result<()> {
        let done = if len == 0 { self.remove(name) } else { self.set_len(name, len) };
        // Even a failure may have changed something.
        self.changed(name);
        if len == 0 && done.is_ok() {
            self.table().unsound.remove(&name);
        }
        done
    }

    /// The name or the length of a file is not what it was: nothing that was known of it holds.
    fn changed(&self, name: FileName) {
        let mut table = self.table();
        table.changes += 1;
        table.settled.remove(&name);
        table.handles.remove(&name);
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if is_missing(&error) => Ok(()),
            removed => removed,
        }
    }

    fn set_len(&self, name: FileName, len: u64) -> io::Result<()> {
        let before = match ours().write(true).open(self.path(name)) {
            Ok(file) => Some((file.metadata()?.len(), file)),
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(error),
        };
        let Some((before, file)) = before else {
            let reserved = self.create_file(name).and_then(|file| reserve(&file, len));
            // A new file for which there is no room goes again. The first error is the one to tell.
            return reserved.inspect_err(|_| drop(self.remove(name)));
        };
        if before > len {
            file.set_len(len)?;
        }
        let reserved = reserve(&file, len);
        if reserved.is_err() && before < len {
            // What was set aside before the disk was full goes back.
            let _ = file.set_len(before);
        }
        reserved
    }

    /// What a sync of this file has to do.
    pub(super) fn plan_sync(&self, name: FileName) -> io::Result<SyncPlan> {
        let table = self.table();
        if table.unsound.contains(&name) {
            return Err(io::Error::other(format!(
                "{name}: an earlier sync failed; nothing proves a later one"
            )));
        }
        Ok(SyncPlan { settled: table.settled.contains(&name), changes: table.changes })
    }

    /// After a sync failed.
    pub(super) fn sync_failed(&self, name: FileName) {
        self.table().unsound.insert(name);
    }

    /// Makes the names of the directory safe, and with them the file that was synced before.
    pub(super) fn sync_names(&self, name: FileName, plan: SyncPlan) -> io::Result<()> {
        let synced = File::open(&self.root).and_then(|root| root.sync_all());
        synced.inspect_err(|_| self.sync_failed(name))?;
        let mut table = self.table();
        if table.changes == plan.changes {
            table.settled.insert(name);
        }
        Ok(())
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.root.join(name.to_string())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How files of ours are opened: where a link has taken the name of one, what it leads to is left alone.
fn ours() -> fs::OpenOptions {
    let mut options = File::options();
    options.custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

/// Makes a directory with everything above it, and their names safe.
fn make_dir(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let missing: Vec<&Path> = missing.collect();
    fs::create_dir_all(path)?;
    for parent in missing.iter().filter_map(|path| path.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Locks the directory; `None` when the lock that is held is the one.
fn lock_dir(root: &Path, held: Option<&File>) -> io::Result<Option<File>> {
    let path = root.join(LOCK);
    let lock = match File::options().create(true).truncate(false).write(true).open(&path) {
        // Bytes can still be read from a disk on which nothing can be made.
        Err(error) if is_read_only(&error) => File::open(&path),
        opened => opened,
    }?;
    if let Some(held) = held {
        let (ours, there) = (held.metadata()?, lock.metadata()?);
        if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
            return Ok(None);
        }
    }
    lock.try_lock()?;
    Ok(Some(lock))
}

/// Opens for direct I/O and tries it: some file systems refuse the open, some only the first read.
fn open_direct(mut options: fs::OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags((OFlags::DIRECT | OFlags::NOFOLLOW).bits() as i32).open(path)?;
    let mut page = AlignedBuffer::new(PAGE as usize);
    match file.read_at(page.as_mut_slice(), 0) {
        Err(error) if is(&error, Errno::INVAL) => Err(error),
        // Other errors belong to those who want the bytes.
        _ => Ok(file),
    }
}

/// Sets the room of the first `len` bytes aside. Without the file system's help the file only gets longer,
/// and a later write may find the disk full.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, len)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
        reserved => reserved.map_err(io::Error::from),
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

fn is_slab(name: FileName) -> bool {
    matches!(name, FileName::Slab(_))
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: FileName = FileName::Log(1);

    fn files(limit: usize) -> (tempfile::TempDir, Files) {
        let temp = tempfile::tempdir().expect("a directory");
        let files = Files::new(temp.path().to_owned(), limit, true);
        files.take().expect("takes it");
        (temp, files)
    }

    fn is_cached(files: &Files, name: FileName) -> bool {
        files.cached(name, Purpose::Write).is_some()
    }

    #[test]
    fn a_handle_that_failed_is_not_used_again() {
        let (_temp, files) = files(8);
        let first = files.open(LOG, Purpose::Write).expect("makes it");
        for harmless in [io::ErrorKind::UnexpectedEof, io::ErrorKind::NotFound] {
            files.failed(&first, &harmless.into());
            assert!(is_cached(&files, LOG), "{harmless}");
        }
        files.failed(&first, &io::Error::from_raw_os_error(libc::EIO));
        assert!(!is_cached(&files, LOG));
        files.open(LOG, Purpose::Read).expect("opens");
        files.failed(&first, &io::Error::from_raw_os_error(libc::EIO));
        assert!(is_cached(&files, LOG), "an old failure says nothing of a new handle");
    }

    #[test]
    fn a_handle_of_a_removed_file_is_not_kept() {
        let (_temp, files) = files(8);
        let old = files.open(LOG, Purpose::Write).expect("makes it");
        let changes = files.table().changes;
        files.resize(LOG, 0).expect("removes");
        assert!(!is_cached(&files, LOG));
        files.keep(&old, changes);
        assert!(!is_cached(&files, LOG), "it was opened before the removal");
        assert!(files.open(LOG, Purpose::Read).is_err());
    }

    #[test]
    fn a_refusal_of_direct_io_holds_until_the_next_take() {
        let (_temp, files) = files(8);
        let is_direct = || {
            files.resize(FileName::Slab(1), PAGE).expect("makes it");
            files.open(FileName::Slab(1), Purpose::Read).expect("opens").direct
        };
        let before = is_direct();
        files.refuse_direct();
        assert!(!is_direct());
        files.take().expect("another file system, maybe");
        assert_eq!(is_direct(), before);
    }

    #[test]
    fn the_file_used_longest_ago_is_closed_first() {
        let (_temp, files) = files(2);
        for number in [1, 2] {
            files.open(FileName::Log(number), Purpose::Write).expect("makes it");
        }
        assert!(is_cached(&files, FileName::Log(1)));
        files.open(FileName::Log(3), Purpose::Write).expect("makes it");
        assert_eq!([1, 2, 3].map(|number| is_cached(&files, FileName::Log(number))), [true, false, true]);
    }

    #[test]
    fn a_name_is_settled_by_a_full_sync_and_by_nothing_else() {
        let (_temp, files) = files(8);
        let plan = || files.plan_sync(LOG).expect("sound");
        files.open(LOG, Purpose::Write).expect("makes it");
        let before = plan();
        assert!(!before.settled);
        files.resize(LOG, 5).expect("longer");
        files.sync_names(LOG, before).expect("syncs");
        assert!(!plan().settled, "it changed in between");
        files.sync_names(LOG, plan()).expect("syncs");
        assert!(plan().settled);
        files.resize(LOG, 3).expect("shorter");
        assert!(!plan().settled);
        files.sync_names(LOG, plan()).expect("syncs");
        files.take().expect("again");
        assert!(!plan().settled, "nobody knows what happened meanwhile");
    }

    #[test]
    fn a_sync_that_failed_is_not_forgotten_before_the_next_take() {
        let (_temp, files) = files(8);
        files.sync_failed(LOG);
        assert!(files.plan_sync(LOG).is_err() && files.plan_sync(LOG).is_err());
        files.sync_failed(FileName::Log(2));
        files.resize(FileName::Log(2), 0).expect("removes");
        files.plan_sync(FileName::Log(2)).expect("what was lost is gone on purpose");
        files.take().expect("again");
        files.plan_sync(LOG).expect("anew");
    }
}
