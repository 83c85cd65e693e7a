//! What is fuzzed. Each target ends in what the real program does with the bytes.

mod agent;
mod balloon;
mod block;
mod cmdline;
mod elf;
mod http;
mod mover;
mod net;
mod oci;
mod spec;
mod virtqueue;
mod vsock;

use anyhow::{Context, Result};

use super::Target;

/// Every target.
pub const ALL: [Target; 12] = [
    agent::TARGET,
    cmdline::TARGET,
    spec::TARGET,
    http::TARGET,
    elf::TARGET,
    oci::TARGET,
    mover::TARGET,
    virtqueue::TARGET,
    block::TARGET,
    balloon::TARGET,
    net::TARGET,
    vsock::TARGET,
];

/// The target with this name.
///
/// # Errors
/// Where there is none; the error lists those that there are.
pub fn named(name: &str) -> Result<Target> {
    ALL.into_iter().find(|t| t.name == name).with_context(|| {
        let names: Vec<_> = ALL.iter().map(|t| t.name).collect();
        format!("there is no target `{name}`, only {}", names.join(", "))
    })
}
