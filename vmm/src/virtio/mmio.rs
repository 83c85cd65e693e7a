//! The virtio-mmio transport, version 2 (section 4.2).
//!
//! ```text
//!  reset --ACKNOWLEDGE--> --DRIVER--> features --FEATURES_OK--> queues --DRIVER_OK--> active
//!    ^                                                                                  |
//!    |                                             a ring makes no sense: NEEDS_RESET <-+
//!    +------------- the driver writes status 0, from anywhere -----------------------+
//! ```
//!
//! A step is taken only in this order; features are written only before FEATURES_OK, queues set up only after it and
//! before DRIVER_OK. What a driver does otherwise is counted and has no effect.
//!
//! The configuration space has a generation, which grows with each change that is not the driver's own.
//!
//! A doorbell is an ioeventfd on QueueNotify that the event loop waits for: to ring costs no exit to the monitor. A used buffer's interrupt
//! is an irqfd. A turn of a queue is bounded; what is left over is served after the others.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

use super::VirtioDevice;
use super::ring::Ring;
use crate::device::{Device, Lifecycle};
use crate::machine::memory::Memory;
use crate::meter::{Counter, Meter, Phase};
use crate::sync::lock;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"Shoa");

const DEVICE_FEATURES_SELECT: u64 = 0x14;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SELECT: u64 = 0x24;
const QUEUE_SELECT: u64 = 0x30;
const QUEUE_SIZE: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
/// The doorbell register; its value is a queue's index.
pub const QUEUE_NOTIFY: u64 = 0x50;
const INTERRUPT_ACK: u64 = 0x64;
const STATUS: u64 = 0x70;
const CONFIG: u64 = 0x100;

const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = VIRTIO_CONFIG_S_DRIVER;
const FEATURES_OK: u32 = VIRTIO_CONFIG_S_FEATURES_OK;
const DRIVER_OK: u32 = VIRTIO_CONFIG_S_DRIVER_OK;
const NEEDS_RESET: u32 = VIRTIO_CONFIG_S_NEEDS_RESET;
const FAILED: u32 = VIRTIO_CONFIG_S_FAILED;
/// The steps, each a status bit, in order.
const STEPS: [u32; 4] = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];

/// In an event's data beside a queue's index: it is a descriptor of the device, not the queue's doorbell.
const WAKE: u32 = 1 << 31;

const INTERRUPT_USED: u32 = 1;
const INTERRUPT_CONFIG: u32 = 2;

/// A driver did what it must not.
#[derive(Debug)]
struct Misuse;

/// A device on the memory bus.
pub struct Transport<D> {
    state: Mutex<State<D>>,
    memory: Memory,
    line: EventFd,
    doorbells: Vec<EventFd>,
    meter: Arc<Meter>,
}

struct State<D> {
    device: D,
    queues: Vec<QueueSetup>,
    status: u32,
    device_features_page: u32,
    driver_features_page: u32,
    driver_features: u64,
    queue: u32,
    interrupts: u32,
    generation: u32,
}

/// A queue as the driver sets it up.
#[derive(Default)]
struct QueueSetup {
    max: u16,
    size: u32,
    descriptors: u64,
    available: u64,
    used: u64,
    /// What became of it, once it is ready.
    live: Option<Queue>,
}

impl<D: VirtioDevice> Transport<D> {
    /// A device in reset. `doorbells` are one a queue; `line` raises its interrupt.
    #[must_use]
    pub fn new(
        device: D,
        memory: Memory,
        line: EventFd,
        doorbells: Vec<EventFd>,
        meter: Arc<Meter>,
    ) -> Self {
        let setup = |max: &u16| QueueSetup {
            max: *max,
            size: u32::from(*max),
            ..QueueSetup::default()
        };
        let queues = device.queue_sizes().iter().map(setup).collect();
        Self {
            state: Mutex::new(State {
                device,
                queues,
                status: 0,
                device_features_page: 0,
                driver_features_page: 0,
                driver_features: 0,
                queue: 0,
                interrupts: 0,
                generation: 0,
            }),
            memory,
            line,
            doorbells,
            meter,
        }
    }

    /// Lets the device work on queue `index`; says whether there is more to do than one turn did.
    pub fn serve(&self, index: usize) -> bool {
        self.serve_locked(&mut lock(&self.state), index)
    }

