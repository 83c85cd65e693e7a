//! Whole-system tests, benches and fuzz loops, and what they share.
//!
//! - [`place`]: where the installed programs and the guests are.
//! - [`monitor`]: one monitor, started as `vmd` starts it, its console and its end.
//! - [`agent`]: what a host says to the agent in a Linux guest.
//! - [`elf`]: ELF files to order, right and wrong.
//! - [`linux`]: Linux guests, and a first file system for them. [`disk`]: one that writes while its monitor is killed.
//!   [`memory`]: one that takes memory and gives it back.
//! - [`boxed`]: a small Linux image that Shoal did not make.
//! - [`registry`]: a registry of images on loopback.
//! - [`terminal`]: a terminal with a program on it.
//! - [`shoal`]: a daemon in a directory of its own, and `vmctl` that speaks to it.
//! - [`host`]: what stands on the host for one daemon; [`network`]: what of it is a network's.
//! - [`ogg`]: streams as a listener gets them.
//! - [`fsck`]: file systems' own checks of images.
//! - [`qemu`]: another monitor on the same guests.
//! - [`bench`]: what is measured, and how it is told.
//! - [`fuzz`]: hostile input for everything that reads input.
//!
//! The tests are in `tests/tests/`; those whose names begin with `kvm` need `/dev/kvm`. `cargo ci test` builds what they
//! run; by hand, `cargo ci build` does.

pub mod agent;
pub mod bench;
pub mod boxed;
pub mod disk;
pub mod elf;
pub mod fsck;
pub mod fuzz;
pub mod host;
pub mod linux;
pub mod memory;
pub mod monitor;
pub mod network;
pub mod ogg;
pub mod place;
pub mod qemu;
pub mod registry;
pub mod shoal;
pub mod terminal;
