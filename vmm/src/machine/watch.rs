//! Notices a VM that nothing can wake: every processor halted with interrupts off, or never started.
//!
//! Such a VM looks as an idle one does: it uses no processor time. So a VM that used none since the last tick is looked
//! at, once: its processors come out of the guest and say how they stand. One that is merely idle is left
//! alone then, for twice as many ticks each time, up to [`LONGEST`]: an idle VM costs next to nothing.

use std::time::Duration;

use super::vcpu::Stance;
use crate::outcome::{Cause, Outcome};

/// Most quiet ticks between two looks.
const LONGEST: u32 = 64;

/// Decides when to look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    times: Vec<Duration>,
    /// Quiet ticks since the last look, or since there was work.
    quiet: u32,
    /// Quiet ticks before the next look.
    patience: u32,
    /// The last tick looked, which itself costs processor time.
    looked: bool,
}

impl Watch {
    /// Takes each processor's time at a tick, and says whether to look now.
    pub(super) fn wants_a_look(&mut self, times: &[Duration]) -> bool {
        let worked = self.times != times;
        self.times.clear();
        self.times.extend_from_slice(times);
        if std::mem::take(&mut self.looked) {
            return false;
        }
        if worked {
            (self.quiet, self.patience) = (0, 1);
            return false;
        }
        self.quiet += 1;
        if self.quiet < self.patience {
            return false;
        }
        self.quiet = 0;
        self.patience = (self.patience * 2).min(LONGEST);
        self.looked = true;
        true
    }
}

/// The end of a VM whose processors stand so, if it is one.
pub(super) fn stuck(stances: &[Stance]) -> Option<Outcome> {
    let mut halted = stances.iter().filter_map(|stance| match stance {
        Stance::Halted { rip } => Some(rip),
        Stance::Alive | Stance::NeverStarted => None,
    });
    let hopeless = !stances.contains(&Stance::Alive);
    let first = halted.next()?;
    hopeless.then(|| Outcome::new(Cause::Halted, format!("rip {first:#x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_vm_without_hope_is_stuck() {
        let halted = Stance::Halted { rip: 0x1000 };
        assert!(stuck(&[halted]).unwrap().to_string().contains("0x1000"));
        assert!(stuck(&[halted, Stance::NeverStarted]).is_some());
        assert!(stuck(&[halted, Stance::Alive]).is_none());
        assert!(stuck(&[Stance::Alive]).is_none());
    }

    #[test]
    fn an_idle_vm_is_looked_at_ever_more_rarely() {
        let mut watch = Watch::default();
        let mut now = Duration::from_millis(1);
        assert!(!watch.wants_a_look(&[now]));
        let looks = |watch: &mut Watch, now: &mut Duration, ticks: u32| {
            let mut at = vec![];
            for tick in 0..ticks {
                if watch.wants_a_look(&[*now]) {
                    at.push(tick);
                    *now += Duration::from_micros(50);
                }
            }
            at
        };
        assert_eq!(looks(&mut watch, &mut now, 12), [0, 3, 8]);
        now += Duration::from_millis(1);
        assert!(!watch.wants_a_look(&[now]));
        assert_eq!(looks(&mut watch, &mut now, 2), [0]);
    }
}