    /// Calls `change` with the device, and then lets it work on queue `index`.
    pub fn with_device<T>(&self, index: usize, change: impl FnOnce(&mut D) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state.device);
        if self.serve_locked(&mut state, index) {
            self.ring_later(index);
        }
        result
    }

    /// Calls `call` with the device, and no queue: also while it is paused.
    pub fn call<T>(&self, call: impl FnOnce(&mut D) -> T) -> T {
        call(&mut lock(&self.state).device)
    }

    /// Calls `change` with the device, whose configuration space it changes, and tells the driver of that.
    pub fn reconfigure<T>(&self, change: impl FnOnce(&mut D) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state.device);
        state.generation = state.generation.wrapping_add(1);
        if state.status & DRIVER_OK != 0 {
            self.interrupt(&mut state, INTERRUPT_CONFIG);
        }
        result
    }

    fn serve_locked(&self, state: &mut State<D>, index: usize) -> bool {
        let (more, mut interrupts) = self.turn(state, index, true);
        if state.is_active()
            && let Some(other) = state.device.follow_up(index)
        {
            let (more, also) = self.turn(state, other, true);
            interrupts |= also;
            if more {
                self.ring_later(other);
            }
        }
        if interrupts != 0 {
            self.interrupt(state, interrupts);
        }
        more
    }

    /// Waits for what the device has under way, and lets it give that back.
    fn settle(&self) {
        let mut state = lock(&self.state);
        state.device.drain();
        let mut interrupts = 0;
        for index in 0..state.queues.len() {
            interrupts |= self.turn(&mut state, index, false).1;
        }
        if interrupts != 0 {
            self.interrupt(&mut state, interrupts);
        }
    }

    /// Calls the device with queue `index`, if there is such a queue and a driver. It finds new chains where it `takes` them. Says whether
    /// there is more to do, and which interrupts the driver is to have.
    fn turn(&self, state: &mut State<D>, index: usize, takes: bool) -> (bool, u32) {
        if !state.is_active() {
            return (false, 0);
        }
        let Some(queue) = state.queues.get_mut(index).and_then(|q| q.live.as_mut()) else {
            return (false, 0);
        };
        let mut ring = Ring::new(queue, &self.memory, takes);
        let served = state.device.serve(index, &mut ring);
        match served.and_then(|()| ring.finish()) {
            Ok(turn) => {
                self.count_misuse(turn.bad_chains);
                let interrupt = if turn.interrupt { INTERRUPT_USED } else { 0 };
                (turn.more, interrupt)
            }
            Err(_) => {
                self.count_misuse(1);
                state.status |= NEEDS_RESET;
                (false, INTERRUPT_CONFIG)
            }
        }
    }

    fn interrupt(&self, state: &mut State<D>, kind: u32) {
        state.interrupts |= kind;
        // A full counter raises it as well as another one.
        let _ = self.line.write(1);
    }

    /// Has the event loop serve queue `index`, as if the driver had rung.
    pub fn ring_later(&self, index: usize) {
        if let Some(doorbell) = self.doorbells.get(index) {
            let _ = doorbell.write(1);
        }
    }

    fn count_misuse(&self, count: u64) {
        if count > 0 {
            self.meter.add(Counter::DriverErrors, count);
        }
    }

    fn write_register(&self, offset: u64, value: u32) -> Result<(), Misuse> {
        let mut state = lock(&self.state);
        match offset {
            DEVICE_FEATURES_SELECT => state.device_features_page = value,
            DRIVER_FEATURES_SELECT => state.driver_features_page = value,
            DRIVER_FEATURES => state.set_driver_features(value)?,
            QUEUE_SELECT => state.queue = value,
            QUEUE_READY if value == 0 => state.selected()?.live = None,
            QUEUE_READY => state.make_ready(&self.memory)?,
            QUEUE_SIZE | 0x80..=0xA4 => state.set_up_queue(offset, value)?,
            // The ioeventfds have taken those of queues that there are.
            QUEUE_NOTIFY => {
                let index = value as usize;
                if index >= self.doorbells.len() {
                    return Err(Misuse);
                }
                self.ring_later(index);
            }
            INTERRUPT_ACK => state.interrupts &= !value,
            STATUS => self.set_status(&mut state, value)?,
            // No shared memory region, no reset of single queues: both read as absent.
            0xAC | 0xC0 => {}
            _ => return Err(Misuse),
        }
        Ok(())
    }

    fn set_status(&self, state: &mut State<D>, value: u32) -> Result<(), Misuse> {
        if value == 0 {
            state.reset();
            return Ok(());
        }
        let known = STEPS
            .iter()
            .fold(FAILED | NEEDS_RESET, |all, step| all | step);
        let kept = state.status & !NEEDS_RESET;
        if value & kept != kept || value & !known != 0 {
            return Err(Misuse);
        }
        state.status |= value & FAILED;
        for (number, step) in STEPS.into_iter().enumerate() {
            if value & step == 0 || state.status & step != 0 {
                continue;
            }
            let before = STEPS[..number].iter().all(|s| state.status & s != 0);
            if !before || (step == FEATURES_OK && !state.features_agree()) {
                return Err(Misuse);
            }
            state.status |= step;
            if step == DRIVER_OK {
                self.meter.reach(Phase::Driver);
                state.activate();
                // What became available before now was perhaps not rung for.
                (0..state.queues.len()).for_each(|index| self.ring_later(index));
            }
        }
        Ok(())
    }
}

