//! NAME: a program that is its own microVM.
#![no_std]
#![no_main]

use core::time::Duration;
use libos::{println, spawn, time};

#[libos::main]
async fn main() {
    println!("Hello from NAME!");
    let ticks = spawn(async {
        for tick in 1..=3 {
            time::sleep(Duration::from_millis(100)).await;
            println!("tick {tick}");
        }
        "three ticks"
    });
    println!("That was {}.", ticks.await);
}
