//! The heap: all free memory, under talc.
//!
//! It starts small, behind the page tables, and takes in the rest of the machine's memory when that is used up: most boots
//! never touch a page far away, and the work does not grow with memory.

use super::map::Ranges;
use crate::core_cell::CoreCell;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use talc::{
    DefaultBinning,
    base::{Talc, binning::Binning},
    source::Source,
};

/// Bytes of the heap's start.
const START: u64 = 128 * 1024;

/// What is free and not yet the heap's.
#[derive(Debug)]
struct Rest {
    /// The end of the heap's start, and where that may grow to.
    first: Option<(NonNull<u8>, u64)>,
    others: Ranges,
}

// SAFETY: one core, no other thread to send it to: the pointer is an address of the heap's own.
unsafe impl Send for Rest {}

// SAFETY: each acquisition adds memory that nothing else uses, or fails: `first` and `others` are emptied as they go.
unsafe impl Source for Rest {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, _: Layout) -> Result<(), ()> {
        if let Some((end, limit)) = talc.source.first.take() {
            // SAFETY: `end` is the end of a heap of this talc; up to the limit memory is free.
            unsafe { talc.extend(end, limit as *mut u8) };
            return Ok(());
        }
        let others = core::mem::replace(&mut talc.source.others, Ranges::new());
        let mut result = Err(());
        for range in others.iter() {
            let size = (range.end - range.start) as usize;
            // SAFETY: free memory. A range too small for talc's own needs stays unused.
            if unsafe { talc.claim(range.start as *mut u8, size) }.is_some() {
                result = Ok(());
            }
        }
        result
    }
}

struct Heap(CoreCell<Talc<Rest, DefaultBinning>>);

#[cfg_attr(not(test), global_allocator)]
static HEAP: Heap = Heap(CoreCell::new(Talc::new(Rest {
    first: None,
    others: Ranges::new(),
})));

/// Gives the heap its memory.
///
/// # Safety
/// The ranges are mapped RAM that nothing else uses, ever.
pub(crate) unsafe fn start(free: Ranges) {
    let mut talc = HEAP.0.borrow();
    let mut free = free;
    let first = free
        .iter()
        .find(|range| range.end - range.start > START)
        .cloned();
    if let Some(range) = first {
        free.remove(&range);
        // SAFETY: the caller's.
        let end = unsafe { talc.claim(range.start as *mut u8, START as usize) };
        talc.source.first = end.map(|end| (end, range.end));
    }
    talc.source.others = free;
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