impl<D: VirtioDevice> State<D> {
    fn is_active(&self) -> bool {
        self.status & DRIVER_OK != 0 && self.status & (FAILED | NEEDS_RESET) == 0
    }

    fn offered(&self) -> u64 {
        let of_rings = 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;
        self.device.features() | of_rings | 1 << VIRTIO_F_VERSION_1
    }

    fn features_agree(&self) -> bool {
        let version_1 = self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0;
        version_1 && self.driver_features & !self.offered() == 0
    }

    fn set_driver_features(&mut self, value: u32) -> Result<(), Misuse> {
        if self.status & DRIVER == 0 || self.status & FEATURES_OK != 0 {
            return Err(Misuse);
        }
        let value = u64::from(value);
        match self.driver_features_page {
            0 => self.driver_features = self.driver_features & !0xFFFF_FFFF | value,
            1 => self.driver_features = self.driver_features & 0xFFFF_FFFF | value << 32,
            _ if value == 0 => {}
            _ => return Err(Misuse),
        }
        Ok(())
    }

    /// The queue that the driver has selected.
    fn selected(&mut self) -> Result<&mut QueueSetup, Misuse> {
        self.queues.get_mut(self.queue as usize).ok_or(Misuse)
    }

    /// The same, where it may be set up now.
    fn being_set_up(&mut self) -> Result<&mut QueueSetup, Misuse> {
        if self.status & FEATURES_OK == 0 || self.status & DRIVER_OK != 0 {
            return Err(Misuse);
        }
        match self.selected()? {
            QueueSetup { live: Some(_), .. } => Err(Misuse),
            queue => Ok(queue),
        }
    }

    fn set_up_queue(&mut self, offset: u64, value: u32) -> Result<(), Misuse> {
        let queue = self.being_set_up()?;
        let low = |address: &mut u64| *address = *address & !0xFFFF_FFFF | u64::from(value);
        let high = |address: &mut u64| *address = *address & 0xFFFF_FFFF | u64::from(value) << 32;
        match offset {
            QUEUE_SIZE => queue.size = value,
            0x80 => low(&mut queue.descriptors),
            0x84 => high(&mut queue.descriptors),
            0x90 => low(&mut queue.available),
            0x94 => high(&mut queue.available),
            0xA0 => low(&mut queue.used),
            0xA4 => high(&mut queue.used),
            _ => return Err(Misuse),
        }
        Ok(())
    }

    fn make_ready(&mut self, memory: &Memory) -> Result<(), Misuse> {
        let event_index = self.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let setup = self.being_set_up()?;
        let mut queue = Queue::new(setup.max).map_err(|_| Misuse)?;
        let size = u16::try_from(setup.size).map_err(|_| Misuse)?;
        queue
            .try_set_size(size)
            .and_then(|()| queue.try_set_desc_table_address(GuestAddress(setup.descriptors)))
            .and_then(|()| queue.try_set_avail_ring_address(GuestAddress(setup.available)))
            .and_then(|()| queue.try_set_used_ring_address(GuestAddress(setup.used)))
            .map_err(|_| Misuse)?;
        queue.set_event_idx(event_index);
        queue.set_ready(true);
        if !queue.is_valid(memory) {
            return Err(Misuse);
        }
        setup.live = Some(queue);
        Ok(())
    }

