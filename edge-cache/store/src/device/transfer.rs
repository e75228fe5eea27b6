//! One movement of bytes between memory and an open file: what to ask the kernel next, and what follows from
//! its answer. Pure, so that every way into the kernel behaves the same and short answers stand in a table.

use std::io::{self, IoSlice};
use std::ops::ControlFlow;

use bytes::{Buf, Bytes};

use super::PAGE;
use super::buffer::AlignedBuffer;

/// Linux takes no more slices in one call.
const MOST_SLICES: usize = 1024;
/// Linux moves no more than a little under 2 GiB in one call; whole pages of it.
const MOST_BYTES: usize = 1 << 30;
/// A direct write goes through a buffer of so many bytes, piece by piece: enough for the disk to be busy, and
/// no second copy of a long segment in memory. Whole pages.
const STAGE: usize = 1 << 20;
/// How often the kernel may be too busy for the same transfer before that is an error.
const PATIENCE: u32 = 16;

/// A read, write or sync that is under way.
pub(super) struct Transfer {
    kind: Kind,
    /// What a file opened for direct I/O moves at least.
    granule: usize,
    busy: u32,
}

enum Kind {
    Read { at: u64, buffer: AlignedBuffer, filled: usize },
    Write { at: u64, parts: Vec<Bytes>, next: usize, stage: Option<AlignedBuffer> },
    Sync { data_only: bool },
}

