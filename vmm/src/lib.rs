//! Shoal's monitor: one process is one microVM.
//!
//! The binary `vmm` is thin; what it does is here, so that tests, the orchestrator and fuzzers reach it.
//!
//! - [`spec`]: what a VM is. JSON in, values that can only be valid out.
//! - [`control`]: the control API, Firecracker's where the meaning is the same.
//! - [`launch`]: how a launcher hands a monitor its VM, and hears of it.
//! - [`outcome`]: how a VM ended, and why.
//! - [`meter`]: counters and state in one shared page.

pub mod control;
pub mod launch;
pub mod meter;
pub mod outcome;
pub mod spec;
