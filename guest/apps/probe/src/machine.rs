//! What the machine offers: command line, console, clock, entropy, ports.

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;
use core::fmt::Write;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use libos::clock::{self, Instant};
use libos::{console, println, rng, time};

/// One argument or variable a line.
pub(crate) fn environment() {
    for argument in libos::args() {
        println!("arg {argument}");
    }
    for (key, value) in libos::envs() {
        println!("env {key}={value}");
    }
    if let Some(home) = libos::env("HOME") {
        println!("home {home}");
    }
}

/// Gives back each line of input.
pub(crate) async fn echo() {
    println!("ready");
    let mut shutdown = pin!(libos::shutdown_requested());
    let mut line = Vec::new();
    loop {
        let mut read = pin!(console::read());
        let input = poll_fn(|context| {
            if shutdown.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            read.as_mut().poll(context).map(Some)
        })
        .await;
        let Some(input) = input else {
            println!("shutdown");
            return;
        };
        for byte in input {
            if byte != b'\n' && byte != b'\r' {
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            println!("echo {text}");
            if text == "quit" {
                return;
            }
            drop(text);
            line.clear();
        }
    }
}

/// `mib` MiB of lines of 64 bytes, each with its number.
pub(crate) fn flood(mib: u64) {
    let start = Instant::now();
    let mut line = String::new();
    for number in 0..mib << 14 {
        line.clear();
        // A string takes everything.
        let _ = write!(line, "{number:<63}");
        println!("{line}");
    }
    let took = start.elapsed().as_millis();
    println!("flooded {mib} MiB in {took} ms");
}

/// Random bytes twice, to see that they differ.
pub(crate) async fn random() {
    for _ in 0..2 {
        let mut bytes = [0; 32];
        match rng::fill(&mut bytes).await {
            Ok(()) => {
                let mut hex = String::new();
                for byte in bytes {
                    // A string takes everything.
                    let _ = write!(hex, "{byte:02x}");
                }
                println!("random {hex}");
            }
            Err(error) => println!("random: {error}"),
        }
    }
}

/// The clocks.
pub(crate) async fn clock() {
    println!("source {}", clock::source());
    match clock::since_epoch() {
        Some(time) => println!("epoch {}.{:03}", time.as_secs(), time.subsec_millis()),
        None => println!("epoch unknown"),
    }
    let mut before = Instant::now();
    for _ in 0..100_000 {
        let now = Instant::now();
        assert!(now >= before, "time went backwards: {before:?}, {now:?}");
        before = now;
    }
    println!("forwards");
    let start = Instant::now();
    time::sleep(Duration::from_millis(100)).await;
    println!("slept {} us for 100000", start.elapsed().as_micros());
}

/// A write and a read of ports that no monitor minds: the delay port, and the serial port's scratch register.
pub(crate) fn ports() {
    println!("ports from ring 3");
    for port in [0x80u16, 0x3FF] {
        let value: u8;
        // SAFETY: traps where ring 3 may not; no device changes what Rust relies on.
        unsafe {
            asm!("out dx, al", "in al, dx", in("dx") port, inout("al") 0x5Au8 => value, options(nostack));
        }
        println!("port {port:#x} reads {value:#x}");
    }
}
