//! A task: a future, and the waker that puts it back in the queue.

use super::READY;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};

/// A future that the event loop runs.
pub(super) struct Task {
    /// Gone once it is done.
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    /// Whether it is in the ready queue, where it stands once however often it is woken.
    queued: AtomicBool,
}

// SAFETY: one core, no preemption: a waker is never in another thread, for there is none.
unsafe impl Send for Task {}
// SAFETY: as above.
unsafe impl Sync for Task {}

impl Task {
    /// A task for the ready queue.
    pub(super) fn new(future: impl Future<Output = ()> + 'static) -> Arc<Self> {
        Arc::new(Self {
            future: RefCell::new(Some(Box::pin(future))),
            queued: AtomicBool::new(true),
        })
    }

    /// Runs it up to its next `.await` that is not ready.
    pub(super) fn run(self: Arc<Self>) {
        self.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self));
        let mut slot = self.future.borrow_mut();
        if let Some(future) = slot.as_mut()
            && future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            *slot = None;
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            READY.borrow().push_back(self);
        }
    }
}
