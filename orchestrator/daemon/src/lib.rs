//! `vmd`: the daemon that starts microVMs on one host, watches them and finds them again.
//!
//! ```text
//! HTTP (http) -> fleet: create, end, remove, recover -> monitors, one process each
//!                  |  \-> events, console, follow: what is told of them
//!                  v
//!                store: what is wanted, durable before it is done
//! ```
//! - [`state`]: the life of a VM, as a table.
//! - [`spec`], [`name`]: what may be asked for.
//! - [`record`], [`store`]: what is written down, and how.
//! - [`folder`]: what lies where on disk, and who holds which lock.
//! - [`vm`], [`fleet`]: one VM, and all of them.
//! - [`process`], [`control`], [`metrics`]: a monitor as a process, as one to talk to, as one to read.
//! - [`events`], [`console`], [`follow`]: streams.
//! - [`host`]: what this host has.
//! - [`http`]: the API.
//! - [`daemon`]: all of it, started and ended.

pub mod agent;
pub mod console;
pub mod control;
pub mod daemon;
pub mod disk;
pub mod events;
pub mod fleet;
pub mod folder;
pub mod follow;
pub mod host;
pub mod http;
pub mod linux;
pub mod metrics;
pub mod name;
pub mod plug;
pub mod process;
pub mod record;
pub mod spec;
pub mod state;
pub mod store;
pub mod vm;

/// An error and its sources, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
