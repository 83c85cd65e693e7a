//! What the machine's threads are told to do, and where they are.
//!
//! ```text
//!            order: Stand            order: Go               order: Leave
//!   thread:  arrives, stands   --->  passes, does its work   --->  gone
//!                  ^                        |
//!                  +---- Stand, and a kick -+
//! ```
//!
//! A thread asks [`Gate::pass`] between two pieces of work. One load where it may go on; else it stands, with a word
//! on its state, until told otherwise. Whoever gives an order kicks the threads afterwards: how is not the gate's business.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::sync::lock;

/// What threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Stand before the gate.
    Stand,
    /// Pass it.
    Go,
    /// Never pass again.
    Leave,
}

/// Where a thread is; `S` is what it said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place<S> {
    Away,
    Standing(S),
    Gone,
}

/// A gate before some threads.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    /// A copy of the order, to be read without the lock.
    order: AtomicU8,
    state: Mutex<State<S>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<S> {
    order: Order,
    places: Vec<Place<S>>,
}

impl<S: Clone> Gate<S> {
    /// A closed gate, with `threads` that have not arrived.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            order: AtomicU8::new(Order::Stand as u8),
            state: Mutex::new(State {
                order: Order::Stand,
                places: vec![Place::Away; threads],
            }),
            changed: Condvar::new(),
        }
    }

    /// Gives an order.
    pub(crate) fn order(&self, order: Order) {
        let mut state = lock(&self.state);
        state.order = order;
        self.order.store(order as u8, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits until every thread stands or is gone, and tells what those that stand said.
    pub(crate) fn wait_standing(&self) -> Vec<S> {
        let away = |state: &mut State<S>| state.places.iter().any(|p| matches!(p, Place::Away));
        let state = self
            .changed
            .wait_while(lock(&self.state), away)
            .unwrap_or_else(PoisonError::into_inner);
        let said = |place: &Place<S>| match place {
            Place::Standing(said) => Some(said.clone()),
            Place::Away | Place::Gone => None,
        };
        state.places.iter().filter_map(said).collect()
    }

    /// Called by thread `index`: whether it may pass. Waits while it is to stand; what `say` returns is then its word.
    pub(crate) fn pass(&self, index: usize, say: impl FnOnce() -> S) -> bool {
        if self.order.load(Ordering::Acquire) == Order::Go as u8 {
            return true;
        }
        let said = say();
        self.stand(index, said, |order| order == Order::Stand)
    }

    /// Called by thread `index`, which has no more work: waits until it is to leave.
    pub(crate) fn wait_to_leave(&self, index: usize, said: S) {
        self.stand(index, said, |order| order != Order::Leave);
    }

    /// Called by thread `index` as the last thing it does here.
    pub(crate) fn leave(&self, index: usize) {
        lock(&self.state).places[index] = Place::Gone;
        self.changed.notify_all();
    }

    fn stand(&self, index: usize, said: S, wait: impl Fn(Order) -> bool) -> bool {
        let mut state = lock(&self.state);
        state.places[index] = Place::Standing(said);
        self.changed.notify_all();
        let mut state = self
            .changed
            .wait_while(state, |state| wait(state.order))
            .unwrap_or_else(PoisonError::into_inner);
        state.places[index] = Place::Away;
        state.order == Order::Go
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn threads_stand_go_and_leave_as_ordered() {
        let gate = Arc::new(Gate::new(2));
        let work = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let (gate, work) = (Arc::clone(&gate), Arc::clone(&work));
                std::thread::spawn(move || {
                    while gate.pass(index, || index) {
                        work.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                    }
                    gate.leave(index);
                })
            })
            .collect();
        assert_eq!(gate.wait_standing(), [0, 1]);
        assert_eq!(work.load(Ordering::Relaxed), 0);
        gate.order(Order::Go);
        while work.load(Ordering::Relaxed) < 10 {
            std::thread::yield_now();
        }
        gate.order(Order::Stand);
        assert_eq!(gate.wait_standing(), [0, 1]);
        let before = work.load(Ordering::Relaxed);
        std::thread::yield_now();
        assert_eq!(work.load(Ordering::Relaxed), before);
        gate.order(Order::Leave);
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert!(gate.wait_standing().is_empty());
    }
}
