//! virtio devices, as a guest's drivers meet them (virtio specification 1.2).
//!
//! ```text
//!    driver                 Transport<D>                      D: VirtioDevice
//!   registers  ---------->  status, features, queues  ----->  activate, reset
//!   doorbell   --ioeventfd->   (event loop)           ----->  serve(queue)
//!   interrupt  <--irqfd----  used buffers             <-----  done
//! ```
//!
//! The transport is the same for all; a device knows its features, its configuration space and what its queues mean, and
//! reaches guest memory through [`ring::Ring`] alone. All that a driver writes is hostile: a chain of buffers
//! that makes no sense is counted and given back; a ring that makes no sense stops the device until the driver resets it
//! (section 2.1.2, DEVICE_NEEDS_RESET).
//!
//! A device may have work under way between two calls: a chain that it took and did not give back yet ([`ring::Chain::keep`]). Something on
//! the host then tells it of the end by a descriptor ([`VirtioDevice::wakes`]), and the device is called to serve the queue again. Before a pause
//! the transport has it finish all that ([`VirtioDevice::drain`]), so that the rings say everything there is to know of a device's requests.
//!
//! - [`mmio`]: the transport (section 4.2).
//! - [`ring`]: split virtqueues (section 2.7), checked.
//! - [`net`]: section 5.1. [`block`]: section 5.2. [`console`]: section 5.3. [`entropy`]: section 5.4. [`balloon`]: section 5.5. [`vsock`]: section 5.10.
//! - [`hostile`]: a driver made of arbitrary bytes, for tests and fuzzers.

pub mod balloon;
pub mod block;
pub mod console;
pub mod entropy;
#[cfg(test)]
mod flow_driver;
pub mod hostile;
pub mod mmio;
#[cfg(test)]
mod mock;
pub mod net;
pub mod ring;
pub mod vsock;

use std::os::fd::BorrowedFd;

use ring::{Broken, Ring};

/// What one kind of device does, behind a transport. Every call is made with the transport's lock held, by one thread at a time.
pub trait VirtioDevice: Send {
    /// Its device id (section 5).
    fn id(&self) -> u32;

    /// The features of its own that it offers; the transport adds those of rings.
    fn features(&self) -> u64;

    /// How long each of its queues may be: powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// Its configuration space. Only [`mmio::Transport::reconfigure`] and the driver change it.
    fn config(&self) -> &[u8];

    /// The driver writes to the configuration space; `false` where it may not. From any state.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) -> bool {
        false
    }

    /// Descriptors that make work for a queue each time they become readable. Asked for once, before the VM runs; they stay the same. The
    /// event loop waits for them edge-triggered: whether they are read, in [`Self::serve`], is the device's affair.
    fn wakes(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        vec![]
    }

    /// The driver is ready and agreed on `features`. From reset.
    fn activate(&mut self, features: u64);

    /// The driver has rung for queue `index`, or something else makes work for it. While active.
    ///
    /// # Errors
    /// [`Broken`] where the ring makes no sense: the transport then stops the device.
    fn serve(&mut self, index: usize, ring: &mut Ring<'_>) -> Result<(), Broken>;

    /// Waits for what is under way: when it returns, nothing touches guest memory or the host outside of calls. What was finished is given
    /// back in the next [`Self::serve`], which may be one without new chains. From any state.
    fn drain(&mut self) {}

    /// The queue, if any, to be served at once after queue `index` was: the driver then hears of both by one interrupt. While active.
    fn follow_up(&self, _index: usize) -> Option<usize> {
        None
    }

    /// Forgets the driver and what it agreed on. When it returns, nothing is under way that would touch guest memory. From any state.
    fn reset(&mut self);
}
