//! virtio net: a driver and a wire that may do anything, told what by the input.

use vmm::virtio::hostile::Hostile;

use crate::fuzz::Target;

thread_local! {
    /// The device is made once: what one input leaves behind, the next one finds, as after a bad driver.
    static DEVICES: Hostile = Hostile::net().expect("there is memory for devices");
}

pub(super) const TARGET: Target = Target {
    name: "net",
    about: "virtio net, under a hostile driver and a hostile network",
    seeds: || {
        // Device, whether to set up; then room for a frame, a frame from outside, and one to there; doorbells.
        vec![
            vec![0, 0, 6, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 7, 2, 0, 64, 0, 2, 0],
            vec![0, 0, 6, 1, 60, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 7, 4, 0, 64, 0],
            // By hand: merged buffers, agreed on before the queues are set up.
            vec![
                0, 1, 0, 28, 1, 0, 0, 0, 0, 28, 3, 0, 0, 0, 0, 8, 0, 128, 0, 0, 0, 9, 1, 0, 0, 0,
                0, 8, 1, 0, 0, 0, 0, 28, 11, 0, 0, 0,
            ],
        ]
    },
    words: &[
        &[6, 0],
        &[6, 1],
        &[7, 2, 0],
        &[2, 0],
        &[2, 1],
        &[0, 2],
        &[3, 0, 0, 0],
        &[0, 28, 0, 0, 0, 0],
        &[0, 17, 1, 0, 0, 0],
        &[0xFF, 0xFF],
    ],
    run: |input| DEVICES.with(|devices| devices.drive(input)),
};
