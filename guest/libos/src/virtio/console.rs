//! The console driver (section 5.3): one port, bytes in and bytes out.
//!
//! Output gathers in a buffer of 4 KiB and goes out when the device has nothing to do, when the buffer is full, or when the
//! event loop comes round: the first line leaves at once, a flood leaves in full buffers.

use super::{Kind, Queue, SetUpError, Transport};
use crate::arch::tsc;
use crate::boot::DEVICES;
use crate::clock;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::hint::spin_loop;
use core::mem::MaybeUninit;

const SLOTS: usize = 8;
const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
const RECEIVE_BYTES: usize = 512;
const TRANSMIT_BYTES: usize = 4096;
/// How long the device may keep every buffer before it counts as dead: a second.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Received bytes that are kept for a program that does not read.
const KEPT: usize = 64 * 1024;

type Buffers<const BYTES: usize> = Box<[[MaybeUninit<u8>; BYTES]]>;

/// The device stopped taking output, or broke a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead;

/// A console device in use.
pub(crate) struct Console {
    transport: Transport,
    receive: Queue<SLOTS>,
    transmit: Queue<SLOTS>,
    receive_buffers: Buffers<RECEIVE_BYTES>,
    transmit_buffers: Buffers<TRANSMIT_BYTES>,
    /// The slot that gathers output, and how much it holds.
    gathering: Option<(usize, usize)>,
    received: VecDeque<u8>,
}

/// Buffers for every slot, untouched: a page that is never used is never backed.
fn buffers<const BYTES: usize>() -> Buffers<BYTES> {
    let buffers = Box::<[[MaybeUninit<u8>; BYTES]]>::new_uninit_slice(SLOTS);
    // SAFETY: an array of `MaybeUninit` needs no initialisation.
    unsafe { buffers.assume_init() }
}

impl Console {
    /// The first console device, set up; `None` where there is none.
    pub(crate) fn find() -> Option<Result<Self, SetUpError>> {
        let transport = DEVICES.borrow().take(Kind::Console)?;
        let mut console = Self {
            transport,
            receive: Queue::new(),
            transmit: Queue::new(),
            receive_buffers: buffers(),
            transmit_buffers: buffers(),
            gathering: None,
            received: VecDeque::new(),
        };
        for slot in 0..SLOTS {
            console.offer_receive(slot);
        }
        // A device looks at a queue when it is told to; this one's input is announced at the first read.
        let queues = [console.receive.addresses(), console.transmit.addresses()];
        Some(console.transport.set_up(&queues).map(|()| console))
    }

    fn offer_receive(&mut self, slot: usize) {
        let address = self.receive_buffers[slot].as_ptr() as u64;
        // SAFETY: the slot's own buffer, which is read only once the device has given it back.
        unsafe { self.receive.offer_to_write(slot, address, RECEIVE_BYTES as u32) };
    }

    /// Gathers output, sending what fills a buffer.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Dead> {
        while !bytes.is_empty() {
            let (slot, held) = match self.gathering.take() {
                Some(gathering) => gathering,
                None => (self.transmit_slot()?, 0),
            };
            let count = bytes.len().min(TRANSMIT_BYTES - held);
            let (now, later) = bytes.split_at(count);
            self.transmit_buffers[slot][held..held + count].write_copy_of_slice(now);
            bytes = later;
            self.gathering = Some((slot, held + count));
            if held + count == TRANSMIT_BYTES {
                self.send();
            }
        }
        Ok(())
    }

    /// Sends what has gathered, if the device has nothing to do.
    pub(crate) fn send_if_idle(&mut self) {
        // A used buffer that went unnoticed would make the device look busy.
        while let Ok(Some(_)) = self.transmit.take() {}
        if !self.transmit.busy() {
            self.send();
        }
    }

    /// Sends what has gathered.
    pub(crate) fn send(&mut self) {
        let Some((slot, held)) = self.gathering.take() else {
            return;
        };
        let address = self.transmit_buffers[slot].as_ptr() as u64;
        // SAFETY: the slot's own buffer, initialised so far, which stays until the device has given it back.
        unsafe { self.transmit.offer_to_read(slot, address, held as u32) };
        if self.transmit.wants_notification() {
            self.transport.notify(TRANSMIT);
        }
    }

    /// A free slot, waiting for the device where it has them all.
    fn transmit_slot(&mut self) -> Result<usize, Dead> {
        self.wait(|queue| queue.free_slot())
    }

    /// Sends everything and waits until the device has it.
    pub(crate) fn drain(&mut self) -> Result<(), Dead> {
        self.send();
        self.wait(|queue| (!queue.busy()).then_some(()))
    }

    /// Takes buffers back until `ready` is content.
    fn wait<T>(&mut self, ready: impl Fn(&Queue<SLOTS>) -> Option<T>) -> Result<T, Dead> {
        let mut deadline = None;
        loop {
            while self.transmit.take().map_err(|_| Dead)?.is_some() {}
            if let Some(value) = ready(&self.transmit) {
                return Ok(value);
            }
            let patience = || tsc().saturating_add(clock::scale().ticks(PATIENCE_NS));
            if tsc() > *deadline.get_or_insert_with(patience) {
                return Err(Dead);
            }
            spin_loop();
        }
    }

    /// Takes in what the device has received; true where there was anything.
    pub(crate) fn poll(&mut self) -> bool {
        let mut any = false;
        while let Ok(Some(done)) = self.receive.take() {
            let bytes = &self.receive_buffers[done.slot][..done.written];
            // SAFETY: the device has written so many bytes, which the queue has checked.
            let bytes = unsafe { bytes.assume_init_ref() };
            let room = KEPT - self.received.len();
            self.received.extend(&bytes[..bytes.len().min(room)]);
            self.offer_receive(done.slot);
            any = true;
        }
        if any && self.receive.wants_notification() {
            self.transport.notify(RECEIVE);
        }
        any
    }

    /// Tells the device that there is room for input: the first read does.
    pub(crate) fn announce_receive(&self) {
        self.transport.notify(RECEIVE);
    }

    /// The bytes received so far, for the reader to take from.
    pub(crate) fn received(&mut self) -> &mut VecDeque<u8> {
        &mut self.received
    }

    /// Has input interrupt, or not.
    pub(crate) fn set_interrupts(&self, on: bool) {
        self.receive.set_interrupts(on);
    }
}
