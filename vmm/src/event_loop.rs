//! The thread that serves devices: it waits for their descriptors and calls them, one at a time.
//!
//! A device is an `event_manager::EventSubscriber`. While the loop is paused the thread stands before its [`Gate`]: descriptors stay as they
//! are, and what became ready meanwhile is served after the resume.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use event_manager::{EventManager, EventOps, EventSet, EventSubscriber, Events, SubscriberOps};
use vmm_sys_util::eventfd::EventFd;

use crate::machine::gate::{Gate, Order};

/// A device as the loop has it.
pub type Subscriber = Arc<dyn EventSubscriber + Send + Sync>;

/// Bytes of the thread's stack: what a device needs to serve an event.
const STACK: usize = 128 << 10;
/// Most events that are taken from the kernel at once.
const BATCH: usize = 16;

/// The loop and its thread; stopped and joined on drop.
pub struct EventLoop {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    gate: Gate<()>,
    /// Written to bring the thread to the gate.
    wake: EventFd,
}

impl EventSubscriber for Shared {
    fn process(&self, _: Events, _: &mut EventOps) {
        // That there was an event brings the thread to the gate; an empty counter is no error.
        let _ = self.wake.read();
    }

    fn init(&self, ops: &mut EventOps) {
        // A fresh epoll takes a fresh descriptor.
        let _ = ops.add(Events::new(&self.wake, EventSet::IN));
    }
}

impl EventLoop {
    /// Starts a loop for `devices`, paused.
    ///
    /// # Errors
    /// Where there is no thread or descriptor left.
    pub fn new(devices: Vec<Subscriber>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            gate: Gate::new(1),
            wake: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
        });
        let ours = Arc::clone(&shared);
        let mut manager = EventManager::new_with_capacity(BATCH).map_err(io::Error::other)?;
        let thread = std::thread::Builder::new()
            .name("devices".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                manager.add_subscriber(Arc::<Shared>::clone(&ours) as Subscriber);
                for device in devices {
                    manager.add_subscriber(device);
                }
                while ours.gate.pass(0, || ()) {
                    // It fails on a broken epoll alone, which this thread has to itself.
                    if manager.run().is_err() {
                        break;
                    }
                }
                ours.gate.leave(0);
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Stands still; when this returns no device is being served.
    pub fn pause(&self) {
        self.order(Order::Stand);
        self.shared.gate.wait_standing();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.order(Order::Go);
    }

    /// Ends the thread.
    pub fn stop(&mut self) {
        self.order(Order::Leave);
        if let Some(thread) = self.thread.take() {
            // It panics in tests only, which then see that.
            let _ = thread.join();
        }
    }

    fn order(&self, order: Order) {
        self.shared.gate.order(order);
        // A full counter wakes as well as another one.
        let _ = self.shared.wake.write(1);
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.stop();
    }
}
