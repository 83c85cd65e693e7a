//! Shoal's monitor: one process is one microVM.
//!
//! The binary `vmm` is thin; what it does is here, so that tests, the orchestrator and fuzzers reach it.
//!
//! - [`process`]: the program, from its arguments to its exit status.
//! - [`spec`]: what a VM is. JSON in, values that can only be valid out.
//! - [`launch`]: how a launcher hands a monitor its VM, and hears of it.
//! - [`control`]: the control API, Firecracker's where the meaning is the same.
//! - [`host`]: what this host's KVM offers.
//! - [`machine`]: a VM: memory, virtual CPUs, devices, and what ends it.
//! - [`arch`]: what depends on the processor's architecture.
//! - [`boot`]: from an ELF file to a guest that can be entered.
//! - [`bus`]: from an address to the device there.
//! - [`device`]: devices and their life; [`virtio`]: those that drivers reach through rings.
//! - [`backend`]: what stands behind a device on the host.
//! - [`rate`]: limits of a device's traffic.
//! - [`event_loop`]: the thread that serves devices.
//! - [`outcome`]: how a VM ended, and why.
//! - [`meter`]: counters and state in one shared page.

pub mod arch;
pub mod backend;
pub mod boot;
pub mod bus;
pub mod control;
pub mod device;
pub mod event_loop;
pub mod host;
pub mod launch;
pub mod machine;
pub mod meter;
pub mod outcome;
pub mod process;
pub mod rate;
pub mod spec;
mod sync;
pub mod virtio;
mod words;
