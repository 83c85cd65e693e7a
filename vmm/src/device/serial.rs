//! A 16550A serial port, on the machine's console.
//!
//! Output is the console's. Input comes here only once the guest has asked for receive interrupts: a guest that has
//! a better console never does, and its input is not to vanish in a FIFO that nobody reads.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial as Uart};
use vmm_sys_util::eventfd::EventFd;

use super::{Device, Lifecycle};
use crate::backend::console::Output;
use crate::backend::input::{Room, Taker};
use crate::sync::lock;

/// Registers.
pub const SIZE: u64 = 8;
/// The data register, where the divisor is not shown.
const DATA: u64 = 0;
/// The interrupt enable register, where the divisor is not shown.
const INTERRUPT_ENABLE: u64 = 1;
/// In it: an interrupt when a byte was received.
const RECEIVED: u8 = 1;

/// The port.
pub struct Serial {
    uart: Mutex<Uart<Line, NoEvents, Console>>,
    room: Room,
}

impl Serial {
    /// A port on `output`, with interrupts by `line`; it says by `room` when it can take input.
    #[must_use]
    pub fn new(output: Arc<Output>, line: EventFd, room: Room) -> Self {
        Self {
            uart: Mutex::new(Uart::new(Line(line), Console(output))),
            room,
        }
    }
}

impl Device for Serial {
    /// Registers are of eight bits: what is longer is a string instruction, which stays at its port.
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut uart = lock(&self.uart);
        data.fill_with(|| uart.read(offset as u8));
        if offset == DATA {
            self.room.announce();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut uart = lock(&self.uart);
        for byte in data {
            // It fails where an interrupt cannot be raised: the guest then finds the state when it asks for it.
            let _ = uart.write(offset as u8, *byte);
        }
        if offset == INTERRUPT_ENABLE {
            self.room.announce();
        }
    }
}

impl Lifecycle for Serial {}

impl Taker for Serial {
    fn room(&self) -> usize {
        let uart = lock(&self.uart);
        let state = uart.state();
        // Reading this register changes nothing, with the divisor shown neither.
        let listening = state.interrupt_enable & RECEIVED != 0;
        if listening { uart.fifo_capacity() } else { 0 }
    }

    fn take(&self, bytes: &[u8]) -> usize {
        lock(&self.uart).enqueue_raw_bytes(bytes).unwrap_or(0)
    }
}

/// An interrupt line.
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// The console as a writer that never fails.
struct Console(Arc<Output>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Counter, Meter};

    fn port() -> (Serial, Arc<Meter>) {
        let meter = Arc::new(Meter::create(None::<&std::fs::File>).unwrap());
        let output = Arc::new(Output::new(None, Arc::clone(&meter)).unwrap());
        let line = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        (Serial::new(output, line, Room::new().unwrap()), meter)
    }

    #[test]
    fn a_string_goes_out_byte_by_byte() {
        let (port, meter) = port();
        port.write(DATA, b"hello");
        assert_eq!(meter.read().counter(Counter::ConsoleOut), 5);
    }

    #[test]
    fn input_waits_for_a_guest_that_listens() {
        let (port, _) = port();
        assert_eq!(port.room(), 0);
        port.write(INTERRUPT_ENABLE, &[RECEIVED]);
        assert_eq!(port.room(), 64);
        assert_eq!(port.take(&[b'x'; 100]), 64);
        assert_eq!(port.room(), 0);
        let mut data = [0; 64];
        port.read(DATA, &mut data);
        assert_eq!(data, [b'x'; 64]);
        assert_eq!(port.room(), 64);
    }
}