/// What the kernel is to do next. It answers with the number of bytes it moved.
pub(super) enum Call<'a> {
    Read { at: u64, into: &'a mut [u8] },
    Write { at: u64, from: Vec<IoSlice<'a>> },
    Sync { data_only: bool },
}

impl Transfer {
    pub(super) fn read(at: u64, len: usize, direct: bool) -> Self {
        Self::new(Kind::Read { at, buffer: AlignedBuffer::new(len), filled: 0 }, direct)
    }

    /// With direct I/O the parts are copied once, for the disk takes whole pages from page boundaries only.
    pub(super) fn write(at: u64, mut parts: Vec<Bytes>, direct: bool) -> Self {
        parts.retain(|part| !part.is_empty());
        let len: usize = parts.iter().map(Bytes::len).sum();
        let stage = direct.then(|| AlignedBuffer::new(len.min(STAGE)));
        Self::new(Kind::Write { at, parts, next: 0, stage }, direct)
    }

    /// `data_only` leaves out what is not needed to read the bytes back, as `fdatasync` does.
    pub(super) fn sync(data_only: bool) -> Self {
        Self::new(Kind::Sync { data_only }, false)
    }

    fn new(kind: Kind, direct: bool) -> Self {
        Self { kind, granule: if direct { PAGE as usize } else { 1 }, busy: 0 }
    }

    pub(super) fn is_sync(&self) -> bool {
        matches!(self.kind, Kind::Sync { .. })
    }

    /// Whether there is nothing to ask the kernel for.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Read { buffer, filled, .. } => *filled == buffer.len(),
            Kind::Write { parts, next, .. } => *next == parts.len(),
            Kind::Sync { .. } => false,
        }
    }

    pub(super) fn next(&mut self) -> Call<'_> {
        match &mut self.kind {
            Kind::Read { at, buffer, filled } => {
                let rest = &mut buffer.as_mut_slice()[*filled..];
                let most = rest.len().min(MOST_BYTES);
                Call::Read { at: *at + *filled as u64, into: &mut rest[..most] }
            }
            Kind::Write { at, parts, next, stage: Some(stage) } => {
                Call::Write { at: *at, from: vec![IoSlice::new(stage.fill(&parts[*next..]))] }
            }
            Kind::Write { at, parts, next, stage: None } => {
                let slices = parts[*next..].iter().take(MOST_SLICES);
                Call::Write { at: *at, from: slices.map(|part| IoSlice::new(part)).collect() }
            }
            Kind::Sync { data_only } => Call::Sync { data_only: *data_only },
        }
    }

    /// Takes in the kernel's answer to [`Transfer::next`]; goes on until it breaks with the outcome.
    pub(super) fn advance(&mut self, answer: io::Result<usize>) -> ControlFlow<io::Result<()>> {
        let moved = match answer {
            Ok(moved) => moved,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return ControlFlow::Continue(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.busy < PATIENCE => {
                self.busy += 1;
                return ControlFlow::Continue(());
            }
            Err(error) => return ControlFlow::Break(Err(error)),
        };
        // Direct I/O goes on from whole pages only. Less than one is the end of the file, or of the disk.
        let moved = moved - moved % self.granule;
        match &mut self.kind {
            Kind::Sync { .. } => return ControlFlow::Break(Ok(())),
            Kind::Read { .. } if moved == 0 => {
                return ControlFlow::Break(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Kind::Write { .. } if moved == 0 => {
                return ControlFlow::Break(Err(io::ErrorKind::WriteZero.into()));
            }
            Kind::Read { buffer, filled, .. } => *filled = (*filled + moved).min(buffer.len()),
            Kind::Write { at, parts, next, .. } => {
                *at += moved as u64;
                consume(parts, next, moved);
            }
        }
        if self.is_empty() { ControlFlow::Break(Ok(())) } else { ControlFlow::Continue(()) }
    }

    /// What was read; nothing for a write or a sync.
    pub(super) fn into_bytes(self) -> Bytes {
        match self.kind {
            Kind::Read { buffer, .. } => buffer.into(),
            Kind::Write { .. } | Kind::Sync { .. } => Bytes::new(),
        }
    }
}

/// Steps over so many bytes; parts that are written are let go.
fn consume(parts: &mut [Bytes], next: &mut usize, mut moved: usize) {
    while let Some(part) = parts.get_mut(*next) {
        let here = moved.min(part.len());
        part.advance(here);
        moved -= here;
        if !part.is_empty() {
            return;
        }
        *part = Bytes::new();
        *next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a transfer the kernel's answers; tells what was asked and how it ended.
    fn replay(
        mut transfer: Transfer,
        answers: &[io::Result<usize>],
    ) -> (Vec<(u64, usize)>, Option<io::ErrorKind>) {
        let mut asked = Vec::new();
        for answer in answers {
            asked.push(match transfer.next() {
                Call::Read { at, into } => (at, into.len()),
                Call::Write { at, from } => (at, from.iter().map(|slice| slice.len()).sum()),
                Call::Sync { .. } => (0, 0),
            });
            let answer = answer.as_ref().map(|moved| *moved).map_err(|error| error.kind().into());
            match transfer.advance(answer) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Ok(())) => return (asked, None),
                ControlFlow::Break(Err(error)) => return (asked, Some(error.kind())),
            }
        }
        unreachable!("the transfer wants more than the table answers: {asked:?}");
    }

    fn fails(kind: io::ErrorKind) -> io::Result<usize> {
        Err(kind.into())
    }

    #[test]
    fn short_reads_go_on_where_they_stopped() {
        use io::ErrorKind::{Interrupted, UnexpectedEof, WouldBlock};
        let read = |len, direct| Transfer::read(8_192, len, direct);
        assert_eq!(replay(read(10, false), &[Ok(10)]), (vec![(8_192, 10)], None));
        assert_eq!(replay(read(10, false), &[Ok(3), Ok(7)]), (vec![(8_192, 10), (8_195, 7)], None));
        let busy = [fails(Interrupted), fails(WouldBlock), Ok(10)];
        assert_eq!(replay(read(10, false), &busy), (vec![(8_192, 10); 3], None));
        assert_eq!(replay(read(10, false), &[Ok(3), Ok(0)]).1, Some(UnexpectedEof));
        // Direct I/O: not from the middle of a page, and less than a page is the end of the file.
        let twice = vec![(8_192, 12_288), (12_288, 8_192)];
        assert_eq!(replay(read(12_288, true), &[Ok(4_608), Ok(8_192)]), (twice.clone(), None));
        assert_eq!(replay(read(12_288, true), &[Ok(4_608), Ok(512)]), (twice, Some(UnexpectedEof)));
    }

    #[test]
    fn short_writes_go_on_across_parts() {
        use io::ErrorKind::{StorageFull, WriteZero};
        let parts = || vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
        let write = || Transfer::write(5, parts(), false);
        assert_eq!(replay(write(), &[Ok(7)]), (vec![(5, 7)], None));
        assert_eq!(replay(write(), &[Ok(2), Ok(1), Ok(4)]), (vec![(5, 7), (7, 5), (8, 4)], None));
        assert_eq!(replay(write(), &[Ok(4), fails(StorageFull)]).1, Some(StorageFull));
        assert_eq!(replay(write(), &[Ok(0)]).1, Some(WriteZero));
        let mut transfer = write();
        assert!(transfer.advance(Ok(4)).is_continue());
        let Call::Write { at, from } = transfer.next() else { unreachable!("it writes") };
        assert_eq!((at, from[0].as_ref(), from.len()), (9, &b"efg"[..], 1));
    }

    #[test]
    fn more_parts_than_one_call_takes_are_several_calls() {
        let parts = vec![Bytes::from_static(b"x"); 3_000];
        let asked = replay(Transfer::write(0, parts.clone(), false), &[Ok(1_024), Ok(1_024), Ok(952)]);
        assert_eq!(asked, (vec![(0, 1_024), (1_024, 1_024), (2_048, 952)], None));
    }

    #[test]
    fn direct_writes_go_through_a_buffer_of_bounded_size() {
        let whole: Bytes = (0..2 * STAGE + 8_192).map(|at| (at % 251) as u8).collect();
        let parts = || {
            (0..whole.len()).step_by(5_000).map(|at| whole.slice(at..whole.len().min(at + 5_000))).collect()
        };
        let asked = replay(Transfer::write(4_096, parts(), true), &[Ok(STAGE), Ok(STAGE), Ok(8_192)]).0;
        let (second, third) = (4_096 + STAGE as u64, 4_096 + 2 * STAGE as u64);
        assert_eq!(asked, [(4_096, STAGE), (second, STAGE), (third, 8_192)]);

        let mut transfer = Transfer::write(0, parts(), true);
        assert!(transfer.advance(Ok(10_000)).is_continue());
        let Call::Write { at, from } = transfer.next() else { unreachable!("it writes") };
        assert_eq!((at, from.len()), (8_192, 1), "from a whole page on");
        assert!(from[0][..] == whole[8_192..8_192 + STAGE]);
    }

    #[test]
    fn a_kernel_that_is_always_too_busy_is_an_error() {
        let answers: Vec<_> = (0..=PATIENCE).map(|_| fails(io::ErrorKind::WouldBlock)).collect();
        assert_eq!(replay(Transfer::sync(true), &answers).1, Some(io::ErrorKind::WouldBlock));
    }
}
