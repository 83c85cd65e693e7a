//! virtio vsock: a driver and host programs that may do anything, told what by the input.

use vmm::virtio::hostile::Hostile;

use crate::fuzz::Target;

thread_local! {
    /// The device is made once: what one input leaves behind, the next one finds, as after a bad driver.
    static DEVICES: Hostile = Hostile::vsock().expect("there is memory for devices");
}

pub(super) const TARGET: Target = Target {
    name: "vsock",
    about: "virtio vsock, under a hostile driver and hostile host programs",
    seeds: || {
        // Room for a packet: queue, length, writable, and seven bytes that do not matter.
        let room = [6, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0];
        // A host program connects, the guest takes it, both talk, both leave.
        let mut taken = vec![0, 0];
        taken.extend([7, 0, 3, 0, 0]);
        taken.extend(room);
        taken.extend([2, 0, 6, 1, 0, 0, 0, 2, 3, 1, 0, 64, 0, 2, 1]);
        taken.extend(room);
        taken.extend([7, 2, 0, 40, 0, 2, 0, 6, 1, 9, 0, 0, 5, 3, 1, 0, 64, 0, 2, 1]);
        taken.extend([7, 4, 0, 40, 0, 7, 6, 0, 0, 0, 2, 0]);
        // The guest connects, sends, shuts down.
        let mut called = vec![0, 0];
        called.extend(room);
        called.extend([6, 1, 0, 0, 0, 1, 1, 0, 0, 64, 0, 2, 1, 7, 1, 0, 0, 0]);
        called.extend([6, 1, 9, 0, 0, 5, 1, 0, 0, 64, 0, 2, 1]);
        called.extend([6, 1, 0, 0, 0, 4, 1, 0, 3, 64, 0, 2, 1]);
        vec![taken, called]
    },
    words: &[
        &[6, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0],
        &[6, 1],
        &[7, 0],
        &[7, 1],
        &[7, 2],
        &[7, 6],
        &[2, 0],
        &[2, 1],
        &[0, 28, 0, 0, 0, 0],
        &[0xFF, 0xFF],
    ],
    run: |input| DEVICES.with(|devices| devices.drive(input)),
};
