//! my-guest: a program that is its own operating system's only one.
#![no_std]
#![no_main]

use libos::println;

#[libos::main]
async fn main() {
    println!("Hello from my-guest!");
    for argument in libos::args() {
        println!("I was given {argument:?}.");
    }
}
