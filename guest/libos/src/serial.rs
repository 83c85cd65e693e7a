//! The serial port (16550A), where there is no better console, and for last words.

use crate::arch::gate::{self, Batch, Op};
use abi::port;

const FIFO_CONTROL: u16 = port::SERIAL + 2;
const LINE_STATUS: u16 = port::SERIAL + 5;
/// FIFO control: on.
const FIFO_ON: u8 = 1;
/// Line status: the transmit FIFO is empty.
const TRANSMIT_EMPTY: u32 = 1 << 5;
/// Bytes of the transmit FIFO.
const FIFO: usize = 16;
/// How often to ask a port whose FIFO stays full: a real one at 9600 baud empties it within 20 ms.
const PATIENCE: usize = 10_000;

/// Writes `text`, waiting for the FIFO as it fills. A port that never empties loses the rest.
pub(crate) fn write(text: &[u8]) {
    let mut ready = true;
    for (i, chunk) in text.chunks(FIFO).enumerate() {
        if !ready && !wait() {
            return;
        }
        let mut batch = Batch::<12>::new();
        if i == 0 {
            // Each time anew: one access in ring 0, and no state to get wrong.
            batch.push(Op::out8(FIFO_CONTROL, FIFO_ON));
        }
        batch.push(Op::out_string(port::SERIAL, chunk));
        let status = batch.push(Op::in8(LINE_STATUS));
        // SAFETY: the serial port's registers, and a string that outlives the batch.
        unsafe { batch.run() };
        ready = batch.result(status) & TRANSMIT_EMPTY != 0;
    }
}

/// Waits for an empty FIFO; false where it never is.
fn wait() -> bool {
    // SAFETY: reading the serial port's status changes nothing that matters here.
    (0..PATIENCE).any(|_| unsafe { gate::access(Op::in8(LINE_STATUS)) } & TRANSMIT_EMPTY != 0)
}
