//! The entropy driver (section 5.4): a buffer goes out, comes back random.

use super::{Kind, Queue, SetUpError, Transport};
use crate::boot::DEVICES;
use alloc::boxed::Box;

/// Most bytes a request.
pub(crate) const REQUEST: usize = 256;

/// An entropy device in use.
pub(crate) struct Entropy {
    transport: Transport,
    queue: Queue<1>,
    buffer: Box<[u8; REQUEST]>,
}

/// The device broke its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead;

impl Entropy {
    /// The first entropy device, set up; `None` where there is none.
    pub(crate) fn find() -> Option<Result<Self, SetUpError>> {
        let transport = DEVICES.borrow().take(Kind::Entropy)?;
        let entropy = Self {
            transport,
            queue: Queue::new(),
            buffer: Box::new([0; REQUEST]),
        };
        let queues = [entropy.queue.addresses()];
        Some(entropy.transport.set_up(&queues).map(|()| entropy))
    }

    /// Asks for up to [`REQUEST`] bytes, unless a request is under way.
    pub(crate) fn request(&mut self, bytes: usize) {
        if self.queue.busy() {
            return;
        }
        let length = bytes.min(REQUEST) as u32;
        let address = self.buffer.as_mut_ptr() as u64;
        // SAFETY: the buffer is the driver's own, and is read only once the device has given it back.
        unsafe { self.queue.offer_to_write(0, address, length) };
        if self.queue.wants_notification() {
            self.transport.notify(0);
        }
    }

    /// The bytes of a request that has come back; `None` while it has not.
    pub(crate) fn answer(&mut self) -> Result<Option<&mut [u8]>, Dead> {
        let done = self.queue.take().map_err(|_| Dead)?;
        Ok(done.map(|done| &mut self.buffer[..done.written]))
    }

    /// Whether an answer waits to be taken.
    pub(crate) fn answered(&self) -> bool {
        self.queue.has_used()
    }

    /// Has the answer interrupt, or not.
    pub(crate) fn set_interrupts(&self, on: bool) {
        self.queue.set_interrupts(on);
    }
}
