//! Measurements: `cargo ci bench`.
//!
//! A bench gives [`Figure`]s. Where a figure has a reference, both were measured in the same run, turn by turn, because
//! a shared host's speed drifts.

mod boot;
mod create;
mod disk;
mod exec;
mod figure;
pub mod leak;
mod linux;
mod memory;
mod network;
mod profile;
pub mod recover;

use anyhow::{Context, Result};

pub use figure::{Figure, Samples, table};

/// A bench.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures, for people.
    pub about: &'static str,
    /// Measures. `runs` is how often, where it was said; what it did not measure, and why, goes to `notes`.
    pub run: fn(runs: Option<usize>, notes: &mut Vec<String>) -> Result<Vec<Figure>>,
}

/// Every bench.
pub const ALL: &[Bench] = &[
    boot::BENCH,
    create::BENCH,
    disk::BENCH,
    exec::BENCH,
    leak::BENCH,
    linux::BENCH,
    memory::BENCH,
    network::BENCH,
    recover::BENCH,
];

/// The bench with this name.
///
/// # Errors
/// Where there is none; the error lists those that there are.
pub fn named(name: &str) -> Result<Bench> {
    ALL.iter()
        .copied()
        .find(|b| b.name == name)
        .with_context(|| {
            let names: Vec<_> = ALL.iter().map(|b| b.name).collect();
            format!("there is no bench `{name}`, only {}", names.join(", "))
        })
}
