//! What memory there is: the monitor's map, made into ranges that hold.
//!
//! Everything here is a half-open range of physical addresses, which are the virtual ones too.

use crate::arch::layout::{HUGE, PAGE};
use core::ops::Range;

/// Most ranges that are kept: a monitor names two or three.
pub(crate) const RANGES: usize = 32;

/// A handful of ranges, without a heap.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    list: [Range<u64>; RANGES],
    count: usize,
}

impl Ranges {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            list: [const { 0..0 }; RANGES],
            count: 0,
        }
    }

    /// Adds a range. An empty one is left out, and so is one too many: memory that is not known of is not used.
    pub(crate) fn push(&mut self, range: Range<u64>) {
        if !range.is_empty() && self.count < RANGES {
            self.list[self.count] = range;
            self.count += 1;
        }
    }

    /// Takes `hole` out of every range.
    pub(crate) fn remove(&mut self, hole: &Range<u64>) {
        let before = core::mem::replace(self, Self::new());
        for range in before.iter() {
            if hole.is_empty() || hole.end <= range.start || range.end <= hole.start {
                self.push(range.clone());
            } else {
                self.push(range.start..hole.start.max(range.start));
                self.push(hole.end.min(range.end)..range.end);
            }
        }
    }

    /// The ranges, in the order they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.list[..self.count].iter()
    }

    /// Whether one of the ranges holds all of `range`.
    pub(crate) fn hold(&self, range: &Range<u64>) -> bool {
        self.iter()
            .any(|r| r.start <= range.start && range.end <= r.end)
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }
}

/// The RAM in a monitor's map above the first MiB, in whole 2 MiB pages at its end so that huge pages hold nothing else.
///
/// Entries that wrap, overlap an earlier one or lie beyond `limit` are left out: the map says what exists, and a
/// wrong entry must not become memory.
pub(crate) fn ram(entries: impl Iterator<Item = abi::pvh::MemoryRange>, limit: u64) -> Ranges {
    let mut ranges = Ranges::new();
    for entry in entries {
        if entry.kind != abi::pvh::RANGE_RAM {
            continue;
        }
        let Some(end) = entry.start.checked_add(entry.size) else {
            continue;
        };
        let end = end.min(limit) & !(HUGE - 1);
        let start = entry.start.max(abi::layout::IMAGE_START).next_multiple_of(PAGE);
        if ranges.iter().all(|r| end <= r.start || r.end <= start) {
            ranges.push(start..end);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::pvh::{MemoryRange, RANGE_RAM, RANGE_RESERVED};
    use proptest::prelude::*;
    use std::vec::Vec;

    fn entry(start: u64, size: u64, kind: u32) -> MemoryRange {
        MemoryRange {
            start,
            size,
            kind,
            reserved: 0,
        }
    }

    #[test]
    fn ram_is_what_lies_above_the_first_mib() {
        let map = [
            entry(0, 0x9_FC00, RANGE_RAM),
            entry(0x9_FC00, 0x6_0400, RANGE_RESERVED),
            entry(0x10_0000, 0xBFF0_0000, RANGE_RAM),
            entry(0x1_0000_0000, 0x4000_0000, RANGE_RAM),
        ];
        let got: Vec<_> = ram(map.into_iter(), 1 << 46).iter().cloned().collect();
        assert_eq!(got, [0x10_0000..0xC000_0000, 0x1_0000_0000..0x1_4000_0000]);
    }

    #[test]
    fn a_wrong_entry_is_no_memory() {
        let map = [
            entry(u64::MAX - 10, 100, RANGE_RAM),
            entry(0x10_0000, 0x3F0_0000, RANGE_RAM),
            entry(0x20_0000, 0x100_0000, RANGE_RAM),
            entry(1 << 47, 1 << 30, RANGE_RAM),
        ];
        let got: Vec<_> = ram(map.into_iter(), 1 << 46).iter().cloned().collect();
        assert_eq!(got, [0x10_0000..0x400_0000]);
    }

    proptest! {
        #[test]
        fn what_is_removed_is_gone_and_nothing_else(
            list in prop::collection::vec((0u64..60, 1u64..9), 0..5),
            holes in prop::collection::vec((0u64..64, 0u64..9), 0..5),
        ) {
            let mut ranges = Ranges::new();
            let mut model = [false; 80];
            for (start, size) in list {
                if (start..start + size).any(|i| model[i as usize]) { continue; }
                ranges.push(start..start + size);
                model[start as usize..(start + size) as usize].fill(true);
            }
            for (start, size) in holes {
                ranges.remove(&(start..start + size));
                model[start as usize..(start + size) as usize].fill(false);
            }
            let mut got = [false; 80];
            for range in ranges.iter() {
                prop_assert!(!range.is_empty());
                got[range.start as usize..range.end as usize].fill(true);
            }
            prop_assert_eq!(got, model);
            prop_assert_eq!(ranges.bytes(), model.iter().filter(|&&x| x).count() as u64);
        }
    }
}
