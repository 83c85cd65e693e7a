//! Exit statuses. As for a process: 0 is success, a program chooses among 1 to 100, and the rest says
//! how the library OS ended it. A status above 255 is passed on to a shell as 255.

/// The program returned, or exited well.
pub const SUCCESS: u32 = 0;
/// The program panicked (as a Rust process).
pub const PANIC: u32 = 101;
/// An invalid instruction (128 + SIGILL).
pub const INVALID_INSTRUCTION: u32 = 132;
/// An arithmetic fault (128 + SIGFPE).
pub const ARITHMETIC: u32 = 136;
/// No memory left (128 + SIGKILL, as Linux's own killer would give).
pub const OUT_OF_MEMORY: u32 = 137;
/// A bad memory access, a stack overflow included (128 + SIGSEGV).
pub const BAD_ACCESS: u32 = 139;
/// Any other trap (128 + SIGTRAP).
pub const TRAP: u32 = 133;
/// The VM was asked to shut down and the program did not say otherwise (128 + SIGTERM).
pub const SHUTDOWN: u32 = 143;

/// `status` as a process's exit code.
#[must_use]
pub fn exit_code(status: u32) -> u8 {
    u8::try_from(status).unwrap_or(u8::MAX)
}
