//! Buffers that direct I/O accepts, without `unsafe`: allocated a page too long and used from a page boundary on.

use bytes::Bytes;

use super::PAGE;

const ALIGNMENT: usize = PAGE as usize;

/// So many bytes, beginning at a page boundary.
pub(super) struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// All zeros. Large ones come fresh from the kernel, which has zeroed them already.
    pub(super) fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT];
        // `align_offset` may refuse to know (it never does at run time); direct I/O then fails with EINVAL.
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { bytes, start, len }
    }

    /// Holds the parts one after the other, as far as there is room; gives what it holds then.
    pub(super) fn fill(&mut self, parts: &[Bytes]) -> &[u8] {
        let mut filled = 0;
        let room = self.as_mut_slice();
        for part in parts {
            let here = part.len().min(room.len() - filled);
            room[filled..filled + here].copy_from_slice(&part[..here]);
            filled += here;
        }
        &room[..filled]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl From<AlignedBuffer> for Bytes {
    fn from(buffer: AlignedBuffer) -> Self {
        Self::from(buffer.bytes).slice(buffer.start..buffer.start + buffer.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_aligned_and_in_order() {
        for len in [0, 1, 4_096, 262_144, 1_000_003] {
            let whole: Bytes = (0..len).map(|at| (at % 251) as u8).collect();
            let parts = [whole.slice(..len / 3), Bytes::new(), whole.slice(len / 3..)];
            for room in [len, len + 1, len / 2, 0] {
                let mut buffer = AlignedBuffer::new(room);
                let filled = buffer.fill(&parts);
                assert_eq!(filled, &whole[..len.min(room)]);
                assert_eq!(filled.as_ptr().align_offset(ALIGNMENT), 0);
                let bytes = Bytes::from(buffer);
                assert_eq!(bytes.as_ptr().align_offset(ALIGNMENT), 0, "moved, not copied");
                assert_eq!(bytes[..len.min(room)], whole[..len.min(room)]);
            }
        }
    }
}
