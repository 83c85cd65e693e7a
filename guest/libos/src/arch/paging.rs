//! The page tables to stay on: one address space, every address its own physical one.
//!
//! ```text
//! 0              nothing: a null pointer traps
//! 0x1000         what the monitor handed over: read and write, no execution
//! 1 MiB          ring 0's two pages: not ring 3's
//! the image      text R-X, constants R--, data RW-, guard pages ---
//! RAM            RW-, in 1 GiB pages where the processor has them, else in 2 MiB pages
//! device windows RW-
//! boot module    R--
//! ```
//! Only the 2 MiB that hold the image are in 4 KiB pages, so the work does not grow with memory.

use super::layout::{GIANT, HUGE, PAGE};
use core::ops::Range;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// Read, write, no execution.
pub(crate) const DATA: u64 = PRESENT | USER | WRITE | NO_EXECUTE;
/// Read and execute.
pub(crate) const TEXT: u64 = PRESENT | USER;
/// Read.
pub(crate) const CONSTANT: u64 = PRESENT | USER | NO_EXECUTE;
/// Ring 0's code.
pub(crate) const RING0_TEXT: u64 = PRESENT;
/// Ring 0's data.
pub(crate) const RING0_DATA: u64 = PRESENT | WRITE | NO_EXECUTE;
/// Nothing: an access traps.
pub(crate) const NOTHING: u64 = 0;

/// One page of entries.
#[repr(C, align(4096))]
pub(crate) struct Table([u64; 512]);

/// Builds page tables in frames that it takes in order.
pub(crate) struct Builder<'a> {
    frames: &'a mut [Table],
    /// Physical address of the first frame.
    base: u64,
    used: usize,
    giant_pages: bool,
}

/// The memory set aside for page tables is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfFrames;

impl<'a> Builder<'a> {
    /// Starts tables in `frames`, whose first has the physical address `base`. The first frame is the root.
    pub(crate) fn new(
        frames: &'a mut [Table],
        base: u64,
        giant_pages: bool,
    ) -> Result<Self, OutOfFrames> {
        let mut builder = Self {
            frames,
            base,
            used: 0,
            giant_pages,
        };
        builder.take()?;
        Ok(builder)
    }

