//! The page that a worker and its supervisor share: which input runs, and how many ran.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::mutate::LONGEST;

const HEAD: usize = 3 * 8;
/// Bytes of a slot's file.
pub(super) const SIZE: usize = HEAD + LONGEST;

/// Words: how many inputs ran, how long the present one is, how many branches were reached; then the input.
#[derive(Debug)]
pub(super) struct Slot {
    at: *mut u8,
}

impl Slot {
    /// Maps `file`, which has [`SIZE`] bytes.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe {
            mmap(
                std::ptr::null_mut(),
                SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        Ok(Self { at: at.cast() })
    }

    /// Notes the input that runs next.
    pub(super) fn begin(&self, input: &[u8]) {
        let input = &input[..input.len().min(LONGEST)];
        // SAFETY: the mapping has `LONGEST` bytes after its head, and only the worker writes them.
        unsafe {
            std::ptr::copy_nonoverlapping(input.as_ptr(), self.at.add(HEAD), input.len());
        }
        self.word(1).store(input.len() as u64, Ordering::Release);
    }

    /// Notes that it is through, and how many branches were reached so far.
    pub(super) fn done(&self, reached: usize) {
        self.word(0).fetch_add(1, Ordering::Relaxed);
        self.word(2).store(reached as u64, Ordering::Relaxed);
    }

    /// How many inputs ran.
    pub(super) fn runs(&self) -> u64 {
        self.word(0).load(Ordering::Relaxed)
    }

    /// How many branches they reached.
    pub(super) fn reached(&self) -> u64 {
        self.word(2).load(Ordering::Relaxed)
    }

    /// The input that ran last. Only for a worker that has ended.
    pub(super) fn input(&self) -> Vec<u8> {
        let len = self.word(1).load(Ordering::Acquire) as usize;
        // SAFETY: the mapping has `LONGEST` bytes after its head, and its writer has ended.
        unsafe { std::slice::from_raw_parts(self.at.add(HEAD), len.min(LONGEST)) }.to_vec()
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the mapping begins with three words and lives as long as `self`; a page is aligned.
        unsafe { &*self.at.cast::<AtomicU64>().add(index) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours alone, and nothing refers to it any more.
        let _ = unsafe { munmap(self.at.cast(), SIZE) };
    }
}
