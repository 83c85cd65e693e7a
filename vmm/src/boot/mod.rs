//! From an ELF file to a guest that can be entered.
//!
//! ```text
//! file --elf::parse--> Image --load--> guest memory --start_info--> what ebx points at
//!        (checked)           (copied)                  (PVH, abi::pvh)
//! ```
//!
//! - [`elf`]: what a bootable ELF file is; pure, knows nothing of guest memory.
//! - [`cmdline`]: the command line with the monitor's devices in it.
//! - [`load`]: segments, start information, memory map and command line into memory.

pub mod cmdline;
pub mod elf;
pub mod load;
