//! Limits of a device's traffic: token buckets for bytes and for operations, and a timer that says when work may go on.
//!
//! ```text
//!            admits() --yes--> the device works --> spend(bytes)
//!               |no                                    |
//!               v                                      v
//!        timer is set  --rings, readable-->     burst first, then the bucket, which may end below zero
//! ```
//!
//! A bucket of Firecracker's kind: it holds `size` tokens, gets as many, evenly, in each refill time, and has `one_time_burst` tokens
//! once besides. Work is let through whole while each bucket has a token, and what it took beyond the last token is a debt that is
//! paid before the next work. So a piece of work that is larger than the bucket passes too, the long-run rate is exact, and nobody has
//! to know a request's size before taking it off its queue.
//!
//! A device keeps one [`Limiter`] for each direction it limits: it asks [`Limiter::admits`] before it takes work, tells [`Limiter::spend`]
//! after, and has the event loop wait for the limiter's descriptor, on which it simply looks at its queue again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::meter::monotonic_ns;
use crate::spec::{RateLimit, TokenBucket};

/// Least wait: work then goes on in a few larger steps. A bucket holds no less than it gets in this time, so nothing is lost by it.
const STEP_NS: u64 = 1_000_000;
/// Longest refill time, in nanoseconds: a token of a longer one does not come within anybody's patience.
const REFILL_MAX: u64 = 1 << 62;

/// One bucket. Its time is nanoseconds of any clock that does not go back.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    size: u64,
    refill_ns: u64,
    burst: u64,
    /// In parts of a token, `refill_ns` to one: so that each nanosecond adds a whole number of them. Below zero is a debt.
    level: i128,
    at: u64,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(limit: TokenBucket, now: u64) -> Self {
        let refill_ms = limit.refill_ms.get();
        let mut bucket = Self {
            size: limit.size.get(),
            refill_ns: refill_ms.saturating_mul(1_000_000).min(REFILL_MAX),
            burst: limit.one_time_burst,
            level: 0,
            at: now,
        };
        bucket.level = bucket.full();
        bucket
    }

    /// Nanoseconds until it has a token; zero where it has one at `now`.
    pub fn wait(&mut self, now: u64) -> u64 {
        self.refill(now);
        let missing = i128::from(self.refill_ns).saturating_sub(self.level);
        if self.burst > 0 || missing <= 0 {
            return 0;
        }
        let size = i128::from(self.size);
        let wait = (missing - 1) / size + 1;
        u64::try_from(wait).unwrap_or(u64::MAX)
    }

    /// Takes `tokens`, whether or not it has them.
    pub fn spend(&mut self, tokens: u64, now: u64) {
        self.refill(now);
        let of_burst = tokens.min(self.burst);
        self.burst -= of_burst;
        let parts = i128::from(tokens - of_burst) * i128::from(self.refill_ns);
        self.level = self.level.saturating_sub(parts);
    }

    fn refill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let gain = i128::from(elapsed).saturating_mul(i128::from(self.size));
        self.level = self.level.saturating_add(gain).min(self.full());
    }

    fn full(&self) -> i128 {
        i128::from(self.size) * i128::from(self.refill_ns)
    }
}

/// Limits of one direction of one device's traffic.
#[derive(Debug)]
pub struct Limiter {
    bandwidth: Option<Bucket>,
    ops: Option<Bucket>,
    timer: OwnedFd,
}

impl Limiter {
    /// Limits as a description has them, with full buckets.
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub fn new(limit: RateLimit) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let now = monotonic_ns();
        Ok(Self {
            bandwidth: limit.bandwidth.map(|bucket| Bucket::new(bucket, now)),
            ops: limit.ops.map(|bucket| Bucket::new(bucket, now)),
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
        })
    }

    /// Whether work may begin now. Where it may not, the timer rings when it may.
    pub fn admits(&mut self) -> bool {
        let now = monotonic_ns();
        let buckets = [&mut self.bandwidth, &mut self.ops].into_iter().flatten();
        let wait = buckets.map(|bucket| bucket.wait(now)).max().unwrap_or(0);
        if wait == 0 {
            return true;
        }
        // Where the timer cannot be set, nothing would ever resume: better no limit than a device that hangs.
        set(&self.timer, wait.max(STEP_NS)).is_err()
    }

    /// Accounts for one operation of `bytes`, which was let through.
    pub fn spend(&mut self, bytes: u64) {
        let now = monotonic_ns();
        if let Some(bucket) = &mut self.bandwidth {
            bucket.spend(bytes, now);
        }
        if let Some(bucket) = &mut self.ops {
            bucket.spend(1, now);
        }
    }

    /// Replaces the buckets that `change` names, by full ones. The device should look at its queue afterwards.
    pub fn change(&mut self, change: LimitChange) {
        let now = monotonic_ns();
        let parts = [
            (change.bandwidth, &mut self.bandwidth),
            (change.ops, &mut self.ops),
        ];
        for (change, bucket) in parts {
            if let Some(limit) = change {
                *bucket = limit.map(|limit| Bucket::new(limit, now));
            }
        }
    }

    /// Takes note that the timer rang.
    pub fn clear(&self) {
        // A timer that has not rung says so by an error.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
    }
}

impl AsFd for Limiter {
    /// The timer: readable when it rings.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

/// A change of limits: for each bucket nothing, or another one, or that there is none any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitChange {
    /// Of bytes.
    pub bandwidth: Option<Option<TokenBucket>>,
    /// Of operations.
    pub ops: Option<Option<TokenBucket>>,
}

fn set(timer: &OwnedFd, ns: u64) -> rustix::io::Result<()> {
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let value = Timespec {
        tv_sec: (ns / 1_000_000_000).cast_signed(),
        tv_nsec: (ns % 1_000_000_000).cast_signed(),
    };
    let spec = Itimerspec {
        it_interval: zero,
        it_value: value,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &spec).map(drop)
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