    fn activate(&mut self) {
        self.device.activate(self.driver_features);
    }

    fn reset(&mut self) {
        self.device.reset();
        for queue in &mut self.queues {
            *queue = QueueSetup {
                max: queue.max,
                size: u32::from(queue.max),
                ..QueueSetup::default()
            };
        }
        (self.status, self.interrupts, self.queue) = (0, 0, 0);
        (self.device_features_page, self.driver_features_page) = (0, 0);
        self.driver_features = 0;
    }

    fn read_register(&mut self, offset: u64) -> Option<u32> {
        let page = |features: u64, page| match page {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        Some(match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => self.device.id(),
            0x0C => VENDOR,
            0x10 => page(self.offered(), self.device_features_page),
            0x34 => self.selected().map_or(0, |queue| u32::from(queue.max)),
            QUEUE_READY => self
                .selected()
                .map_or(0, |queue| u32::from(queue.live.is_some())),
            0x60 => self.interrupts,
            STATUS => self.status,
            // No shared memory region has this id: its length and address are all ones.
            0xB0..=0xBC => u32::MAX,
            // No reset of single queues is offered.
            0xC0 => 0,
            0xFC => self.generation,
            _ => return None,
        })
    }
}

impl<D: VirtioDevice> Device for Transport<D> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let mut state = lock(&self.state);
        if let Some(at) = offset.checked_sub(CONFIG) {
            // What is beyond the end reads as zero.
            let rest = state.device.config().get(at as usize..).unwrap_or_default();
            let length = rest.len().min(data.len());
            data[..length].copy_from_slice(&rest[..length]);
            return;
        }
        match (offset % 4, data.len(), state.read_register(offset)) {
            (0, 4, Some(value)) => data.copy_from_slice(&value.to_le_bytes()),
            _ => self.count_misuse(1),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let done = match (offset.checked_sub(CONFIG), data.try_into()) {
            (Some(at), _) => lock(&self.state).device.write_config(at, data),
            (None, Ok(value)) if offset.is_multiple_of(4) => self
                .write_register(offset, u32::from_le_bytes(value))
                .is_ok(),
            _ => false,
        };
        if !done {
            self.count_misuse(1);
        }
    }
}

impl<D: VirtioDevice> Lifecycle for Transport<D> {
    fn pause(&self) {
        self.settle();
    }

    fn resume(&self) {
        // What was settled may have made room for more.
        (0..self.doorbells.len()).for_each(|index| self.ring_later(index));
    }

    /// Serves what the guest had made available: its last words are not lost.
    fn halt(&self) {
        for index in 0..self.doorbells.len() {
            let most = lock(&self.state).queues.get(index).map_or(0, |q| q.max);
            // A turn serves at least one chain; a driver that adds on is gone.
            (0..most).any(|_| {
                let more = self.serve(index);
                self.settle();
                !more
            });
        }
    }
}

impl<D: VirtioDevice> EventSubscriber for Transport<D> {
    fn process(&self, events: Events, _: &mut EventOps) {
        let index = (events.data() & !WAKE) as usize;
        let Some(doorbell) = self.doorbells.get(index) else {
            return;
        };
        if events.data() & WAKE == 0 {
            // An empty counter is no error.
            let _ = doorbell.read();
        }
        if self.serve(index) {
            self.ring_later(index);
        }
    }

    fn init(&self, ops: &mut EventOps) {
        for (index, doorbell) in (0..).zip(&self.doorbells) {
            // A fresh epoll takes a descriptor that is not yet in it.
            let _ = ops.add(Events::with_data_raw(
                doorbell.as_raw_fd(),
                index,
                EventSet::IN,
            ));
        }
        for (index, wake) in lock(&self.state).device.wakes() {
            let how = EventSet::IN | EventSet::EDGE_TRIGGERED;
            let data = WAKE | index as u32;
            let _ = ops.add(Events::with_data_raw(wake.as_raw_fd(), data, how));
        }
    }
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
