//! A machine for tests: it keeps its state, notes what it was told, and refuses when it shall.

use super::{Monitor, Refusal};
use crate::meter::{Counter, Phase, Reading, State};
use crate::spec;

/// What a machine was, and was told.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) state: Option<State>,
    pub(super) calls: Vec<&'static str>,
    pub(super) vm: Option<spec::Vm>,
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
        let from = [Some(State::Running), Some(State::Paused)];
        self.call("ctrl_alt_del", &from)
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
        }
    }
}
