//! Devices: what a guest meets on a bus, and how it lives.
//!
//! A device is one `Arc<Self>` with its own state and its own lock. It is reached from two sides: by virtual CPUs, through [`Device`],
//! and by the event loop, through `event_manager::EventSubscriber`, where it has descriptors to wait for. The machine that
//! owns it calls [`Lifecycle`].
//!
//! ```text
//!            start             pause
//!   built ----------> running -------> paused
//!                        ^    resume     |
//!                        +---------------+
//!            halt, from running or paused: over
//! ```
//!
//! While a device is not running, neither virtual CPUs nor the event loop run: the machine stops them before it pauses a
//! device and starts them after it resumes it. What a device does beyond those two, in threads or processes of
//! its own, it must itself stop in [`Lifecycle::pause`]: a paused device produces no work.
//!
//! Reset is not here: a guest that resets itself ends its VM, and a driver that resets its virtio
//! device does so through the transport ([`crate::virtio::VirtioDevice::reset`]).
//!
//! - [`serial`]: a 16550 UART.
//! - [`i8042`]: the keyboard controller, for reset and Ctrl-Alt-Del.
//! - [`rtc`]: the clock of a PC.
//! - [`exit`]: the exit port.

pub mod exit;
pub mod i8042;
pub mod rtc;
pub mod serial;

/// A device's registers. Called by virtual CPUs, from several at once, never while the VM is paused.
pub trait Device: Send + Sync {
    /// The guest reads: fills `data`, whatever its length.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// The guest writes: `data` is of any length but zero, and hostile.
    fn write(&self, offset: u64, data: &[u8]);
}

/// A device's life. Called by the machine, on the control thread, one device after the other.
pub trait Lifecycle: Send + Sync {
    /// The VM is about to run for the first time. From built.
    fn start(&self) {}

    /// Virtual CPUs and event loop stand still; when this returns the device does too. From running.
    fn pause(&self) {}

    /// Goes on where it was; what the driver asked for meanwhile is not lost. From paused.
    fn resume(&self) {}

    /// The VM is over: whatever the guest had handed over before is carried out now, within bounds, and nothing
    /// after. From running or paused, with virtual CPUs and event loop gone; nothing is called after it.
    fn halt(&self) {}
}
