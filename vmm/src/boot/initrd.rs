//! The initrd: where it lies in guest memory.
//!
//! At the end of the memory below 2 GiB, on a page: every Linux finds it there, and what the kernel needs for itself is at the other end.

use super::elf::Bounds;

/// Linux's own bound (`initrd_addr_max`), where a kernel's header says nothing else.
const END_MAX: u64 = 0x8000_0000;
/// Linux frees it by pages.
const ALIGNMENT: u64 = 4096;

/// An initrd that cannot be given to a guest.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// There is nothing in it.
    #[error("the initrd is empty")]
    Empty,
    /// It does not fit beside the kernel.
    #[error(
        "the initrd of {size} bytes does not fit: between the kernel's end at {kernel_end:#x} and {memory_end:#x} there are {room} bytes",
        room = memory_end.saturating_sub(*kernel_end)
    )]
    TooBig {
        /// Its bytes.
        size: u64,
        /// Where the kernel ends.
        kernel_end: u64,
        /// Where the memory ends that it may lie in.
        memory_end: u64,
    },
}

/// The address for an initrd of `size` bytes beside a kernel that ends at `kernel_end`.
///
/// # Errors
/// [`InitrdError`].
pub fn place(size: u64, kernel_end: u64, bounds: &Bounds) -> Result<u64, InitrdError> {
    let memory_end = bounds.low_end().min(END_MAX);
    if size == 0 {
        return Err(InitrdError::Empty);
    }
    memory_end
        .checked_sub(size)
        .map(|address| address - address % ALIGNMENT)
        .filter(|address| *address >= kernel_end)
        .ok_or(InitrdError::TooBig {
            size,
            kernel_end,
            memory_end,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_lies_at_the_end_of_low_memory() {
        let place = |size, memory| place(size, 20 * MIB, &Bounds::of_memory(memory));
        assert_eq!(place(1, 64 * MIB).unwrap(), 64 * MIB - 4096);
        assert_eq!(place(MIB, 64 * MIB).unwrap(), 63 * MIB);
        assert_eq!(place(MIB, 8192 * MIB).unwrap(), 2047 * MIB);
        assert_eq!(place(44 * MIB, 64 * MIB).unwrap(), 20 * MIB);
    }

    #[test]
    fn one_that_does_not_fit_is_refused() {
        let bounds = Bounds::of_memory(64 * MIB);
        for size in [44 * MIB + 1, 64 * MIB, 65 * MIB, u64::MAX] {
            let error = place(size, 20 * MIB, &bounds).unwrap_err();
            assert!(error.to_string().contains(&size.to_string()), "{error}");
        }
        assert!(matches!(place(0, 0, &bounds), Err(InitrdError::Empty)));
    }
}
