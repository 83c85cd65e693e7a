//! A machine for tests: it keeps its state, notes what it was told, and refuses when it shall.

use super::{BalloonReading, Monitor, Refusal};
use crate::meter::{Counter, Phase, Reading, State};
use crate::rate::LimitChange;
use crate::spec;
use crate::virtio::balloon::stats::Statistics;

const RUNNING_OR_PAUSED: [Option<State>; 2] = [Some(State::Running), Some(State::Paused)];

/// What a machine was, and was told.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) state: Option<State>,
    pub(super) calls: Vec<&'static str>,
    pub(super) vm: Option<spec::Vm>,
    pub(super) limits: Vec<(String, LimitChange)>,
    pub(super) balloon: Option<spec::Balloon>,
    /// Refuses everything with these words.
    pub(super) refuses: Option<&'static str>,
}

impl Fake {
    pub(super) fn in_state(state: Option<State>) -> Self {
        Self {
            state,
            ..Self::default()
        }
    }

    fn call(&mut self, name: &'static str, from: &[Option<State>]) -> Result<(), Refusal> {
        assert!(from.contains(&self.state), "{name} in {:?}", self.state);
        self.calls.push(name);
        self.refuses.map_or(Ok(()), |words| Err(words.into()))
    }
}

impl Monitor for Fake {
    fn boot(&mut self, vm: spec::Vm) -> Result<(), Refusal> {
        self.call("boot", &[None])?;
        self.balloon = vm.balloon;
        self.vm = Some(vm);
        self.state = Some(State::Running);
        Ok(())
    }

    fn state(&self) -> Option<State> {
        self.state
    }

    fn pause(&mut self) -> Result<(), Refusal> {
        self.call("pause", &[Some(State::Running)])?;
        self.state = Some(State::Paused);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Refusal> {
        self.call("resume", &[Some(State::Paused)])?;
        self.state = Some(State::Running);
        Ok(())
    }

    fn ctrl_alt_del(&mut self) -> Result<(), Refusal> {
        self.call("ctrl_alt_del", &RUNNING_OR_PAUSED)
    }

    fn limit_disk(&mut self, id: &str, change: LimitChange) -> Result<(), Refusal> {
        self.call("limit_disk", &RUNNING_OR_PAUSED)?;
        self.limits.push((id.to_owned(), change));
        Ok(())
    }

    fn limit_net(
        &mut self,
        id: &str,
        receive: LimitChange,
        transmit: LimitChange,
    ) -> Result<(), Refusal> {
        self.call("limit_net", &RUNNING_OR_PAUSED)?;
        for change in [receive, transmit] {
            self.limits.push((id.to_owned(), change));
        }
        Ok(())
    }

    fn balloon(&self) -> Option<spec::Balloon> {
        self.balloon
    }

    fn set_balloon(&mut self, mib: u64) -> Result<(), Refusal> {
        self.call("set_balloon", &RUNNING_OR_PAUSED)?;
        let balloon = self.balloon.as_mut().ok_or("none")?;
        balloon.target_mib = mib;
        Ok(())
    }

    fn balloon_statistics(&self) -> Result<BalloonReading, Refusal> {
        let balloon = self.balloon.ok_or("none")?;
        Ok(BalloonReading {
            target_pages: balloon.target_mib as u32 * 256,
            actual_pages: 257,
            statistics: Statistics {
                free_memory: Some(77),
                ..Statistics::default()
            },
        })
    }

    fn set_balloon_interval(&mut self, seconds: u16) -> Result<(), Refusal> {
        self.call("set_balloon_interval", &RUNNING_OR_PAUSED)?;
        let balloon = self.balloon.as_mut().ok_or("none")?;
        balloon.stats_interval_s = seconds;
        Ok(())
    }

    fn reading(&self) -> Reading {
        Reading {
            pid: 1,
            start_time: 0,
            state: self.state.expect("a reading before the start"),
            outcome: None,
            phases: [0; Phase::ALL.len()],
            counters: [0; Counter::ALL.len()],
            vcpus: vec![(1, 2)],
            place: (0, 0),
        }
    }
}
