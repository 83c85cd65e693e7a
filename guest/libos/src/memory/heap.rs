//! The heap: all free memory, under talc.
//!
//! Claiming memory touches only its two ends, so a large machine boots as fast as a small one.

use crate::core_cell::CoreCell;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{self, NonNull};
use talc::{DefaultBinning, base::Talc, source::Manual};

struct Heap(CoreCell<Talc<Manual, DefaultBinning>>);

#[cfg_attr(not(test), global_allocator)]
static HEAP: Heap = Heap(CoreCell::new(Talc::new(Manual)));

/// Gives the heap a range of memory.
///
/// # Safety
/// The range is mapped RAM that nothing else uses, ever.
pub(crate) unsafe fn claim(range: Range<u64>) {
    let size = (range.end - range.start) as usize;
    // SAFETY: the caller's. A range too small for talc's own needs stays unused.
    let _ = unsafe { HEAP.0.borrow().claim(range.start as *mut u8, size) };
}

// SAFETY: talc allocates as the trait asks; the cell keeps calls apart.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is not of size zero.
        let block = unsafe { self.0.borrow().allocate(layout) };
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's: a block of this heap.
        unsafe { self.0.borrow().deallocate(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's: a block of this heap, and a size that its alignment allows.
        if unsafe { self.0.borrow().try_realloc_in_place(block, layout, size) } {
            return block;
        }
        // SAFETY: the caller's, as above; both blocks hold the smaller size.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}
