//! Buckets against a model with a clock of its own, and the timer of a limiter.

use std::num::NonZeroU64;

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags};

use super::*;

fn limit(size: u64, one_time_burst: u64, refill_ms: u64) -> TokenBucket {
    TokenBucket {
        size: NonZeroU64::new(size).unwrap(),
        one_time_burst,
        refill_ms: NonZeroU64::new(refill_ms).unwrap(),
    }
}

/// The plainest bucket: it is told of every nanosecond, and counts in parts of a token.
struct Model {
    limit: TokenBucket,
    burst: u64,
    level: i128,
}

impl Model {
    fn new(limit: TokenBucket) -> Self {
        let level = i128::from(limit.size.get()) * Self::parts(limit);
        Self {
            limit,
            burst: limit.one_time_burst,
            level,
        }
    }

    /// Parts of a token.
    fn parts(limit: TokenBucket) -> i128 {
        i128::from(limit.refill_ms.get()) * 1_000_000
    }

    fn nanoseconds(&mut self, count: u64) {
        for _ in 0..count {
            let size = i128::from(self.limit.size.get());
            self.level = (self.level + size).min(size * Self::parts(self.limit));
        }
    }

    fn admits(&self) -> bool {
        self.burst > 0 || self.level >= Self::parts(self.limit)
    }

    fn spend(&mut self, tokens: u64) {
        for _ in 0..tokens {
            match self.burst.checked_sub(1) {
                Some(left) => self.burst = left,
                None => self.level -= Self::parts(self.limit),
            }
        }
    }
}

proptest! {
    #[test]
    fn a_bucket_does_what_the_plainest_one_does(
        size in 1..2_000_000_u64,
        burst in 0..50_u64,
        refill_ms in 1..4_u64,
        steps in proptest::collection::vec((0..3000_u64, 0..100_u64), 1..40),
    ) {
        let limit = limit(size, burst, refill_ms);
        let (mut bucket, mut model, mut now) = (Bucket::new(limit, 7), Model::new(limit), 7);
        for (nanoseconds, tokens) in steps {
            now += nanoseconds;
            model.nanoseconds(nanoseconds);
            prop_assert_eq!(bucket.wait(now) == 0, model.admits());
            if model.admits() {
                bucket.spend(tokens, now);
                model.spend(tokens);
            }
            prop_assert_eq!((bucket.burst, bucket.level), (model.burst, model.level));
        }
    }

    #[test]
    fn a_wait_is_as_long_as_it_says_and_no_shorter(
        size in 1..=u64::MAX,
        refill_ms in 1..=u64::MAX,
        tokens in any::<u64>(),
    ) {
        let mut bucket = Bucket::new(limit(size, 0, refill_ms), 0);
        bucket.spend(tokens, 0);
        let wait = bucket.wait(0);
        // More is not to be said of what takes centuries.
        prop_assume!(wait < u64::MAX);
        prop_assert_eq!(bucket.wait(wait), 0);
        if wait > 0 {
            bucket = Bucket::new(limit(size, 0, refill_ms), 0);
            bucket.spend(tokens, 0);
            prop_assert!(bucket.wait(wait - 1) > 0);
        }
    }

    #[test]
    fn over_any_time_no_more_passes_than_the_limit_and_one_piece(
        size in 1..1000_u64,
        burst in 0..1000_u64,
        refill_ms in 1..1000_u64,
        pieces in proptest::collection::vec(1..5000_u64, 1..200),
    ) {
        // Someone who always has more, and waits as long as it is told.
        let mut bucket = Bucket::new(limit(size, burst, refill_ms), 0);
        let (mut now, mut passed) = (0_u64, 0_u128);
        for piece in pieces {
            now += bucket.wait(now);
            prop_assert_eq!(bucket.wait(now), 0);
            let refilled = u128::from(now) * u128::from(size) / (u128::from(refill_ms) * 1_000_000);
            prop_assert!(passed <= u128::from(size + burst) + refilled);
            bucket.spend(piece, now);
            passed += u128::from(piece);
        }
    }
}

fn rings_within(limiter: &Limiter, seconds: i64) -> bool {
    let mut poll = [PollFd::new(limiter, PollFlags::IN)];
    let patience = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut poll, Some(&patience)) == Ok(1)
}

#[test]
fn a_limiter_rings_when_work_may_go_on() {
    let mut limiter = Limiter::new(RateLimit {
        bandwidth: Some(limit(1 << 20, 0, 1)),
        ops: Some(limit(2, 0, 40)),
    })
    .unwrap();
    let began = monotonic_ns();
    assert!(limiter.admits());
    limiter.spend(1);
    assert!(limiter.admits());
    limiter.spend(1);
    while !limiter.admits() {
        assert!(rings_within(&limiter, 10));
        limiter.clear();
    }
    assert!(monotonic_ns() - began >= 20_000_000);
    assert!(!rings_within(&limiter, 0));
}

#[test]
fn no_limit_admits_for_ever() {
    let mut limiter = Limiter::new(RateLimit::default()).unwrap();
    for _ in 0..1000 {
        assert!(limiter.admits());
        limiter.spend(u64::MAX);
    }
}

#[test]
fn a_change_replaces_what_it_names() {
    let mut limiter = Limiter::new(RateLimit {
        bandwidth: Some(limit(1, 0, 3_600_000)),
        ops: None,
    })
    .unwrap();
    limiter.spend(1000);
    assert!(!limiter.admits());
    limiter.change(LimitChange {
        bandwidth: None,
        ops: Some(Some(limit(1, 0, 3_600_000))),
    });
    assert!(!limiter.admits());
    limiter.change(LimitChange {
        bandwidth: Some(None),
        ops: None,
    });
    assert!(limiter.admits());
    limiter.spend(1000);
    assert!(!limiter.admits());
    limiter.change(LimitChange {
        bandwidth: None,
        ops: Some(None),
    });
    assert!(limiter.admits());
}
