//! Whether a disk is used, and what a failure changes about that. Values only.

use std::io::ErrorKind;

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
}
