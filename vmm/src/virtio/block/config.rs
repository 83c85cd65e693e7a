//! The configuration space of a disk (section 5.2.4).

use std::mem::offset_of;

use virtio_bindings::virtio_blk::virtio_blk_config;

use crate::backend::file::SECTOR;

/// Most sectors of one discard, or of zeros written: 2 GiB, which a file system makes a hole of in milliseconds.
const DISCARD_SECTORS: u32 = 1 << 22;
/// Discards should begin and end at multiples of as many sectors: file systems' blocks.
const DISCARD_ALIGNMENT: u32 = 8;

const BYTES: usize = size_of::<virtio_blk_config>();

/// It, as the driver reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config([u8; BYTES]);

impl Config {
    /// Of a disk of so many sectors, on a queue of this length.
    pub(super) fn new(sectors: u64, queue: u16) -> Self {
        let mut config = Self([0; BYTES]);
        let mut put =
            |at: usize, bytes: &[u8]| config.0[at..at + bytes.len()].copy_from_slice(bytes);
        put(
            offset_of!(virtio_blk_config, capacity),
            &sectors.to_le_bytes(),
        );
        // Two of a chain's descriptors are the header and the status.
        let segments = u32::from(queue) - 2;
        let one = 1_u32.to_le_bytes();
        put(
            offset_of!(virtio_blk_config, seg_max),
            &segments.to_le_bytes(),
        );
        put(
            offset_of!(virtio_blk_config, blk_size),
            &(SECTOR as u32).to_le_bytes(),
        );
        let most = DISCARD_SECTORS.to_le_bytes();
        put(offset_of!(virtio_blk_config, max_discard_sectors), &most);
        put(offset_of!(virtio_blk_config, max_discard_seg), &one);
        put(
            offset_of!(virtio_blk_config, discard_sector_alignment),
            &DISCARD_ALIGNMENT.to_le_bytes(),
        );
        put(
            offset_of!(virtio_blk_config, max_write_zeroes_sectors),
            &most,
        );
        put(offset_of!(virtio_blk_config, max_write_zeroes_seg), &one);
        put(offset_of!(virtio_blk_config, write_zeroes_may_unmap), &[1]);
        config
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of so many sectors that are discarded or zeroed, if that is not more than was announced.
pub(super) fn bounded(sectors: u32) -> Option<u64> {
    (sectors <= DISCARD_SECTORS).then(|| u64::from(sectors) * SECTOR)
}
