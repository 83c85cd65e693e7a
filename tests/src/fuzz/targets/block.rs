//! virtio block: a driver that may do anything, told what by the input.

use vmm::virtio::hostile::Hostile;

use crate::fuzz::Target;

thread_local! {
    /// Disks are made once: what one input leaves behind, the next one finds, as after a bad driver.
    static DEVICES: Hostile = Hostile::block().expect("there is memory for devices");
}

pub(super) const TARGET: Target = Target {
    name: "block",
    about: "virtio disks, with both engines, under a hostile driver",
    seeds: || {
        // Engine, whether to set up; then requests: queue, kind, sector, length, flags; doorbells.
        vec![
            vec![0, 0, 5, 0, 0, 3, 0, 0, 2, 2, 2, 0],
            vec![1, 0, 5, 0, 1, 3, 0, 0, 2, 0, 5, 0, 4, 0, 0, 0, 0, 2, 2, 0],
            vec![
                0, 0, 5, 0, 11, 0, 0, 16, 0, 0, 5, 0, 13, 0, 0, 16, 0, 0, 2, 0,
            ],
            vec![1, 0, 5, 0, 8, 0, 0, 20, 0, 2, 2, 0],
            // One descriptor by hand: an indirect table.
            vec![
                0, 0, 3, 0, 0, 0, 4, 0, 0, 0x30, 0, 0, 48, 0, 0, 0, 0, 0, 2, 0,
            ],
        ]
    },
    words: &[
        &[5, 0, 0],
        &[5, 0, 1],
        &[5, 0, 11],
        &[5, 0, 13],
        &[0, 2, 2],
        &[2, 0],
        &[3, 0, 0, 0],
        &[0, 28, 0, 0, 0, 0],
        &[0, 17, 0, 0, 0, 0],
        &[0xFF, 0xFF],
        &[64, 0],
    ],
    run: |input| DEVICES.with(|devices| devices.drive(input)),
};
