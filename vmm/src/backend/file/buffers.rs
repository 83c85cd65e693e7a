//! Guest memory that a request reads or writes.

use std::fmt;

use libc::iovec;
use vm_memory::VolatileSlice;

use crate::machine::memory::Memory;

/// Most pieces of one request: as many as the kernel takes in one call (`IOV_MAX`).
pub const PIECES_MAX: usize = 1024;

/// Pieces of guest memory, in order. It keeps that memory mapped, so a kernel that works on it may take its time; the guest may change
/// it meanwhile, which is the guest's own business.
pub struct Buffers {
    pieces: Vec<iovec>,
    bytes: u64,
    _memory: Memory,
}

// SAFETY: the pointers are to memory that this value keeps mapped and that only the kernel goes to through it.
unsafe impl Send for Buffers {}

impl Buffers {
    /// No pieces yet, of `memory`.
    #[must_use]
    pub fn new(memory: &Memory) -> Self {
        Self {
            pieces: vec![],
            bytes: 0,
            _memory: memory.clone(),
        }
    }

    /// Adds a piece, which must be of the same memory; `false` where there are too many.
    pub fn push(&mut self, slice: &VolatileSlice<'_>) -> bool {
        if slice.is_empty() {
            return true;
        }
        if self.pieces.len() == PIECES_MAX {
            return false;
        }
        self.pieces.push(iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        });
        // A chain of buffers has 4 GiB at most.
        self.bytes += slice.len() as u64;
        true
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// For the kernel: valid until `self` changes or goes.
    pub(super) fn pieces(&self) -> &[iovec] {
        &self.pieces
    }

    /// Leaves out the first `count` bytes, of which there are as many.
    pub(super) fn advance(&mut self, count: u64) {
        self.bytes -= count;
        let mut left = count as usize;
        let mut whole = 0;
        for piece in &mut self.pieces {
            if left < piece.iov_len {
                piece.iov_base = piece.iov_base.wrapping_byte_add(left);
                piece.iov_len -= left;
                break;
            }
            left -= piece.iov_len;
            whole += 1;
        }
        self.pieces.drain(..whole);
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} pieces", self.bytes, self.pieces.len())
    }
}
