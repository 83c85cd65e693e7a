//! virtio devices: a driver that may do anything, told what by the input.

use vmm::virtio::hostile::Hostile;

use crate::fuzz::Target;

thread_local! {
    /// Devices are made once: what one input leaves behind, the next one finds, as after a bad driver.
    static DEVICES: Hostile = Hostile::new().expect("there is memory for devices");
}

pub(super) const TARGET: Target = Target {
    name: "virtqueue",
    about: "virtio console and entropy, and their rings, under a hostile driver",
    seeds: || {
        // Device, whether to set up; then: queue, head, flags, address, length and next of a descriptor; a doorbell.
        vec![
            vec![
                0, 0, 3, 1, 0, 0, 0, 0, 0, 0x70, 0, 0, 16, 0, 0, 0, 0, 0, 2, 1,
            ],
            vec![
                1, 0, 3, 0, 0, 0, 2, 0, 0, 0x30, 0, 0, 16, 0, 0, 0, 0, 0, 2, 0,
            ],
            // Status and features by hand, then reads.
            vec![
                0, 1, 0, 28, 1, 0, 0, 0, 0, 28, 3, 0, 0, 0, 4, 0, 1, 4, 4, 0, 1, 4,
            ],
        ]
    },
    words: &[
        &[3, 0, 0, 0],
        &[2, 0],
        &[2, 1],
        &[0, 28, 0, 0, 0, 0],
        &[0, 17, 1, 0, 0, 0],
        &[0xFF, 0xFF],
        &[0, 0, 1, 0],
    ],
    run: |input| DEVICES.with(|devices| devices.drive(input)),
};
