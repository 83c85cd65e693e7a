//! x86-64: what a virtual CPU is before the guest's first instruction.
//!
//! - [`cpuid`]: which processor the guest sees.
//! - [`msrs`]: model-specific registers that a firmware would have set.
//! - [`regs`]: the state in which PVH enters a guest.

pub mod cpuid;
pub mod msrs;
pub mod regs;
