//! What depends on the processor's architecture, and nothing else does.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;
