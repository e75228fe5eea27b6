//! Whether a disk is used, and what a failure changes about that. Values only.

use std::collections::VecDeque;
use std::io::ErrorKind;

use media::SegmentKey;

/// How a disk is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Read and written.
    Online,
    /// Read only: it is full, or it refuses writes.
    ReadOnly,
    /// Left alone: it failed or did not answer.
    Offline,
    /// Given away to another process; what is known is read until that process is ready.
    Detached,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Online, Self::ReadOnly, Self::Offline, Self::Detached];

    /// The word used in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::ReadOnly => "read-only",
            Self::Offline => "offline",
            Self::Detached => "detached",
        }
    }

    /// Whether there is nothing to mend about it.
    pub(crate) const fn is_well(self) -> bool {
        matches!(self, Self::Online | Self::Detached)
    }

    pub(crate) const fn reads(self) -> bool {
        !matches!(self, Self::Offline)
    }

    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Online)
    }

    /// How the disk is used after an operation failed so.
    pub(crate) fn after(self, operation: Operation, kind: ErrorKind) -> Self {
        match (self, operation) {
            (Self::Detached | Self::Offline, _) => self,
            (_, Operation::Write) if refuses_writes(kind) => Self::ReadOnly,
            (_, Operation::Read | Operation::Write) => Self::Offline,
        }
    }
}

/// How a disk is used, and whether somebody tries to get it back: one value, so that a failure at the very
/// moment of a return is neither overlooked nor undone.
#[derive(Debug)]
pub(crate) struct Health {
    mode: Mode,
    watched: bool,
}

impl Default for Health {
    /// A disk that nobody has opened yet.
    fn default() -> Self {
        Self { mode: Mode::Offline, watched: false }
    }
}

impl Health {
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn set(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Takes a failure in. Gives the new mode if it is another one.
    pub(crate) fn failed(&mut self, operation: Operation, kind: ErrorKind) -> Option<Mode> {
        let after = self.mode.after(operation, kind);
        (std::mem::replace(&mut self.mode, after) != after).then_some(after)
    }

    /// Whether the caller has to begin to watch: something is to be mended, and nobody tries.
    pub(crate) fn begin_watch(&mut self) -> bool {
        let begins = !self.mode.is_well() && !self.watched;
        self.watched |= begins;
        begins
    }

    /// Whether the one who watches may go.
    pub(crate) fn end_watch(&mut self) -> bool {
        self.watched = !self.mode.is_well();
        !self.watched
    }
}

/// Most objects that are remembered to have failed.
const REMEMBERED: usize = 64;

/// Objects that could not be read. The first time that may be the disk; the second time, after the disk was
/// opened anew, it is a bad sector.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(VecDeque<SegmentKey>);

impl Unreadable {
    /// Whether the object failed before. If not it is remembered, and the oldest forgotten.
    pub(crate) fn again(&mut self, key: &SegmentKey) -> bool {
        if let Some(at) = self.0.iter().position(|known| known == key) {
            self.0.remove(at);
            return true;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(key.clone());
        false
    }
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
}

impl Operation {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The disk is well, but takes nothing more.
fn refuses_writes(kind: ErrorKind) -> bool {
    is_full(kind) || matches!(kind, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// There is no room left on the file system, whatever our own capacity says.
pub(crate) fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// Whether a disk that cannot be opened at the start is the operator's to mend, rather than a disk that may
/// come back.
pub(crate) fn is_misconfigured(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::PermissionDenied | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_changes() {
        use ErrorKind::{NotFound, Other, ReadOnlyFilesystem, StorageFull, TimedOut};
        use Mode::{Detached, Offline, Online, ReadOnly};
        use Operation::{Read, Write};
        for (before, operation, kind, after) in [
            (Online, Write, StorageFull, ReadOnly),
            (Online, Write, ReadOnlyFilesystem, ReadOnly),
            (Online, Write, TimedOut, Offline),
            (Online, Write, Other, Offline),
            (Online, Read, Other, Offline),
            (Online, Read, TimedOut, Offline),
            (ReadOnly, Read, Other, Offline),
            (ReadOnly, Write, StorageFull, ReadOnly),
            (Offline, Write, StorageFull, Offline),
            (Detached, Read, NotFound, Detached),
        ] {
            assert_eq!(before.after(operation, kind), after, "{before:?} {operation:?} {kind:?}");
        }
    }

    #[test]
    fn one_watches_as_long_as_there_is_something_to_mend() {
        let mut health = Health::default();
        assert!(health.begin_watch() && !health.begin_watch(), "one is enough");
        assert!(!health.end_watch(), "it is not mended");
        health.set(Mode::Online);
        // It fails again between its return and the end of the watch.
        assert_eq!(health.failed(Operation::Read, ErrorKind::Other), Some(Mode::Offline));
        assert!(!health.begin_watch() && !health.end_watch(), "so whoever watches stays");
        health.set(Mode::Online);
        assert!(health.end_watch());
        assert_eq!(health.failed(Operation::Write, ErrorKind::StorageFull), Some(Mode::ReadOnly));
        assert_eq!(health.failed(Operation::Write, ErrorKind::StorageFull), None);
        assert!(health.begin_watch());
        health.set(Mode::Detached);
        assert_eq!(health.failed(Operation::Write, ErrorKind::Other), None, "it is not ours to mend");
        assert!(health.end_watch());
    }

    #[test]
    fn a_second_failure_of_the_same_object_is_told_and_few_are_remembered() {
        let key = |n| {
            let path = format!("film/00000000000000ff/v720/{n}.m4s");
            SegmentKey::parse(&path).expect("a key").0
        };
        let mut unreadable = Unreadable::default();
        assert!(!unreadable.again(&key(0)) && unreadable.again(&key(0)));
        assert!(!unreadable.again(&key(0)), "by then it is another object");
        (1..=REMEMBERED).for_each(|n| assert!(!unreadable.again(&key(n))));
        assert!(!unreadable.again(&key(0)), "forgotten");
        assert!(unreadable.again(&key(REMEMBERED)));
    }
}
