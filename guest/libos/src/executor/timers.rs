//! The timers that are set, by moment.

use crate::clock::Instant;
use crate::core_cell::CoreCell;
use alloc::collections::BTreeMap;
use core::task::Waker;

/// Moment, and a number that tells apart timers of one moment: the earlier set fires first.
type Key = (Instant, u64);

struct Timers {
    set: BTreeMap<Key, Waker>,
    next_id: u64,
}

static TIMERS: CoreCell<Timers> = CoreCell::new(Timers {
    set: BTreeMap::new(),
    next_id: 0,
});

/// A timer that is set; dropping it unsets it.
pub(crate) struct Timer(Key);

impl Drop for Timer {
    fn drop(&mut self) {
        // The waker may be a task's last owner, and the task own timers: it goes when the timers are free again.
        let waker = TIMERS.borrow().set.remove(&self.0);
        drop(waker);
    }
}

/// Has `waker` woken at `moment`.
pub(crate) fn set(moment: Instant, waker: Waker) -> Timer {
    let mut timers = TIMERS.borrow();
    let key = (moment, timers.next_id);
    timers.next_id += 1;
    timers.set.insert(key, waker);
    Timer(key)
}

/// The moment of the first timer.
pub(super) fn next() -> Option<Instant> {
    let timers = TIMERS.borrow();
    timers.set.first_key_value().map(|(key, _)| key.0)
}

/// Wakes what is due.
pub(super) fn fire(now: Instant) {
    loop {
        let waker = {
            let mut timers = TIMERS.borrow();
            match timers.set.first_entry() {
                Some(first) if first.key().0 <= now => first.remove(),
                _ => return,
            }
        };
        waker.wake();
    }
}
