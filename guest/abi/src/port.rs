//! I/O ports.

/// First of the serial port's eight registers (16550A, COM1).
pub const SERIAL: u16 = 0x3F8;
/// Keyboard controller, data.
pub const I8042_DATA: u16 = 0x60;
/// Keyboard controller, status and command.
pub const I8042_COMMAND: u16 = 0x64;
/// Written to [`I8042_COMMAND`]: pulse the CPU's reset line.
pub const I8042_RESET: u8 = 0xFE;

/// The clock's index register; its data register is the next port.
pub const RTC_INDEX: u16 = 0x70;

/// The memory mover: a 32-bit write is the physical address of a request, in units of 64 bytes.
pub const MOVER: u16 = 0x6F0;

/// The exit port: a 32-bit write ends the VM with that value as its exit status (see [`crate::status`]).
///
/// QEMU's `isa-debug-exit,iobase=0xf4,iosize=0x04` is the same device; QEMU then exits with
/// `(status << 1) | 1`.
pub const EXIT: u16 = 0xF4;
