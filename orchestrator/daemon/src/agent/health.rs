//! From single probes to a VM's health.
//!
//! ```text
//!               success                       failures, as many as are allowed
//! starting ---------------> healthy <------------------------------> unhealthy
//!     |                                        success                   ^
//!     +--- failures, as many as are allowed, after the start period -----+
//! ```

use api::HealthState;

/// A VM's health and what it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    state: HealthState,
    /// Failures since the last success that count.
    failures: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: HealthState::Starting,
            failures: 0,
        }
    }
}

impl Health {
    /// What it is now.
    #[must_use]
    pub fn state(self) -> HealthState {
        self.state
    }

    /// A probe ended; `early` where it failed or succeeded within the start period. Says whether the state changed.
    pub fn probed(&mut self, well: bool, early: bool, retries: u32) -> bool {
        let before = self.state;
        if well {
            self.failures = 0;
            self.state = HealthState::Healthy;
        } else if !(early && self.state == HealthState::Starting) {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= retries {
                self.state = HealthState::Unhealthy;
            }
        }
        self.state != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn failures_of_the_beginning_do_not_count() {
        let mut health = Health::default();
        for _ in 0..9 {
            assert!(!health.probed(false, true, 3));
        }
        assert!(!health.probed(false, false, 2));
        assert!(health.probed(false, false, 2));
        assert_eq!(health.state(), HealthState::Unhealthy);
        assert!(health.probed(true, false, 2));
        assert_eq!(health.state(), HealthState::Healthy);
    }

    proptest! {
        #[test]
        fn it_is_healthy_after_a_success_and_unhealthy_after_enough_failures(
            probes in proptest::collection::vec(any::<bool>(), 1..30),
            retries in 1..5_u32,
        ) {
            let mut health = Health::default();
            for well in &probes {
                health.probed(*well, false, retries);
            }
            let failing = probes.iter().rev().take_while(|well| !**well).count();
            if failing == 0 {
                prop_assert_eq!(health.state(), HealthState::Healthy);
            }
            prop_assert_eq!(
                health.state() == HealthState::Unhealthy,
                failing >= retries as usize
            );
        }
    }
}
