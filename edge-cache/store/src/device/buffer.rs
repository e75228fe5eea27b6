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

    /// The parts one after the other.
    pub(super) fn copy_of(parts: &[Bytes]) -> Self {
        let mut buffer = Self::new(parts.iter().map(Bytes::len).sum());
        let mut rest = buffer.as_mut_slice();
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        buffer
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
    fn bytes_stay_aligned_and_in_order() {
        for len in [0, 1, 4_096, 262_144, 1_000_003] {
            let whole: Bytes = (0..len).map(|at| (at % 251) as u8).collect();
            let parts = [whole.slice(..len / 3), Bytes::new(), whole.slice(len / 3..)];
            let bytes = Bytes::from(AlignedBuffer::copy_of(&parts));
            assert_eq!(bytes, whole);
            assert_eq!(bytes.as_ptr().align_offset(ALIGNMENT), 0);
        }
    }
}
