//! The request to shut down: Ctrl-Alt-Del on the keyboard controller, as every monitor can send it.

use crate::arch::gate::{self, Op};
use crate::core_cell::CoreCell;
use crate::exit::{ExitStatus, exit};
use crate::interrupt;
use abi::{layout, port};
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// Status: the controller has a byte.
const OUTPUT_FULL: u32 = 1;
/// The Delete key goes down: in scan code set 1, and in set 2 behind 0xE0, which monitors send untranslated.
const DELETE: [u32; 2] = [0x53, 0x71];
/// More bytes than any key sends: a port that nobody answers reads as ever full.
const MOST: usize = 16;

struct State {
    requested: bool,
    /// Whether the program has ever asked: from then on the end is its own affair.
    awaited: bool,
    waiting: Vec<Waker>,
}

static STATE: CoreCell<State> = CoreCell::new(State {
    requested: false,
    awaited: false,
    waiting: Vec::new(),
});

/// The accesses that let the keyboard controller interrupt.
pub(crate) fn route() -> [Op; 4] {
    interrupt::route(layout::I8042_GSI, interrupt::KEYBOARD, 0)
        .expect("the first I/O APIC has the keyboard's line")
}

/// Waits until somebody wants the guest to shut down.
///
/// A program that awaits this once decides itself when to end. One that never does ends at the request, with
/// [`ExitStatus::SHUTDOWN`].
pub async fn shutdown_requested() {
    poll_fn(|context| {
        let mut state = STATE.borrow();
        state.awaited = true;
        if state.requested {
            return Poll::Ready(());
        }
        state.waiting.push(context.waker().clone());
        Poll::Pending
    })
    .await;
}

/// The keyboard controller has interrupted.
pub(crate) fn on_keyboard() {
    for _ in 0..MOST {
        let mut status = [Op::in8(port::I8042_COMMAND)];
        // SAFETY: reading the controller's status changes nothing.
        unsafe { gate::batch(&mut status) };
        if status[0].result() & OUTPUT_FULL == 0 {
            return;
        }
        let mut data = [Op::in8(port::I8042_DATA)];
        // SAFETY: takes the byte that is there; the library OS alone reads it.
        unsafe { gate::batch(&mut data) };
        if DELETE.contains(&data[0].result()) {
            request();
        }
    }
}

fn request() {
    let waiting = {
        let mut state = STATE.borrow();
        state.requested = true;
        if !state.awaited {
            drop(state);
            exit(ExitStatus::SHUTDOWN);
        }
        core::mem::take(&mut state.waiting)
    };
    waiting.into_iter().for_each(Waker::wake);
}
