//! What the system tests ask of a guest: one mode, named by the first argument.
//!
//! | mode | shows | ends with |
//! |---|---|---|
//! | `idle` | a guest that sleeps and never asks about shutdown | 143 at the request |
//! | `env` | arguments and environment, one a line | 0 |
//! | `echo` | console input, line by line, until `quit` or a shutdown | 0 |
//! | `flood N` | N MiB of numbered lines | 0 |
//! | `rng` | 32 random bytes, twice | 0 |
//! | `clock` | source, time of day, that time goes forwards | 0 |
//! | `timers`, `tasks` | that they run, in order | 0 |
//! | `alloc` | the heap under stress, checked | 0 |
//! | `spin` | ring 3 for ever, without a yield | killed |
//! | `busy` | ring 3 for ever, yielding | 143 at the request |
//! | `panic`, `oom`, `null`, `write-text`, `exec-data`, `overflow`, `divide`, `invalid`, `wild` | reports | their status |
//! | `ports` | I/O from ring 3 | 0, or 139 where ring 3 may not |
#![no_std]
#![no_main]

extern crate alloc;

mod faults;
mod machine;
mod work;

use alloc::string::String;
use libos::{ExitStatus, println};

#[libos::main]
async fn main() -> ExitStatus {
    let args = libos::args();
    let mode = args.first().map_or("", String::as_str);
    let number = args.get(1).and_then(|text| text.parse().ok());
    match mode {
        "idle" => core::future::pending::<()>().await,
        "env" => machine::environment(),
        "echo" => machine::echo().await,
        "flood" => machine::flood(number.unwrap_or(1)),
        "rng" => machine::random().await,
        "clock" => machine::clock().await,
        "ports" => machine::ports(),
        "timers" => work::timers().await,
        "tasks" => work::tasks().await,
        "alloc" => work::heap(),
        "spin" => work::spin(),
        "busy" => work::busy().await,
        _ if faults::run(mode) => println!("{mode} did not fault"),
        _ => println!("no such mode: {mode:?}"),
    }
    match mode {
        "env" | "echo" | "flood" | "rng" | "clock" | "ports" | "timers" | "tasks" | "alloc" => {
            ExitStatus::SUCCESS
        }
        _ => ExitStatus::FAILURE,
    }
}