    /// Frames used so far.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Maps `range`, cut outwards to whole pages, in the largest pages that fit; what was mapped there is replaced.
    pub(crate) fn map(&mut self, range: Range<u64>, flags: u64) -> Result<(), OutOfFrames> {
        let mut at = range.start & !(PAGE - 1);
        let end = range.end.next_multiple_of(PAGE);
        while at < end {
            let fits = |size: u64| at.is_multiple_of(size) && end - at >= size;
            // From the root's entries of 512 GiB down to the size that fits.
            let (level, size) = if self.giant_pages && fits(GIANT) {
                (2, GIANT)
            } else if fits(HUGE) {
                (1, HUGE)
            } else {
                (0, PAGE)
            };
            let (table, first) = self.table_for(at, level)?;
            let large = if level > 0 && flags != NOTHING { LARGE } else { 0 };
            for slot in &mut self.frames[table].0[first..] {
                *slot = if flags == NOTHING { 0 } else { at | flags | large };
                at += size;
                if at >= end || end - at < size {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The frame and the slot of the entry for `address` at `level` (0: 4 KiB), making the tables above it.
    fn table_for(&mut self, address: u64, level: u32) -> Result<(usize, usize), OutOfFrames> {
        let slot = |level: u32| (address >> (12 + 9 * level)) as usize % 512;
        let mut table = 0;
        for above in (level + 1..=3).rev() {
            let entry = self.frames[table].0[slot(above)];
            table = if entry & PRESENT == 0 {
                let next = self.take()?;
                self.point(table, slot(above), next);
                next
            } else if entry & LARGE != 0 {
                let next = self.take()?;
                self.split(entry, above, next);
                self.point(table, slot(above), next);
                next
            } else {
                ((entry & ADDRESS) - self.base) as usize / PAGE as usize
            };
        }
        Ok((table, slot(level)))
    }

    /// Makes an entry lead to the table in frame `next`. Rights are decided by the last level alone.
    fn point(&mut self, table: usize, slot: usize, next: usize) {
        self.frames[table].0[slot] = (self.base + next as u64 * PAGE) | PRESENT | WRITE | USER;
    }

    /// Fills frame `next` with what the large page `entry` of `level` maps.
    fn split(&mut self, entry: u64, level: u32, next: usize) {
        let size = 1 << (12 + 9 * (level - 1));
        let entry = if level == 1 { entry & !LARGE } else { entry };
        for (i, slot) in self.frames[next].0.iter_mut().enumerate() {
            *slot = entry + i as u64 * size;
        }
    }

    fn take(&mut self) -> Result<usize, OutOfFrames> {
        let next = self.used;
        self.frames.get_mut(next).ok_or(OutOfFrames)?.0.fill(0);
        self.used += 1;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const BASE: u64 = 0x70_0000;

    /// What the processor would make of `address`: its entry's flags, where the address is mapped to itself.
    fn walk(frames: &[Table], address: u64) -> Option<u64> {
        let mut table = 0;
        for level in (0..=3u32).rev() {
            let entry = frames[table].0[(address >> (12 + 9 * level)) as usize % 512];
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 || entry & LARGE != 0 {
                let size = 1u64 << (12 + 9 * level);
                assert_eq!(entry & ADDRESS, address & !(size - 1), "not the address itself");
                return Some(entry & !(ADDRESS | LARGE));
            }
            table = ((entry & ADDRESS) - BASE) as usize / 4096;
        }
        unreachable!("the last level returns")
    }

    fn frames(count: usize) -> Vec<Table> {
        (0..count).map(|_| Table([!0; 512])).collect()
    }

    #[test]
    fn memory_beyond_4_gib_takes_one_entry_a_gib() {
        let mut frames = frames(3);
        let mut tables = Builder::new(&mut frames, BASE, true).unwrap();
        tables.map(4 * GIANT..64 * GIANT, DATA).unwrap();
        assert_eq!(tables.used(), 2);
        assert_eq!(walk(&frames, 63 * GIANT + 12345), Some(DATA));
        assert_eq!(walk(&frames, 64 * GIANT), None);
    }

    #[test]
    fn running_out_of_frames_is_an_error() {
        let mut frames = frames(3);
        let mut tables = Builder::new(&mut frames, BASE, true).unwrap();
        assert_eq!(tables.map(0..PAGE, DATA), Err(OutOfFrames));
    }

    proptest! {
        #[test]
        fn the_last_mapping_of_a_page_holds(
            giant: bool,
            list in prop::collection::vec((0u64..2048, 0u64..3, 1u64..1200, 0usize..4), 1..8),
        ) {
            let kinds = [DATA, TEXT, CONSTANT, NOTHING];
            let mut frames = frames(64);
            let mut tables = Builder::new(&mut frames, BASE, giant).unwrap();
            let mut maps = Vec::new();
            for (page, gib, pages, kind) in list {
                let start = gib * GIANT + page * PAGE;
                let range = start..start + pages * PAGE * if kind == 0 { 512 } else { 1 };
                tables.map(range.clone(), kinds[kind]).unwrap();
                maps.push((range, kinds[kind]));
            }
            let probes: Vec<u64> = maps.iter().flat_map(|(r, _)| [r.start, r.end - 1, r.end, (r.start + r.end) / 2]).collect();
            for address in probes {
                let want = maps.iter().rev().find(|(r, _)| r.contains(&address)).map(|(_, k)| *k).filter(|k| *k != NOTHING);
                prop_assert_eq!(walk(&frames, address), want, "{:#x}", address);
            }
        }
    }
}
