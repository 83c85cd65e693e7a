//! The event loop: tasks, timers, devices, sleep.
//!
//! ```text
//!          .-> run every task that is ready -> output leaves -> poll devices, fire timers -.
//!          |                                                                               |
//!          '---- something became ready, or the last device event is young <---------------+
//!                                                                                          | nothing
//!              interrupts on, look once more, sleep in ring 0 until an interrupt or timer <-'
//! ```
//! A device that has just spoken is likely to speak again, and waking up costs some 100 us on hosts that emulate
//! ring 0: so the loop polls for [`POLL_NS`] after a device event before it sleeps. Timers alone never keep it awake.
//!
//! Ring 3 takes no interrupts. While tasks keep the loop busy, it opens a window for them each [`WINDOW_NS`], by which a
//! request to shut down is seen.

mod join;
mod task;
pub(crate) mod timers;

use crate::arch::{gate, tsc};
use crate::clock::{self, Instant};
use crate::core_cell::CoreCell;
use crate::exit::{Termination, exit};
use crate::{console, interrupt, rng, shutdown};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::hint::spin_loop;
use core::task::Poll;
pub use join::JoinHandle;
use task::Task;

/// How long the loop polls after a device event.
const POLL_NS: u64 = 100_000;
/// How often a busy loop lets interrupts in.
const WINDOW_NS: u64 = 10_000_000;

/// The tasks that are ready, in the order in which they became so.
static READY: CoreCell<VecDeque<Arc<Task>>> = CoreCell::new(VecDeque::new());

/// Starts a task beside this one. It runs whether or not anybody awaits the handle.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let (handle, future) = join::pair(future);
    READY.borrow().push_back(Task::new(future));
    handle
}

/// Lets the other ready tasks run first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs a program's main, and every task it spawns, until main is done; ends the VM with its status.
///
/// `#[libos::main]` calls this.
pub fn run<F>(main: F) -> !
where
    F: Future + 'static,
    F::Output: Termination,
{
    spawn(async { exit(main.await.report()) });
    let ticks = |ns| clock::scale().ticks(ns);
    let mut window = tsc();
    let mut awake_until = 0;
    loop {
        let ran = run_ready();
        let event = turn();
        let now = tsc();
        if event {
            awake_until = now.saturating_add(ticks(POLL_NS));
        }
        if ran || event || !READY.borrow().is_empty() {
            if now.wrapping_sub(window) > ticks(WINDOW_NS) {
                on_interrupts(gate::window());
                window = tsc();
            }
        } else if now < awake_until {
            spin_loop();
        } else {
            sleep();
            window = tsc();
        }
    }
}

/// Runs the tasks that are ready now, not those that they wake: devices have their turn in between.
fn run_ready() -> bool {
    let count = READY.borrow().len();
    for _ in 0..count {
        let task = READY.borrow().pop_front();
        if let Some(task) = task {
            task.run();
        }
    }
    count > 0
}

/// Gives every device and timer its turn; true where a device had something.
fn turn() -> bool {
    let mut event = console::turn();
    event |= rng::turn();
    timers::fire(Instant::now());
    event
}

/// Sleeps until something happens. What happens between the last look and the sleep ends it at once: the interrupt is pending.
fn sleep() {
    set_device_interrupts(true);
    if !turn() && READY.borrow().is_empty() {
        let deadline = timers::next().map_or(0, Instant::as_tsc);
        on_interrupts(gate::idle(deadline));
    }
    set_device_interrupts(false);
}

fn set_device_interrupts(on: bool) {
    console::set_interrupts(on);
    rng::set_interrupts(on);
}

/// What the interrupts ask for, beyond waking the loop.
fn on_interrupts(lines: u32) {
    if lines & 1 << interrupt::KEYBOARD != 0 {
        shutdown::on_keyboard();
    }
}
