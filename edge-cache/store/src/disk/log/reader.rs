//! Reads a log frame by frame: never more of it is in memory than a frame and a piece, however long the file.

use std::io;

use bytes::{Buf, BytesMut};

use super::{FRAME_HEAD, Frame, HEADER_LEN, Head, header};
use crate::device::FileName;
use crate::disk::drive::Drive;

/// The log is read in pieces of this length: a disk that is slow, but not hanging, gives one in time.
const PIECE: u64 = 1 << 20;

/// Gives the frames of a log, up to the first that does not check out.
pub(crate) struct Reader<'a> {
    drive: &'a Drive,
    generation: u64,
    /// Length of the file.
    len: u64,
    /// Where the last good frame ended.
    end: u64,
    /// What was read from `end` on, behind what was given out last.
    ahead: BytesMut,
    given: usize,
}

impl<'a> Reader<'a> {
    /// `None` when this is not the log of that generation.
    pub(crate) async fn open(drive: &'a Drive, generation: u64, len: u64) -> io::Result<Option<Self>> {
        let mut reader = Self { drive, generation, len, end: 0, ahead: BytesMut::new(), given: 0 };
        let head = HEADER_LEN as usize;
        if !reader.read_ahead(head).await? || reader.ahead.split_to(head) != header(generation) {
            return Ok(None);
        }
        reader.end = HEADER_LEN;
        Ok(Some(reader))
    }

    /// Where the last good frame ended.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The next frame; `None` at the first that does not check out, and at the end of the file.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame<'_>>> {
        self.ahead.advance(std::mem::take(&mut self.given));
        if !self.read_ahead(FRAME_HEAD).await? {
            return Ok(None);
        }
        let Some(head) = Head::of(&self.ahead) else { return Ok(None) };
        let len = FRAME_HEAD + head.len;
        if !self.read_ahead(len).await? {
            return Ok(None);
        }
        let records = &self.ahead[FRAME_HEAD..len];
        if !head.fits(self.generation, self.end, records) {
            return Ok(None);
        }
        self.given = len;
        self.end += len as u64;
        Ok(Some(Frame { complete: head.completes(), records }))
    }

    /// Whether the file has so many bytes behind the last good frame; they are `ahead` then.
    async fn read_ahead(&mut self, wanted: usize) -> io::Result<bool> {
        if self.len.saturating_sub(self.end) < wanted as u64 {
            return Ok(false);
        }
        while self.ahead.len() < wanted {
            let at = self.end + self.ahead.len() as u64;
            let piece = PIECE.min(self.len - at);
            self.ahead.extend_from_slice(&self.drive.read(FileName::Log(self.generation), at, piece).await?);
        }
        Ok(true)
    }
}
