//! virtio balloon: a driver that may do anything, told what by the input.

use vmm::virtio::hostile::Hostile;

use crate::fuzz::Target;

thread_local! {
    /// The balloon is made once: what one input leaves behind, the next one finds, as after a bad driver.
    static DEVICES: Hostile = Hostile::balloon().expect("there is memory for devices");
}

pub(super) const TARGET: Target = Target {
    name: "balloon",
    about: "the memory balloon under a hostile driver",
    seeds: || {
        // Device, whether to set up; then: queue, head, flags, address, length and next of a descriptor; a doorbell.
        vec![
            vec![
                0, 0, 1, 0, 0x30, 4, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x30, 0, 0, 4, 0, 0, 0, 0, 0,
                2, 0,
            ],
            vec![
                0, 0, 3, 1, 0, 0, 0, 0, 0, 0x70, 0, 0, 8, 0, 0, 0, 0, 0, 2, 1,
            ],
            vec![
                0, 0, 3, 2, 0, 0, 0, 0, 0, 0xB0, 0, 0, 20, 0, 0, 0, 0, 0, 2, 2,
            ],
            vec![
                0, 0, 3, 3, 0, 0, 2, 0, 0, 0xF0, 0, 0, 0, 0x10, 0, 0, 0, 0, 2, 3,
            ],
            // The actual size.
            vec![0, 0, 0, 65, 1, 0, 0, 0],
        ]
    },
    words: &[
        &[3, 0, 0, 0],
        &[3, 3, 0, 0, 2, 0],
        &[2, 0],
        &[2, 2],
        &[2, 3],
        &[0, 65],
        &[0, 28, 0, 0, 0, 0],
        &[0, 17, 0, 0, 0, 0],
        &[0xFF, 0xFF],
        &[0, 0x10, 0, 0],
    ],
    run: |input| DEVICES.with(|devices| devices.drive(input)),
};
