//! Timers: [`sleep`], [`sleep_until`], [`timeout`].

use crate::clock::Instant;
use crate::executor::timers::{self, Timer};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

/// Waits for a time. Other tasks run meanwhile; where there are none, the guest sleeps.
pub async fn sleep(time: Duration) {
    sleep_until(Instant::now() + time).await;
}

/// Waits for a moment; not at all for one that is past.
pub async fn sleep_until(moment: Instant) {
    let mut timer: Option<Timer> = None;
    poll_fn(|context| {
        if Instant::now() >= moment {
            return Poll::Ready(());
        }
        // A new one at each poll, for the waker may be another.
        timer = Some(timers::set(moment, context.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is over")
    }
}

impl core::error::Error for Elapsed {}

/// Waits for a future, but no longer than `time`; a future that is not ready by then is dropped.
///
/// # Errors
/// [`Elapsed`] where the time was over first.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut over = pin!(sleep(time));
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        over.as_mut().poll(context).map(|()| Err(Elapsed))
    })
    .await
}
