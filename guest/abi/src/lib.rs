//! What host and guest must agree on, in one `no_std` crate that both link.
//!
//! - [`layout`]: where memory, devices and interrupts are.
//! - [`port`]: the I/O ports, the exit port among them.
//! - [`status`]: what a guest's exit status means.
//! - [`pvh`]: how a guest is entered, and what it is handed.
//! - [`cmdline`]: the command line: options, devices, environment, arguments.
//! - `agent`, with the feature of that name: the protocol of a Linux guest's agent.
#![no_std]

#[cfg(feature = "agent")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "agent")]
pub mod agent;
pub mod cmdline;
pub mod layout;
pub mod port;
pub mod pvh;
pub mod status;
