//! From a kernel's file to a guest that can be entered.
//!
//! ```text
//! file --kernel::parse--> Kernel --load::image--> guest memory --load::hand_over--> what the first processor points at
//!          (checked)                 (copied)                       (PVH: abi::pvh; Linux: linux)
//! ```
//!
//! - [`kernel`]: what a file is, and by which protocol it is entered.
//! - [`elf`], [`bzimage`]: the two kinds of files; pure, they know nothing of guest memory.
//! - [`initrd`]: where an initrd lies.
//! - [`cmdline`]: the command line with the monitor's devices in it.
//! - [`linux`], [`mptable`]: what Linux is handed.
//! - [`load`]: all of it into memory.

mod bzimage;
pub mod cmdline;
pub mod elf;
pub mod initrd;
pub mod kernel;
pub mod linux;
pub mod load;
pub mod mptable;

pub use bzimage::{BzImage, BzImageError};
