//! The library OS of a Shoal guest: a program and this crate are the whole of what runs in its microVM.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! #[libos::main]
//! async fn main() {
//!     libos::println!("hello");
//! }
//! ```
//!
//! The program runs in ring 3, in one address space, on one event loop: tasks are futures, run to completion
//! between two `.await`s. Nothing interrupts them, so data of one core needs no lock.
//!
//! - [`print!`], [`println!`], [`console`]: the console.
//! - [`spawn`], [`yield_now`], [`time`]: tasks and timers.
//! - [`clock`]: monotonic time and the time of day.
//! - [`rng`]: random bytes.
//! - [`args`], [`env()`]: the command line.
//! - [`exit`], [`ExitStatus`], [`shutdown_requested`]: the end.
//! - [`memory_bytes`]: how much memory there is.
//!
//! Inside, from below: `arch` (ring 0, the gate, page tables), `boot` (from the first instruction to the program), `trap`
//! (what went wrong, readably), `memory`, `virtio`, `executor` (the event loop).
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(dead_code))]

extern crate alloc;

mod arch;
mod boot;
pub mod clock;
pub mod console;
mod core_cell;
mod executor;
mod exit;
mod image;
mod interrupt;
mod memory;
mod options;
#[cfg(not(test))]
mod panic;
pub mod rng;
mod serial;
mod shutdown;
pub mod time;
mod timing;
mod trap;
mod virtio;

pub use executor::{JoinHandle, run, spawn, yield_now};
pub use exit::{ExitStatus, Termination, exit};
pub use libos_macros::main;
pub use options::{args, env, envs};
pub use shutdown::shutdown_requested;

/// Bytes of RAM that the monitor gave this guest, the first MiB aside.
#[must_use]
pub fn memory_bytes() -> u64 {
    boot::machine().map_or(0, |machine| machine.ram.bytes())
}
