//! x86-64: what a virtual CPU is before the guest's first instruction.
//!
//! - [`cpuid`]: which processor the guest sees.
//! - [`msrs`]: model-specific registers that a firmware would have set.
//! - [`regs`]: the states in which a guest is entered.

pub mod cpuid;
pub mod msrs;
pub mod regs;
