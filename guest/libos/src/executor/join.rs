//! The handle to a spawned task.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// What task and handle share.
struct Shared<T> {
    value: Option<T>,
    waiting: Option<Waker>,
}

/// A spawned task's value, once it is done. Dropping the handle leaves the task running.
pub struct JoinHandle<T>(Rc<RefCell<Shared<T>>>);

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("done", &self.is_finished())
            .finish()
    }
}

/// The handle to a future, and the future to run, which leaves its value with the handle.
pub(super) fn pair<F: Future + 'static>(
    future: F,
) -> (JoinHandle<F::Output>, impl Future<Output = ()> + 'static) {
    let shared = Rc::new(RefCell::new(Shared {
        value: None,
        waiting: None,
    }));
    let handle = JoinHandle(Rc::clone(&shared));
    let task = async move {
        let value = future.await;
        let waiting = {
            let mut shared = shared.borrow_mut();
            shared.value = Some(value);
            shared.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    };
    (handle, task)
}

impl<T> JoinHandle<T> {
    /// Whether the task is done and its value not yet taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.borrow().value.is_some()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut shared = self.0.borrow_mut();
        match shared.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                let before = shared.waiting.replace(context.waker().clone());
                // The waker may be a task's last owner, and the task own this handle's like.
                drop(shared);
                drop(before);
                Poll::Pending
            }
        }
    }
}
