//! The console: the first virtio console, else the serial port.
//!
//! Writing never fails and is never reordered; it waits only where the device keeps every buffer. A console device that
//! stays dead for a second is given up for the serial port.

use crate::core_cell::CoreCell;
use crate::serial;
use crate::virtio::console::Console;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// Where output goes.
enum Output {
    /// The serial port. Pieces of a line gather here: a crossing into ring 0 costs more than the bytes.
    Serial { line: [u8; 256], held: usize },
    /// The virtio console.
    Virtio(Console),
}

static OUTPUT: CoreCell<Output> = CoreCell::new(SERIAL);
/// Who waits for input.
static READER: CoreCell<Option<Waker>> = CoreCell::new(None);

const SERIAL: Output = Output::Serial {
    line: [0; 256],
    held: 0,
};

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::console::print_line(::core::format_args!($($argument)*)) };
}

/// What [`print!`] calls.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>) {
    // The writer never fails; a `Display` that does has printed what it could.
    let _ = Pieces.write_fmt(arguments);
    flush_line();
}

/// What [`println!`] calls.
#[doc(hidden)]
pub fn print_line(arguments: fmt::Arguments<'_>) {
    let _ = Pieces.write_fmt(arguments);
    write_pieces(b"\n");
    flush_line();
}

/// Writes bytes to the console as they are.
pub fn write(bytes: &[u8]) {
    write_pieces(bytes);
    flush_line();
}

/// Waits for input; gives what has come, at least one byte. One task reads at a time: a second one that waits takes the place of the first.
///
/// On the serial port nothing is ever read.
pub async fn read() -> Vec<u8> {
    if let Output::Virtio(console) = &*OUTPUT.borrow() {
        console.announce_receive();
    }
    poll_fn(|context| {
        if let Output::Virtio(console) = &mut *OUTPUT.borrow() {
            console.poll();
            if !console.received().is_empty() {
                return Poll::Ready(console.received().drain(..).collect());
            }
        }
        let before = READER.borrow().replace(context.waker().clone());
        drop(before);
        Poll::Pending
    })
    .await
}

/// The pieces that formatting makes. The output is not held across them: a `Display` may print.
struct Pieces;

impl Write for Pieces {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        write_pieces(piece.as_bytes());
        Ok(())
    }
}

fn write_pieces(bytes: &[u8]) {
    let output = &mut *OUTPUT.borrow();
    match output {
        Output::Serial { line, held } => {
            for &byte in bytes {
                if *held == line.len() {
                    serial::write(line);
                    *held = 0;
                }
                line[*held] = byte;
                *held += 1;
            }
        }
        Output::Virtio(console) => {
            if console.write(bytes).is_err() {
                *output = SERIAL;
                serial::write(b"libos: the console device is dead, output goes to the serial port\n");
                serial::write(bytes);
            }
        }
    }
}

/// The end of a print.
fn flush_line() {
    match &mut *OUTPUT.borrow() {
        Output::Serial { line, held } => {
            serial::write(&line[..core::mem::take(held)]);
        }
        Output::Virtio(console) => console.send_if_idle(),
    }
}

/// Finds the console device.
pub(crate) fn start() {
    match Console::find() {
        Some(Ok(console)) => *OUTPUT.borrow() = Output::Virtio(console),
        Some(Err(error)) => crate::println!("libos: the console device is not used: {error}"),
        None => {}
    }
}

/// The event loop comes round: output that has gathered leaves, input that has come is announced. True where any came.
pub(crate) fn turn() -> bool {
    let Output::Virtio(console) = &mut *OUTPUT.borrow() else {
        return false;
    };
    console.send();
    let any = console.poll();
    if any && let Some(reader) = READER.borrow().take() {
        reader.wake();
    }
    any
}

/// Has input interrupt the sleeping guest, where somebody waits for it.
pub(crate) fn set_interrupts(on: bool) {
    if let Output::Virtio(console) = &*OUTPUT.borrow() {
        console.set_interrupts(on && READER.borrow().is_some());
    }
}

/// Waits until all output has left. From a trap or a panic too, which may have come in the middle of a print.
pub(crate) fn drain() {
    if let Some(mut output) = OUTPUT.try_borrow()
        && let Output::Virtio(console) = &mut *output
    {
        // A dead device has lost it already.
        let _ = console.drain();
    }
}

/// Prints for a trap or a panic: to the console where it can be had, else to the serial port.
pub(crate) fn last_words(arguments: fmt::Arguments<'_>) {
    struct LastWords;
    impl Write for LastWords {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            let piece = piece.as_bytes();
            match OUTPUT.try_borrow().as_deref_mut() {
                Some(Output::Virtio(console)) => {
                    if console.write(piece).is_err() {
                        serial::write(piece);
                    }
                }
                Some(Output::Serial { line, held }) => {
                    serial::write(&line[..core::mem::take(held)]);
                    serial::write(piece);
                }
                None => serial::write(piece),
            }
            Ok(())
        }
    }
    // The writer never fails.
    let _ = LastWords.write_fmt(arguments);
}
