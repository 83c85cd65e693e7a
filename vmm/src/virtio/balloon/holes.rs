//! Pages that a guest gives up: runs of them become holes in the file behind guest memory.

use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, fallocate};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::machine::memory::Memory;
use crate::virtio::ring::BadChain;

/// Bytes of a page, whatever the guest's own are (section 5.5.6).
pub(super) const PAGE: u64 = 4096;

/// Runs of pages: first byte and length.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Of pages by their numbers, in whatever order.
    pub(super) fn of_pages(mut numbers: Vec<u32>) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        let mut runs: Vec<(u64, u64)> = vec![];
        for number in numbers {
            let at = u64::from(number) * PAGE;
            match runs.last_mut() {
                Some((start, length)) if *start + *length == at => *length += PAGE,
                _ => runs.push((at, PAGE)),
            }
        }
        Self(runs)
    }

    /// The whole pages of a range, which lies in memory.
    pub(super) fn of_range(start: u64, length: u64) -> Self {
        let end = (start + length) / PAGE * PAGE;
        let start = start.next_multiple_of(PAGE);
        Self(if start < end {
            vec![(start, end - start)]
        } else {
            vec![]
        })
    }

    /// How many pages.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(_, length)| length / PAGE).sum()
    }

    /// Gives them back to the host; says how many it got.
    ///
    /// # Errors
    /// [`BadChain`] where one of them is not RAM: those before it are given up.
    pub(super) fn give_up(&self, memory: &Memory) -> Result<u64, BadChain> {
        let mut pages = 0;
        for &(start, length) in &self.0 {
            let mut at = start;
            while at < start + length {
                let region = memory.find_region(GuestAddress(at)).ok_or(BadChain)?;
                let offset = at - region.start_addr().0;
                // A run may go on in another region.
                let part = (start + length - at).min(region.len() - offset);
                pages += punch(region, offset, part);
                at += part;
            }
        }
        Ok(pages)
    }
}

/// Makes a hole; says how many pages that gave up: none where the memory has no file that can have holes.
fn punch<R: GuestMemoryRegion>(region: &R, offset: u64, length: u64) -> u64 {
    let Some(file) = region.file_offset() else {
        return 0;
    };
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file.file().as_fd(), mode, file.start() + offset, length) {
        Ok(()) => length / PAGE,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn runs_have_each_page_once(numbers in proptest::collection::vec(0..40_u32, 0..60)) {
            let runs = Runs::of_pages(numbers.clone());
            let pages = runs.0.iter().flat_map(|(start, length)| {
                (start / PAGE..(start + length) / PAGE).map(|page| page as u32)
            });
            let pages: Vec<u32> = pages.collect();
            let expected: BTreeSet<u32> = numbers.into_iter().collect();
            prop_assert!(pages.iter().eq(expected.iter()));
            prop_assert_eq!(runs.count(), expected.len() as u64);
            // Nothing is left to be put together.
            let apart = runs.0.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0);
            prop_assert!(apart);
        }
    }

    #[test]
    fn of_a_range_whole_pages_count() {
        assert_eq!(Runs::of_range(0, 8192), Runs(vec![(0, 8192)]));
        assert_eq!(Runs::of_range(1, 8191), Runs(vec![(4096, 4096)]));
        assert_eq!(Runs::of_range(4095, 4097), Runs(vec![(4096, 4096)]));
        assert_eq!(Runs::of_range(1, 4096), Runs(vec![]));
        assert_eq!(Runs::of_range(100, 0), Runs(vec![]));
    }
}
