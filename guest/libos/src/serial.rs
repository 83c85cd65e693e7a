//! The serial port (16550A), where there is no better console, and for last words.

use crate::arch::gate::{self, Op};
use abi::port;

const FIFO_CONTROL: u16 = port::SERIAL + 2;
const LINE_STATUS: u16 = port::SERIAL + 5;
/// Line status: the transmit FIFO is empty.
const TRANSMIT_EMPTY: u32 = 1 << 5;
/// Bytes of the transmit FIFO.
const FIFO: usize = 16;
/// How often to ask a port whose FIFO stays full: a real one at 9600 baud empties it within 20 ms.
const PATIENCE: usize = 10_000;

/// Writes `text`, waiting for the FIFO as it fills. A port that never empties loses the rest.
pub(crate) fn write(text: &[u8]) {
    // Enabled each time: one access in ring 0, and no state to get wrong.
    let mut ops = [
        Op::out8(FIFO_CONTROL, 1),
        Op::in8(LINE_STATUS),
        Op::in8(LINE_STATUS),
    ];
    let mut chunks = text.chunks(FIFO);
    let Some(first) = chunks.next() else { return };
    ops[1] = Op::out_string(port::SERIAL, first);
    // SAFETY: the serial port's registers, and a string that outlives the batch.
    unsafe { gate::batch(&mut ops) };
    let mut ready = ops[2].result() & TRANSMIT_EMPTY != 0;
    for chunk in chunks {
        if !ready && !wait() {
            return;
        }
        let mut ops = [
            Op::out_string(port::SERIAL, chunk),
            Op::in8(LINE_STATUS),
        ];
        // SAFETY: as above.
        unsafe { gate::batch(&mut ops) };
        ready = ops[1].result() & TRANSMIT_EMPTY != 0;
    }
}

/// Waits for an empty FIFO; false where it never is.
fn wait() -> bool {
    (0..PATIENCE).any(|_| {
        let mut ops = [Op::in8(LINE_STATUS)];
        // SAFETY: the serial port's registers.
        unsafe { gate::batch(&mut ops) };
        ops[0].result() & TRANSMIT_EMPTY != 0
    })
}
