//! Every way to go wrong, each to end in a report and a status of its own.

use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;
use libos::println;

/// Goes wrong by name; returns only where it did not, false where the name is unknown.
pub(crate) fn run(mode: &str) -> bool {
    match mode {
        "panic" => panic!("this panic is on purpose"),
        "oom" => out_of_memory(),
        "null" => read(0),
        "wild" => read(0x7000_0000_0000),
        "write-text" => write(run as *const () as u64),
        "exec-data" => execute_data(),
        "overflow" => println!("{}", overflow(1)),
        "divide" => divide(),
        "invalid" => invalid(),
        _ => return false,
    }
    true
}

/// Asks for more than there is.
fn out_of_memory() {
    black_box(Vec::<u8>::with_capacity(1 << 40));
}

#[inline(never)]
fn read(address: u64) {
    // SAFETY: none: the point is that it traps.
    let value = unsafe { (black_box(address) as *const u64).read_volatile() };
    println!("{address:#x} holds {value:#x}");
}

#[inline(never)]
fn write(address: u64) {
    // SAFETY: none: the point is that it traps.
    unsafe { (black_box(address) as *mut u64).write_volatile(0) };
}

#[inline(never)]
fn execute_data() {
    /// A `ret`, in memory that is not code.
    static mut CODE: [u8; 1] = [0xC3];
    let code = black_box((&raw mut CODE).cast::<u8>());
    // SAFETY: none: the point is that it traps.
    unsafe { asm!("call {}", in(reg) code, clobber_abi("C")) };
}

/// Recurses for ever; the arithmetic behind the call keeps it from becoming a loop.
#[inline(never)]
#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let page = black_box([depth; 64]);
    overflow(depth + 1) + page[(depth % 64) as usize]
}

fn divide() {
    // SAFETY: none: the point is that it traps. Rust's own division would panic instead.
    unsafe { asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
}

fn invalid() {
    // SAFETY: none: the point is that it traps.
    unsafe { asm!("ud2") };
}
