//! What a guest says of its memory (section 5.5.6.3). All of it is the guest's word: nothing is decided by it.

use serde::Serialize;

use crate::virtio::ring::{BadChain, Chain};

/// Bytes of one figure: its number, and its value.
const FIGURE: usize = 10;
/// Most figures that are looked at: there are 16 in newer specifications.
const FIGURES: usize = 64;

/// A guest's figures; those that it does not give are absent. Bytes, or counts since its boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Bytes swapped in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_in: Option<u64>,
    /// Bytes swapped out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_out: Option<u64>,
    /// Page faults that read from a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major_faults: Option<u64>,
    /// Other page faults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor_faults: Option<u64>,
    /// Bytes that are used for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_memory: Option<u64>,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_memory: Option<u64>,
    /// Bytes that a new program could have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_memory: Option<u64>,
    /// Bytes of files that could be given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_caches: Option<u64>,
    /// Huge pages that were had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugetlb_allocations: Option<u64>,
    /// Huge pages that were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugetlb_failures: Option<u64>,
}

impl Statistics {
    /// From a driver's buffer. The last of two figures with one number counts; numbers that are not known here are skipped.
    pub(super) fn read(chain: &Chain<'_>) -> Result<Self, BadChain> {
        let mut bytes = vec![];
        for buffer in chain.buffers() {
            let buffer = buffer?;
            if buffer.writable {
                return Err(BadChain);
            }
            let length = buffer.slice.len().min(FIGURES * FIGURE - bytes.len());
            let begin = bytes.len();
            bytes.resize(begin + length, 0);
            buffer.slice.copy_to(&mut bytes[begin..]);
        }
        let mut statistics = Self::default();
        let (figures, _) = bytes.as_chunks::<FIGURE>();
        for [t0, t1, value @ ..] in figures {
            let tag = u16::from_le_bytes([*t0, *t1]);
            if let Some(figure) = statistics.figure(tag) {
                *figure = Some(u64::from_le_bytes(*value));
            }
        }
        Ok(statistics)
    }

    /// By the specification's number.
    fn figure(&mut self, tag: u16) -> Option<&mut Option<u64>> {
        Some(match tag {
            0 => &mut self.swap_in,
            1 => &mut self.swap_out,
            2 => &mut self.major_faults,
            3 => &mut self.minor_faults,
            4 => &mut self.free_memory,
            5 => &mut self.total_memory,
            6 => &mut self.available_memory,
            7 => &mut self.disk_caches,
            8 => &mut self.hugetlb_allocations,
            9 => &mut self.hugetlb_failures,
            _ => return None,
        })
    }
}
