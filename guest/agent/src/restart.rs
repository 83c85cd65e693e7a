//! When the main program is started again.

use std::time::Duration;

use abi::agent::reply::Exit;
use abi::agent::start::{Restart, When};

/// A program that ran this long begins anew: its next wait is the first.
const WELL: Duration = Duration::from_secs(10);

/// A restart policy, and what it has done so far.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: Restart,
    /// The wait before the next restart.
    wait_ms: u32,
    restarts: u32,
}

impl Backoff {
    pub(crate) fn new(policy: Restart) -> Self {
        Self {
            policy,
            wait_ms: policy.first_ms,
            restarts: 0,
        }
    }

    /// How often the program was started again, or is about to be.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// How long to wait before the program is started again, that ran for `ran` and ended so; `None`: never.
    pub(crate) fn next(&mut self, exit: Exit, ran: Duration) -> Option<Duration> {
        let again = match self.policy.when {
            When::Never => false,
            When::Always => true,
            When::OnFailure { max } => {
                exit != Exit::Code(0) && max.is_none_or(|max| self.restarts < max)
            }
        };
        if !again {
            return None;
        }
        self.restarts = self.restarts.saturating_add(1);
        if ran >= WELL {
            self.wait_ms = self.policy.first_ms;
        }
        let wait = self.wait_ms.min(self.policy.limit_ms);
        self.wait_ms = wait.saturating_mul(2);
        Some(Duration::from_millis(wait.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(when: When) -> Backoff {
        Backoff::new(Restart {
            when,
            first_ms: 100,
            limit_ms: 500,
        })
    }

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_good_run() {
        let mut backoff = backoff(When::Always);
        let mut next = |ran| {
            backoff
                .next(Exit::Code(0), ran)
                .map(|wait| wait.as_millis())
        };
        for wait in [100, 200, 400, 500, 500] {
            assert_eq!(next(Duration::ZERO), Some(wait));
        }
        assert_eq!(next(WELL), Some(100));
        assert_eq!(next(Duration::ZERO), Some(200));
    }

    #[test]
    fn only_failures_count_where_only_they_are_meant() {
        let mut backoff = backoff(When::OnFailure { max: Some(2) });
        assert!(backoff.next(Exit::Code(0), Duration::ZERO).is_none());
        assert!(backoff.next(Exit::Signal(15), Duration::ZERO).is_some());
        assert!(backoff.next(Exit::Code(1), Duration::ZERO).is_some());
        assert!(backoff.next(Exit::Code(1), Duration::ZERO).is_none());
        assert_eq!(backoff.restarts(), 2);
    }

    #[test]
    fn never_is_never() {
        assert!(backoff(When::Never).next(Exit::Code(1), WELL).is_none());
    }
}
