//! A newcomer's first guest: it greets, and says where it runs.
//!
//! ```text
//! hello              greet and end
//! hello --wait       greet, sleep until asked to shut down, say goodbye
//! hello --exit N     greet and end with status N
//! ```
#![no_std]
#![no_main]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use libos::{ExitStatus, println};

#[libos::main]
async fn main() -> ExitStatus {
    println!("Hello from Shoal!");
    println!(
        "I have {} MiB of memory, and {} for a clock.",
        libos::memory_bytes() >> 20,
        libos::clock::source()
    );
    let args: Vec<&str> = libos::args().iter().map(String::as_str).collect();
    if !args.is_empty() {
        println!("You passed {args:?}.");
    }
    match args[..] {
        [] => ExitStatus::SUCCESS,
        ["--wait"] => {
            libos::shutdown_requested().await;
            println!("Goodbye!");
            ExitStatus::SUCCESS
        }
        ["--exit", number] => match number.parse::<u8>() {
            Ok(number) => ExitStatus::from(number),
            Err(error) => {
                println!("--exit takes a number up to 255, not {number:?}: {error}");
                ExitStatus::FAILURE
            }
        },
        _ => {
            println!("I know --wait and --exit N.");
            ExitStatus::FAILURE
        }
    }
}
